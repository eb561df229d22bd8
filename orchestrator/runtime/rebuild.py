"""Writes the changelog anew after it was lost with every store: from the inputs and our own committed decisions.

One partition after the other, with all its customers in memory as bytes; the workers of the group must be stopped. The
changelog's meta record and the group's offsets are committed last, so that an interrupted rebuild is begun again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from orchestrator.customer import STATE_VERSION, Customer, customer_from_bytes
from orchestrator.events import DAY, ERASED, FOREVER, Event
from orchestrator.measurement import may_overlap
from orchestrator.program import Program
from orchestrator.quotas import Quotas
from orchestrator.recall import count_use, hand_over, recall, stretches
from orchestrator.records import Decision
from orchestrator.reference import Reference
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.erased_slots import SLOT_KEY, ErasedSlots
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.intake import DeadLetter, Intake, sources_of
from orchestrator.runtime.state_store import META_KEY, Meta, Stored, meta_to_bytes, pack
from orchestrator.runtime.topic import Topic, Topics
from orchestrator.runtime.topic_reader import Record, Span, read_topic, topic_spans

STRETCH_RECORDS = 50_000
"""Records folded at once; within them, what came late is put in order."""

COMMIT_CUSTOMERS = 5_000
ANSWER_SECONDS = 30.0
TAIL_RECORDS = 2_000
"""Offsets at the end of the clock topic among which the last barrier is looked for: markers take offsets as well."""

_IDLE = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD, ConsumerGroupState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What one partition was made of."""

    partition: int
    customers: int
    events: int
    decisions: int
    held_slots: int


