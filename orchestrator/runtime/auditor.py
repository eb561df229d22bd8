"""Hands the output topics to the audit, also while workers go on writing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from orchestrator.audit import AuditReport, audit
from orchestrator.runtime.record_reader import Located, RecordReader
from orchestrator.runtime.topic import Topic, Topics
from orchestrator.runtime.topic_reader import Progress, Span

ProgressOf = Callable[[str], Progress | None]
"""Returns who is to be told how far the reading of a topic has come."""


def audit_topics(reader: RecordReader, topics: Topics, progress_of: ProgressOf | None = None) -> AuditReport:
    """Return the report on everything that the decision and trigger topics hold.

    The end of the triggers is captured after the decisions were read, so theirs are among them. What is decided
    meanwhile is read last, for some of those triggers are its own.
    """
    told = progress_of or (lambda _: None)
    decided = reader.spans(topics.decisions)
    triggered = reader.spans(topics.triggers)

    return audit(
        decisions=reader.read(topics.decisions, spans=decided, progress=told(topics.decisions.name)),
        triggers=reader.read(topics.triggers, progress=told(topics.triggers.name)),
        later=_later(reader, topics.decisions, decided),
        horizon=_horizon(reader, (topics.decisions, decided), (topics.triggers, triggered)),
    )


def _later(reader: RecordReader, topic: Topic, before: Mapping[int, Span]) -> Iterator[Located]:
    rest = {partition: Span(before[partition].end, span.end) for partition, span in reader.spans(topic).items()}
    yield from reader.read(topic, spans=rest)


def _horizon(reader: RecordReader, *spans: tuple[Topic, Mapping[int, Span]]) -> int | None:
    """Return the instant from which no record is missing, or None when nothing was deleted by retention yet."""
    oldest = [
        record["decided_at"]
        for topic, of_topic in spans
        for partition, span in of_topic.items()
        if span.start > 0
        for record, _ in _first(reader, topic, partition, span)
    ]

    return max(oldest, default=None)


def _first(reader: RecordReader, topic: Topic, partition: int, span: Span) -> Iterator[Located]:
    for located in reader.read(topic, spans={partition: span}):
        yield located
        return
