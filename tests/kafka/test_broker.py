"""The test broker does what it is told: keeps its data through faults, freezes, forms a cluster, says why it cannot."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.runtime.embedded_broker import speaks_kafka
from tests.kafka import broker as module
from tests.kafka.broker import JARS, KafkaBroker, KafkaFailedError, cluster, kafka_unavailable

pytestmark = pytest.mark.kafka

PATIENCE = 20.0


@pytest.fixture
def forgetful() -> Iterator[None]:
    """Let a test look for Java and the jars anew, and forget what it has found."""
    for cached in (kafka_unavailable, module._java):
        cached.cache_clear()
    yield
    for cached in (kafka_unavailable, module._java):
        cached.cache_clear()


@pytest.mark.usefixtures("kafka")
def test_topics_survive_a_restart_and_a_kill() -> None:
    """A node comes back on its own data and ports, whichever way it went."""
    with KafkaBroker() as node:
        address = node.bootstrap
        create(node, "kept", replicas=1)
        node.restart()
        assert "kept" in topics(node)
        node.kill()
        assert node.pid is None
        node.start()

        assert "kept" in topics(node)
        assert node.bootstrap == address


@pytest.mark.usefixtures("kafka")
def test_a_frozen_node_answers_again_when_it_is_resumed() -> None:
    """While it is frozen nobody answers; afterwards all is as before."""
    with KafkaBroker() as node:
        port = node.member.port
        node.pause()
        assert not speaks_kafka(port, timeout=0.3)
        node.resume()

        assert speaks_kafka(port, timeout=PATIENCE)


@pytest.mark.usefixtures("kafka")
def test_three_nodes_replicate_and_outlive_one_of_them() -> None:
    """A cluster of three takes a record that two must have, also when one is killed."""
    delivered: list[KafkaError | None] = []
    with cluster(3) as nodes:
        create(nodes[0], "replicated", replicas=3)
        bootstrap = ",".join(node.bootstrap for node in nodes)
        producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
        producer.produce("replicated", b"before")
        assert producer.flush(PATIENCE) == 0
        nodes[0].kill()
        producer.produce("replicated", b"after", on_delivery=lambda error, _: delivered.append(error))
        assert producer.flush(PATIENCE) == 0

    assert delivered == [None]


@pytest.mark.usefixtures("kafka")
def test_a_node_that_cannot_start_shows_its_log() -> None:
    """A wrong property is an error with the reason in it, not a timeout."""
    node = KafkaBroker(properties={"num.io.threads": "none"})
    try:
        with pytest.raises(KafkaFailedError, match=r"num\.io\.threads"):
            node.start()
    finally:
        node.close()


@pytest.mark.usefixtures("forgetful")
def test_without_java_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A skip names what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    assert kafka_unavailable() == "Apache Kafka is not here: java was not found; install a JDK 17+"


@pytest.mark.usefixtures("kafka", "forgetful")
def test_a_directory_without_kafka_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory of jars that holds no Kafka is named, and nothing is fetched instead."""
    monkeypatch.setenv(JARS, str(tmp_path))

    assert kafka_unavailable() == f"Apache Kafka is not here: {JARS} is '{tmp_path}', which holds no kafka_2.13 jar"


def create(node: KafkaBroker, name: str, replicas: int) -> None:
    """Create a topic with one partition."""
    admin = AdminClient({"bootstrap.servers": node.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=replicas)])[name].result(PATIENCE)


def topics(node: KafkaBroker) -> set[str]:
    """Return the names of the topics a node knows."""
    admin = AdminClient({"bootstrap.servers": node.bootstrap, "log_level": 0})
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return set(admin.list_topics(timeout=2).topics)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
