"""What the loop relies on as scripts that run on the fake and on Apache Kafka alike: each returns what was observed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from confluent_kafka import OFFSET_BEGINNING, OFFSET_INVALID, KafkaError, KafkaException, Message, TopicPartition

Seen = list[Any]
"""What was observed, as plain values."""


class Stage(Protocol):
    """Brokers and their clients, real or fake."""

    def topic(self, partitions: int = 1) -> str:
        """Create a topic."""

    def name(self, prefix: str) -> str:
        """Return a name that nobody else uses."""

    def producer(self, transactional_id: str, timeout_ms: int = 20_000) -> Any:
        """Return a transactional producer, initialised."""

    def consumer(self, group: str, **config: Any) -> Any:
        """Return a consumer that tells ends; closed when the scenario is over."""

    def put(self, topic: str, *values: str) -> None:
        """Write records without a transaction."""

    def ends(self, topic: str, *, committed_only: bool) -> int:
        """Return the end of partition 0 as the admin client has it."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""

    def until(self, what: Callable[[], bool]) -> None:
        """Repeat until something is so."""


def outcome(call: Callable[[], Any]) -> Any:
    """Return how a call ends: `fine`, or the error's name and flags."""
    try:
        call()
    except KafkaException as failure:
        return described(failure.args[0])
    except RuntimeError:
        return "closed"
    return "fine"


def described(error: KafkaError) -> list[str]:
    """Return an error's name and its flags."""
    flags = {"fatal": error.fatal(), "abort": error.txn_requires_abort()}
    return [error.name(), *(flag for flag, is_set in flags.items() if is_set)]


def send(producer: Any, topic: str, *values: str, partition: int = 0) -> None:
    """Put records of the open transaction into the log."""
    for value in values:
        producer.produce(topic, value.encode(), b"key", partition)
    assert producer.flush(20) == 0


def written(producer: Any, topic: str, *values: str) -> None:
    """Write a committed transaction."""
    producer.begin_transaction()
    send(producer, topic, *values)
    producer.commit_transaction(20)


class Reader:
    """An assigned consumer and everything it was shown."""

    def __init__(self, stage: Stage, topic: str, start: int = 0, **config: Any) -> None:
        self.topic = topic
        self.values: list[str] = []
        self.ends: list[int] = []
        self.errors: Seen = []
        self._stage = stage
        self.client = stage.consumer(stage.name("readers"), **config)
        self.client.assign([TopicPartition(topic, 0, start)])

    def turn(self) -> None:
        """Take what is there."""
        for message in self.client.consume(100, 0.1):
            self._take(message)

    def _take(self, message: Message) -> None:
        error = message.error()
        value, offset = message.value(), message.offset()
        if error is None:
            assert isinstance(value, bytes)
            self.values.append(value.decode())
        elif error.code() == KafkaError._PARTITION_EOF:
            assert offset is not None
            self.ends.append(offset)
        else:
            self.errors.append(described(error))

    def to_end(self, end: int) -> Reader:
        """Read until an end is told."""
        self._stage.until(lambda: self.turn() or end in self.ends)  # type: ignore[func-returns-value]  # it takes a turn
        return self

    @property
    def position(self) -> int:
        """What `position()` says."""
        return int(self.client.position([TopicPartition(self.topic, 0)])[0].offset)

    @property
    def watermarks(self) -> list[int]:
        """The first offset and the end."""
        return list(self.client.get_watermark_offsets(TopicPartition(self.topic, 0), timeout=10))


class Joined:
    """A member of a group and what its callbacks were told."""

    def __init__(self, stage: Stage, group: str, topics: Sequence[str], **config: Any) -> None:
        self.told: list[tuple[str, list[tuple[int, int]]]] = []
        self.errors: Seen = []
        self.client = stage.consumer(group, **config)
        self._order = list(topics)
        self.client.subscribe(
            list(topics), on_assign=self._telling("assigned"), on_revoke=self._telling("revoked"),
            on_lost=self._telling("lost"),
        )  # fmt: skip

    def _telling(self, what: str) -> Callable[[Any, list[TopicPartition]], None]:
        def tell(_: Any, where: list[TopicPartition]) -> None:
            self.told.append((what, sorted((self._order.index(one.topic), one.partition) for one in where)))

        return tell

    def turn(self) -> None:
        """Let callbacks be called."""
        for message in self.client.consume(100, 0.05):
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                self.errors.append(described(error))

    @property
    def has(self) -> list[tuple[int, int]] | None:
        """What is assigned, None when nothing was said."""
        return self.told[-1][1] if self.told and self.told[-1][0] == "assigned" else None


