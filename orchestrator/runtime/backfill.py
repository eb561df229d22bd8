"""Folds the history of the inputs into features that were defined later, in the changelog of a group that is stopped.

One partition after the other, with all its customers in memory as bytes. A customer's state is written whole and is as
good before as after, so that an interrupted backfill is run again; stores find the new states at the changelog's end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orchestrator.backfill import fact_of, give_facts, unknown_features
from orchestrator.customer import customer_from_bytes
from orchestrator.program import Program
from orchestrator.programs import Programs
from orchestrator.reference import Reference
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.erasures import ERASURE_KEY
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.intake import Intake, sources_of
from orchestrator.runtime.offline import ChangelogWriter, Counted, History, check_nobody_runs
from orchestrator.runtime.state_store import META_KEY, Meta, Stored, meta_from_bytes, unpack
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_reader import Progress, Span, read_topic, topic_spans


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What became of all partitions; `since` is the earliest event by topic, `cut` the topics that once held more."""

    features: tuple[str, ...]
    customers: int = 0
    changed: int = 0
    events: int = 0
    since: Mapping[str, int] = field(default_factory=dict)
    cut: frozenset[str] = frozenset()


class Backfill:
    """Everything a backfill needs to know."""

    def __init__(
        self,
        client_config: Mapping[str, Any],
        admin: AdminClient,
        topics: Topics,
        codec: Codec,
        programs: Programs,
        reference: Reference,
        intake: Intake,
        *,
        group: str,
    ) -> None:
        self._config = dict(client_config)
        self._admin = admin
        self._topics = topics
        self._codec = codec
        self._programs = programs
        self._reference = reference
        self._intake = intake
        self._group = group

    def run(self, named: Collection[str], tell: Callable[[tuple[str, ...]], None], progress: Progress) -> Backfilled:
        """Fold history into the named features, or into all that nobody has; `tell` is told which before it begins.

        Raises OperatorError, before anything is written where it is about what was asked for.
        """
        check_nobody_runs(self._admin, self._group)
        metas, facts_there = self._stored()
        program = self._program(metas)
        features = tuple(sorted(set(named))) or tuple(unknown_features(program, facts_there))
        if unknown := [name for name in features if name not in program.definitions.features]:
            raise OperatorError(
                f"no feature is called {', '.join(unknown)} in version {program.version}, which is in force where the "
                "engines stand; a version that is to come is backfilled once they have reached it"
            )
        if not features:
            return Backfilled(())
        tell(features)
        try:
            with ChangelogWriter(self._config, self._topics.changelog.name, self._group) as writer:
                return self._fill(program, features, metas, writer, progress)
        except KafkaException as error:
            again = f"run `orchestrator backfill {' '.join(features)}` again"
            raise OperatorError(f"the changelog could not be written ({error.args[0].str()}): {again}") from error

    def _stored(self) -> tuple[dict[int, Meta], set[str]]:
        """Return the meta record of every partition that has one, and the names of all facts of anybody."""
        metas: dict[int, Meta] = {}
        facts: set[str] = set()
        for number in range(self._topics.partitions):
            meta, states = self._partition(number)
            if meta is not None:
                metas[number] = meta
            for state in states.values():
                facts.update(customer_from_bytes(unpack(state).state).raw_facts)
        if not metas:
            raise OperatorError(
                f"{self._topics.changelog.name} holds no state: either no worker of the group {self._group} has run "
                "yet, and there is nothing to do, or its state is lost; see docs/operations.md, 'Disaster recovery'"
            )
        return metas, facts

    def _partition(self, number: int) -> tuple[Meta | None, dict[bytes, bytes]]:
        """Return what the changelog holds of one partition: its meta record, and customers as packed."""
        meta: Meta | None = None
        states: dict[bytes, bytes] = {}
        for record in read_topic(self._config, self._topics.changelog.name, partitions=[number]):
            key, value = record.key, record.value
            if key is None or key.startswith(ERASURE_KEY):
                continue
            if key == META_KEY:
                meta = None if value is None else meta_from_bytes(value)
            elif value is None:
                states.pop(key, None)
            else:
                states[key] = value
        return meta, states

    def _program(self, metas: Mapping[int, Meta]) -> Program:
        """Return the program in force where the engines stand: any other would drop the facts, or not ask for them."""
        clocks = sorted(meta.clock for meta in metas.values())
        first, last = self._programs.at(clocks[0]), self._programs.at(clocks[-1])
        if first is not last:
            raise OperatorError(
                f"version {last.version} has come into force in some partitions and not in all: start the workers "
                "until it has, stop them, then run this again"
            )
        return last

    def _fill(
        self,
        program: Program,
        features: tuple[str, ...],
        metas: Mapping[int, Meta],
        writer: ChangelogWriter,
        progress: Progress,
    ) -> Backfilled:
        spans = {number: self._spans(number, meta) for number, meta in metas.items()}
        decisions = topic_spans(self._config, self._topics.decisions.name)
        total = sum(len(span) for of in spans.values() for span in of.values()) + sum(map(len, decisions.values()))

        def read_on(behind: int) -> None:
            progress(behind, total)

        history = History(self._config, self._topics, self._codec, self._reference, self._intake, read_on)
        facts = {fact_of(program, name) for name in features}
        counted, customers, changed = Counted(), 0, 0
        for number, meta in metas.items():
            _, states = self._partition(number)
            known = states.keys() - self._erased(history, number, spans[number])
            folded = history.fold(program, number, spans[number], meta.clock, known, counted)

            def merged(
                states: Mapping[bytes, bytes] = states, folded: Mapping[bytes, bytes] = folded, clock: int = meta.clock
            ) -> Iterator[tuple[bytes, Stored]]:
                nonlocal changed
                for key, past in folded.items():
                    customer, before = customer_from_bytes(unpack(states[key]).state), customer_from_bytes(past)
                    if give_facts(program, self._reference, key.decode(), customer, before, facts, clock):
                        changed += 1
                        state = customer.to_bytes()
                        yield key, Stored(customer.next_due, state)
                check_nobody_runs(self._admin, self._group)  # it may have taken long: with the last commit, nobody did

            check_nobody_runs(self._admin, self._group)
            writer.write(number, merged(), (), meta, {})
            customers += len(states)
        cut = frozenset(topic for of in spans.values() for topic, span in of.items() if span.start > 0)
        return Backfilled(features, customers, changed, counted.events, counted.oldest, cut)

    def _spans(self, number: int, meta: Meta) -> dict[str, Span]:
        """Return what the inputs still hold of what was decided: up to where the state stands, and so the group."""
        spans = {}
        for topic in sources_of(self._topics):
            there = topic_spans(self._config, topic.name, [number])[number]
            spans[topic.name] = Span(there.start, max(there.start, meta.positions.get(topic.name, -1)))
        return spans

    def _erased(self, history: History, number: int, spans: Mapping[str, Span]) -> set[bytes]:
        """Return who was ever erased: of those who came back, what was before must not come back with them."""
        topic = self._topics.profiles
        records = history.read(topic, number, spans[topic.name])
        return {record.key for record in records if record.key is not None and record.value is None}
