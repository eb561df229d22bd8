"""Records as a consumer hands them over, steps made of them, and what a partition emits, without a broker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from orchestrator.program import Program
from orchestrator.programs import Programs
from orchestrator.reference import Reference
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.barriers import Barrier
from orchestrator.runtime.inbox import Inbox, Step
from orchestrator.runtime.intake import Intake, sources_of
from orchestrator.runtime.outbox import Headers, Outbox
from orchestrator.runtime.partition import Deciding, Partition
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.state_store import Meta, StateStore
from orchestrator.runtime.tally import Tally
from orchestrator.runtime.topics import load as load_topics
from tests.builders import ANA, ITEM_ADDED, ORDER_PLACED, REFERENCE, consent, instant, program

ROOT = Path(__file__).parents[2]
TOPICS = load_topics(ROOT / "topics.yaml", ROOT / "schemas").with_partitions(1, 1)
CODEC = Codec(FileRegistry(ROOT / "schemas"))
MAX_SKEW = 300_000
MAX_RECORD_BYTES = 1 << 20
RETENTION = 86_400_000
BEGINNING = -(2**62)

CLICKSTREAM, PURCHASES, PROFILES = "clickstream", "purchases", "customer-profiles"
INPUTS = tuple(topic.name for topic in sources_of(TOPICS))

_encoders = {topic.name: CODEC.encoder(topic) for topic in sources_of(TOPICS)}
_ids = count(1)


def message(
    value: bytes | None,
    *,
    topic: str = CLICKSTREAM,
    key: bytes | None = ANA.encode(),
    offset: int = 0,
    partition: int = 0,
    headers: Headers | None = None,
) -> Message:
    """Return a record as it was consumed."""
    return Message(topic=topic, partition=partition, offset=offset, key=key, value=value, headers=headers)


def encoded(topic: str, record: Mapping[str, Any]) -> bytes:
    """Return a record's bytes, framed as on the wire."""
    return _encoders[topic](dict(record))


def item_added(
    at: str | int = "09:00", customer: str = ANA, cart: str = "c1", total: int = 5_000, **more: Any
) -> bytes:
    """Return an item put into a cart."""
    record = {
        "event_id": f"i{next(_ids)}",
        "customer_id": customer,
        "event": ITEM_ADDED,
        "event_time": at if isinstance(at, int) else instant(at),
        "cart_id": cart,
        "cart_total": total,
    }
    return encoded(CLICKSTREAM, record | more)


def bought(at: str | int, customer: str = ANA, order: str = "", total: int = 1_000, **more: Any) -> bytes:
    """Return an order of one bottle of shampoo."""
    number = next(_ids)
    record = {
        "event_id": f"o{number}",
        "customer_id": customer,
        "event": ORDER_PLACED,
        "event_time": at if isinstance(at, int) else instant(at),
        "order_id": order or f"order-{number}",
        "lines": [{"sku": "SHAMPOO", "quantity": 1, "price": total, "margin": None}],
        "total": total,
    }
    return encoded(PURCHASES, record | more)


def profile(at: str | int = "-1d 00:00", customer: str = ANA, **more: Any) -> bytes:
    """Return the profile of somebody in UTC who agreed to e-mail."""
    record = {
        "customer_id": customer,
        "updated_at": at if isinstance(at, int) else instant(at),
        "time_zone": "UTC",
        "consents": [consent()],
    }
    return encoded(PROFILES, record | more)


def intake(max_record_bytes: int = MAX_RECORD_BYTES) -> Intake:
    """Return the intake of the inputs in topics.yaml."""
    return Intake(TOPICS, CODEC, max_record_bytes=max_record_bytes, max_skew=MAX_SKEW)


