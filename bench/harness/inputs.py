"""Writes a backlog into topics: ours with barriers, and one merged topic for peers, with the same bytes in each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.harness.backlog import Backlog, Due
from bench.harness.seed import products
from orchestrator.demo.replayer import Replayer
from orchestrator.events import MINUTE
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.partitioner import partition_of
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_reader import read_topic
from tests.kafka.broker import KafkaBroker

BARRIER_EVERY = 5 * MINUTE
"""Of event time; with 50,000 customers in 12 hours a step has some 800 records in each of four partitions."""

_JVM = ("-Xmx1g", "-XX:MaxDirectMemorySize=256m", "-XX:TieredStopAtLevel=4")


@contextmanager
def broker() -> Iterator[KafkaBroker]:
    """Run one node of Apache Kafka, with more room than the tests give it and its compiler switched on."""
    with KafkaBroker(jvm=_JVM, properties={"log.segment.bytes": str(256 << 20)}) as node:
        yield node


def create(admin: AdminClient, name: str, partitions: int, **config: str) -> None:
    """Create a topic that keeps everything, whatever time its records carry."""
    topic = NewTopic(name, partitions, 1, config={"retention.ms": "-1", **config})
    admin.create_topics([topic])[name].result(20)


@dataclass(frozen=True, slots=True)
class Merged:
    """One topic with everything in the order of its time, for peers: they align no topics by barriers."""

    topic: str
    events: int
    ends: dict[int, int]
    expected: frozenset[Due]


class MergedWriter:
    """Writes the merged topic; Kafka's timestamp is the event's time, so that nobody has to decode to know it."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, compression: str) -> None:
        self._topic = topic
        self._partitions = partitions
        self._ends = dict.fromkeys(range(partitions), 0)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 20,
                "compression.type": compression,
                "queue.buffering.max.messages": 100_000,
            }
        )

    def send(self, key: str, value: bytes, at: int, partition: int | None = None) -> None:
        """Produce one record, in the partition of its key unless another is given."""
        raw = key.encode()
        number = partition_of(raw, self._partitions) if partition is None else partition
        while True:
            try:
                self._producer.produce(self._topic, value, raw, number, timestamp=at)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)
        self._ends[number] += 1

    def finish(self, backlog: Backlog) -> Merged:
        """Wait until everything is delivered and say what there is."""
        if self._producer.flush(120):
            raise KafkaException("the broker did not take the backlog")
        return Merged(self._topic, sum(self._ends.values()), self._ends, backlog.expected)


def write_merged(
    bootstrap: str,
    topic: str,
    partitions: int,
    backlog: Backlog,
    topics: Topics,
    codec: Codec,
    compression: str = "lz4",
) -> Merged:
    """Create and fill one merged topic."""
    create(AdminClient({"bootstrap.servers": bootstrap}), topic, partitions)
    encoders = {name: codec.encoder(topics.by_name(topics.prefix + name)) for name in ("clickstream", "purchases")}
    writer = MergedWriter(bootstrap, topic, partitions, compression)
    for at, customer, name, _, record in backlog.happenings:
        writer.send(customer, encoders[name](record), at)
    tick: dict[str, Any] = dict(backlog.happenings[0].record, event="site.visited", event_time=backlog.ends_at)
    for number in range(partitions):  # brings every partition's time to the end
        tick["customer_id"] = f"tick-{number}"
        writer.send(tick["customer_id"], encoders["clickstream"](tick), backlog.ends_at, number)
    return writer.finish(backlog)


def write_ours(client: dict[str, Any], backlog: Backlog, topics: Topics, codec: Codec) -> int:
    """Fill the input topics of a prefix, with products and barriers; return how many events there are."""
    replayer = Replayer(client, topics, codec, barrier_every=BARRIER_EVERY)
    for product in products():
        replayer.send("products", product["sku"], replayer.encode("products", product))
    arrivals = ((one.at, one.topic, one.customer, one.record) for one in backlog.happenings)
    return replayer.replay(arrivals, backlog.ends_at) - len(products())


def triggers_of(client: dict[str, Any], topic: str, codec: Codec, topics: Topics) -> list[Due]:
    """Return the triggers that a topic holds, committed ones alone."""
    decode = codec.decoder(topics.triggers)
    found = []
    for one in read_topic(client, topic):
        assert one.value is not None
        record = decode(one.value)
        found.append(Due(record["customer_id"], record["moment_key"], record["opened_at"]))
    return found
