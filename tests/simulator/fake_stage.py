"""The stage of the scenarios over the fake brokers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition

from tests.simulator.clients import FakeAdmin, FakeConsumer, FakeProducer
from tests.simulator.fake_kafka import FakeKafka
from tests.simulator.log import PartitionLog
from tests.simulator.process import Process


class FakeStage:
    """Fake brokers, and topics as scenarios ask for them."""

    def __init__(self) -> None:
        self._kafka = FakeKafka({})
        self._process = Process()
        self._names = count(1)

    def topic(self, partitions: int = 1) -> str:
        """Create a topic."""
        name = self.name("topic")
        self._kafka.partitions[name] = partitions
        self._kafka.logs |= {(name, number): PartitionLog((name, number)) for number in range(partitions)}
        return name

    def name(self, prefix: str) -> str:
        """Return a name that nobody else uses."""
        return f"{prefix}-{next(self._names)}"

    def producer(self, transactional_id: str, timeout_ms: int = 20_000) -> FakeProducer:
        """Return a transactional producer, initialised."""
        config = {"transactional.id": transactional_id, "transaction.timeout.ms": timeout_ms}
        producer = FakeProducer(self._kafka, self._process, config)
        producer.init_transactions(20)
        return producer

    def consumer(self, group: str, **config: Any) -> FakeConsumer:
        """Return a consumer that tells ends."""
        process = Process()
        process.max_poll = config.get("max.poll.interval.ms", process.max_poll)
        given = {"group.id": group, "enable.partition.eof": True, "auto.offset.reset": "earliest", **config}
        return FakeConsumer(self._kafka, process, given)

    def put(self, topic: str, *values: str) -> None:
        """Write records without a transaction."""
        for value in values:
            self._kafka.logs[topic, 0].append(b"key", value.encode(), None, self._kafka.clock.now)

    def ends(self, topic: str, *, committed_only: bool) -> int:
        """Return the end of partition 0 as the admin client has it."""
        level = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED
        (answer,) = FakeAdmin(self._kafka, self._process).list_offsets({TopicPartition(topic, 0): None}, level).values()
        return int(answer.result().offset)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._kafka.clock.pass_to(self._kafka.clock.now + int(seconds * 1_000))

    def until(self, what: Callable[[], bool]) -> None:
        """Repeat until something is so."""
        for _ in range(100):
            if what():
                return
            self.sleep(0.1)
        raise AssertionError("it never came about")
