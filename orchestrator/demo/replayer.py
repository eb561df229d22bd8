"""Feeds a stream of recorded events and the barriers that belong to it into the topics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from orchestrator.runtime.avro import Codec
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.partitioner import partition_of
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_reader import topic_spans

Arrival = tuple[int, str, str, dict[str, Any]]
"""Arrival instant in milliseconds, topic, key and record."""


class Replayer:
    """Produces records in arrival order, and after every `barrier_every` of their time a barrier in each partition.

    A barrier at T names the offsets after everything that had arrived by T. Offsets are counted, not asked for, so
    nothing has to be flushed: the replayer must be the only one that writes to these topics.
    """

    def __init__(self, client_config: Mapping[str, Any], topics: Topics, codec: Codec, *, barrier_every: int) -> None:
        self._topics = {topics.plain_name(topic.name): topic for topic in topics}
        self.partitions = topics.partitions
        self._inputs = [topic.name for topic in (topics.profiles, *topics.inputs)]
        self._references = [topic.name for topic in topics.references]
        self._clock = topics.clock.name
        self._barrier_every = barrier_every
        written = (*topics.inputs, topics.profiles, *topics.references, topics.clock)
        self._encoders = {topics.plain_name(topic.name): codec.encoder(topic) for topic in written}
        self._ends: dict[tuple[str, int], int] = {}
        for name in (*self._inputs, *self._references):
            for partition, span in topic_spans(client_config, name).items():
                self._ends[name, partition] = span.end
        self._failure: KafkaError | None = None
        self._producer = Producer(
            {
                **client_config,
                "enable.idempotence": True,  # retries must not shift the offsets that barriers name
                "linger.ms": 20,
                "compression.type": "lz4",
                "message.max.bytes": 2 << 20,
                "queue.buffering.max.messages": 100_000,
                "queue.buffering.max.kbytes": 131_072,
                "delivery.report.only.error": True,
                "on_delivery": self._on_delivery,
            }
        )
        self.records = 0

    def replay(
        self, arrivals: Iterable[Arrival], until: int, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Produce everything, then a last barrier at `until`; return how many records were sent.

        `progress` is told records and instant at every barrier.
        """
        next_barrier: int | None = None
        for at, topic, key, record in arrivals:
            if next_barrier is None:
                next_barrier = at
            while at > next_barrier:
                self.barrier(next_barrier)
                if progress is not None:
                    progress(self.records, next_barrier)
                next_barrier += self._barrier_every
            self.send(topic, key, self.encode(topic, record))
        self.barrier(until)
        self.finish()
        if progress is not None:
            progress(self.records, until)
        return self.records

    def encode(self, topic: str, record: dict[str, Any]) -> bytes:
        """Return a record as the topic's bytes."""
        return self._encoders[topic](record)

    def send(self, topic: str, key: str, value: bytes | None, partition: int | None = None) -> None:
        """Produce one record, in the partition of its key unless another is asked for (a planted stranger)."""
        declared = self._topics[topic]
        raw = key.encode()
        number = (
            (partition_of(raw, self.partitions) if declared.co_partitioned else 0) if partition is None else partition
        )
        self._produce(declared.name, number, raw, value)
        self._ends[declared.name, number] += 1
        self.records += 1

    def barrier(self, time: int) -> None:
        """Produce a barrier in every partition: the clock may come to `time` after what was sent so far."""
        shared = {name: self._ends[name, 0] for name in self._references}
        for number in range(self.partitions):
            ends = {name: self._ends[name, number] for name in self._inputs} | shared
            value = self._encoders["clock"]({"time": time, "ends": ends, "horizon": None})
            self._produce(self._clock, number, str(number).encode(), value)
        self._producer.poll(0)
        if self._failure is not None:
            raise OperatorError(f"a record could not be delivered ({self._failure.str()}): replay into new topics")

    def finish(self) -> None:
        """Wait until everything is delivered."""
        if self._producer.flush(120):
            raise OperatorError("the broker did not take all records within 120 s: is it well?")
        if self._failure is not None:
            raise OperatorError(f"a record could not be delivered ({self._failure.str()}): replay into new topics")

    def _produce(self, topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        del message
        if error is not None:
            self._failure = error