def settle(stage: Stage, *members: Joined, partitions: int = 1) -> None:
    """Let members poll until all have their share."""

    def settled() -> bool:
        for member in members:
            member.turn()
        if any(member.has is None for member in members):
            return False
        return sum(len(member.has or ()) for member in members) == partitions

    stage.until(settled)


def offsets(topic: str, offset: int = 7) -> list[TopicPartition]:
    """Return offsets to commit."""
    return [TopicPartition(topic, 0, offset)]


# --- the scenarios ----------------------------------------------------------------------------------------------------


def aborted_records_are_hidden(stage: Stage) -> Seen:
    """Show what readers of either kind are shown of an aborted and a committed transaction."""
    topic, producer = stage.topic(), stage.producer(stage.name("p"))
    producer.begin_transaction()
    send(producer, topic, "a", "b")
    producer.abort_transaction(20)
    written(producer, topic, "c")
    seen: Seen = []
    for isolation in ("read_committed", "read_uncommitted"):
        reader = Reader(stage, topic, 0, **{"isolation.level": isolation}).to_end(5)
        seen.append([reader.values, reader.ends, reader.position, reader.watermarks])
    return seen


def an_open_transaction_holds_the_stable_end(stage: Stage) -> Seen:
    """Show ends and records while one of two transactions is open, and after its commit."""
    topic = stage.topic()
    first, second = stage.producer(stage.name("p")), stage.producer(stage.name("p"))
    written(first, topic, "zero")
    second.begin_transaction()
    send(second, topic, "two")
    written(first, topic, "three")
    reader = Reader(stage, topic).to_end(2)
    seen: Seen = [reader.values.copy(), reader.watermarks]
    seen.append([stage.ends(topic, committed_only=True), stage.ends(topic, committed_only=False)])
    open_reader = Reader(stage, topic, 0, **{"isolation.level": "read_uncommitted"}).to_end(5)
    seen.append([open_reader.values, open_reader.watermarks])
    second.commit_transaction(20)
    reader.to_end(6)
    return [*seen, reader.values, reader.ends, reader.position]


def an_end_is_told_again_after_markers_alone(stage: Stage) -> Seen:
    """Show that a reader at the end learns that an aborted transaction moved it."""
    topic, producer = stage.topic(), stage.producer(stage.name("p"))
    written(producer, topic, "zero")
    reader = Reader(stage, topic).to_end(2)
    producer.begin_transaction()
    send(producer, topic, "two")
    producer.abort_transaction(20)
    reader.to_end(4)
    return [reader.values, reader.ends[0], reader.ends[-1], reader.position]


def a_successor_fences(stage: Stage) -> Seen:
    """Show what each call of a fenced producer says, and what became of its records."""
    topic, group = stage.topic(), stage.name("g")
    member = Joined(stage, group, [topic])
    settle(stage, member)
    seen: Seen = []
    calls: list[Callable[[Any], Any]] = [
        lambda zombie: zombie.commit_transaction(20),
        lambda zombie: zombie.abort_transaction(20),
        lambda zombie: zombie.send_offsets_to_transaction(
            offsets(topic), member.client.consumer_group_metadata(), 20
        ),
    ]  # fmt: skip
    for call in calls:
        name = stage.name("p")
        zombie = stage.producer(name)
        zombie.begin_transaction()
        send(zombie, topic, "zombie")
        stage.producer(name)
        seen.append([outcome(lambda: call(zombie)), outcome(zombie.begin_transaction)])  # noqa: B023 - called at once
    return [*seen, Reader(stage, topic).to_end(6).values]


def a_fenced_flush_says_so_once(stage: Stage) -> Seen:
    """Show that records of a fenced producer are refused: flushing raises once, and the commit says it again."""
    topic, name = stage.topic(), stage.name("p")
    zombie = stage.producer(name)
    zombie.begin_transaction()
    send(zombie, topic, "zombie")
    stage.producer(name)
    zombie.produce(topic, b"late", b"key", 0)
    first, second = outcome(lambda: zombie.flush(20)), outcome(lambda: zombie.flush(20))
    return [first, second, outcome(lambda: zombie.commit_transaction(20))]


def an_empty_transaction_asks_nobody(stage: Stage) -> Seen:
    """Show that a fenced producer may commit nothing."""
    name = stage.name("p")
    zombie = stage.producer(name)
    zombie.begin_transaction()
    stage.producer(name)
    return [outcome(lambda: zombie.commit_transaction(20))]


