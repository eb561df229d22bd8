"""The firehose: consume, cut steps, decide, and commit everything as one Kafka transaction.

`step()` is one turn. It is a plain function over injected parts (consumer, producer, stores, barriers, clock), so the
worker's thread, the simulator and the fault tests all drive this code. The rules that make it exactly-once:

- One transactional id per process; offsets travel in every transaction, also when only time moved, with the member's
  generation: a process that lost its partitions cannot commit.
- We keep our own next offsets. The consumer's positions are -1001 until something was consumed, and a transaction with
  only those sends no offsets at all and says OK.
- A store is written only after its transaction was committed; whenever the outcome is in doubt, everything in memory is
  dropped and the changelog's tail is read again.
- Partition p is ours only while p of every co-partitioned input is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from orchestrator.events import FOREVER
from orchestrator.moments.stock import looks_back
from orchestrator.runtime.barriers import Barrier, BarrierSource
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.inbox import Inbox
from orchestrator.runtime.outbox import Headers
from orchestrator.runtime.partition import Deciding, Partition
from orchestrator.runtime.patience import PASSING
from orchestrator.runtime.published import require_one
from orchestrator.runtime.reference_reader import ReferenceReader
from orchestrator.runtime.restore import Restorer, wake
from orchestrator.runtime.state_store import META_KEY, Meta, StateStore, meta_to_bytes
from orchestrator.runtime.tally import Tally

FENCED = 75
"""Exit code of a process whose transactional id another process has taken over."""

BATCH_RECORDS = 2_000
RESTORE_RECORDS = 1_000
RESTORE_SECONDS = 0.01
"""Small, because consuming waits its whole time when there are fewer records, also for the end of what is there."""

MAX_CHANGED = 5_000
"""Customers changed in one transaction, after which it is committed before its time."""

COMMIT_SECONDS = 30.0
REVOKE_SECONDS = 10.0
ASKING_SECONDS = 0.5
PENDING_MS = 180_000
"""How long another worker's unfinished transaction is waited for: it ends with its timeout, and the brokers' sweep."""

_FENCING = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
    }
)


class FencedError(OperatorError):
    """Another process runs with our transactional id."""

    def __init__(self, transactional_id: str) -> None:
        super().__init__(
            f"another worker took over the transactional id {transactional_id}: give every worker of the group its own "
            "ORCHESTRATOR_ORDINAL, or let this one stop",
            exit_code=FENCED,
        )


class TimedOutError(OperatorError):
    """Our transaction stayed open for too long, and the brokers ended it; in Kafka it looks as if we were fenced."""

    def __init__(self, transactional_id: str, open_for: int, timeout: int) -> None:
        super().__init__(
            f"the transaction of {transactional_id} could not be finished: it was open for {open_for / 1_000:g} s, and "
            f"brokers end one after {timeout / 1_000:g} s (ORCHESTRATOR_TRANSACTION_TIMEOUT), if it was not another "
            "worker that took over its ORCHESTRATOR_ORDINAL: start this worker again, it goes on from the last commit; "
            "and if it happens again find what holds it up, such as a paused container, too little CPU or slow brokers"
        )


class DeniedError(OperatorError):
    """The broker does not let us use one of our topics; its answer does not say which, nor for what."""

    def __init__(self) -> None:
        super().__init__(
            "this user may not use one of the topics: grant Read on all that are read and Write on all that are written"
        )


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """What the loop needs to know; names are topics, times milliseconds, sizes bytes."""

    inputs: Sequence[str]
    clock: str | None  # the clock topic in a replay, None when live
    changelog: str
    transactional_id: str
    commit_interval: int
    transaction_timeout: int = FOREVER
    step_records: int = 5_000
    cache_bytes: int = 256 << 20
    migrate_state: bool = False  # write every state of an earlier version again, not only those that are met


class Sender(Protocol):
    """Adds a record to the producer's open transaction; waits while the producer's queue is full."""

    def __call__(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
    ) -> None:
        """Take topic, partition, key, value and headers, and who is told once it is delivered."""


def sender(producer: Producer) -> Sender:
    """Return what adds records to a producer's open transaction, in one call and no more: there is one per decision."""
    produce = producer.produce

    def send(
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
    ) -> None:
        while True:
            try:
                if headers is None and on_delivery is None:
                    produce(topic, value, key, partition)
                elif headers is None:
                    produce(topic, value, key, partition, on_delivery=on_delivery)
                else:
                    produce(topic, value, key, partition, headers=headers)
                return
            except BufferError:
                producer.poll(0.1)

    return send


