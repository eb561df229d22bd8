"""What the loop relies on, established on Apache Kafka itself with the client that the loop uses."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.runtime.embedded_broker import free_ports
from tests.kafka.broker import KafkaBroker

pytestmark = pytest.mark.kafka

PATIENCE = 20.0  # seconds for what should take far less


@pytest.fixture
def topic(kafka: KafkaBroker) -> str:
    """Create a topic with one partition."""
    name = unique("facts")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])[name].result(PATIENCE)
    return name


def unique(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def transactional(kafka: KafkaBroker, transactional_id: str | None = None, timeout_ms: int = 10_000) -> Producer:
    """Return a producer that may begin a transaction."""
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "transactional.id": transactional_id or unique("producer"),
            "transaction.timeout.ms": timeout_ms,
            "log_level": 0,
        }
    )
    producer.init_transactions(PATIENCE)
    return producer


@contextmanager
def consumer(kafka: KafkaBroker, group: str | None = None, isolation: str = "read_committed") -> Iterator[Consumer]:
    """Return a consumer that commits nothing by itself and tells when it has reached an end."""
    settings = {
        "bootstrap.servers": kafka.bootstrap,
        "group.id": group or unique("group"),
        "isolation.level": isolation,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 6_000,
        "heartbeat.interval.ms": 200,
        "log_level": 0,
    }
    with closing(Consumer(settings)) as client:
        yield client


def send(producer: Producer, topic: str, *values: str) -> None:
    """Put the values into the log, whatever becomes of their transaction."""
    for value in values:
        producer.produce(topic, value=value, partition=0)
    assert producer.flush(PATIENCE) == 0


def read_to_end(client: Consumer) -> tuple[list[str], int]:
    """Return what an assigned consumer is shown until it is told of the end, and the offset of that end."""
    values: list[str] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        message = client.poll(0.1)
        if message is None:
            continue
        error = message.error()
        if error is None:
            value = message.value()
            assert value is not None
            values.append(value.decode())
        elif error.code() == KafkaError._PARTITION_EOF:
            return values, offset(message)
        else:
            raise KafkaException(error)
    raise AssertionError(f"no end of the partition; so far {values}")


def offset(message: Message) -> int:
    """Return the offset of a message, which is there whatever its type says."""
    found = message.offset()
    assert found is not None
    return found


def shown(kafka: KafkaBroker, topic: str, isolation: str = "read_committed") -> list[str]:
    """Return what a new consumer is shown of a whole topic."""
    with consumer(kafka, isolation=isolation) as client:
        client.assign([TopicPartition(topic, 0, 0)])
        return read_to_end(client)[0]


def join(client: Consumer, topic: str, *, beside: Consumer | None = None) -> None:
    """Subscribe, and poll until the group has given the client its answer and has settled beside the other member."""
    answered: list[str] = []
    client.subscribe([topic], on_assign=lambda *_: answered.append("assigned"))
    deadline = time.monotonic() + PATIENCE
    while not answered:
        assert time.monotonic() < deadline, "the group gave no answer"
        client.poll(0.05)
        if beside is not None:
            beside.poll(0.05)


def committed(kafka: KafkaBroker, group: str, topic: str) -> int:
    """Return the offset the group has committed by now, without waiting for open transactions."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    question = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])]
    (answer,) = admin.list_consumer_group_offsets(question, require_stable=False).values()
    partitions = answer.result(PATIENCE).topic_partitions
    return int(partitions[0].offset)


def test_aborted_records_are_never_shown(kafka: KafkaBroker, topic: str) -> None:
    """A reader of committed records does not see what an aborted transaction wrote, though it is in the log."""
    producer = transactional(kafka)
    producer.begin_transaction()
    send(producer, topic, "aborted")
    producer.abort_transaction(PATIENCE)
    producer.begin_transaction()
    send(producer, topic, "kept")
    producer.commit_transaction(PATIENCE)

    assert shown(kafka, topic) == ["kept"]
    assert shown(kafka, topic, "read_uncommitted") == ["aborted", "kept"]


def test_records_of_an_open_transaction_are_not_shown_yet(kafka: KafkaBroker, topic: str) -> None:
    """A reader of committed records waits before an open transaction, and goes on after its commit."""
    producer = transactional(kafka)
    producer.begin_transaction()
    send(producer, topic, "open")

    assert shown(kafka, topic) == []
    producer.commit_transaction(PATIENCE)
    assert shown(kafka, topic) == ["open"]


