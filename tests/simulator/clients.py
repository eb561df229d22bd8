"""Consumer, producer and admin client over the fake brokers: what the loop uses of them, with the client's own errors.

Established on Apache Kafka by tests/kafka/test_broker_facts.py and by the scenarios that both must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from tests.simulator.fake_kafka import FakeKafka
from tests.simulator.groups import Membership
from tests.simulator.log import ABORTED, COMMITTED, MARKER, OPEN, REMOVED, Headers, Place
from tests.simulator.process import Process
from tests.simulator.transactions import ENDING, Fenced

Callback = Callable[[Any, list[TopicPartition]], None]

_LOST = "lost"


class _Fetch:
    """Where a consumer stands in one partition."""

    __slots__ = ("end_told", "paused", "position", "returned")

    def __init__(self, position: int) -> None:
        self.position = position
        self.returned = OFFSET_INVALID
        self.paused = False
        self.end_told = -1


class FakeConsumer:
    """A consumer, with a group membership once it has subscribed."""

    def __init__(self, kafka: FakeKafka, process: Process, config: Mapping[str, Any]) -> None:
        self._kafka = kafka
        self._process = process
        self._group = kafka.group(config["group.id"])
        self._committed_only = config.get("isolation.level", "read_committed") == "read_committed"
        self._tells_ends = bool(config.get("enable.partition.eof"))
        self._reset = config.get("auto.offset.reset", "latest")
        self._instance: str | None = config.get("group.instance.id")
        self._point = {"orchestrator-restore": "restore.", "orchestrator-references": "references."}.get(
            config["group.id"], ""
        )
        # The firehose's turns take their time anyway; who reads to an end at the start waits within the call.
        self._waits = self._point == "references."
        self._fetches: dict[Place, _Fetch] = {}
        self._topics: tuple[str, ...] = ()
        self._callbacks: dict[str, Callback] = {}
        self._member = ""
        self._generation = -1
        self._owned: tuple[Place, ...] | None = None  # None until an assignment was handed out
        self._joined = False
        self._assigned_by_callback = False
        self._waiting: list[Message] = []
        self.consumed_at = kafka.clock.now
        self.closed = False

    # --- the group --------------------------------------------------------------------------------------------------

    def subscribe(
        self, topics: Sequence[str], on_assign: Callback, on_revoke: Callback, on_lost: Callback | None = None
    ) -> None:
        """Join the group at the next consume."""
        self._process.enter("subscribe")
        self._topics = tuple(topics)
        self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost or on_revoke}
        self._process.leave("subscribe")

    def consumer_group_metadata(self) -> Membership:
        """Return what the client knows of its membership now."""
        self._must_be_open()
        self.heartbeat()
        return Membership(self._group.name, self._member, self._generation, self._instance)

    @property
    def is_member(self) -> bool:
        """Whether the coordinator expects to hear of this consumer."""
        return bool(self._member)

    def expire(self) -> None:
        """Let the coordinator forget the member: nobody heard of it for a session. The client does not know."""
        self._group.leave(self._member)

    def heartbeat(self) -> None:
        """Let the client's own thread leave a group that it serves too late, or notice that it is forgotten."""
        members = self._group.members
        if self._member in members and self._kafka.clock.now - self.consumed_at > self._process.max_poll:
            self._group.leave(self._member)
            self._waiting.append(_failure(KafkaError._MAX_POLL_EXCEEDED, "Application maximum poll interval exceeded"))
        if self._member and self._member not in members and not self._group.is_fenced(self._member):
            self._member = ""  # and the generation stays: a commit with it is refused as of an unknown member

    def _serve_group(self) -> bool:
        """Do one thing the group asks for; return whether a callback was called."""
        if not self._topics:
            return False
        group = self._group
        self.heartbeat()
        self.consumed_at = self._kafka.clock.now
        if self._waiting:
            return False  # the client tells of it first, and of what was lost at the next call
        if self._member and group.is_fenced(self._member):
            text = "Fatal error: Broker: Static consumer fenced by other consumer with same group.instance.id"
            self._waiting.append(_failure(KafkaError._FATAL, text))
            return False
        if not self._member and self._owned is not None:
            return self._give_up(_LOST)
        member = group.members.get(self._member)
        if member is not None and not member.joined and self._owned is not None:
            return self._give_up("revoke")
        if member is None or not member.joined:
            prefix = self._instance or self._process.name
            self._member = group.join(self._member, self._topics, self._instance, prefix)
            self._owned = None
        if group.stable and self._owned is None:
            self._generation = group.generation
            self._owned = group.members[self._member].assigned
            assigned = [TopicPartition(topic, number) for topic, number in self._owned]
            self._assigned_by_callback = False
            self._callbacks["assign"](self, assigned)
            if not self._assigned_by_callback:
                self._assign(assigned)
            return True
        return False

    def _give_up(self, how: str) -> bool:
        owned, self._owned = self._owned or (), None
        try:
            if owned:
                self._callbacks[how](self, [TopicPartition(topic, number) for topic, number in owned])
        finally:
            self._fetches.clear()
        if how == "revoke" and self._member not in self._group.members:
            self._member = ""
        return bool(owned)

    def close(self) -> None:
        """Give up what is assigned and leave the group, unless a static member does."""
        if self.closed:
            return
        self._process.enter(f"{self._point}close")
        self.heartbeat()
        if self._owned is not None and not self._group.is_fenced(self._member):
            self._give_up("revoke" if self._member else _LOST)
        if self._member and self._instance is None:
            self._group.leave(self._member)
        self._member = ""
        self.closed = True
        self._process.leave(f"{self._point}close")

    # --- the assignment ---------------------------------------------------------------------------------------------

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these partitions and no others."""
        self._process.enter(f"{self._point}assign")
        self._assigned_by_callback = True
        self._assign(partitions)
        self._process.leave(f"{self._point}assign")

    def _assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._fetches = {(where.topic, where.partition): _Fetch(where.offset) for where in partitions}

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these partitions too."""
        self._process.enter(f"{self._point}assign")
        for where in partitions:
            self._fetches[where.topic, where.partition] = _Fetch(where.offset)
        self._process.leave(f"{self._point}assign")

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these partitions no longer."""
        for where in partitions:
            self._fetches.pop((where.topic, where.partition), None)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Return no records of these partitions."""
        self._process.enter("pause")
        for where in partitions:
            if (fetch := self._fetches.get((where.topic, where.partition))) is not None:
                fetch.paused = True

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Return records of these partitions again."""
        self._process.enter("resume")
        for where in partitions:
            if (fetch := self._fetches.get((where.topic, where.partition))) is not None:
                fetch.paused = False
                fetch.end_told = -1

    def seek(self, where: TopicPartition) -> None:
        """Go on from an offset."""
        self._process.enter("seek")
        fetch = self._fetches.get((where.topic, where.partition))
        if fetch is None:
            text = f"Failed to seek to offset {where.offset}: Local: Unknown partition"
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION, text))
        fetch.position, fetch.returned, fetch.end_told = where.offset, OFFSET_INVALID, -1
        self._process.leave("seek")

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Return the offsets after what was returned, and no offset before anything was."""
        found = []
        for where in partitions:
            fetch = self._fetches.get((where.topic, where.partition))
            offset = OFFSET_INVALID if fetch is None else fetch.returned
            found.append(TopicPartition(where.topic, where.partition, offset))
        return found

    # --- reading ----------------------------------------------------------------------------------------------------

    def poll(self, timeout: float = -1) -> Message | None:
        """Return the next record or event."""
        messages = self.consume(1, timeout)
        return messages[0] if messages else None

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Serve one callback, or return what there is to read, partition by partition."""
        self._must_be_open()
        point = f"{self._point}consume"
        self._process.enter(point)
        if self._serve_group():
            self._process.leave(point)
            return []
        if (code := self._process.fault(point)) is not None:
            self._waiting.append(_failure(code, "the simulator's network"))
        messages, self._waiting = self._waiting, []
        for place, fetch in self._fetches.items():
            if not fetch.paused:
                if len(messages) >= num_messages:
                    break
                self._fetch(place, fetch, num_messages, messages)
        if not messages and self._waits and timeout > 0:
            clock = self._kafka.clock
            clock.pass_to(clock.now + _ms(timeout))
        self._process.leave(point)
        return messages

    def _fetch(self, place: Place, fetch: _Fetch, most: int, messages: list[Message]) -> None:
        log = self._kafka.logs[place]
        if fetch.position < log.start:
            self._find_start(place, fetch, messages)
            if fetch.position < log.start:
                return
        shown = log.shown(committed_only=self._committed_only, now=self._kafka.clock.now)
        position = fetch.position
        if position < shown:
            room = min(most - len(messages), self._process.fetch_records)
            visible = (COMMITTED,) if self._committed_only else (COMMITTED, OPEN, ABORTED)
            entries = log.entries
            while position < shown and room:
                entry = entries[position]
                position += 1
                if entry.state in visible:
                    messages.append(log.message(entry))
                    room -= 1
            # What is not shown directly after a record is passed with it.
            while position < shown and entries[position].state in (MARKER, REMOVED):
                position += 1
            fetch.position = fetch.returned = position
        if position > log.end:
            self._refuse(place, fetch, messages)
        elif (
            self._tells_ends
            and position == (log.stable if self._committed_only else log.end)
            and fetch.end_told != position
            and len(messages) < most
        ):
            fetch.end_told = position
            fetch.returned = max(fetch.returned, position)
            messages.append(_end(place, position))

    def _find_start(self, place: Place, fetch: _Fetch, messages: list[Message]) -> None:
        log = self._kafka.logs[place]
        if fetch.position == OFFSET_INVALID:
            fetch.position = self._group.offsets.get(place, OFFSET_INVALID)
        if fetch.position == OFFSET_BEGINNING:
            fetch.position = log.start
        elif fetch.position == OFFSET_END:
            fetch.position = log.end
        elif fetch.position < log.start:
            self._refuse(place, fetch, messages)

    def _refuse(self, place: Place, fetch: _Fetch, messages: list[Message]) -> None:
        """Begin anew, or say that the offset is gone."""
        log = self._kafka.logs[place]
        if self._reset == "earliest":
            fetch.position = log.start
        elif self._reset == "latest":
            fetch.position = log.end
        else:
            fetch.paused = True
            messages.append(_failure(KafkaError._AUTO_OFFSET_RESET, "fetch failed: Offset out of range", place))

    # --- questions --------------------------------------------------------------------------------------------------

    def committed(self, partitions: Sequence[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """Return the group's offsets; waits for transactions that hold some of these partitions."""
        self._process.enter("committed")
        places = [(where.topic, where.partition) for where in partitions]
        group = self._group
        if self._process.fault("committed") is not None or (
            self._committed_only and any(group.is_pending(place) for place in places)
        ):
            del timeout
            raise _timed_out("Failed to get committed offsets: Local: Timed out")
        found = [TopicPartition(topic, n, group.offsets.get((topic, n), OFFSET_INVALID)) for topic, n in places]
        self._process.leave("committed")
        return found

    def get_watermark_offsets(self, where: TopicPartition, timeout: float = -1) -> tuple[int, int]:
        """Return a partition's first offset and its end, as this isolation level has it."""
        self._process.enter(f"{self._point}watermarks")
        del timeout
        log = self._kafka.logs[where.topic, where.partition]
        answer = log.start, (log.stable if self._committed_only else log.end)
        self._process.leave(f"{self._point}watermarks")
        return answer

    def _must_be_open(self) -> None:
        if self.closed:
            raise RuntimeError("Consumer closed")


