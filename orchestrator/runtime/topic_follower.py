"""Follows whole topics as they grow: every committed record and tombstone, and how far each partition was read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.patience import Patience, ask_ends

ANSWER_SECONDS = 15.0

CATCH_UP_SECONDS = 180.0
"""How long nothing may come before the end that topics had: an open transaction ends with its timeout at the latest."""

_BATCH = 2_000

Place = tuple[str, int]
"""Topic and partition."""

From = Callable[[str, int, int, int], int]
"""From a topic, a partition, its first and its next offset to the offset from which to read."""


def beginning(topic: str, partition: int, first: int, following: int) -> int:  # noqa: ARG001 - the shape of From
    """Begin with the oldest record that there is."""
    return first


class Follower:
    """A consumer of all partitions of some topics, in no group: what was read is known to us alone."""

    def __init__(self, client_config: Mapping[str, Any], topics: Mapping[str, int], start: From = beginning) -> None:
        """Follow topics, given with their numbers of partitions."""
        self._patience = Patience(", ".join(topics))
        shared = {
            **client_config,
            "group.id": "orchestrator-reader",  # demanded by the client; nothing is committed
            "enable.auto.commit": False,
        }
        self._consumer = Consumer(
            {
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 16_384,
                **shared,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",  # what compaction removed is not needed
            }
        )
        # Under read_committed the end would be the last stable offset, which hides a commit whose markers are still on
        # their way. And a consumer that fetches would have its questions wait behind its fetches.
        self._asker = Consumer({**shared, "isolation.level": "read_uncommitted"})
        self._reached: dict[Place, int] = {}
        wanted = [(topic, number) for topic, partitions in topics.items() for number in range(partitions)]
        for topic, number in wanted:
            self._reached[topic, number] = start(topic, number, *self._span(topic, number))
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in self._reached.items()])

    def poll(self, seconds: float) -> Iterator[Message]:
        """Yield the records that have come, waiting so long for the first."""
        for message in self._consumer.consume(_BATCH, seconds):
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                    raise OperatorError(
                        f"topic {message.topic()} is missing: create it with `orchestrator topics apply`"
                    )
                self._patience.meet(error)
                continue
            self._patience.came()
            place, offset = (str(message.topic()), message.partition() or 0), message.offset() or 0
            # Markers of transactions have offsets that no record shows.
            self._reached[place] = max(self._reached[place], offset if error is not None else offset + 1)
            if error is None:
                yield message
        self._patience.check()

    def catch_up(self) -> Iterator[Message]:
        """Yield everything up to the ends that the topics have now, waiting for transactions that are open there."""
        ends = {place: self._span(*place)[1] for place in self._reached}
        last, left = time.monotonic(), self._left(ends)
        while left:
            yield from self.poll(0.05)
            before, left = left, self._left(ends)
            if left < before:
                last = time.monotonic()
            elif time.monotonic() - last > CATCH_UP_SECONDS:
                behind = next(f"{topic}/{number}" for (topic, number), end in ends.items()
                              if self._reached[topic, number] < end)  # fmt: skip
                raise OperatorError(
                    f"nothing more came from {behind} for {CATCH_UP_SECONDS:.0f} s, before its end: a transaction may "
                    "be hanging, or the brokers are gone"
                )

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()
        self._asker.close()

    def _left(self, ends: Mapping[Place, int]) -> int:
        """Return how many offsets there are up to these ends; what comes after one is no step towards another."""
        return sum(max(0, end - self._reached[place]) for place, end in ends.items())

    def _span(self, topic: str, number: int) -> tuple[int, int]:
        try:
            return ask_ends(self._asker, TopicPartition(topic, number), ANSWER_SECONDS)
        except KafkaException as error:
            reason = error.args[0].str()
            raise OperatorError(f"no answer about {topic}/{number} ({reason}): is the broker well?") from error