@dataclass
class Sent:
    """What was sent, by topic: partition, key and decoded value, None for a tombstone; and every record as bytes."""

    records: dict[str, list[tuple[int, bytes | None, dict[str, Any] | None]]] = field(default_factory=dict)
    raw: list[tuple[str, int, bytes | None, bytes | None, Headers | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        topics = (
            TOPICS.decisions, TOPICS.triggers, TOPICS.outcomes, TOPICS.active, TOPICS.dead_letters, TOPICS.clock
        )  # fmt: skip
        self._decoders = {topic.name: CODEC.decoder(topic) for topic in topics}

    def __call__(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None
    ) -> None:
        self.raw.append((topic, partition, key, value, headers))
        decoded = None if value is None else self._decoders[topic](value)
        self.records.setdefault(topic, []).append((partition, key, decoded))

    def values(self, topic: str) -> list[dict[str, Any]]:
        """Return the decoded values of a topic without tombstones."""
        return [value for _, _, value in self.records.get(topic, []) if value is not None]

    @property
    def dead_letters(self) -> list[dict[str, Any]]:
        """What could not be used."""
        return self.values(TOPICS.dead_letters.name)

    @property
    def reasons(self) -> list[str]:
        """Why, decision by decision."""
        return [decision["reason"] for decision in self.values(TOPICS.decisions.name)]


class Bench:
    """One partition over a store of its own, fed by hand; `commit` does what the loop does around a transaction."""

    def __init__(
        self,
        folder: Path,
        *,
        cache_bytes: int = 1 << 20,
        live: bool = False,
        running: Program | None = None,
        reference: Reference = REFERENCE,
    ) -> None:
        self.running = running or program()
        self.programs = Programs(self.running)
        self.reference = reference
        self.sent = Sent()
        self.tally = Tally()
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.store = StateStore(folder)
        self.offsets = dict.fromkeys(INPUTS, 0)
        self._options = cache_bytes, live
        self.partition = self._partition(Meta(BEGINNING, dict(self.offsets)), *self._options)

    def _partition(self, meta: Meta, cache_bytes: int, live: bool) -> Partition:
        outbox = Outbox(TOPICS, CODEC, self.sent)
        deciding = Deciding(
            self.programs, self.reference, intake(), outbox, None, records_barriers=live, retention=RETENTION
        )
        inbox = Inbox(meta.positions, step_records=5_000, may_cut=live)
        return Partition(0, self.store, meta, inbox, deciding, self.tally, cache_bytes)

    def restart(self, running: Program | None = None) -> None:
        """Begin again with what is stored, as after a commit and a restart, perhaps with other definitions."""
        meta = self.store.meta()
        assert meta is not None
        self.running = running or self.running
        self.programs = Programs(self.running)
        self.partition = self._partition(meta, 1 << 20, live=False)

    def step(self, at: str | int, records: Iterable[tuple[str, bytes | None, bytes | None]] = ()) -> None:
        """Decide one step up to an instant: records are (topic, key, value)."""
        by_topic: dict[str, list[Message]] = {}
        for topic, key, value in records:
            read = message(value, topic=topic, key=key, offset=self.offsets[topic])
            self.offsets[topic] += 1
            by_topic.setdefault(topic, []).append(read)
        barrier = Barrier(at if isinstance(at, int) else instant(at), dict(self.offsets))
        self.partition.apply(Step(barrier, list(by_topic.items()), dict(self.offsets), advances=True))
        self.partition.take_census()

    def reopen(self) -> None:
        """Go on from what is stored, as another process would."""
        meta = self.store.meta()
        assert meta is not None
        self.partition = self._partition(meta, *self._options)

    def commit(self) -> None:
        """Stage and settle what the steps changed."""
        records, _ = self.partition.stage("v1")
        self.changelog += records
        self.partition.note_changelog(len(self.changelog))
        self.partition.settle(0)


def viewed(at: str | int = "09:00", customer: str = ANA, sku: str = "LAMP") -> bytes:
    """Return a look at a product."""
    record = {
        "event_id": f"v{next(_ids)}",
        "customer_id": customer,
        "event": "product.viewed",
        "event_time": at if isinstance(at, int) else instant(at),
        "sku": sku,
    }
    return encoded(CLICKSTREAM, record)


def to(customer: str, topic: str, value: bytes | None) -> tuple[str, bytes, bytes | None]:
    """Return a record of a customer for `Bench.step`."""
    return topic, customer.encode(), value