def no_probe(point: str) -> None:
    """Do nothing at a named point of the loop; tests put a crash there."""


class Loop:
    """One process's share of the partitions."""

    def __init__(
        self,
        config: LoopConfig,
        consumer: Consumer,
        producer: Producer,
        restorer: Restorer,
        references: ReferenceReader,
        barriers: BarrierSource,
        deciding: Deciding,
        open_store: Callable[[int], StateStore],
        decode_barrier: Callable[[bytes], Mapping[str, Any]],
        now: Callable[[], int],
        probe: Callable[[str], None] = no_probe,
    ) -> None:
        self.config = config
        self.tally = Tally()
        self.partitions: dict[int, Partition] = {}
        self.commits = 0
        self.aborts = 0
        self.rebalances = 0
        self._consumer = consumer
        self._producer = producer
        self._restorer = restorer
        self._references = references
        self._barriers = barriers
        self._deciding = deciding
        self._open_store = open_store
        self._decode_barrier = decode_barrier
        self._now = now
        self._probe = probe
        self.send = sender(producer)
        """Add a record to the open transaction."""
        self._topics = (*config.inputs, *(() if config.clock is None else (config.clock,)))
        # A partition comes in three stages: its offsets are asked for, its store is restored, it is decided.
        self._asking: set[int] = set()
        self._asking_since = 0
        self._asked_again: set[int] = set()
        self._restoring: dict[int, tuple[StateStore, dict[str, int]]] = {}
        self._clock_positions: dict[int, int] = {}
        self._paused: set[tuple[str, int]] = set()
        self._is_assigned = False
        self._in_transaction = False
        self._begun_at = 0
        self._committed_at = 0
        self._in_doubt = False
        self._closed = False

    def start(self) -> None:
        """Take the transactional id, which fences and aborts a dead twin, and only then join the group."""
        try:
            self._producer.init_transactions(COMMIT_SECONDS)
        except KafkaException as error:
            raise self._fatal(error.args[0]) from error
        self._references.read_all()
        require_one(self._deciding.programs)
        self._consumer.subscribe(
            list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        self._committed_at = self._now()

    @property
    def ready(self) -> bool:
        """Whether the group has said what is ours, and all of that is restored; a spare worker has nothing."""
        return self._is_assigned and not self._restoring and not self._asking

    @property
    def restoring(self) -> int:
        """How many changelog offsets are left to read before every partition is restored."""
        return self._restorer.left if self._restoring else 0

    @property
    def restored(self) -> int:
        """How many changelog records were restored since the start."""
        return self._restorer.records

    @property
    def definitions(self) -> str:
        """The version of the definitions that decide: the newest in force on any partition, "" before there is one."""
        newest = max((partition.clock for partition in self.partitions.values()), default=FOREVER)
        return self._deciding.programs.at(newest).version if self._deciding.programs else ""

    # --- one turn ---------------------------------------------------------------------------------------------------

    def step(self, timeout: float = 0.05) -> bool:
        """Take one turn; return whether anything was done, so that a caller may tell idling from work."""
        try:
            return self._turn(timeout)
        except KafkaException as error:
            self._recover(error)
            return True

    def _turn(self, timeout: float) -> bool:
        messages = self._consumer.consume(BATCH_RECORDS, 0.0 if self._restoring or self._asking else timeout)
        self._route(messages)
        self._producer.poll(0)
        if messages:
            self._probe("consumed")
        restored = self._restore_some()
        for number, barrier in self._barriers.take(sorted(self.partitions)).items():
            if number in self.partitions:
                self.partitions[number].ends = barrier.ends
                self.partitions[number].inbox.add_barrier(barrier)
        self._references.poll()
        worked = self._decide() or bool(messages) or restored
        self._balance_reading()
        if self._in_transaction and self._commit_is_due():
            self.commit()
        for partition in self.partitions.values():  # also once there are no more steps
            if partition.census.counting:
                partition.take_census()
        return worked

    def _route(self, messages: Sequence[Message]) -> None:
        partitions, clock = self.partitions, self.config.clock
        for message in messages:
            topic, number = message.topic(), message.partition()
            partition = partitions.get(number)  # type: ignore[arg-type]  # every message has a partition
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    self._consumer_error(error, topic, number)
                elif partition is not None and topic != clock:
                    partition.inbox.reach(topic, message.offset())  # type: ignore[arg-type]  # an end has both
                continue
            if partition is None:
                continue
            if topic == clock:
                self._add_clock_barrier(partition, message)
            else:
                partition.inbox.add(topic, message)  # type: ignore[arg-type]  # a record has a topic

    def _add_clock_barrier(self, partition: Partition, message: Message) -> None:
        offset = message.offset() or 0
        if offset < self._clock_positions.get(partition.number, 0):
            return
        self._clock_positions[partition.number] = offset + 1
        value = message.value()
        assert isinstance(value, bytes)
        read = self._decode_barrier(value)
        ends = dict(read["ends"])
        assert self.config.clock is not None
        # The barrier's own place: once its step is decided, the clock topic was read past it.
        ends[self.config.clock] = offset + 1
        partition.ends = ends
        partition.inbox.add_barrier(Barrier(read["time"], ends, read["horizon"]))

    def _decide(self) -> bool:
        worked = False
        for partition in list(self.partitions.values()):
            if partition.is_adopting:
                self._begin()
                partition.adopt()
                worked = True
                if self._changed() >= MAX_CHANGED:
                    self.commit()
                continue
            while (step := partition.next_step(self._references.reached)) is not None:
                self._begin()
                partition.apply(step)
                worked = True
                if self._changed() >= MAX_CHANGED:
                    self._probe("applied")
                    self.commit()
            if self.config.migrate_state and partition.may_hold_earlier_versions:
                self._begin()
                partition.migrate()
                worked = True
                if self._changed() >= MAX_CHANGED:
                    self.commit()
        if worked:
            self._probe("applied")
        return worked

    def _changed(self) -> int:
        return sum(partition.changed_customers for partition in self.partitions.values())

    def _begin(self) -> None:
        if not self._in_transaction:
            self._producer.begin_transaction()
            self._in_transaction = True
            self._begun_at = self._now()

    def _balance_reading(self) -> None:
        """Pause what would only fill memory, and resume it when there is room."""
        for number, partition in self.partitions.items():
            for topic in self.config.inputs:
                full = partition.inbox.is_full(topic)
                if full != ((topic, number) in self._paused):
                    self._pause(topic, number) if full else self._resume(topic, number)
            if self.config.clock is not None:
                full = partition.inbox.waiting_barriers > 1_000
                if full != ((self.config.clock, number) in self._paused):
                    self._pause(self.config.clock, number) if full else self._resume(self.config.clock, number)

    def _pause(self, topic: str, number: int) -> None:
        self._consumer.pause([TopicPartition(topic, number)])
        self._paused.add((topic, number))

    def _resume(self, topic: str, number: int) -> None:
        self._consumer.resume([TopicPartition(topic, number)])
        self._paused.discard((topic, number))

    # --- committing -------------------------------------------------------------------------------------------------

    def _commit_is_due(self) -> bool:
        return abs(self._now() - self._committed_at) >= self.config.commit_interval

    def commit(self, timeout: float = COMMIT_SECONDS) -> None:
        """Commit everything decided so far as one transaction, then write it to the stores."""
        changed = [partition for partition in self.partitions.values() if partition.has_changes]
        started = self._now()
        self._committed_at = started
        if not changed:
            if self._in_transaction:
                self._producer.abort_transaction(timeout)  # begun for steps that changed nothing
                self._in_transaction = False
            self._forget_products()
            return
        self._begin()
        for partition in changed:
            self._send_changelog(partition)
        self._probe("changelog_sent")
        if self._producer.flush(timeout):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "records were not delivered in time"))
        self._probe("flushed")
        offsets = [
            TopicPartition(topic, partition.number, offset)
            for partition in changed
            for topic, offset in partition.positions.items()
        ]
        assert any(where.offset >= 0 for where in offsets), "a transaction without offsets would not be fenced"
        member = self._consumer.consumer_group_metadata()
        self._retrying(lambda: self._producer.send_offsets_to_transaction(offsets, member, timeout))
        self._probe("offsets_sent")
        self._in_doubt = True
        self._retrying(lambda: self._producer.commit_transaction(timeout))
        self._in_doubt = False
        self._in_transaction = False
        self._probe("committed")
        for place, partition in enumerate(changed):
            partition.settle(started)
            if place == 0:
                self._probe("settling")
        self._probe("settled")
        self._forget_products()
        self.commits += 1
        self.tally.commit_seconds.add((self._now() - started) / 1000)

    def _forget_products(self) -> None:
        """Let go of the versions of products that no partition asks for any more; everything decided is committed.

        Not in a replay: it has all versions from the beginning, and a partition that comes may stand anywhere. Live,
        one that comes from far behind meets what a restart would: the versions that are left.
        """
        lag = self._deciding.max_lag
        if lag is None or self._asking or self._restoring or not self.partitions:
            return
        asked = (partition.reached - looks_back(partition.program) for partition in self.partitions.values())
        self._deciding.reference.forget(min(asked) - lag)

    def _send_changelog(self, partition: Partition) -> None:
        records, meta = partition.stage(partition.program.version)
        topic, number, send = self.config.changelog, partition.number, self.send
        for key, value in records:
            send(topic, number, key, value, None)

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is None:
                partition.note_changelog(message.offset() or 0)

        # Only the last record of the commit tells its offset: every callback costs.
        send(topic, number, META_KEY, meta_to_bytes(meta), None, on_delivery)

    def _retrying(self, call: Callable[[], None]) -> None:
        """Call again while the answer is merely late: the same call resumes what it began."""
        for attempt in range(3):
            try:
                call()
            except KafkaException as error:
                if attempt == 2 or not error.args[0].retriable():
                    raise
            else:
                return

    # --- failures ---------------------------------------------------------------------------------------------------

    def _recover(self, error: KafkaException) -> None:
        """Abort and go back to what is committed, or raise what only a new process can sort out.

        When it is in doubt whether a commit happened, a new process finds out: it fences this producer, which settles
        the transaction one way or the other, and reads what is committed.
        """
        reason = error.args[0]
        if reason.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise DeniedError from error
        if self._in_doubt or not reason.txn_requires_abort() or reason.code() == KafkaError.FENCED_INSTANCE_ID:
            raise self._fatal(reason) from error
        self.aborts += 1
        if self._in_transaction:
            try:
                self._producer.abort_transaction(COMMIT_SECONDS)
            except KafkaException as second:
                raise self._fatal(second.args[0]) from second
            self._in_transaction = False
        self._go_back(sorted(self.partitions))

    def _go_back(self, numbers: Sequence[int]) -> None:
        """Drop what is in memory and read these partitions again from what is committed."""
        for number in numbers:
            self.partitions.pop(number).close()
        owned = [TopicPartition(topic, number) for number in numbers for topic in self._topics]
        if owned:
            self._consumer.pause(owned)
            self._ask(numbers)

    def _fatal(self, error: KafkaError) -> OperatorError:
        if error.code() in _FENCING or "fenced" in error.str().lower():
            open_for = abs(self._now() - self._begun_at)
            if self._in_transaction and open_for >= self.config.transaction_timeout:
                return TimedOutError(self.config.transactional_id, open_for, self.config.transaction_timeout)
            return FencedError(self.config.transactional_id)
        return OperatorError(
            f"the transaction could not be finished ({error.str()}): start this worker again, it goes on from the last "
            "commit"
        )

    def _consumer_error(self, error: KafkaError, topic: str | None, number: int | None) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise OperatorError(
                f"{topic}/{number} no longer holds the offset this worker needs: its retention is shorter than the "
                "time the worker was away; see docs/operations.md, 'Offsets out of range'"
            )
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            raise OperatorError(f"topic {topic} is missing: create it with `orchestrator topics apply`")
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise OperatorError("this user may not join the consumer group ORCHESTRATOR_GROUP: grant Read on it")
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise OperatorError(f"this user may not read {topic}: grant Read on it and on the consumer group")
        if error.code() == KafkaError._FATAL and "fenced" in error.str().lower():
            raise FencedError(self.config.transactional_id)  # of a static member, its name is taken over as well
        if error.code() not in PASSING:
            raise OperatorError(f"reading {topic}/{number} failed: {error.str()}")

    # --- partitions come and go -------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, assigned: Sequence[TopicPartition]) -> None:
        self.rebalances += 1
        self._is_assigned = True
        self._paused.clear()
        # Paused at once: nothing may be read before the state is there. The place to read from is set after that.
        starts = [TopicPartition(where.topic, where.partition, 0) for where in assigned]
        consumer.assign(starts)
        if starts:
            consumer.pause(starts)
        self._ask(self._whole_partitions(assigned))

    def _whole_partitions(self, assigned: Sequence[TopicPartition]) -> list[int]:
        """Return the partitions that we own of every input; the others stay paused."""
        owned = {(where.topic, where.partition) for where in assigned}
        return sorted(
            number
            for number in {number for _, number in owned}
            if all((topic, number) in owned for topic in self._topics)
        )

    def _ask(self, numbers: Sequence[int]) -> None:
        self._asking.update(numbers)
        self._asking_since = self._now()

    def _begin_restore(self) -> None:
        """Begin to restore what was assigned, once its committed offsets are known.

        First what is committed, which has to wait for pending transactions; then the changelog's end. The other way
        round a predecessor's commit that was just finishing would be missed. The wait is here and not in the callback
        of the assignment, where nobody could stop it.
        """
        numbers = sorted(self._asking)
        committed: dict[int, dict[str, int]] = {number: {} for number in numbers}
        for where in self._committed([TopicPartition(topic, number) for number in numbers for topic in self._topics]):
            committed[where.partition][where.topic] = where.offset
        if not all(committed.values()):
            return
        self._asking.clear()
        for number in numbers:
            store = self._open_store(number)
            self._restorer.begin(number, store)
            self._restoring[number] = (store, committed[number])

    def _committed(self, wanted: list[TopicPartition]) -> list[TopicPartition]:
        """Return the group's offsets, or nothing while they are part of a transaction that has not ended."""
        try:
            answers = self._consumer.committed(wanted, timeout=ASKING_SECONDS)
            errors = [where.error for where in answers if where.error is not None]
        except KafkaException as error:
            errors = [error.args[0]]
        if not errors:
            return answers
        if errors[0].code() not in PASSING:
            raise OperatorError(f"the group's offsets cannot be read: {errors[0].str()}")
        if abs(self._now() - self._asking_since) > PENDING_MS:
            raise OperatorError(
                f"the group's offsets were not told for {PENDING_MS // 1_000} s ({errors[0].str()}): "
                "is the broker well, and does a transaction hang?"
            )
        return []

    def _restore_some(self) -> bool:
        if self._asking:
            self._begin_restore()
        if not self._restoring:
            return bool(self._asking)
        for number, meta in self._restorer.advance(RESTORE_RECORDS, RESTORE_SECONDS).items():
            store, committed = self._restoring.pop(number)
            if _are_apart(meta, committed) and number not in self._asked_again:
                # Somebody has committed since we asked: if the partition is no longer ours, the next turn says so.
                self._asked_again.add(number)
                store.close()
                self._ask([number])
            else:
                self._asked_again.discard(number)
                self._take_up(number, store, meta, committed)
        self._probe("restoring")
        return True

    def _take_up(self, number: int, store: StateStore, meta: Meta, committed: Mapping[str, int]) -> None:
        """Go on with a restored partition from the offsets its last commit names."""
        if not meta.positions and max(committed.values()) >= 0:
            # Every commit has a meta record. To go on without would forget who holds a slot, and write to them again.
            raise OperatorError(
                f"the changelog {self.config.changelog}/{number} is empty, but the group has decided before: the state "
                "is lost, and can be rebuilt; see docs/operations.md, 'Disaster recovery'"
            )
        positions = {}
        for topic in self._topics:
            known = meta.positions.get(topic, committed[topic])
            if topic in meta.positions and committed[topic] >= 0 and committed[topic] != known:
                raise OperatorError(
                    f"the group's offset of {topic}/{number} is {committed[topic]}, the state stands at {known}: "
                    "offsets were set from outside; set them back, or start a new ORCHESTRATOR_GROUP and changelog"
                )
            # An offset that is gone is found by reading from it, which does not begin anew but fails.
            positions[topic] = known if known >= 0 else self._restorer.span(topic, number)[0]
            self._consumer.seek(TopicPartition(topic, number, positions[topic]))
        meta.positions = positions
        inbox = Inbox(positions, step_records=self.config.step_records, may_cut=self.config.clock is None)
        if self.config.clock is not None:
            self._clock_positions[number] = positions[self.config.clock]
            inbox.reach(self.config.clock, FOREVER)  # barriers bring their own place with them
        cache = self.config.cache_bytes // max(1, len(self.partitions) + len(self._restoring) + 1)
        self.partitions[number] = Partition(number, store, meta, inbox, self._deciding, self.tally, cache)
        read = [TopicPartition(topic, number) for topic in self._topics]
        self._consumer.resume(read)
        wake(self._consumer, read)

    def _on_revoke(self, consumer: Consumer, revoked: Sequence[TopicPartition]) -> None:
        """Commit what is decided while the partitions are still ours, then let go of them."""
        del consumer
        self._probe("revoking")
        try:
            if self._in_transaction:
                self.commit(REVOKE_SECONDS)
        except KafkaException as error:
            if error.args[0].fatal() or self._in_doubt:
                raise self._fatal(error.args[0]) from error
            self._abort()
        finally:
            self._let_go(revoked)

    def _on_lost(self, consumer: Consumer, lost: Sequence[TopicPartition]) -> None:
        """Drop everything undecided: the partitions are already somebody else's."""
        del consumer
        self._abort()
        self._let_go(lost)

    def _abort(self) -> None:
        if self._in_transaction:
            self.aborts += 1
            try:
                self._producer.abort_transaction(COMMIT_SECONDS)
            except KafkaException as error:
                raise self._fatal(error.args[0]) from error
            self._in_transaction = False
            # An aborted transaction spans all partitions, also those that stay: they go back to what is committed.
            for number in sorted(self.partitions):
                self.partitions.pop(number).close()

    def _let_go(self, gone: Sequence[TopicPartition]) -> None:
        self._is_assigned = False  # until the group has said what is ours now
        for number in {where.partition for where in gone}:
            self._asking.discard(number)
            self._asked_again.discard(number)
            partition = self.partitions.pop(number, None)
            if partition is not None:
                partition.close()
            restoring = self._restoring.pop(number, None)
            if restoring is not None:
                self._restorer.drop(number)
                restoring[0].close()

    def stop(self) -> None:
        """Commit what is decided, leave the group and close every store."""
        try:
            if self._in_transaction:
                self.step(0)
            if self._in_transaction:
                self.commit(REVOKE_SECONDS)
        except KafkaException as error:
            self._recover(error)
        finally:
            self.close()

    def close(self) -> None:
        """Leave without committing; an open transaction is aborted by our successor or by the broker."""
        if self._closed:
            return
        self._closed = True
        self._in_transaction = False  # or the revocation that closing brings would commit it
        for partition in self.partitions.values():
            partition.close()
        for store, _ in self._restoring.values():
            store.close()
        self.partitions.clear()
        self._restoring.clear()
        self._asking.clear()
        self._consumer.close()
        self._restorer.close()
        self._references.close()


def _are_apart(meta: Meta, committed: Mapping[str, int]) -> bool:
    """Return whether somebody may have committed between the question for the group's offsets and the restore.

    Then the changelog holds more than was answered; or, where it was compacted meanwhile, no meta record before the end
    that was to be read.
    """
    if not meta.positions:
        return max(committed.values()) >= 0
    return any(0 <= committed[topic] < position for topic, position in meta.positions.items() if topic in committed)