def test_a_zombie_is_fenced_and_its_records_are_never_shown(kafka: KafkaBroker, topic: str) -> None:
    """Who takes over a transactional id ends the open transaction of its former owner, and the owner learns of it."""
    shared = unique("producer")
    zombie = transactional(kafka, shared)
    zombie.begin_transaction()
    send(zombie, topic, "zombie")

    heir = transactional(kafka, shared)
    with pytest.raises(KafkaException) as refused:
        zombie.commit_transaction(PATIENCE)
    heir.begin_transaction()
    send(heir, topic, "heir")
    heir.commit_transaction(PATIENCE)

    error = refused.value.args[0]
    assert error.fatal()
    assert error.code() == KafkaError._FENCED
    assert shown(kafka, topic) == ["heir"]


def test_a_transaction_that_times_out_at_the_broker_ends_its_producer(kafka: KafkaBroker, topic: str) -> None:
    """A stall longer than the transaction's timeout is fatal: no abort, only a new producer, goes on from there."""
    producer = transactional(kafka, timeout_ms=1_000)
    producer.begin_transaction()
    send(producer, topic, "stalled")
    time.sleep(3.5)  # the timeout, and the broker's sweep that comes once a second

    with pytest.raises(KafkaException) as refused:
        producer.commit_transaction(PATIENCE)

    assert refused.value.args[0].fatal()
    assert shown(kafka, topic) == []


def test_an_old_generation_cannot_commit_offsets_in_a_transaction(kafka: KafkaBroker, topic: str) -> None:
    """Group metadata from before a rebalance is refused, and the transaction can only be aborted."""
    group = unique("group")
    producer = transactional(kafka)
    with consumer(kafka, group) as first, consumer(kafka, group) as second:
        join(first, topic)
        stale = first.consumer_group_metadata()
        join(second, topic, beside=first)

        producer.begin_transaction()
        send(producer, topic, "too late")
        with pytest.raises(KafkaException) as refused:
            producer.send_offsets_to_transaction([TopicPartition(topic, 0, 7)], stale, PATIENCE)
        producer.abort_transaction(PATIENCE)

    error = refused.value.args[0]
    assert error.txn_requires_abort()
    assert not error.fatal()
    assert error.code() == KafkaError.ILLEGAL_GENERATION
    assert shown(kafka, topic) == []
    assert committed(kafka, group, topic) == OFFSET_INVALID


def test_a_member_that_is_gone_cannot_commit_offsets_in_a_transaction(kafka: KafkaBroker, topic: str) -> None:
    """Group metadata of a member that the group no longer has is refused."""
    group = unique("group")
    producer = transactional(kafka)
    with consumer(kafka, group) as stays, consumer(kafka, group) as goes:
        join(goes, topic)
        stale = goes.consumer_group_metadata()
        join(stays, topic, beside=goes)
        goes.close()

        producer.begin_transaction()
        with pytest.raises(KafkaException) as refused:
            producer.send_offsets_to_transaction([TopicPartition(topic, 0, 7)], stale, PATIENCE)
        producer.abort_transaction(PATIENCE)

    error = refused.value.args[0]
    assert error.txn_requires_abort()
    assert error.code() == KafkaError.UNKNOWN_MEMBER_ID


def test_positions_without_offsets_send_nothing_and_pass_for_success(kafka: KafkaBroker, topic: str) -> None:
    """The trap: ``position()`` before the first record is no offset, and sending it commits and fences nothing."""
    group = unique("group")
    producer = transactional(kafka)
    with consumer(kafka, group) as first, consumer(kafka, group) as second:
        join(first, topic)
        stale = first.consumer_group_metadata()
        positions = first.position([TopicPartition(topic, 0)])
        join(second, topic, beside=first)

        producer.begin_transaction()
        send(producer, topic, "unfenced")
        producer.send_offsets_to_transaction(positions, stale, PATIENCE)
        producer.commit_transaction(PATIENCE)

    assert [position.offset for position in positions] == [OFFSET_INVALID]
    assert committed(kafka, group, topic) == OFFSET_INVALID
    assert shown(kafka, topic) == ["unfenced"]


def test_the_end_is_told_past_markers_and_aborted_records(kafka: KafkaBroker, topic: str) -> None:
    """The end-of-partition event and ``position()`` pass what is not shown, so that both reach the end of the log."""
    producer = transactional(kafka)
    producer.begin_transaction()
    send(producer, topic, "zero", "one")  # and the commit marker is at 2
    producer.commit_transaction(PATIENCE)
    producer.begin_transaction()
    send(producer, topic, "three", "four")  # and the abort marker is at 5
    producer.abort_transaction(PATIENCE)

    with consumer(kafka) as client:
        client.assign([TopicPartition(topic, 0, 0)])
        values, end = read_to_end(client)
        (position,) = client.position([TopicPartition(topic, 0)])
        _, high = client.get_watermark_offsets(TopicPartition(topic, 0), PATIENCE)

    assert values == ["zero", "one"]
    assert end == position.offset == high == 6


