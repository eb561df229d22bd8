"""A topic is read whole: up to the end it had at the start, without what was never committed."""

import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.runtime import topic_reader
from orchestrator.runtime.embedded_broker import EmbeddedBroker, free_ports
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.topic_reader import Span, read_topic, topic_spans
from tests.kafka.broker import KafkaBroker

_names = count()


def config(bootstrap: str) -> dict[str, Any]:
    """Return what every client needs."""
    return {"bootstrap.servers": bootstrap}


def new_topic(bootstrap: str, partitions: int = 3) -> str:
    """Return the name of an empty topic of its own."""
    name = f"topic-reader-{next(_names)}"
    admin = AdminClient(config(bootstrap))
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(20)
    return name


def transaction(bootstrap: str, topic: str, commit: bool = True, keys: Sequence[str] = "abcdef") -> Callable[[], None]:
    """Write one record per key in a transaction, and return what ends it."""
    producer = Producer({**config(bootstrap), "transactional.id": f"{topic}-{next(_names)}", "log_level": 2})
    producer.init_transactions(20)
    producer.begin_transaction()
    for number, key in enumerate(keys):
        producer.produce(topic, key=key, value=str(number), partition=number % 2, headers={"n": str(number)})
    producer.flush(20)
    return (lambda: producer.commit_transaction(20)) if commit else (lambda: producer.abort_transaction(20))


@pytest.mark.broker
def test_whole_topic_is_read_in_order(embedded: EmbeddedBroker) -> None:
    """Every record comes once, in order within its partition, although markers take offsets at the end."""
    topic = new_topic(embedded.bootstrap)
    for _ in range(3):
        transaction(embedded.bootstrap, topic)()

    records = list(read_topic(config(embedded.bootstrap), topic))

    assert [record.key for record in records if record.partition == 0] == [b"a", b"c", b"e"] * 3
    assert [record.key for record in records if record.partition == 1] == [b"b", b"d", b"f"] * 3
    assert (records[0].value, records[0].headers) in {(b"0", (("n", b"0"),)), (b"1", (("n", b"1"),))}


@pytest.mark.broker
def test_empty_topic_has_no_records(embedded: EmbeddedBroker) -> None:
    """Nothing is waited for where there is nothing."""
    topic = new_topic(embedded.bootstrap)

    assert list(read_topic(config(embedded.bootstrap), topic)) == []
    assert topic_spans(config(embedded.bootstrap), topic) == {partition: Span(0, 0) for partition in range(3)}


@pytest.mark.broker
def test_one_partition_and_one_key(embedded: EmbeddedBroker) -> None:
    """For one customer only its partition is read, and only its records are returned."""
    topic = new_topic(embedded.bootstrap)
    transaction(embedded.bootstrap, topic)()

    records = read_topic(config(embedded.bootstrap), topic, partitions=[1], key_filter=lambda key: key == b"d")

    assert [(record.key, record.partition) for record in records] == [(b"d", 1)]


@pytest.mark.broker
def test_what_comes_later_is_not_read(embedded: EmbeddedBroker) -> None:
    """The end is the one captured, however fast others write, and a later reading can go on from there."""
    topic = new_topic(embedded.bootstrap)
    transaction(embedded.bootstrap, topic, keys="ab")()
    before = topic_spans(config(embedded.bootstrap), topic)
    transaction(embedded.bootstrap, topic, keys="cd")()
    after = topic_spans(config(embedded.bootstrap), topic)
    rest = {partition: Span(before[partition].end, span.end) for partition, span in after.items()}

    assert {record.key for record in read_topic(config(embedded.bootstrap), topic, spans=before)} == {b"a", b"b"}
    assert {record.key for record in read_topic(config(embedded.bootstrap), topic, spans=rest)} == {b"c", b"d"}


@pytest.mark.broker
def test_progress_ends_at_everything(embedded: EmbeddedBroker) -> None:
    """A progress bar reaches its end."""
    topic = new_topic(embedded.bootstrap)
    transaction(embedded.bootstrap, topic)()
    told: list[tuple[int, int]] = []

    list(read_topic(config(embedded.bootstrap), topic, progress=lambda behind, total: told.append((behind, total))))

    assert told[0][0] == 0
    assert told[-1] == (8, 8)  # six records and two markers


@pytest.mark.broker
def test_missing_topic_is_one_line(embedded: EmbeddedBroker) -> None:
    """The error says which topic is missing and what creates it."""
    with pytest.raises(OperatorError, match=r"^topic no-such-topic is missing: .*topics apply"):
        list(read_topic(config(embedded.bootstrap), "no-such-topic"))


@pytest.mark.broker
def test_missing_partition_is_one_line(embedded: EmbeddedBroker) -> None:
    """Asking for a partition the topic does not have is refused."""
    topic = new_topic(embedded.bootstrap)

    with pytest.raises(OperatorError, match="has 3 partitions, there is no 7"):
        list(read_topic(config(embedded.bootstrap), topic, partitions=[7]))


def test_missing_broker_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, the error names the address."""
    monkeypatch.setattr(topic_reader, "ANSWER_SECONDS", 1.0)
    (port,) = free_ports(1)

    with pytest.raises(OperatorError, match=rf"^no answer from Kafka at 127\.0\.0\.1:{port} .*refused"):
        list(read_topic(config(f"127.0.0.1:{port}"), "any"))


@pytest.mark.kafka
def test_aborted_records_are_not_read(kafka: KafkaBroker) -> None:
    """What a worker took back was never said."""
    topic = new_topic(kafka.bootstrap)
    transaction(kafka.bootstrap, topic, keys="ab")()
    transaction(kafka.bootstrap, topic, commit=False, keys="cd")()

    assert {record.key for record in read_topic(config(kafka.bootstrap), topic)} == {b"a", b"b"}


@pytest.mark.kafka
def test_open_transaction_is_waited_for(kafka: KafkaBroker) -> None:
    """What is being committed when the reading begins is part of the topic."""
    topic = new_topic(kafka.bootstrap)
    end = transaction(kafka.bootstrap, topic, keys="ab")
    committing = threading.Timer(1.0, end)
    committing.start()
    began = time.monotonic()

    keys = {record.key for record in read_topic(config(kafka.bootstrap), topic)}

    committing.join()
    assert keys == {b"a", b"b"}
    assert time.monotonic() - began >= 0.9
