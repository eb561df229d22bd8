"""Writes the changelog anew after it was lost with every store: from the inputs and our own committed decisions.

One partition after the other, with all its customers in memory as bytes; the workers of the group must be stopped. The
changelog's meta record and the group's offsets are committed last, so that an interrupted rebuild is begun again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from orchestrator.customer import customer_from_bytes
from orchestrator.events import DAY, FOREVER
from orchestrator.program import Program
from orchestrator.recall import hand_over
from orchestrator.reference import Reference
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.erasures import ERASURE_KEY, Erasures
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.intake import Intake, sources_of
from orchestrator.runtime.offline import ANSWER_SECONDS, ChangelogWriter, Counted, History, check_nobody_runs
from orchestrator.runtime.state_store import META_KEY, Meta, Stored
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_reader import Span, read_topic, topic_spans

TAIL_RECORDS = 2_000
"""Offsets at the end of the clock topic among which the last barrier is looked for: markers take offsets as well."""


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
        self._history = History(self._config, topics, codec, reference, intake)
        self._group = group
        self._salt = erasure_salt
        self._committed = (*sources_of(topics), *((topics.clock,) if replay else ()))
        self._decode_barrier = codec.decoder(topics.clock)
        self._decode_outcome = codec.decoder(topics.outcomes)

    def run(self, tell: Callable[[Rebuilt], None]) -> None:
        """Rebuild every partition that has decided anything, or raise an OperatorError before anything is written."""
        check_nobody_runs(self._admin, self._group)
        changelog = self._topics.changelog
        for record in read_topic(self._config, changelog.name, key_filter=lambda key: key == META_KEY):
            raise OperatorError(
                f"{changelog.name}/{record.partition} holds a state: start the workers, or, if it is really to be "
                "built anew, delete the topic first"
            )
        offsets = self._offsets()
        try:
            with ChangelogWriter(self._config, changelog.name, self._group) as writer:
                for number in range(self._topics.partitions):
                    rebuilt = self._rebuild(number, offsets[number], writer)
                    if rebuilt is not None:
                        tell(rebuilt)
        except KafkaException as error:
            reason = error.args[0].str()
            raise OperatorError(f"the changelog could not be written ({reason}): run this again") from error

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

    def _rebuild(self, number: int, offsets: dict[str, int], writer: ChangelogWriter) -> Rebuilt | None:
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
        counted = Counted()
        states = self._fold(number, spans, -FOREVER if last is None else last["time"], counted)
        clock = counted.decided_until if last is None else max(last["time"], counted.decided_until)
        positions = {topic.name: spans[topic.name].end for topic in self._committed}
        erasures = Erasures(self._salt, {}, self._topics.retention)
        for key, at in counted.erased.items():
            erasures.keep(key, at)
        for key, until in counted.slots_left.items():  # of whom nothing is rebuilt: what lags is not to bring them back
            erasures.keep(key, clock, until)
        erasures.drop(clock - self._program.longest_late)
        counted.quotas.forget(self._program.shared_caps, clock - self._program.longest_late)
        meta = Meta(clock, positions, self._program.version, quotas=counted.quotas.uses)
        held = 0

        def customers() -> Iterator[tuple[bytes, Stored]]:
            nonlocal held
            for key, state in states.items():
                customer = customer_from_bytes(state)
                held += customer.window is not None
                yield key, Stored(customer.next_due, state)

        rows = ((ERASURE_KEY + name, row) for name, row in erasures.changes())
        writer.write(number, customers(), rows, meta, positions)
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

    def _fold(self, number: int, spans: Mapping[str, Span], newest: int, counted: Counted) -> dict[bytes, bytes]:
        """Return every customer of a partition at the end of the spans, as bytes."""
        program, reference = self._program, self._reference
        known = self._profiled(number, spans, counted)
        states = self._history.fold(program, number, spans, newest, known, counted)
        clock = max(newest, counted.decided_until)
        revisions = self._revisions(number, clock)
        for key, state in states.items():
            customer = customer_from_bytes(state)
            hand_over(program, reference, key.decode(), customer, clock, revisions)
            states[key] = customer.to_bytes()
        return states

    def _profiled(self, number: int, spans: Mapping[str, Span], counted: Counted) -> frozenset[bytes]:
        """Return the customers who have a profile; the others were erased, or nobody may write to them.

        A tombstone says no time of its own; of those that came back since, it is about when it was written.
        """
        topic = self._topics.profiles
        last: dict[bytes, bool] = {}
        for record in self._history.read(topic, number, spans[topic.name]):
            if record.key is not None:
                last[record.key] = record.value is not None
                if record.value is None:
                    counted.erased[record.key] = record.timestamp
        counted.slots_left.update((key, -FOREVER) for key, there in last.items() if not there)
        return frozenset(key for key, there in last.items() if there)

    def _revisions(self, number: int, clock: int) -> dict[str, int]:
        """Return the last revision of every outcome that can still be amended, by decision id."""
        topic = self._topics.outcomes
        span = topic_spans(self._config, topic.name, [number])[number]
        oldest = clock - self._program.policy.amend_for - DAY
        revisions: dict[str, int] = {}
        for record in self._history.read(topic, number, span):
            if record.value is None:
                continue
            outcome = self._decode_outcome(record.value, record.headers or None)
            if outcome["window_until"] >= oldest:
                revisions[outcome["decision_id"]] = max(outcome["revision"], revisions.get(outcome["decision_id"], 0))
        return revisions