class FakeProducer:
    """A transactional producer."""

    def __init__(self, kafka: FakeKafka, process: Process, config: Mapping[str, Any]) -> None:
        self._kafka = kafka
        self._process = process
        self._id: str = config["transactional.id"]
        self._timeout: int = config.get("transaction.timeout.ms", 60_000)
        self._epoch = -1
        self._in_transaction = False
        self._queue: list[tuple[Place, bytes | None, bytes | None, Headers | None, Any]] = []
        self._fatal: KafkaError | None = None
        self._fatal_told = False
        self._abortable: KafkaError | None = None
        self._sent: tuple[bool, int] | None = None  # an EndTxn on its way: is it a commit, and how often to be late
        self._late_offsets = 0
        self._full = 0
        self._began = False

    def init_transactions(self, timeout: float = -1) -> None:
        """Take over the transactional id: end what its former owner left open."""
        self._process.enter("init_transactions")
        found: list[int] = []

        def taken() -> bool:
            epoch = self._kafka.transactions.begin_epoch(self._id, self._timeout)
            if epoch is not None:
                found.append(epoch)
            return epoch is not None

        if not self._kafka.clock.wait(taken, _ms(timeout)):
            raise _timed_out("Failed to initialize Producer ID: Local: Timed out")
        self._epoch = found[0]
        self._process.leave("init_transactions")

    def begin_transaction(self) -> None:
        """Begin a transaction; the brokers learn of it with its first record or offset."""
        self._process.enter("begin_transaction")
        self._must_be_well()
        if self._in_transaction:
            raise _state("Operation not valid in state InTransaction")
        self._in_transaction = True
        self._process.leave("begin_transaction")

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Queue a record."""
        self._process.enter("produce")
        if self._fatal is not None or self._abortable is not None or not self._in_transaction:
            raise _state("Unable to produce message: Local: Erroneous state")
        if self._full:
            self._full -= 1
            raise BufferError("Local: Queue full")
        if (times := self._process.fault("produce")) is not None:
            self._full = times
            raise BufferError("Local: Queue full")
        self._queue.append(((topic, partition), key, value, headers, on_delivery))

    def poll(self, timeout: float = -1) -> int:  # noqa: ARG002 - time is virtual
        """Let what is queued be sent when the transaction before has ended."""
        self._process.enter("poll")
        self._full = 0
        if self._queue and self._kafka.transactions.get(self._id).state != ENDING:
            self._deliver()
        self._tell_fatal()
        return 0

    def flush(self, timeout: float = -1) -> int:
        """Send what is queued; return how many records could not be sent in time."""
        self._process.enter("flush")
        fault = self._process.fault("flush")
        if fault == "stuck":
            return max(1, len(self._queue))
        if fault == "undelivered" and self._queue:
            self._queue.clear()
            text = "1 message(s) timed out on topic [0]"
            self._abortable = KafkaError(KafkaError._TIMED_OUT, text, txn_requires_abort=True)
        if self._queue and not self._wait_for_the_one_before(timeout):
            return len(self._queue)
        self._deliver()
        self._tell_fatal()
        self._process.leave("flush")
        return 0

    def send_offsets_to_transaction(
        self, offsets: Sequence[TopicPartition], metadata: Membership, timeout: float = -1
    ) -> None:
        """Let offsets be committed with the transaction; only a member of the newest generation may."""
        self._process.enter("send_offsets")
        self._must_be_well()
        if self._abortable is not None:
            raise KafkaException(self._abortable)
        if not self._in_transaction:
            raise _state("Operation not valid in state Ready")
        valid = {(where.topic, where.partition): where.offset for where in offsets if where.offset >= 0}
        if valid:
            self._send_offsets(valid, metadata, timeout)
        self._process.leave("send_offsets")

    def _send_offsets(self, offsets: Mapping[Place, int], metadata: Membership, timeout: float) -> None:
        if self._late_offsets:
            self._late_offsets -= 1
        else:
            if not self._wait_for_the_one_before(timeout):
                raise _timed_out("Failed to add offsets to transaction: Local: Timed out")
            try:
                transaction = self._kafka.transactions.join(self._id, self._epoch)
            except Fenced:
                raise self._fence("Failed to add offsets to transaction") from None
            assert transaction is not None
            self._began = True
            group = self._kafka.group(metadata.group)
            # The group is part of the transaction from here on, whether it takes the offsets or not.
            known = transaction.groups.setdefault(group.name, {})
            code = group.refusal(metadata)
            if code is not None:
                text = "Failed to commit offsets to transaction on broker"
                self._abortable = KafkaError(code, text, txn_requires_abort=True)
                raise KafkaException(self._abortable)
            known.update(offsets)
            group.pending[transaction.owner] = known
            self._late_offsets = self._process.fault("send_offsets") or 0
        if self._late_offsets:
            raise _timed_out("Failed to add offsets to transaction: Local: Timed out")

    def commit_transaction(self, timeout: float = -1) -> None:
        """Commit; may time out, and then the same call goes on with what it began."""
        self._process.enter("commit_transaction")
        self._end(timeout, committed=True)
        self._process.leave("commit_transaction")

    def abort_transaction(self, timeout: float = -1) -> None:
        """Abort, with what is still queued."""
        self._process.enter("abort_transaction")
        self._queue.clear()
        self._end(timeout, committed=False)
        self._process.leave("abort_transaction")

    def _end(self, timeout: float, *, committed: bool) -> None:
        self._must_be_well()
        if not self._in_transaction:
            raise _state("Operation not valid in state Ready")
        if committed and self._abortable is not None:
            raise KafkaException(self._abortable)
        transactions = self._kafka.transactions
        if self._sent is None:
            if committed and self._queue and not self._wait_for_the_one_before(timeout):
                raise _timed_out("Failed to commit transaction: Local: Timed out")
            self._deliver()
            self._must_be_well()
            if not self._began:
                self._finish()  # the brokers know nothing of it, and are not asked
                return
            self._sent = (committed, 0)
            fault = self._process.fault("commit_transaction") if committed else None
            if fault is not None:
                times, delay = fault
                self._sent = (committed, times)
                number = transactions.get(self._id).number
                if delay < 0:  # it arrived, and only the answer is late
                    self._arrive_late(number, committed=committed)
                else:
                    self._kafka.clock.after(delay, lambda: self._arrive_late(number, committed=committed))
        if self._sent[1]:
            self._sent = (committed, self._sent[1] - 1)
            raise _timed_out("Failed to commit transaction: Local: Timed out")
        try:
            # A request that was lost on the way is sent again; one that arrived changes nothing the second time.
            transactions.end(self._id, self._epoch, committed=committed)
        except Fenced:
            raise self._fence("Failed to end transaction") from None
        self._finish()

    def _arrive_late(self, number: int, *, committed: bool) -> None:
        """Let a delayed request arrive, when the client may have gone long since."""
        with suppress(Fenced):
            self._kafka.transactions.end(self._id, self._epoch, committed=committed, number=number)

    def _finish(self) -> None:
        self._sent = None
        self._in_transaction = False
        self._abortable = None
        self._late_offsets = 0
        self._began = False

    def _wait_for_the_one_before(self, timeout: float) -> bool:
        """Wait for the markers of the transaction before: so long the brokers refuse the next one."""
        transaction = self._kafka.transactions.get(self._id)
        return self._kafka.clock.wait(lambda: transaction.state != ENDING, _ms(timeout))

    def _deliver(self) -> None:
        queue, self._queue = self._queue, []
        now = self._kafka.clock.now
        for place, key, value, headers, on_delivery in queue:
            error: KafkaError | None = None
            offset = -1
            try:
                transaction = self._kafka.transactions.join(self._id, self._epoch)
                assert transaction is not None
                self._began = True
                transaction.places[place] = None
                offset = self._kafka.logs[place].append(key, value, headers, now, transaction.owner)
            except Fenced:
                self._fence("ProduceRequest failed")
                error = self._fatal
            if on_delivery is not None:
                known: dict[str, Any] = {"topic": place[0], "partition": place[1], "offset": offset}
                on_delivery(error, Message(key=key, value=value, **known))

    def _fence(self, doing: str) -> KafkaException:
        text = f"{doing}: Local: This instance has been fenced by a newer instance"
        self._fatal = KafkaError(KafkaError._FENCED, text, fatal=True)
        return KafkaException(self._fatal)

    def _must_be_well(self) -> None:
        if self._fatal is not None:
            self._fatal_told = True
            raise KafkaException(self._fatal)

    def _tell_fatal(self) -> None:
        """Raise a fatal error once from where events are served, as the client does without an error callback."""
        if self._fatal is not None and not self._fatal_told:
            self._fatal_told = True
            raise KafkaException(self._fatal)


class _Answer:
    """A future of the admin client."""

    def __init__(self) -> None:
        self._result: Any = None
        self._failure: KafkaException | None = None
        self._done = False

    def done(self) -> bool:
        return self._done

    def exception(self) -> KafkaException | None:
        return self._failure

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - it is there or it is not
        assert self._done
        if self._failure is not None:
            raise self._failure
        return self._result

    def answer(self, result: Any) -> None:
        self._result, self._done = result, True

    def fail(self, failure: KafkaException) -> None:
        self._failure, self._done = failure, True


class _Offset:
    """The answer to one question for an offset."""

    def __init__(self, offset: int) -> None:
        self.offset = offset


class FakeAdmin:
    """An admin client that lists ends, after a delay."""

    def __init__(self, kafka: FakeKafka, process: Process, delay: Callable[[], int] = lambda: 0) -> None:
        self._kafka = kafka
        self._process = process
        self._delay = delay

    def list_offsets(
        self,
        wanted: Mapping[TopicPartition, Any],
        isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
        request_timeout: float = 10,  # noqa: ARG002 - time is virtual
    ) -> dict[TopicPartition, _Answer]:
        """Ask for the ends of partitions."""
        self._process.enter("list_offsets")
        failing = self._process.fault("list_offsets") is not None
        answers = {where: _Answer() for where in wanted}
        committed_only = isolation_level == IsolationLevel.READ_COMMITTED
        delay = self._delay()

        def tell() -> None:
            for where, answer in answers.items():
                log = self._kafka.logs[where.topic, where.partition]
                if failing:
                    answer.fail(_timed_out("Failed to list offsets"))
                else:
                    answer.answer(_Offset(log.stable if committed_only else log.end))

        if delay:
            self._kafka.clock.after(delay, tell)
        else:
            tell()
        return answers


def _ms(seconds: float) -> int:
    return 60_000 if seconds < 0 else int(seconds * 1_000)


def _end(place: Place, offset: int) -> Message:
    known: dict[str, Any] = {"topic": place[0], "partition": place[1], "offset": offset}
    return Message(error=KafkaError(KafkaError._PARTITION_EOF), **known)


def _failure(code: int, text: str, place: Place | None = None) -> Message:
    known: dict[str, Any] = {} if place is None else {"topic": place[0], "partition": place[1]}
    return Message(error=KafkaError(code, text), **known)


def _timed_out(text: str) -> KafkaException:
    return KafkaException(KafkaError(KafkaError._TIMED_OUT, text, retriable=True))


def _state(text: str) -> KafkaException:
    return KafkaException(KafkaError(KafkaError._STATE, text))
