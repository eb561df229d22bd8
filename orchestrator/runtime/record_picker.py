"""Picks single records of a partition by their offsets, so that nobody has to keep copies of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from orchestrator.runtime.errors import OperatorError

_PICKING = {
    "group.id": "orchestrator-reader",  # demanded by the client; nothing is committed, so the group never exists
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",  # retention may overtake us: what comes instead is not what was asked for
    "isolation.level": "read_committed",
    "fetch.wait.max.ms": 20,
    "fetch.message.max.bytes": 1 << 16,  # the rest of what a fetch brings is thrown away
    "queued.min.messages": 1,
    "fetch.queue.backoff.ms": 5,  # else the next offset can wait a second for its turn, measured
    "log_level": 2,
}


def pick(
    client_config: Mapping[str, Any], topic: str, partition: int, offsets: Sequence[int], timeout: float = 10.0
) -> list[tuple[bytes | None, bytes | None]]:
    """Return key and value of the records at these ascending offsets, leaving out those that are no longer there."""
    deadline = time.monotonic() + timeout
    picked: list[tuple[bytes | None, bytes | None]] = []
    consumer = Consumer({**_PICKING, **client_config})
    try:
        oldest, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=timeout) or (0, 0)
        for offset in offsets:
            if offset < oldest:
                continue
            consumer.assign([TopicPartition(topic, partition, offset)])
            record = _next(consumer, deadline)
            if record[0] == offset:
                picked.append(record[1:])
    except KafkaException as error:
        raise OperatorError(f"topic {topic} cannot be read: {error.args[0].str()}") from None
    finally:
        consumer.close()
    return picked


def _next(consumer: Consumer, deadline: float) -> tuple[int | None, bytes | None, bytes | None]:
    while (left := deadline - time.monotonic()) > 0:
        message = consumer.poll(left)
        if message is None:
            break
        error = message.error()
        if error is None:
            return message.offset(), _bytes(message.key()), _bytes(message.value())
        if not error.retriable():
            raise KafkaException(error)
    raise OperatorError("no answer from Kafka in time")


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
