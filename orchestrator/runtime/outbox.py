"""Everything a step emits, encoded and sent to the topics of its role, in the partition it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from confluent_kafka import Message

from orchestrator.records import ActiveCampaign, CampaignOutcome, Decision, Effects, Trigger
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.barriers import Barrier
from orchestrator.runtime.intake import DeadLetter
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.trace import context_for

Headers = list[tuple[str, str | bytes | None]]
Send = Callable[[str, int, bytes | None, bytes | None, Headers | None], None]
"""Takes topic, partition, key, value and headers; the record belongs to the open transaction."""

MAX_DEAD_VALUE = 1_700_000
MAX_DEAD_KEY = 16_384
MAX_DEAD_HEADERS = 65_536
"""Bytes of an original that a dead letter keeps: what fits the topic's max.message.bytes, the key counted twice."""


class Outbox:
    """Encoders of the output topics over one way to send."""

    def __init__(self, topics: Topics, codec: Codec, send: Send) -> None:
        self._send = send
        # Looked up once: topics know each other by their roles, and finding one walks through all of them.
        self._decisions = topics.decisions.name
        self._triggers = topics.triggers.name
        self._outcomes = topics.outcomes.name
        self._actives = topics.active.name
        self._dead_letters = topics.dead_letters.name
        self._clock = topics.clock.name
        self._decision = codec.value_encoder(topics.decisions, Decision)
        self._trigger = codec.value_encoder(topics.triggers, Trigger)
        self._outcome = codec.value_encoder(topics.outcomes, CampaignOutcome)
        self._active = codec.value_encoder(topics.active, ActiveCampaign)
        self._dead = codec.encoder(topics.dead_letters)
        self._barrier = codec.encoder(topics.clock)

    def emit(self, partition: int, key: bytes, effects: Effects, causes: Sequence[Message] | None = None) -> None:
        """Send one customer's effects; `causes` are the records that led to them, None when nobody follows traces."""
        send = self._send
        for decision in effects.decisions:
            send(self._decisions, partition, key, self._decision(decision), None)
        for trigger in effects.triggers:
            value = self._trigger(trigger)
            headers = cloud_event(trigger)
            if causes is not None:
                headers += context_for(trigger.decision_id, causes)
            send(self._triggers, partition, key, value, headers)
        for outcome in effects.outcomes:
            value = self._outcome(outcome)
            send(self._outcomes, partition, outcome.outcome_id.encode(), value, None)
        if effects.active_changed:
            active = None if effects.active is None else self._active(effects.active)
            send(self._actives, partition, key, active, None)

    def erase(self, partition: int, key: bytes, outcome_ids: list[str]) -> None:
        """Send the tombstones that make our compacted topics forget a customer."""
        self._send(self._actives, partition, key, None, None)
        for outcome_id in outcome_ids:
            self._send(self._outcomes, partition, outcome_id.encode(), None, None)

    def bury(self, partition: int, topic: str, message: Message, letter: DeadLetter) -> None:
        """Send a dead letter with where the record came from and its original bytes."""
        key, value = _bytes(message.key()), _bytes(message.value())
        given = cast("list[tuple[str, str | bytes | None]]", message.headers() or [])
        headers: dict[str, bytes] = {}
        room = MAX_DEAD_HEADERS
        for name, data in given:
            kept = _bytes(data) or b""
            room -= len(name) + len(kept)
            if room >= 0:
                headers[name] = kept
        if key is not None:
            key = key[:MAX_DEAD_KEY]
        record: dict[str, Any] = {
            "source_topic": topic,
            "source_partition": partition,
            "source_offset": message.offset(),
            "reason": letter.reason,
            "detail": letter.detail,
            "schema_id": _schema_id(value),
            "key": key,
            "value": None if value is None else value[:MAX_DEAD_VALUE],
            "headers": headers,
        }
        self._send(self._dead_letters, partition, key, self._dead(record), None)

    def note_barrier(self, partition: int, barrier: Barrier) -> None:
        """Send a barrier that was used live to the clock topic, so that the run can be reproduced."""
        value = self._barrier({"time": barrier.time, "ends": dict(barrier.ends), "horizon": barrier.horizon})
        self._send(self._clock, partition, str(partition).encode(), value, None)


def cloud_event(trigger: Trigger) -> Headers:
    """Return the CloudEvents 1.0 headers (Kafka binding, binary mode) of a trigger."""
    at = datetime.fromtimestamp(trigger.decided_at / 1000, UTC).isoformat(timespec="milliseconds")
    return [
        ("ce_specversion", "1.0"),
        ("ce_id", f"{trigger.trigger_id}/{trigger.action}"),
        ("ce_source", "/journey-orchestrator"),
        ("ce_type", f"journey.campaign-trigger.{trigger.action}"),
        ("ce_time", at.replace("+00:00", "Z")),
        ("content-type", "application/avro"),
    ]


def _schema_id(value: bytes | None) -> int | None:
    """Return the schema id that a value begins with, None where it begins with none."""
    return int.from_bytes(value[1:5]) if value is not None and len(value) >= 5 and value[0] == 0 else None


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
