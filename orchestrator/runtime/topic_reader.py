"""Reads a whole topic as it stands: from its beginning up to the end it had when the reading began."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.patience import PASSING, ask_ends

ANSWER_SECONDS = 15.0
"""How long a broker has to answer a question."""

PATIENCE_SECONDS = 120.0
"""How long no record may come before the reading is given up; longer than a transaction may stay open."""

_BATCH = 1_000
_READING = {
    "group.id": "orchestrator-reader",  # demanded by the client; nothing is committed, so the group never exists
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "earliest",  # retention may overtake us: go on with what is left
    "fetch.wait.max.ms": 20,  # an end is known only by an empty answer
    "fetch.queue.backoff.ms": 10,
    "log_level": 2,  # what goes wrong is said once, by us
}


@dataclass(frozen=True, slots=True)
class Record:
    """One record as Kafka has it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    partition: int
    offset: int
    timestamp: int
    """Milliseconds, as the broker or the producer set it; event time is in the value."""


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets of one partition to read, from `start` up to but not including `end`."""

    start: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.start)


KeyFilter = Callable[[bytes | None], bool]
Progress = Callable[[int, int], None]
"""Told how many offsets are behind us, and of how many."""


def topic_spans(
    client_config: Mapping[str, Any], topic: str, partitions: Collection[int] | None = None
) -> dict[int, Span]:
    """Return what each partition of *topic* holds now, records of open transactions included."""
    # Under read_committed the end would be the last stable offset, and what is just being committed would be missed.
    with _Reader(client_config, topic, "read_uncommitted") as reader:
        there = reader.partitions()
        if partitions is not None and not set(partitions) <= set(there):
            raise OperatorError(f"topic {topic} has {len(there)} partitions, there is no {max(partitions)}")
        return {
            partition: reader.span(partition) for partition in there if partitions is None or partition in partitions
        }


def read_topic(
    client_config: Mapping[str, Any],
    topic: str,
    *,
    partitions: Collection[int] | None = None,
    key_filter: KeyFilter | None = None,
    spans: Mapping[int, Span] | None = None,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """Yield the committed records of *topic* up to its captured end, in order within each partition.

    Without *spans* the end is captured when the first record is asked for. Transactions open at that instant are waited
    for, so that what they commit is read and what they abort is not.
    """
    if spans is None:
        spans = topic_spans(client_config, topic, partitions)
    tally = _Tally(spans, progress)
    if not tally.left:
        return
    with _Reader(client_config, topic, "read_committed") as reader:
        reader.assign({partition: span.start for partition, span in tally.left.items()})
        for message in reader.messages():
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            if partition not in tally.left:
                continue
            # Markers of transactions take offsets that no record has, so an end may only show as the partition's end.
            is_record = message.error() is None
            wanted = is_record and offset < tally.left[partition].end
            if tally.reached(partition, offset + 1 if is_record else offset):
                reader.drop(partition)
            if wanted and (key_filter is None or key_filter(_bytes(message.key()))):
                yield _record(message, partition, offset)
            if not tally.left:
                return


class _Tally:
    """Which partitions are still to be read, and how far they are."""

    def __init__(self, spans: Mapping[int, Span], progress: Progress | None) -> None:
        self.left = {partition: span for partition, span in spans.items() if len(span)}
        self._progress = progress
        self._behind = dict.fromkeys(self.left, 0)
        self._total = sum(map(len, self.left.values()))
        self._report()

    def reached(self, partition: int, position: int) -> bool:
        """Take note that everything before *position* was read; return whether that was all."""
        span = self.left[partition]
        self._behind[partition] = min(position, span.end) - span.start
        done = position >= span.end
        if done:
            del self.left[partition]
        if done or position % _BATCH == 0:
            self._report()
        return done

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(sum(self._behind.values()), self._total)


class _Reader:
    """A consumer of one topic that belongs to no group, and says what goes wrong in one line."""

    def __init__(self, client_config: Mapping[str, Any], topic: str, isolation: str) -> None:
        self._topic = topic
        self._servers = client_config.get("bootstrap.servers", "")
        self._trouble: KafkaError | None = None
        self._consumer = Consumer(
            {**_READING, **client_config, "isolation.level": isolation, "error_cb": self._on_error}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def partitions(self) -> list[int]:
        """Return the topic's partitions."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=ANSWER_SECONDS).topics[self._topic]
        except KafkaException as error:
            raise self._failure(error.args[0]) from None
        if found.error is not None:
            raise self._failure(found.error)
        return sorted(found.partitions)

    def span(self, partition: int) -> Span:
        """Return what a partition holds now."""
        try:
            return Span(*ask_ends(self._consumer, TopicPartition(self._topic, partition), ANSWER_SECONDS))
        except KafkaException as error:
            raise self._failure(error.args[0]) from None

    def assign(self, starts: Mapping[int, int]) -> None:
        """Read these partitions from these offsets on."""
        self._consumer.assign([TopicPartition(self._topic, partition, start) for partition, start in starts.items()])

    def drop(self, partition: int) -> None:
        """Read this partition no further."""
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def messages(self) -> Iterator[Message]:
        """Yield records and ends of partitions, or raise when nothing comes any more."""
        last = time.monotonic()
        while True:
            batch = self._consumer.consume(_BATCH, 0.05)
            came = [one for one in batch if not self._passes(one.error())]
            if came:
                last = time.monotonic()
            elif time.monotonic() - last > PATIENCE_SECONDS:
                waited = f"nothing more came from topic {self._topic} for {PATIENCE_SECONDS:.0f} s"
                raise OperatorError(f"{waited}: a transaction may be hanging, or the brokers are gone{self._reason()}")
            for message in came:
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise self._failure(error)
                yield message

    def _passes(self, error: KafkaError | None) -> bool:
        """Return whether an error passes by itself, and keep it for when it does not."""
        if error is None or error.code() not in PASSING:
            return False
        self._on_error(error)
        return True

    def _on_error(self, error: KafkaError) -> None:
        if self._trouble is None or error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._trouble = error

    def _reason(self) -> str:
        return "" if self._trouble is None else f" ({self._trouble.str()})"

    def _failure(self, error: KafkaError) -> OperatorError:
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return OperatorError(f"topic {self._topic} is missing: create it with `orchestrator topics apply`")
        if error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
            self._consumer.poll(0)  # brings the cause to _on_error
            return OperatorError(
                f"no answer from Kafka at {self._servers}{self._reason()}: check address and credentials"
            )
        return OperatorError(f"topic {self._topic} cannot be read: {error.str()}")


def _record(message: Message, partition: int, offset: int) -> Record:
    given = cast("list[tuple[str, str | bytes | None]]", message.headers() or [])
    headers = tuple((name, _bytes(value)) for name, value in given)
    return Record(_bytes(message.key()), _bytes(message.value()), headers, partition, offset, message.timestamp()[1])


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
