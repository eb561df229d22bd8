"""The limit: librdkafka's consume and produce from Python, exactly-once, with no decoding, no state and no timers.

It reads every record's key, value, partition and offset, and produces as many records of a trigger's size as the job
has triggers, in transactions with the offsets.
"""

from __future__ import annotations

import os
import signal
import time
from threading import Event

from confluent_kafka import Consumer, Producer, TopicPartition

from bench.peers.wire import BOOTSTRAP, COMMIT_SECONDS, GROUP, OUT, TOPIC, trigger

BATCH = 2_000
EVERY = int(os.environ["BENCH_EVENTS_PER_TRIGGER"])


def main() -> None:
    """Run until a signal."""
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    producer = Producer(
        {"bootstrap.servers": BOOTSTRAP, "transactional.id": GROUP, "linger.ms": 5, "compression.type": "lz4"}
    )
    producer.init_transactions()
    consumer = Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "range",
        }
    )
    consumer.subscribe([TOPIC])
    value = trigger("c-0000000", "k0000000-0", 0)
    seen, committed_at, dirty = 0, time.monotonic(), False
    positions: dict[int, int] = {}
    while not stop.is_set():
        for message in consumer.consume(BATCH, 0.05):
            if message.error() is not None:
                continue
            key, body = message.key(), message.value()
            assert key is not None
            assert body is not None
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            if not dirty:
                producer.begin_transaction()
                dirty = True
            positions[partition] = offset + 1
            seen += 1
            if seen % EVERY == 0:
                producer.produce(OUT, value, key, partition)
        if dirty and time.monotonic() - committed_at >= COMMIT_SECONDS:
            committed_at = time.monotonic()
            offsets = [TopicPartition(TOPIC, number, offset) for number, offset in positions.items()]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
            producer.commit_transaction()
            dirty = False
    consumer.close()


if __name__ == "__main__":
    main()
