"""One partition over a store of its own, fed without a broker; what it emits is counted and thrown away."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Message
from rocksdict import Cache

from bench.harness.seed import products
from orchestrator.definitions.catalogue import CATALOGUE
from orchestrator.events import FOREVER
from orchestrator.program import Program
from orchestrator.programs import Programs
from orchestrator.reference import Reference, product_of
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.barriers import Barrier
from orchestrator.runtime.compose import BLOCK_CACHE
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.inbox import Inbox, Step
from orchestrator.runtime.intake import Intake, sources_of
from orchestrator.runtime.outbox import Headers, Outbox
from orchestrator.runtime.partition import Deciding, Partition
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.state_store import Meta, StateStore
from orchestrator.runtime.tally import Tally
from orchestrator.runtime.topics import load

ROOT = Path(__file__).parents[2]
RETAIL = ROOT / "deploy" / "definitions" / "retail"
TOPICS = load(ROOT / "topics.yaml", ROOT / "schemas").with_partitions(1, 1)
CODEC = Codec(FileRegistry(ROOT / "schemas"))
CLICKS, PURCHASES, ENGAGEMENT, PROFILES = "clickstream", "purchases", "email-engagement", "customer-profiles"
ENCODERS = {topic.name: CODEC.encoder(topic) for topic in sources_of(TOPICS)}
BEGIN = 1_488_326_400_000
"""2017-03-01T00:00Z."""


class OnePartition:
    """The real intake, partition, engine, store and encoders; `commit` does what the loop does around a transaction."""

    def __init__(
        self, folder: Path, *, cache_bytes: int = 256 << 20, definitions: Path = RETAIL, clock: int = -FOREVER
    ) -> None:
        self.tally = Tally()
        self.sent: Counter[str] = Counter()
        self.sent_bytes = 0
        self.staged_bytes = 0
        self.decided: set[bytes] = set()
        self.store = StateStore(folder, Cache(BLOCK_CACHE))
        self.offsets = dict.fromkeys((topic.name for topic in sources_of(TOPICS)), 0)
        reference = Reference(product_of(record) for record in products())
        intake = Intake(TOPICS, CODEC, max_record_bytes=1 << 20, max_skew=300_000)
        program = Program(load_folder(definitions), CATALOGUE.topic_by_event)
        deciding = Deciding(
            Programs(program), reference, intake, Outbox(TOPICS, CODEC, self._send), None, records_barriers=False
        )
        meta = Meta(clock, dict(self.offsets))
        inbox = Inbox(meta.positions, step_records=5_000, may_cut=False)
        self.partition = Partition(0, self.store, meta, inbox, deciding, self.tally, cache_bytes)

    def step(self, at: int, records: Mapping[str, Sequence[tuple[bytes | None, bytes | None]]]) -> None:
        """Decide one step up to an instant: by topic, keys and values."""
        messages = [(topic, [self._message(topic, *one) for one in ones]) for topic, ones in records.items()]
        positions = dict(self.offsets)
        self.partition.apply(Step(Barrier(at, positions), messages, positions, advances=True))

    def commit(self) -> None:
        """Stage the changes and write them to the store."""
        records, _ = self.partition.stage("bench")
        self.staged_bytes += sum(len(value or b"") for _, value in records)
        self.partition.settle(0)

    def _message(self, topic: str, key: bytes | None, value: bytes | None) -> Message:
        offset = self.offsets[topic]
        self.offsets[topic] = offset + 1
        return Message(topic=topic, partition=0, offset=offset, key=key, value=value)

    def _send(
        self,
        topic: str,
        partition: int,  # noqa: ARG002 - the outbox's signature
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,  # noqa: ARG002
    ) -> None:
        self.sent[topic] += 1
        self.sent_bytes += len(value or b"")
        if topic == TOPICS.decisions.name and key is not None:
            self.decided.add(key)


def click(customer: str, at: int, number: int, cart: str = "c1", total: int = 5_000) -> bytes:
    """Return an item put into a cart."""
    record: dict[str, Any] = {"event_id": f"i{number}", "customer_id": customer, "event": "cart.item_added"}
    return ENCODERS[CLICKS]({**record, "event_time": at, "cart_id": cart, "cart_total": total, "sku": "SKU-001"})


def order(customer: str, at: int, number: int) -> bytes:
    """Return an order of one thing."""
    line = {"sku": f"SKU-{number % 60:03}", "quantity": 1, "price": 999, "margin": None}
    record: dict[str, Any] = {"event_id": f"o{number}", "customer_id": customer, "event": "order.placed"}
    return ENCODERS[PURCHASES]({**record, "event_time": at, "order_id": f"o{number}", "lines": [line], "total": 999})


def engagement(customer: str, at: int, number: int, event: str, channel: str = "email") -> bytes:
    """Return what became of a message of somebody else."""
    record: dict[str, Any] = {"event_id": f"m{number}", "customer_id": customer, "event": event}
    return ENCODERS[ENGAGEMENT]({**record, "event_time": at, "channel": channel})


def profile(customer: str, at: int, born: str | None = None) -> bytes:
    """Return a profile that agrees to e-mail."""
    consent = {"channel": "email", "purpose": "marketing", "granted": True, "at": at}
    record: dict[str, Any] = {"customer_id": customer, "updated_at": at, "time_zone": "UTC", "consents": [consent]}
    return ENCODERS[PROFILES]({**record, "birth_date": born})


def resident_mib() -> float:
    """Return the memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_mib() -> float:
    """Return the most memory this process ever held."""
    # Not ru_maxrss: a child begins with its parent's, so a test started from a large process would measure that.
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) / 1024
