"""What `rebuild` and `backfill` share: folding a group's history, and writing its changelog while no worker runs."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from orchestrator.customer import STATE_VERSION, Customer, customer_from_bytes
from orchestrator.events import ERASED, FOREVER, Event
from orchestrator.program import Program
from orchestrator.quotas import Quotas
from orchestrator.recall import count_use, recall, stretches
from orchestrator.records import Decision
from orchestrator.reference import Reference
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.intake import DeadLetter, Intake, sources_of
from orchestrator.runtime.state_store import META_KEY, Meta, Stored, meta_to_bytes, pack
from orchestrator.runtime.topic import Topic, Topics
from orchestrator.runtime.topic_reader import Record, Span, read_topic, topic_spans

STRETCH_RECORDS = 50_000
"""Records folded at once; within them, what came late is put in order."""

COMMIT_CUSTOMERS = 5_000
ANSWER_SECONDS = 30.0

_IDLE = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD, ConsumerGroupState.UNKNOWN)


def check_nobody_runs(admin: AdminClient, group: str) -> None:
    """Raise an OperatorError while a worker of a group runs."""
    try:
        (asked,) = admin.describe_consumer_groups([group]).values()
        state = asked.result(ANSWER_SECONDS).state
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return
        raise OperatorError(f"the group cannot be asked for: {error.args[0].str()}") from error
    if state not in _IDLE:
        raise OperatorError(
            f"workers of the group {group} are running: stop them all, wait until their sessions have ended "
            "(ORCHESTRATOR_SESSION_TIMEOUT), then run this again"
        )


@dataclass(slots=True)
class Counted:
    """What was met while a history was folded; `oldest` is the time of the earliest event by topic."""

    events: int = 0
    decisions: int = 0
    decided_until: int = -FOREVER
    quotas: Quotas = field(default_factory=Quotas)
    erased: dict[bytes, int] = field(default_factory=dict)
    slots_left: dict[bytes, int] = field(default_factory=dict)
    oldest: dict[str, int] = field(default_factory=dict)


class History:
    """What the inputs and our own decisions hold of one group's customers.

    `progress` is told how many offsets are behind us, over everything that is folded.
    """

    def __init__(
        self,
        client_config: Mapping[str, Any],
        topics: Topics,
        codec: Codec,
        reference: Reference,
        intake: Intake,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._config = client_config
        self._topics = topics
        self._reference = reference
        self._intake = intake
        self._progress = progress
        self._behind: dict[tuple[str, int], int] = {}
        self._sources = sources_of(topics)
        self._decode_decision = codec.decoder(topics.decisions)

    def fold(
        self,
        program: Program,
        number: int,
        spans: Mapping[str, Span],
        newest: int,
        known: Collection[bytes],
        counted: Counted,
    ) -> dict[bytes, bytes]:
        """Return what is known of the given customers of a partition at the end of the spans, as states."""
        decisions = topic_spans(self._config, self._topics.decisions.name, [number])[number]
        histories: list[Iterable[tuple[int, bytes, Event | Decision]]] = [
            self._events(program, topic, number, spans[topic.name], newest, known, counted) for topic in self._sources
        ]
        histories.append(self._own(program, number, decisions, known, counted))
        merged = heapq.merge(*histories, key=lambda item: item[0])
        states: dict[bytes, bytes] = {}
        for stretch in stretches(((at, (key, one)) for at, key, one in merged), STRETCH_RECORDS):
            events: dict[bytes, list[Event]] = {}
            own: dict[bytes, list[Decision]] = {}
            for key, one in stretch:
                if isinstance(one, Event):
                    events.setdefault(key, []).append(one)
                else:
                    own.setdefault(key, []).append(one)
            for key in {**events, **own}:
                customer = customer_from_bytes(states[key]) if key in states else Customer()
                ordered = sorted(events.get(key, ()), key=Event.order)
                recall(program, self._reference, key.decode(), customer, ordered, own.get(key, ()))
                states[key] = customer.to_bytes()
        return states

    def read(self, topic: Topic, number: int, span: Span) -> Iterator[Record]:
        """Yield the records of a span."""
        return read_topic(self._config, topic.name, partitions=[number], spans={number: span})

    def _read_on(self, topic: Topic, number: int, span: Span) -> Iterator[Record]:
        """Yield the records of a span that is folded."""

        def told(behind: int, _total: int) -> None:
            self._behind[topic.name, number] = behind
            if self._progress is not None:
                self._progress(sum(self._behind.values()))

        return read_topic(self._config, topic.name, partitions=[number], spans={number: span}, progress=told)

    def _events(
        self,
        program: Program,
        topic: Topic,
        number: int,
        span: Span,
        newest: int,
        known: Collection[bytes],
        counted: Counted,
    ) -> Iterator[tuple[int, bytes, Event]]:
        """Yield a topic's usable events in the order in which they were read, each with the newest instant so far."""
        so_far = -FOREVER
        relevant = program.relevant - {ERASED}
        limit = FOREVER if newest == -FOREVER else newest
        for record in self._read_on(topic, number, span):
            key = record.key
            if key is None or key not in known or self._intake.is_stranger(key, number):
                continue
            message = Message(topic=topic.name, partition=number, offset=record.offset, key=key, value=record.value)
            event = self._intake.read(topic.name, message, limit)
            if isinstance(event, DeadLetter) or event.name not in relevant:
                continue
            counted.events += 1
            counted.oldest[topic.name] = min(event.time, counted.oldest.get(topic.name, FOREVER))
            so_far = max(so_far, event.time)
            yield so_far, key, event

    def _own(
        self, program: Program, number: int, span: Span, known: Collection[bytes], counted: Counted
    ) -> Iterator[tuple[int, bytes, Decision]]:
        so_far = -FOREVER
        for record in self._read_on(self._topics.decisions, number, span):
            if record.key is None or record.value is None:
                continue
            decision = msgspec.convert(self._decode_decision(record.value, record.headers or None), Decision)
            if record.key not in known:  # nothing of whoever was erased, but until when their slot is held
                left = counted.slots_left.get(record.key, -FOREVER)
                counted.slots_left[record.key] = max(left, decision.window_until or -FOREVER)
                continue
            counted.decisions += 1
            count_use(program, counted.quotas, decision)
            so_far = counted.decided_until = max(so_far, decision.decided_at)
            yield so_far, record.key, decision


