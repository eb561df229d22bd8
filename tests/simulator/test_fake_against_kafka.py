"""The fake does not lie: every scenario is observed alike on it and on Apache Kafka."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # it does not list its exports
from confluent_kafka.cimpl import NewTopic

from tests.kafka.broker import KafkaBroker
from tests.simulator.fake_stage import FakeStage
from tests.simulator.scenarios import SCENARIOS, Seen, Stage

PATIENCE = 20.0


class KafkaStage:
    """Apache Kafka, and topics as scenarios ask for them."""

    def __init__(self, kafka: KafkaBroker) -> None:
        self._shared: dict[str, Any] = {"bootstrap.servers": kafka.bootstrap, "log_level": 0}
        self._admin = AdminClient(self._shared)
        self._consumers: list[Consumer] = []

    def topic(self, partitions: int = 1) -> str:
        """Create a topic."""
        name = self.name("scenario")
        self._admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])[name].result(20)
        return name

    def name(self, prefix: str) -> str:
        """Return a name that nobody else uses."""
        return f"{prefix}-{uuid.uuid4().hex[:8]}"

    def producer(self, transactional_id: str, timeout_ms: int = 20_000) -> Producer:
        """Return a transactional producer, initialised."""
        config = {"transactional.id": transactional_id, "transaction.timeout.ms": timeout_ms}
        producer = Producer({**self._shared, **config})
        producer.init_transactions(PATIENCE)
        return producer

    def consumer(self, group: str, **config: Any) -> Consumer:
        """Return a consumer that tells ends."""
        client = Consumer(
            {
                **self._shared,
                "group.id": group,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "range",
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 200,
                "fetch.wait.max.ms": 50,
                **config,
            }
        )
        self._consumers.append(client)
        return client

    def put(self, topic: str, *values: str) -> None:
        """Write records without a transaction."""
        producer = Producer(self._shared)
        for value in values:
            producer.produce(topic, value.encode(), b"key", 0)
        assert producer.flush(PATIENCE) == 0

    def ends(self, topic: str, *, committed_only: bool) -> int:
        """Return the end of partition 0 as the admin client has it."""
        level = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED
        wanted = {TopicPartition(topic, 0): OffsetSpec.latest()}  # type: ignore[no-untyped-call]  # it ships without types
        (answer,) = self._admin.list_offsets(wanted, isolation_level=level).values()
        return int(answer.result(PATIENCE).offset)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def until(self, what: Callable[[], bool]) -> None:
        """Repeat until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < deadline, "it never came about"

    def close(self) -> None:
        """Close the consumers."""
        for client in self._consumers:
            client.close()


@pytest.fixture
def stage(kafka: KafkaBroker) -> Iterator[KafkaStage]:
    """Return the real stage."""
    stage = KafkaStage(kafka)
    yield stage
    stage.close()


@pytest.mark.kafka
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_scenario_is_observed_alike_on_the_fake_and_on_kafka(
    scenario: Callable[[Stage], Seen], stage: KafkaStage
) -> None:
    """Visibility, errors with their flags, offsets, positions and callbacks are the same."""
    assert scenario(FakeStage()) == scenario(stage)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_scenario_is_the_same_every_time(scenario: Callable[[Stage], Seen]) -> None:
    """The fake has no chance of its own."""
    assert scenario(FakeStage()) == scenario(FakeStage())
