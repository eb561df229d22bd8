"""A stream of its own on a broker: what is sent into it, the instants it has come to, and what came out."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, Message, Producer
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.runtime.avro import Codec
from orchestrator.runtime.compose import topics_of
from orchestrator.runtime.connection import connect
from orchestrator.runtime.intake import sources_of
from orchestrator.runtime.outbox import Headers
from orchestrator.runtime.partitioner import partition_of
from orchestrator.runtime.record_reader import RecordReader
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.settings import Settings, load
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_admin import apply
from tests.builders import instant
from tests.runtime.messages import ROOT
from tests.runtime.worker_process import EngineProcess

RETAIL = ROOT / "deploy" / "definitions" / "retail"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record was written."""

    topic: str
    partition: int
    offset: int


class Stream:
    """Topics with a prefix of their own, and a clock topic that says when they have been written up to an instant."""

    def __init__(self, bootstrap: str, folder: Path, *, partitions: int = 2, **more: str) -> None:
        """Create the topics; `more` are settings by their names without ORCHESTRATOR_."""
        name = f"s{uuid.uuid4().hex[:8]}"
        given = {
            "BOOTSTRAP_SERVERS": bootstrap,
            "GROUP": name,
            "TOPIC_PREFIX": f"{name}-",
            "PARTITIONS": str(partitions),
            "REPLICATION": "1",
            "STATE_DIR": str(folder / "state"),
            "DEFINITIONS": str(RETAIL),
            "BARRIERS": "replay",
            "COMMIT_INTERVAL": "50ms",
            "WEB_PORT": "0",
        }
        self.environment = {f"ORCHESTRATOR_{name}": text for name, text in (given | more).items()}
        self.settings: Settings = load(self.environment, hostname="test")
        self.topics = topics_of(self.settings)
        apply(connect(self.settings), self.topics)
        self._codec = Codec(FileRegistry(self.settings.schemas))
        self._barrier = self._codec.encoder(self.topics.clock)
        self._producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 8 << 20, "log_level": 2})
        self._inputs = [self.topics.plain_name(topic.name) for topic in sources_of(self.topics)]
        self._ends = {(topic, number): 0 for topic in self._inputs for number in range(partitions)}

    @staticmethod
    def declared(bootstrap: str, prefix: str, partitions: int) -> Topics:
        """Return the topics as they would be declared, without creating them."""
        given = {"BOOTSTRAP_SERVERS": bootstrap, "TOPIC_PREFIX": prefix, "PARTITIONS": str(partitions)}
        return topics_of(load({f"ORCHESTRATOR_{name}": text for name, text in given.items()}, hostname="test"))

    def partition(self, customer: str) -> int:
        """Return the partition of a customer."""
        return partition_of(customer.encode(), self.topics.partitions)

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> Place:
        """Write a record to an input, by default into its customer's partition, and return where it is."""
        if partition is None:
            partition = partition_of(key or b"", self.topics.partitions)
        place = self._produce(topic, partition, key, value, headers)
        self._ends[topic, partition] = place.offset + 1
        return place

    def put(self, topic: str, key: bytes, value: bytes) -> None:
        """Write one of many records to an input, without waiting until it is there."""
        partition = partition_of(key, self.topics.partitions)
        self._producer.produce(self.topics.prefix + topic, value, key, partition)
        self._producer.poll(0)
        self._ends[topic, partition] += 1

    def advance(self, at: str) -> None:
        """Say that everything up to an instant was written."""
        self.advance_to(instant(at))

    def advance_to(self, at: int) -> None:
        """Say that everything up to an instant in milliseconds was written."""
        assert self._producer.flush(20) == 0
        prefix = self.topics.prefix
        for number in range(self.topics.partitions):
            ends = {prefix + topic: self._ends[topic, number] for topic in self._inputs}
            value = self._barrier({"time": at, "ends": ends, "horizon": None})
            self._produce("clock", number, str(number).encode(), value, None)

    def reached(self, engine: EngineProcess, at: int) -> bool:
        """Return whether an engine has come to an instant with all partitions, and committed it."""
        page = engine.get("metrics")[1]
        clocks = {sample.labels["partition"]: sample.value for family in text_string_to_metric_families(page)
                  if family.name == "journey_clock_seconds" for sample in family.samples}  # fmt: skip
        return len(clocks) == self.topics.partitions and all(clock >= at / 1000 for clock in clocks.values())

    def read(self, role: Callable[[Any], Any]) -> list[dict[str, Any]]:
        """Return the records of one of our topics, as in `stream.read(lambda topics: topics.decisions)`."""
        return [record for record, _ in RecordReader.open(self.settings).read(role(self.topics))]

    @property
    def dead_letters(self) -> list[dict[str, Any]]:
        """What could not be used."""
        return self.read(lambda topics: topics.dead_letters)

    @property
    def decisions(self) -> list[dict[str, Any]]:
        """What was decided."""
        return self.read(lambda topics: topics.decisions)

    def _produce(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None
    ) -> Place:
        offsets: list[int] = []

        def on_delivery(error: KafkaError | None, delivered: Message) -> None:
            assert error is None, error.str()
            offsets.append(delivered.offset() or 0)

        self._producer.produce(
            self.topics.prefix + topic, value, key, partition, headers=headers or [], on_delivery=on_delivery
        )
        assert self._producer.flush(20) == 0
        return Place(self.topics.prefix + topic, partition, offsets[0])