def a_transaction_times_out(stage: Stage) -> Seen:
    """Show that a stall beyond the transaction's time-out is fatal to its producer, whatever it calls."""
    topic, seen = stage.topic(), []
    stalled = [stage.producer(stage.name("p"), timeout_ms=1_000) for _ in range(2)]
    for producer in stalled:
        producer.begin_transaction()
        send(producer, topic, "stalled")
    stage.sleep(3.5)
    seen.append([outcome(lambda: stalled[0].commit_transaction(20)), outcome(stalled[0].begin_transaction)])
    seen.append([outcome(lambda: stalled[1].abort_transaction(20)), outcome(stalled[1].begin_transaction)])
    return [*seen, Reader(stage, topic).to_end(4).values]


def calls_out_of_turn(stage: Stage) -> Seen:
    """Show what a producer says outside and inside of a transaction."""
    topic, producer = stage.topic(), stage.producer(stage.name("p"))
    member = Joined(stage, stage.name("g"), [topic])
    metadata = member.client.consumer_group_metadata()
    return [
        outcome(lambda: producer.commit_transaction(20)),
        outcome(lambda: producer.abort_transaction(20)),
        outcome(lambda: producer.produce(topic, b"v", b"k", 0)),
        outcome(lambda: producer.send_offsets_to_transaction(offsets(topic), metadata, 20)),
        outcome(producer.begin_transaction),
        outcome(producer.begin_transaction),
        outcome(lambda: producer.commit_transaction(20)),
        outcome(producer.begin_transaction),
        outcome(lambda: producer.abort_transaction(20)),
    ]


def an_old_generation_is_refused(stage: Stage) -> Seen:
    """Show that metadata from before a rebalance: refused, then only an abort helps, and after it all is well."""
    topics = [stage.topic(2)]
    group, producer = stage.name("g"), stage.producer(stage.name("p"))
    first = Joined(stage, group, topics)
    settle(stage, first, partitions=2)
    stale = first.client.consumer_group_metadata()
    second = Joined(stage, group, topics)
    settle(stage, first, second, partitions=2)
    producer.begin_transaction()
    producer.produce(topics[0], b"late", b"key", 0)
    seen: Seen = [
        outcome(lambda: producer.send_offsets_to_transaction(offsets(topics[0]), stale, 20)),
        outcome(lambda: producer.commit_transaction(20)),
        outcome(lambda: producer.produce(topics[0], b"later", b"key", 0)),
        outcome(lambda: producer.abort_transaction(20)),
        outcome(producer.begin_transaction),
    ]
    fresh = first.client.consumer_group_metadata()
    seen.append(outcome(lambda: producer.send_offsets_to_transaction(offsets(topics[0]), fresh, 20)))
    seen.append(outcome(lambda: producer.commit_transaction(20)))
    found = first.client.committed([TopicPartition(topics[0], 0), TopicPartition(topics[0], 1)], timeout=20)
    return [*seen, [one.offset for one in found]]


def a_member_that_stalls_is_gone(stage: Stage) -> Seen:
    """Show that beyond max.poll.interval: its commit is refused, an error tells of it first, then what was lost."""
    topic, group = stage.topic(), stage.name("g")
    producer = stage.producer(stage.name("p"))
    member = Joined(stage, group, [topic], **{"session.timeout.ms": 1_500, "max.poll.interval.ms": 1_500})
    settle(stage, member)
    stage.sleep(3)
    producer.begin_transaction()
    metadata = member.client.consumer_group_metadata()
    seen: Seen = [outcome(lambda: producer.send_offsets_to_transaction(offsets(topic), metadata, 20))]
    producer.abort_transaction(20)
    settled = len(member.told)
    stage.until(lambda: member.turn() or len(member.told) >= settled + 2)  # type: ignore[func-returns-value]  # a turn
    return [*seen, member.errors, member.told]


def offsets_wait_for_their_transaction(stage: Stage) -> Seen:
    """Show that pending offsets are told to nobody who wants stable ones; then as the transaction ends."""
    topic, group = stage.topic(), stage.name("g")
    producer = stage.producer(stage.name("p"))
    member = Joined(stage, group, [topic])
    settle(stage, member)
    seen: Seen = []
    for end in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        metadata = member.client.consumer_group_metadata()
        producer.send_offsets_to_transaction(offsets(topic, 5), metadata, 20)
        seen.append(outcome(lambda: member.client.committed([TopicPartition(topic, 0)], timeout=0.5)))
        end(20)
        seen.append(member.client.committed([TopicPartition(topic, 0)], timeout=20)[0].offset)
    return seen