class Rebuild:
    """Everything a rebuild needs to know; `replay` says that the group also follows the clock topic."""

    def __init__(
        self,
        client_config: Mapping[str, Any],
        admin: AdminClient,
        topics: Topics,
        codec: Codec,
        program: Program,
        reference: Reference,
        intake: Intake,
        *,
        group: str,
        erasure_salt: str,
        replay: bool,
    ) -> None:
        self._config = dict(client_config)
        self._admin = admin
        self._topics = topics
        self._codec = codec
        self._program = program
        self._reference = reference
        self._intake = intake
        self._group = group
        self._salt = erasure_salt
        self._sources = sources_of(topics)
        self._committed = (*self._sources, *((topics.clock,) if replay else ()))
        self._decode_barrier = codec.decoder(topics.clock)
        self._decode_decision = codec.decoder(topics.decisions)
        self._decode_outcome = codec.decoder(topics.outcomes)

    def run(self, tell: Callable[[Rebuilt], None]) -> None:
        """Rebuild every partition that has decided anything, or raise an OperatorError before anything is written."""
        self._check_nobody_runs()
        changelog = self._topics.changelog
        for record in read_topic(self._config, changelog.name, key_filter=lambda key: key == META_KEY):
            raise OperatorError(
                f"{changelog.name}/{record.partition} holds a state: start the workers, or, if it is really to be "
                "built anew, delete the topic first"
            )
        offsets = self._offsets()
        consumer = Consumer({**self._config, "group.id": self._group})
        producer = Producer({**self._config, "transactional.id": f"{self._group}.rebuild", "compression.type": "lz4"})
        try:
            producer.init_transactions(ANSWER_SECONDS)
            for number in range(self._topics.partitions):
                rebuilt = self._rebuild(number, offsets[number], producer, consumer)
                if rebuilt is not None:
                    tell(rebuilt)
        except KafkaException as error:
            reason = error.args[0].str()
            raise OperatorError(f"the changelog could not be written ({reason}): run this again") from error
        finally:
            consumer.close()

    def _check_nobody_runs(self) -> None:
        try:
            (asked,) = self._admin.describe_consumer_groups([self._group]).values()
            state = asked.result(ANSWER_SECONDS).state
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return
            raise OperatorError(f"the group cannot be asked for: {error.args[0].str()}") from error
        if state not in _IDLE:
            raise OperatorError(
                f"workers of the group {self._group} are running: stop them all, wait until their sessions have ended "
                "(ORCHESTRATOR_SESSION_TIMEOUT), then run this again"
            )

    def _offsets(self) -> dict[int, dict[str, int]]:
        """Return the group's next offsets by partition and topic, -1001 where there are none."""
        wanted = [
            TopicPartition(topic.name, number) for topic in self._committed for number in range(self._topics.partitions)
        ]
        consumer = Consumer({**self._config, "group.id": self._group})
        try:
            found: dict[int, dict[str, int]] = {number: {} for number in range(self._topics.partitions)}
            for where in consumer.committed(wanted, timeout=ANSWER_SECONDS):
                found[where.partition][where.topic] = where.offset
        except KafkaException as error:
            raise OperatorError(f"the group's offsets cannot be read: {error.args[0].str()}") from error
        finally:
            consumer.close()
        return found

    def _rebuild(self, number: int, offsets: dict[str, int], producer: Producer, consumer: Consumer) -> Rebuilt | None:
        decided = topic_spans(self._config, self._topics.decisions.name, [number])[number]
        if max(offsets.values()) < 0 and not decided.end:
            return None  # nothing was ever decided here
        last = self._last_barrier(number, offsets)
        if max(offsets.values()) < 0:
            if last is None:
                raise OperatorError(
                    f"how far the group {self._group} had decided is not known any more: neither its offsets nor the "
                    f"barriers in {self._topics.clock.name} are there"
                )
            # The group was away for longer than the brokers keep offsets; the last barrier says where it stood.
            offsets = {topic: last["ends"].get(topic, -1) for topic in offsets}
        spans = self._spans(number, offsets)
        counted = _Counted()
        states = self._fold(number, spans, -FOREVER if last is None else last["time"], counted)
        clock = counted.decided_until if last is None else max(last["time"], counted.decided_until)
        positions = {topic.name: spans[topic.name].end for topic in self._committed}
        slots = ErasedSlots(self._salt, {})
        for key, until in counted.slots_left.items():
            if may_overlap(self._program, until, clock):
                slots.keep(key, until)
        counted.quotas.forget(self._program.shared_caps, clock - self._program.longest_late)
        meta = Meta(clock, positions, self._program.version, quotas=counted.quotas.uses)
        held = self._write(number, states, slots, meta, producer, consumer)
        return Rebuilt(number, len(states), counted.events, counted.decisions, held)

    def _last_barrier(self, number: int, offsets: Mapping[str, int]) -> Mapping[str, Any] | None:
        """Return the last barrier used: in a replay the one before the group's offset, live the last at all."""
        topic = self._topics.clock
        there = topic_spans(self._config, topic.name, [number])[number]
        end = offsets.get(topic.name, there.end)  # below zero in a replay without offsets: nobody knows
        span = Span(max(there.start, end - TAIL_RECORDS), end)
        last = None
        for record in read_topic(self._config, topic.name, partitions=[number], spans={number: span}):
            if record.value is not None:
                last = self._decode_barrier(record.value)
        return last

    def _spans(self, number: int, offsets: Mapping[str, int]) -> dict[str, Span]:
        """Return what is to be folded of every topic; where the inputs begin later than the group stood, nothing."""
        spans = {}
        for topic in self._committed:
            there = topic_spans(self._config, topic.name, [number])[number]
            spans[topic.name] = Span(there.start, max(there.start, offsets[topic.name]))
        return spans

    def _fold(self, number: int, spans: Mapping[str, Span], newest: int, counted: _Counted) -> dict[bytes, bytes]:
        """Return every customer of a partition at the end of the spans, as bytes."""
        program, reference = self._program, self._reference
        known = self._profiled(number, spans)
        decisions = topic_spans(self._config, self._topics.decisions.name, [number])[number]
        histories: list[Iterable[tuple[int, bytes, Event | Decision]]] = [
            self._events(topic, number, spans[topic.name], newest, known, counted) for topic in self._sources
        ]
        histories.append(self._own(number, decisions, known, counted))
        merged = heapq.merge(*histories, key=lambda item: item[0])
        states: dict[bytes, bytes] = {}
        for stretch in stretches(((at, (key, one)) for at, key, one in merged), STRETCH_RECORDS):
            events: dict[bytes, list[Event]] = {}
            own: dict[bytes, list[Decision]] = {}
            for key, one in stretch:
                if isinstance(one, Event):
                    events.setdefault(key, []).append(one)
                else:
                    own.setdefault(key, []).append(one)
            for key in {**events, **own}:
                customer = customer_from_bytes(states[key]) if key in states else Customer()
                ordered = sorted(events.get(key, ()), key=Event.order)
                recall(program, reference, key.decode(), customer, ordered, own.get(key, ()))
                states[key] = customer.to_bytes()
        clock = max(newest, counted.decided_until)
        revisions = self._revisions(number, clock)
        for key, state in states.items():
            customer = customer_from_bytes(state)
            hand_over(program, reference, key.decode(), customer, clock, revisions)
            states[key] = customer.to_bytes()
        return states

    def _profiled(self, number: int, spans: Mapping[str, Span]) -> frozenset[bytes]:
        """Return the customers who have a profile; the others were erased, or nobody may write to them."""
        topic = self._topics.profiles
        last: dict[bytes, bool] = {}
        for record in self._read(topic, number, spans[topic.name]):
            if record.key is not None:
                last[record.key] = record.value is not None
        return frozenset(key for key, there in last.items() if there)

    def _events(
        self, topic: Topic, number: int, span: Span, newest: int, known: frozenset[bytes], counted: _Counted
    ) -> Iterator[tuple[int, bytes, Event]]:
        """Yield a topic's usable events in the order in which they were read, each with the newest instant so far."""
        so_far = -FOREVER
        relevant = self._program.relevant - {ERASED}
        limit = FOREVER if newest == -FOREVER else newest
        for record in self._read(topic, number, span):
            key = record.key
            if key not in known or self._intake.is_stranger(key, number):
                continue
            message = Message(topic=topic.name, partition=number, offset=record.offset, key=key, value=record.value)
            event = self._intake.read(topic.name, message, limit)
            if isinstance(event, DeadLetter) or event.name not in relevant:
                continue
            counted.events += 1
            so_far = max(so_far, event.time)
            yield so_far, key, event

    def _own(
        self, number: int, span: Span, known: frozenset[bytes], counted: _Counted
    ) -> Iterator[tuple[int, bytes, Decision]]:
        so_far = -FOREVER
        for record in self._read(self._topics.decisions, number, span):
            if record.key is None or record.value is None:
                continue
            decision = msgspec.convert(self._decode_decision(record.value, record.headers or None), Decision)
            if record.key not in known:  # nothing of whoever was erased, but until when their slot is held
                left = counted.slots_left.get(record.key, -FOREVER)
                counted.slots_left[record.key] = max(left, decision.window_until or -FOREVER)
                continue
            counted.decisions += 1
            count_use(self._program, counted.quotas, decision)
            so_far = counted.decided_until = max(so_far, decision.decided_at)
            yield so_far, record.key, decision

    def _revisions(self, number: int, clock: int) -> dict[str, int]:
        """Return the last revision of every outcome that can still be amended, by decision id."""
        topic = self._topics.outcomes
        span = topic_spans(self._config, topic.name, [number])[number]
        oldest = clock - self._program.policy.amend_for - DAY
        revisions: dict[str, int] = {}
        for record in self._read(topic, number, span):
            if record.value is None:
                continue
            outcome = self._decode_outcome(record.value, record.headers or None)
            if outcome["window_until"] >= oldest:
                revisions[outcome["decision_id"]] = max(outcome["revision"], revisions.get(outcome["decision_id"], 0))
        return revisions

    def _read(self, topic: Topic, number: int, span: Span) -> Iterator[Record]:
        return read_topic(self._config, topic.name, partitions=[number], spans={number: span})

    def _write(
        self,
        number: int,
        states: Mapping[bytes, bytes],
        slots: ErasedSlots,
        meta: Meta,
        producer: Producer,
        consumer: Consumer,
    ) -> int:
        """Write a partition of the changelog, and with its last transaction the group's offsets; return slots held."""
        topic, held = self._topics.changelog.name, 0
        producer.begin_transaction()
        for count, (key, state) in enumerate(states.items(), 1):
            customer = customer_from_bytes(state)
            held += customer.window is not None
            _produce(producer, topic, pack(Stored(customer.next_due, state)), key, number)
            if count % COMMIT_CUSTOMERS == 0:
                producer.commit_transaction(ANSWER_SECONDS)
                producer.begin_transaction()
        for name, end in slots.changes():
            _produce(producer, topic, end, SLOT_KEY + name, number)
        meta.state_version = STATE_VERSION
        _produce(producer, topic, meta_to_bytes(meta), META_KEY, number)
        offsets = [TopicPartition(name, number, offset) for name, offset in meta.positions.items()]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), ANSWER_SECONDS)
        producer.commit_transaction(ANSWER_SECONDS)
        return held


@dataclass(slots=True)
class _Counted:
    events: int = 0
    decisions: int = 0
    decided_until: int = -FOREVER
    quotas: Quotas = field(default_factory=Quotas)
    slots_left: dict[bytes, int] = field(default_factory=dict)


def _produce(producer: Producer, *record: Any) -> None:
    while True:
        try:
            producer.produce(*record)
            return
        except BufferError:
            producer.poll(0.1)
