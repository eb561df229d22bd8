"""Feeds a stream of recorded events and the barriers that belong to it into the topics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from orchestrator.events import FOREVER
from orchestrator.runtime.avro import Codec, Undecodable
from orchestrator.runtime.clock import steady_ms
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.learner import Learner, Waiting
from orchestrator.runtime.partitioner import partition_of
from orchestrator.runtime.policy_log import SCHEMA, policy_topic
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_follower import Follower
from orchestrator.runtime.topic_reader import topic_spans

LEARNS_SECONDS = 300.0
"""How long a snapshot is waited for while nothing moves: neither engines nor, where it is ours, the learner."""

LOOKS_MS = 1_000
"""How often to look whether something has moved, milliseconds."""

ASKING_SECONDS = 2.0

Arrival = tuple[int, str, str, dict[str, Any]]
"""Arrival instant in milliseconds, topic, key and record."""


class PolicyWatch:
    """The snapshots that were published so far: as of when the newest whole one is, and where it ends."""

    def __init__(
        self, client_config: Mapping[str, Any], topics: Topics, codec: Codec, every: int, group: str | None
    ) -> None:
        topic = policy_topic(topics)
        self.topic = topic.name
        self.as_of = -1
        self.end = 0
        self.undecodable = 0
        self.begin = FOREVER
        """The offset from which on there is only what is learned while we wait, every so often."""
        self._every = every
        self._decode = codec.decoder(topic)
        self._log = Follower(client_config, {topic.name: 1})
        self._leaves: dict[str, set[str]] = {}
        self._group = None if group is None else _Group(client_config, topics, group)
        for message in self._log.catch_up():
            self._take(message)

    def wait(self, as_of: int, learner: Learner | None) -> None:
        """Wait for the snapshot as of an instant, or raise an OperatorError when none comes."""
        # A span may be any number of events: engines have as long as it takes them, as long as they get on.
        last = looked = steady_ms()
        reached = self._reached(learner)
        while self.as_of < as_of:
            if learner is not None:
                with suppress(Waiting):  # for engines that have not told yet how far they are
                    learner.turn(0.02)
            for message in self._log.poll(0.02):
                self._take(message)
            if steady_ms() - looked < LOOKS_MS:
                continue
            before, reached = reached, self._reached(learner)
            looked = steady_ms()
            if reached != before:
                last = looked
            elif looked - last > LEARNS_SECONDS * 1000:
                raise OperatorError(
                    f"no policy snapshot came, and nothing moved for {LEARNS_SECONDS:.0f} s: do the engines run, and a "
                    "control worker with ORCHESTRATOR_LEARN_EVERY as the replay has it?"
                )

    def check(self) -> None:
        """Raise an OperatorError where somebody has learned at other instants than were waited at."""
        for message in self._log.catch_up():
            self._take(message)

    def _reached(self, learner: Learner | None) -> tuple[int, tuple[int, int] | None]:
        """Return how far engines and learner are, as numbers that change while they get on."""
        return (
            0 if self._group is None else self._group.committed(),
            None if learner is None else learner.progress,
        )

    def _take(self, message: Message) -> None:
        value = message.value()
        if not isinstance(value, bytes):
            return
        try:
            record = self._decode(value)
        except Undecodable:
            self.undecodable += 1  # engines and learner leave it out as well
            return
        if (message.offset() or 0) >= self.begin and record["as_of"] % self._every:
            raise OperatorError(
                "a snapshot came from between two that the replay waits for, and no other replay would be the same: a "
                "control worker learns more often. Give it ORCHESTRATOR_LEARN_EVERY as the replay has it, and replay "
                "into new topics"
            )
        leaves = self._leaves.setdefault(record["version"], set())
        leaves.add(record["leaf"])
        if len(leaves) == record["leaves"]:
            del self._leaves[record["version"]]
            self.as_of, self.end = max(self.as_of, record["as_of"]), (message.offset() or 0) + 1

    def close(self) -> None:
        """Leave the brokers."""
        self._log.close()
        if self._group is not None:
            self._group.close()


class _Group:
    """The engines' group, by the offsets that it has committed; it is never joined, only asked."""

    def __init__(self, client_config: Mapping[str, Any], topics: Topics, name: str) -> None:
        self._consumer = Consumer({**client_config, "group.id": name, "enable.auto.commit": False})
        self._wanted = [
            TopicPartition(topic.name, number)
            for topic in (topics.profiles, *topics.inputs, topics.clock)
            for number in range(topics.partitions)
        ]
        self._last = 0

    def committed(self) -> int:
        """Return how many records engines are done with; what nobody answers or may ask has not moved."""
        with suppress(KafkaException):
            answers = self._consumer.committed(self._wanted, timeout=ASKING_SECONDS)
            self._last = sum(max(0, where.offset) for where in answers if where.error is None)
        return self._last

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()