def positions_without_offsets_commit_nothing(stage: Stage) -> Seen:
    """Show that offsets that are none are sent to nobody, and the transaction is fine without a generation."""
    topic, group = stage.topic(), stage.name("g")
    producer = stage.producer(stage.name("p"))
    member = Joined(stage, group, [topic])
    settle(stage, member)
    none = member.client.position([TopicPartition(topic, 0)])
    producer.begin_transaction()
    send(producer, topic, "unfenced")
    metadata = member.client.consumer_group_metadata()
    seen: Seen = [[one.offset for one in none]]
    seen.append(outcome(lambda: producer.send_offsets_to_transaction(none, metadata, 20)))
    seen.append(outcome(lambda: producer.commit_transaction(20)))
    return [*seen, member.client.committed([TopicPartition(topic, 0)], timeout=20)[0].offset == OFFSET_INVALID]


def a_new_owner_aborts_what_was_open(stage: Stage) -> Seen:
    """Show that taking over a transactional id ends the transaction of the dead, its records and its offsets."""
    topic, group, name = stage.topic(), stage.name("g"), stage.name("p")
    member = Joined(stage, group, [topic])
    settle(stage, member)
    dead = stage.producer(name)
    dead.begin_transaction()
    send(dead, topic, "dead")
    dead.send_offsets_to_transaction(offsets(topic), member.client.consumer_group_metadata(), 20)
    heir = stage.producer(name)
    after = member.client.committed([TopicPartition(topic, 0)], timeout=20)[0].offset
    written(heir, topic, "heir")
    reader = Reader(stage, topic).to_end(4)
    return [after == OFFSET_INVALID, reader.values, reader.ends]


def two_members_share_by_range(stage: Stage) -> Seen:
    """Show that partition p of every topic goes to the same member; all is revoked before it is shared anew."""
    topics, group = [stage.topic(2), stage.topic(2)], stage.name("g")
    first = Joined(stage, group, topics)
    settle(stage, first, partitions=4)
    second = Joined(stage, group, topics)
    settle(stage, first, second, partitions=4)
    numbers = [{number for _, number in member.has or ()} for member in (first, second)]
    seen: Seen = [first.told[:2], [what for what, _ in first.told], [what for what, _ in second.told]]
    seen.append([len(first.has or ()), len(second.has or ()), sorted(map(len, numbers)), not numbers[0] & numbers[1]])
    second.client.close()
    settle(stage, first, partitions=4)
    return [*seen, first.told[-2][0], first.told[-1], second.told[-1][0], outcome(lambda: second.client.consume(1, 0))]


def one_member_too_many_has_nothing(stage: Stage) -> Seen:
    """Show that with more members than partitions one is assigned nothing, and is told so."""
    topics, group = [stage.topic(1)], stage.name("g")
    members = [Joined(stage, group, topics), Joined(stage, group, topics)]
    settle(stage, *members)
    return [sorted(len(member.has or ()) for member in members)]


def a_static_member_is_replaced(stage: Stage) -> Seen:
    """Show that its successor gets the same partitions without a rebalance; the one before is refused and told."""
    topic, group, name = stage.topic(), stage.name("g"), stage.name("w")
    producer = stage.producer(stage.name("p"))
    before = Joined(stage, group, [topic], **{"group.instance.id": name})
    settle(stage, before)
    metadata = before.client.consumer_group_metadata()
    after = Joined(stage, group, [topic], **{"group.instance.id": name})
    settle(stage, after)
    producer.begin_transaction()
    seen: Seen = [outcome(lambda: producer.send_offsets_to_transaction(offsets(topic), metadata, 20))]
    seen.append(outcome(lambda: producer.abort_transaction(20)))
    stage.until(lambda: before.turn() or bool(before.errors))  # type: ignore[func-returns-value]  # a turn
    producer.begin_transaction()
    fresh = after.client.consumer_group_metadata()
    seen.append(outcome(lambda: producer.send_offsets_to_transaction(offsets(topic), fresh, 20)))
    seen.append(outcome(lambda: producer.commit_transaction(20)))
    # The client prints the name of the code differently from version to version; that it is fatal counts.
    return [*seen, before.errors[0][0], before.told, after.told]