class ChangelogWriter:
    """Writes a group's changelog in the workers' place, in transactions; one at a time, for they share an id."""

    def __init__(self, client_config: Mapping[str, Any], topic: str, group: str) -> None:
        self._topic = topic
        self._consumer = Consumer({**client_config, "group.id": group})
        self._producer = Producer({**client_config, "transactional.id": f"{group}.rebuild", "compression.type": "lz4"})

    def __enter__(self) -> Self:
        self._producer.init_transactions(ANSWER_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def write(
        self,
        number: int,
        customers: Iterable[tuple[bytes, Stored]],
        slots: Iterable[tuple[bytes, bytes | None]],
        meta: Meta,
        positions: Mapping[str, int],
    ) -> None:
        """Write customers and slots of a partition, and with the last of them its meta record and the group's offsets.

        Customers are as good one by one, so they go out in several transactions.
        """
        producer = self._producer
        producer.begin_transaction()
        try:
            for count, (key, stored) in enumerate(customers, 1):
                self._produce(number, key, pack(stored))
                if count % COMMIT_CUSTOMERS == 0:
                    producer.commit_transaction(ANSWER_SECONDS)
                    producer.begin_transaction()
            for key, end in slots:
                self._produce(number, key, end)
            meta.state_version = STATE_VERSION
            self._produce(number, META_KEY, meta_to_bytes(meta))
            if positions:
                offsets = [TopicPartition(name, number, offset) for name, offset in positions.items()]
                producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), ANSWER_SECONDS)
            producer.commit_transaction(ANSWER_SECONDS)
        except OperatorError:
            with suppress(KafkaException):
                producer.abort_transaction(ANSWER_SECONDS)
            raise

    def _produce(self, number: int, key: bytes, value: bytes | None) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, number)
                return
            except BufferError:
                self._producer.poll(0.1)
