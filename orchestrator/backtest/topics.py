"""Recorded events as the topics still hold them, with the barriers that workers used where the clock topic has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from confluent_kafka import Message

from orchestrator.backtest.history import Located, Seen
from orchestrator.backtest.steps import BARRIER_EVERY, EvenSteps, RecordedSteps, Steps
from orchestrator.events import FOREVER, Event
from orchestrator.reference import REFERENCE_SCHEMAS, Reference
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.barriers import Barrier
from orchestrator.runtime.connection import client_config
from orchestrator.runtime.intake import Intake, sources_of
from orchestrator.runtime.record_reader import RecordReader
from orchestrator.runtime.schema_registry import ConfluentRegistry, FileRegistry, SchemaRegistry
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_reader import Record, Span, read_topic, topic_spans
from orchestrator.runtime.topics import load as load_topics
from orchestrator.valuation import MalformedError

_SMALL = 50_000
"""Records that one process has decided before another would have started."""

_CHUNK = 200_000
"""Records of one partition of a topic that one portion reads."""


@dataclass(frozen=True)
class TopicRange:
    """Recorded events in the input topics, from what they still hold up to `until`."""

    settings: Settings
    topics: Topics
    spans: Mapping[str, Mapping[int, Span]]
    recorded: Mapping[int, RecordedSteps]
    every: int = BARRIER_EVERY
    until: int = FOREVER

    @classmethod
    def open(cls, settings: Settings, *, every: int = BARRIER_EVERY, until: int = FOREVER) -> TopicRange:
        """Return what the topics hold now, or raise an OperatorError."""
        reader = RecordReader.open(settings)
        config = client_config(settings)
        declared = load_topics(settings.topics, settings.schemas).with_prefix(settings.topic_prefix)
        sources = sources_of(declared)
        spans = {topic.name: topic_spans(config, topic.name) for topic in sources}
        topics = declared.with_partitions(len(spans[declared.profiles.name]))
        barriers: dict[int, list[Barrier]] = {}
        for record, (_, partition, _) in reader.read(topics.clock):
            barrier = Barrier(record["time"], record["ends"], record["horizon"])
            if barrier.time <= until:
                barriers.setdefault(partition, []).append(barrier)
        recorded = {number: RecordedSteps(of) for number, of in barriers.items()}
        return cls(settings, topics, spans, recorded, every, until)

    @property
    def max_lag(self) -> int | None:
        """How much later than due a timer may be judged: as the worker's settings say, where its barriers are used."""
        return self.settings.max_lag_ms if self.recorded else None

    @cached_property
    def _portions(self) -> list[tuple[str, int, Span]]:
        return [
            (topic, partition, Span(start, min(start + _CHUNK, span.end)))
            for topic, of_topic in self.spans.items()
            for partition, span in of_topic.items()
            for start in range(span.start, span.end, _CHUNK)
        ]

    @cached_property
    def _intake(self) -> Intake:
        settings, files = self.settings, FileRegistry(self.settings.schemas)
        registry: SchemaRegistry = files
        if settings.schema_registry_url is not None:
            registry = ConfluentRegistry(settings.schema_registry_url, files, register=False)
        return Intake(
            self.topics, Codec(registry), max_record_bytes=settings.max_record_bytes, max_skew=settings.max_skew_ms
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what each process makes for itself."""
        return {name: getattr(self, name) for name in ("settings", "topics", "spans", "recorded", "every", "until")}

    @property
    def partitions(self) -> int:
        """How many partitions the customers are divided among."""
        return self.topics.partitions

    @property
    def is_small(self) -> bool:
        """Whether one process is done before others would have started."""
        return sum(len(span) for spans in self.spans.values() for span in spans.values()) <= _SMALL

    @property
    def readers(self) -> int:
        """How many portions there are; each can be read by itself."""
        return len(self._portions)

    def read(self, reader: int, seen: Seen, only: str | None = None) -> Iterator[Located]:
        """Yield the events of one portion as far as time has come, of everybody or of one customer only."""
        topic, partition, span = self._portions[reader]
        intake = self._intake
        steps = self.recorded.get(partition)
        key = None if only is None else only.encode()
        if key is not None and intake.is_stranger(key, partition):
            return
        own = None if key is None else key.__eq__
        for record in read_topic(client_config(self.settings), topic, spans={partition: span}, key_filter=own):
            seen.records[topic] += 1
            if steps is None:
                newest = record.timestamp if record.value is None else FOREVER
            elif (step := steps.step_of(topic, record.offset)) < len(steps.barriers):
                newest = steps.barriers[step].newest
            else:
                continue
            event = intake.read(topic, _message(topic, record), newest)
            if not isinstance(event, Event):
                seen.bury(topic, event.reason, event.detail)
                continue
            if intake.is_stranger(record.key or b"", partition):
                seen.bury(topic, "wrong_partition", "the producer does not partition by murmur2 of the key")
                continue
            if steps is None:
                if event.time > self.until:
                    continue
                step = EvenSteps(self.every).step_of(event.time)
            seen.note_step(step)
            seen.events += 1
            yield partition, step, event

    def products(self) -> Reference:
        """Return the products and the snapshots as the topics have them."""
        reference = Reference()
        reader = RecordReader.open(self.settings)
        for topic in self.topics.references:
            if topic.schema in REFERENCE_SCHEMAS:
                for record, _ in reader.read(topic):
                    with suppress(MalformedError):  # engines leave it out as well
                        reference.take(topic.schema, record)
        return reference

    def steps(self, seen: Seen) -> Mapping[int, Steps]:
        """Return each partition's barriers: those that a worker used, else such as follow from the events' times."""
        even = EvenSteps(self.every, seen.first_step or 0, self.until)
        if self.until == FOREVER:
            even = replace(even, until=even.time(seen.last_step or 0))
        return {number: self.recorded.get(number, even) for number in range(self.topics.partitions)}

    def said(self) -> dict[str, Any]:
        """Return where the events come from, for the result."""
        offsets = {
            topic: {str(partition): [span.start, span.end] for partition, span in sorted(spans.items())}
            for topic, spans in sorted(self.spans.items())
        }
        barriers = "as recorded" if self.recorded else f"every {self.every // 1_000} s of the events' own time"
        return {"topics": offsets, "barriers": barriers}


def _message(topic: str, record: Record) -> Message:
    return Message(topic=topic, partition=record.partition, offset=record.offset, key=record.key, value=record.value)
