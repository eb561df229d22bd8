"""The embedded broker starts, carries records and transactions over a socket, and leaves nothing behind."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.runtime.embedded_broker import (
    EmbeddedBroker,
    EmbeddedBrokerError,
    embedded_broker_unavailable,
    free_ports,
    speaks_kafka,
)

pytestmark = pytest.mark.broker

PATIENCE = 10.0  # seconds for what should take far less
HOST = """
import time
from orchestrator.runtime.embedded_broker import EmbeddedBroker
broker = EmbeddedBroker()
broker.start()
print(broker.bootstrap, flush=True)
time.sleep(60)
"""


@pytest.fixture
def topic(embedded: EmbeddedBroker) -> str:
    """Create a topic with one partition."""
    name = f"embedded-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap})
    admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])[name].result(PATIENCE)
    return name


def read(broker: EmbeddedBroker, topic: str, count: int) -> list[bytes | None]:
    """Return the first values of a topic."""
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": topic, "isolation.level": "read_committed"}
    with closing(Consumer(settings)) as client:
        client.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in client.consume(count, PATIENCE)]


def test_a_record_goes_in_and_comes_out(embedded: EmbeddedBroker, topic: str) -> None:
    """What is produced over the socket is consumed over the socket."""
    producer = Producer({"bootstrap.servers": embedded.bootstrap})
    producer.produce(topic, value=b"hello", partition=0)
    assert producer.flush(PATIENCE) == 0

    assert read(embedded, topic, 1) == [b"hello"]


def test_a_transaction_commits_its_records_and_offsets(embedded: EmbeddedBroker, topic: str) -> None:
    """A committed transaction shows its records, and its offsets are the group's."""
    group = f"group-{topic}"
    settings = {"bootstrap.servers": embedded.bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    settings |= {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"}
    producer = Producer({"bootstrap.servers": embedded.bootstrap, "transactional.id": f"producer-{topic}"})
    producer.init_transactions(PATIENCE)
    with closing(Consumer({**settings, "enable.auto.commit": False})) as client:
        client.subscribe([topic])
        deadline = time.monotonic() + 2 * PATIENCE
        while not client.assignment():
            assert time.monotonic() < deadline, "the group gave no answer"
            client.poll(0.05)

        producer.begin_transaction()
        producer.produce(topic, value=b"kept", partition=0)
        offsets = [TopicPartition(topic, 0, 1)]
        producer.send_offsets_to_transaction(offsets, client.consumer_group_metadata(), PATIENCE)
        producer.commit_transaction(PATIENCE)
        (committed,) = client.committed([TopicPartition(topic, 0)], PATIENCE)

    assert committed.offset == 1
    assert read(embedded, topic, 1) == [b"kept"]


def test_a_stopped_broker_leaves_no_process() -> None:
    """After ``with``, the process is gone and nobody answers on its port."""
    with EmbeddedBroker() as broker:
        pid, port = broker.pid, int(broker.bootstrap.rpartition(":")[2])
        assert pid is not None
        assert speaks_kafka(port)

    assert broker.pid is None
    assert not speaks_kafka(port)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_broker_dies_with_its_parent() -> None:
    """Whoever kills the program that started the broker has killed the broker too."""
    parent = subprocess.Popen(
        [sys.executable, "-c", HOST], cwd=Path(__file__).resolve().parents[1], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline().rpartition(":")[2])
        assert speaks_kafka(port)
        parent.send_signal(signal.SIGKILL)

    deadline = time.monotonic() + PATIENCE
    while speaks_kafka(port):
        assert time.monotonic() < deadline, "the broker has outlived its parent"
        time.sleep(0.02)


def test_a_broker_that_does_not_run_has_no_address() -> None:
    """Asking for the address before the start is an error that says so."""
    with pytest.raises(EmbeddedBrokerError, match="is not running"):
        _ = EmbeddedBroker().bootstrap


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing wheel is one line with the command that helps."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(EmbeddedBrokerError, match=r"is not installed; install it with: pip install"):
        EmbeddedBroker().start()
    assert embedded_broker_unavailable() is not None


def test_a_binary_that_ends_at_once_is_reported_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A broker that cannot start does not keep us waiting, and its own last line is in the error."""
    broken = tmp_path / "tansu"
    broken.write_text("#!/bin/sh\necho no memory left\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(broken))

    with pytest.raises(EmbeddedBrokerError, match="ended at its start: no memory left"):
        EmbeddedBroker().start()


def test_free_ports_differ() -> None:
    """Two ports asked for together are two ports."""
    assert len(set(free_ports(5))) == 5