def test_the_position_never_passes_a_record_that_was_not_returned(kafka: KafkaBroker, topic: str) -> None:
    """Markers move ``position()`` only once every record before them has been returned."""
    producer = transactional(kafka)
    for value in ("zero", "two", "four"):  # and the commit markers are at 1, 3 and 5
        producer.begin_transaction()
        send(producer, topic, value)
        producer.commit_transaction(PATIENCE)

    seen: list[tuple[int, int]] = []
    with consumer(kafka) as client:
        client.assign([TopicPartition(topic, 0, 0)])
        while len(seen) < 3:
            (message,) = client.consume(1, PATIENCE)
            (position,) = client.position([TopicPartition(topic, 0)])
            seen.append((offset(message), position.offset))

    assert [found for found, _ in seen] == [0, 2, 4]
    assert all(found < position <= found + 2 for found, position in seen)


def test_the_end_is_told_at_the_last_stable_offset(kafka: KafkaBroker, topic: str) -> None:
    """While a transaction is open, the end of the partition is the offset of its first record."""
    producer, other = transactional(kafka), transactional(kafka)
    producer.begin_transaction()
    send(producer, topic, "zero")  # and the commit marker is at 1
    producer.commit_transaction(PATIENCE)
    other.begin_transaction()
    send(other, topic, "two")
    producer.begin_transaction()
    send(producer, topic, "three")
    producer.commit_transaction(PATIENCE)

    with consumer(kafka) as client:
        client.assign([TopicPartition(topic, 0, 0)])
        values, end = read_to_end(client)
        _, high = client.get_watermark_offsets(TopicPartition(topic, 0), PATIENCE)

    assert values == ["zero"]
    assert end == high == 2


def test_offsets_of_a_transaction_count_from_its_commit(kafka: KafkaBroker, topic: str) -> None:
    """Offsets sent to a transaction are not committed before it is, and asking for them meanwhile waits for its end."""
    group = unique("group")
    producer = transactional(kafka)
    with consumer(kafka, group) as client:
        join(client, topic)
        producer.begin_transaction()
        metadata = client.consumer_group_metadata()
        producer.send_offsets_to_transaction([TopicPartition(topic, 0, 5)], metadata, PATIENCE)

        before = committed(kafka, group, topic)
        with pytest.raises(KafkaException) as pending:
            client.committed([TopicPartition(topic, 0)], 0.5)
        producer.commit_transaction(PATIENCE)
        (after,) = client.committed([TopicPartition(topic, 0)], PATIENCE)

    assert before == OFFSET_INVALID
    assert pending.value.args[0].code() == KafkaError._TIMED_OUT
    assert after.offset == 5


def test_offsets_of_an_aborted_transaction_are_forgotten(kafka: KafkaBroker, topic: str) -> None:
    """An abort leaves the committed offset as it was."""
    group = unique("group")
    producer = transactional(kafka)
    with consumer(kafka, group) as client:
        join(client, topic)
        producer.begin_transaction()
        metadata = client.consumer_group_metadata()
        producer.send_offsets_to_transaction([TopicPartition(topic, 0, 5)], metadata, PATIENCE)
        producer.abort_transaction(PATIENCE)
        (after,) = client.committed([TopicPartition(topic, 0)], PATIENCE)

    assert after.offset == OFFSET_INVALID


def test_faust_without_kafka_hosts_a_thread_and_stops_on_sigterm(tmp_path: Path) -> None:
    """A Faust worker that never asks for a broker runs our thread, serves its page, and ends with exit code 0."""
    (port,) = free_ports(1)
    journal = tmp_path / "journal"
    environment = {"FAUST_HOST_PORT": str(port), "FAUST_HOST_FILE": str(journal), "FAUST_DATADIR": str(tmp_path)}
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.kafka.faust_host", "-l", "info", "worker"],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        turns = _turns(worker, port)
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(PATIENCE)
    finally:
        worker.kill()
        worker.wait()

    assert turns > 0
    assert code == 0
    assert journal.read_text().split() == ["running", "stopped", "gone"]


def _turns(worker: "subprocess.Popen[bytes]", port: int) -> int:
    """Ask the page of the worker, until it answers, how often its thread has turned."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and worker.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/turns", timeout=1) as answer:
                turns = int(json.load(answer)["turns"])
        except (urllib.error.URLError, ConnectionError):
            turns = 0
        if turns:
            return turns
        time.sleep(0.05)
    raise AssertionError(f"the worker gave no answer; its exit code is {worker.returncode}")