def paused_partitions_are_silent(stage: Stage) -> Seen:
    """Show that a paused partition returns nothing; resumed it goes on, and after a seek from there."""
    topic = stage.topic()
    stage.put(topic, "zero", "one", "two")
    reader = Reader(stage, topic)
    reader.client.pause([TopicPartition(topic, 0)])
    for _ in range(5):
        reader.turn()
    seen: Seen = [reader.values.copy(), reader.ends.copy()]
    reader.client.resume([TopicPartition(topic, 0)])
    reader.to_end(3)
    seen += [reader.values.copy(), reader.position]
    reader.ends.clear()
    reader.client.seek(TopicPartition(topic, 0, 1))
    reader.to_end(3)
    return [*seen, reader.values, reader.position]


def what_is_not_assigned(stage: Stage) -> Seen:
    """Show that seeking elsewhere is an error; pausing, resuming and asking for offsets is not."""
    topic, other = stage.topic(), stage.topic()
    reader = Reader(stage, topic).to_end(0)
    where = TopicPartition(other, 0, 0)
    client = reader.client
    return [
        outcome(lambda: client.seek(where)),
        outcome(lambda: client.pause([where])),
        outcome(lambda: client.resume([where])),
        client.committed([where], timeout=20)[0].offset == OFFSET_INVALID,
        client.position([where])[0].offset == OFFSET_INVALID,
    ]


def an_offset_that_is_gone(stage: Stage) -> Seen:
    """Show that beyond the log, `error` is told and `earliest` begins anew."""
    topic = stage.topic()
    stage.put(topic, "zero", "one")
    refusing = Reader(stage, topic, 9, **{"auto.offset.reset": "error"})
    stage.until(lambda: refusing.turn() or bool(refusing.errors))  # type: ignore[func-returns-value]  # a turn
    beginning = Reader(stage, topic, 9, **{"auto.offset.reset": "earliest"}).to_end(2)
    return [refusing.values, refusing.errors[0], beginning.values]


def assignments_that_grow(stage: Stage) -> Seen:
    """Show that a consumer is given one partition after another, each from its offset, and one is taken away again."""
    topic, producer = stage.topic(2), stage.producer(stage.name("p"))
    producer.begin_transaction()
    for number, value in ((0, b"a"), (0, b"b"), (1, b"c")):
        producer.produce(topic, value, b"key", number)
    producer.commit_transaction(20)
    client = stage.consumer(stage.name("g"))
    shown: set[tuple[int, Any, bool]] = set()

    def turn(end: tuple[int, Any, bool]) -> bool:
        for message in client.consume(10, 0.1):
            what = message.offset() if message.error() else message.value()
            shown.add((message.partition(), what, message.error() is not None))
        return end in shown

    client.incremental_assign([TopicPartition(topic, 0, 1)])
    stage.until(lambda: turn((0, 3, True)))
    first = sorted(shown, key=repr)
    client.incremental_assign([TopicPartition(topic, 1, OFFSET_BEGINNING)])
    stage.until(lambda: turn((1, 2, True)))
    client.incremental_unassign([TopicPartition(topic, 0)])
    return [first, sorted(shown, key=repr)]


def deliveries_tell_offsets(stage: Stage) -> Seen:
    """Show that the offset that a delivery tells counts markers and other transactions' records."""
    topic, producer = stage.topic(), stage.producer(stage.name("p"))
    told: Seen = []

    def tell(error: KafkaError | None, message: Message) -> None:
        told.append([error is None, message.offset()])

    for end in (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        producer.produce(topic, b"value", b"key", 0, on_delivery=tell)
        end(20) if end == producer.commit_transaction else (producer.flush(20), end(20))
    return told


SCENARIOS: tuple[Callable[[Stage], Seen], ...] = (
    aborted_records_are_hidden,
    an_open_transaction_holds_the_stable_end,
    an_end_is_told_again_after_markers_alone,
    a_successor_fences,
    a_fenced_flush_says_so_once,
    an_empty_transaction_asks_nobody,
    a_transaction_times_out,
    calls_out_of_turn,
    an_old_generation_is_refused,
    a_member_that_stalls_is_gone,
    offsets_wait_for_their_transaction,
    positions_without_offsets_commit_nothing,
    a_new_owner_aborts_what_was_open,
    two_members_share_by_range,
    one_member_too_many_has_nothing,
    a_static_member_is_replaced,
    paused_partitions_are_silent,
    what_is_not_assigned,
    an_offset_that_is_gone,
    assignments_that_grow,
    deliveries_tell_offsets,
)