class Replayer:
    """Produces records in arrival order, and at every multiple of `barrier_every` of their time a barrier everywhere.

    A barrier at T names the offsets after everything that had arrived by T. Offsets are counted, not asked for, so
    nothing has to be flushed: the replayer must be the only one that writes to these topics.

    With `learn_every` it waits after the first barrier of each such time until a policy snapshot was published that
    counts all outcomes up to then: engines decide nothing further meanwhile, and what they decide next waits for it. So
    a replay is the same every time, whoever learns and however long that takes.
    """

    def __init__(
        self,
        client_config: Mapping[str, Any],
        topics: Topics,
        codec: Codec,
        *,
        barrier_every: int,
        learn_every: int | None = None,
        learner: Learner | None = None,
        group: str | None = None,
    ) -> None:
        """Replay with barriers so far apart; `learner` takes its turns while one waits, None where control learns.

        `group` is that of the engines: as long as it gets on, a snapshot is waited for.
        """
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
        self._client = client_config
        self._snapshots = next((topic.name for topic in topics.references if topic.schema == SCHEMA), None)
        self._learn_every = learn_every
        self._learner = learner
        self._policy = None if learn_every is None else PolicyWatch(client_config, topics, codec, learn_every, group)
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
        self.reached = 0
        """The instant of the last barrier."""

    def replay(
        self,
        arrivals: Iterable[Arrival],
        until: int | Callable[[], int],
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Produce everything, then a last barrier at `until`; return how many records were sent.

        Where the end follows from the last arrival, `until` is asked for after it, and time goes on to it in steps.

        `progress` is told records and instant at every barrier.
        """
        next_barrier: int | None = None
        for at, topic, key, record in arrivals:
            if next_barrier is None:
                next_barrier = -(-at // self._barrier_every) * self._barrier_every
            while at > next_barrier:
                self.barrier(next_barrier)
                if progress is not None:
                    progress(self.records, next_barrier)
                next_barrier += self._barrier_every
            self.send(topic, key, self.encode(topic, record))
        end = until if isinstance(until, int) else until()
        while next_barrier is not None and not isinstance(until, int) and next_barrier < end:
            self.barrier(next_barrier)
            next_barrier += self._barrier_every
        self.barrier(end)
        self.finish()
        self._check_learning()
        if progress is not None:
            progress(self.records, end)
        return self.records

    def _check_learning(self) -> None:
        """Raise an OperatorError where snapshots came that nobody waited for, so that engines met them by chance."""
        if self._policy is not None:
            self._policy.check()
        elif self._snapshots is not None:
            end = topic_spans(self._client, self._snapshots)[0].end
            if end > self._ends[self._snapshots, 0]:
                raise OperatorError(
                    "snapshots were published while the replay ran, and no other replay would be the same: a control "
                    "worker learns. Run it without ORCHESTRATOR_LEARN_EVERY, or give the replay --learn-every as often "
                    "and --learned-by control; and replay into new topics"
                )

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
        self.reached = time
        shared = {name: self._ends[name, 0] for name in self._references}
        for number in range(self.partitions):
            ends = {name: self._ends[name, number] for name in self._inputs} | shared
            value = self._encoders["clock"]({"time": time, "ends": ends, "horizon": None})
            self._produce(self._clock, number, str(number).encode(), value)
        self._producer.poll(0)
        if self._failure is not None:
            raise OperatorError(f"a record could not be delivered ({self._failure.str()}): replay into new topics")
        if self._policy is not None and self._learn_every is not None:
            self._learn(self._policy, time // self._learn_every * self._learn_every)

    def _learn(self, policy: PolicyWatch, as_of: int) -> None:
        """Wait for the snapshot as of an instant; the barriers to come ask engines to have read it."""
        if policy.begin == FOREVER:
            policy.begin = self._ends[policy.topic, 0]  # before it is what recorded snapshots there are
        if as_of > policy.as_of:
            self.finish()
            policy.wait(as_of, self._learner)
        self._ends[policy.topic, 0] = policy.end

    def finish(self) -> None:
        """Wait until everything is delivered."""
        if self._producer.flush(120):
            raise OperatorError("the broker did not take all records within 120 s: is it well?")
        if self._failure is not None:
            raise OperatorError(f"a record could not be delivered ({self._failure.str()}): replay into new topics")

    def close(self) -> None:
        """Leave the brokers."""
        if self._policy is not None:
            self._policy.close()

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
