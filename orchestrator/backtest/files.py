"""A folder of recorded events: one file, several or a folder of them per topic, in any of the formats."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.backtest.fitting import Unfit, fitting
from orchestrator.backtest.formats import SUFFIXES, rows
from orchestrator.backtest.history import Located, Seen
from orchestrator.backtest.steps import BARRIER_EVERY, EvenSteps, Steps
from orchestrator.definitions.nodes import did_you_mean
from orchestrator.events import FOREVER, Event
from orchestrator.reference import REFERENCE_SCHEMAS, Reference
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.partitioner import partition_of
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topic, Topics
from orchestrator.runtime.topics import load as load_topics
from orchestrator.valuation import MalformedError

ARRIVED = "arrived_at"
"""A column that any file may have: when the record arrived, where that is known and is not its event time."""

_PARTS = 8
_SMALL = 4 << 20
"""Bytes up to which a file is one portion."""

_PER_FILE = 1 << 44
"""More than any place in one file, so that places of all files of a topic are one order, as offsets are."""


@dataclass(frozen=True)
class Files:
    """Recorded events in files; `until` is where time ends."""

    path: Path
    settings: Settings
    every: int = BARRIER_EVERY
    until: int = FOREVER

    max_lag: int | None = None
    """Barriers that follow from the records wait for nobody, so nothing is judged later than due."""

    @cached_property
    def topics(self) -> Topics:
        """The declared topics, without a prefix."""
        return load_topics(self.settings.topics, self.settings.schemas).with_partitions(self.settings.partitions)

    @cached_property
    def _registry(self) -> FileRegistry:
        return FileRegistry(self.settings.schemas)

    @cached_property
    def found(self) -> dict[str, list[Path]]:
        """The files of each topic, in order of their names."""
        names = [topic.name for topic in (self.topics.profiles, *self.topics.inputs, *self.topics.references)]
        paths = [self.path] if self.path.is_file() else sorted(self.path.rglob("*"))
        found: defaultdict[str, list[Path]] = defaultdict(list)
        for path in paths:
            if path.suffix not in SUFFIXES or path.name.startswith("."):
                continue
            own = path.parent != self.path and not self.path.is_file()
            topic = _topic_of(path.parent.name if own else path.name, names) or _topic_of(path.name, names)
            if topic is None:
                raise OperatorError(
                    f"'{path}' is of no input topic{did_you_mean(path.name.partition('.')[0], names)}: "
                    "name it, or its folder, after the topic its records belong to",
                    exit_code=USAGE,
                    details=[f"topics: {', '.join(names)}"],
                )
            found[topic].append(path)
        if not any(topic.name in found for topic in self.topics.inputs):
            raise OperatorError(
                f"no events: '{self.path}' has no file of an input topic, such as clickstream.avro, purchases.jsonl or "
                "customer-profiles.parquet",
                exit_code=USAGE,
            )
        return dict(found)

    @cached_property
    def _portions(self) -> list[tuple[Topic, int, Path, int, int]]:
        portions = []
        for topic in (self.topics.profiles, *self.topics.inputs):
            for number, path in enumerate(self.found.get(topic.name, ())):
                parts = 1 if path.stat().st_size <= _SMALL else _PARTS
                portions += [(topic, number, path, part, parts) for part in range(parts)]
        return portions

    @cached_property
    def _intake(self) -> Intake:
        settings = self.settings
        return Intake(
            self.topics,
            Codec(self._registry),
            max_record_bytes=settings.max_record_bytes,
            max_skew=settings.max_skew_ms,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what each process makes for itself."""
        return {name: getattr(self, name) for name in ("path", "settings", "every", "until", "max_lag")}

    @property
    def partitions(self) -> int:
        """How many partitions the customers are divided among."""
        return self.topics.partitions

    @property
    def is_small(self) -> bool:
        """Whether one process is done before others would have started."""
        return sum(path.stat().st_size for paths in self.found.values() for path in paths) <= _SMALL

    @property
    def readers(self) -> int:
        """How many portions there are; each can be read by itself."""
        return len(self._portions)

    def read(self, reader: int, seen: Seen, only: str | None = None) -> Iterator[Located]:
        """Yield the events of one portion that arrived up to the end, of everybody or of one customer only."""
        topic, number, path, part, parts = self._portions[reader]
        schema = with_arrival(self._registry.named(topic.schema or ""))
        steps = EvenSteps(self.every)
        intake, mapping, partitions = self._intake, topic.events, self.topics.partitions
        time_field = "updated_at" if mapping is None else mapping.time
        start = number * _PER_FILE
        owner = "customer_id" if mapping is None else mapping.customer
        known: dict[str, int] = {}
        for place, record in rows(path, schema, fitting(schema), part, parts):
            seen.records[topic.name] += 1
            if isinstance(record, Unfit):
                seen.bury(topic.name, "undecodable", f"{path.name}: {record}")
                continue
            arrived = record.pop(ARRIVED)
            if arrived is None:
                time = record[time_field]
                arrived = time if mapping is None else mapping.milliseconds(time or 0)
            if arrived > self.until:
                continue
            step = steps.step_of(arrived)
            if only is not None and str(record[owner]) != only:
                seen.note_step(step)
                continue
            event = intake.take(topic.name, record, start + place, steps.time(step))
            if not isinstance(event, Event):
                seen.bury(topic.name, event.reason, event.detail)
                continue
            seen.note_step(step)
            seen.events += 1
            partition = known.get(event.customer)
            if partition is None:
                partition = known[event.customer] = partition_of(event.customer.encode(), partitions)
            yield partition, step, event

    def products(self) -> Reference:
        """Return the products and the snapshots of the folder; none where it has no file of them."""
        reference = Reference()
        for topic in self.topics.references:
            if topic.schema not in REFERENCE_SCHEMAS:
                continue
            schema = with_arrival(self._registry.named(topic.schema))
            for path in self.found.get(topic.name, ()):
                for _, record in rows(path, schema, fitting(schema), 0, 1):
                    if isinstance(record, Unfit):
                        raise OperatorError(f"'{path}' has a row that is no {topic.schema}: {record}", exit_code=USAGE)
                    record.pop(ARRIVED)
                    try:
                        reference.take(topic.schema, record)
                    except MalformedError as error:
                        raise OperatorError(f"'{path}' cannot be used: {error}", exit_code=USAGE) from None
        return reference

    def steps(self, seen: Seen) -> Mapping[int, Steps]:
        """Return the barriers, the same for every partition."""
        steps = EvenSteps(self.every, seen.first_step or 0, self.until)
        if self.until == FOREVER:
            steps = replace(steps, until=steps.time(seen.last_step or 0))
        return dict.fromkeys(range(self.topics.partitions), steps)

    def said(self) -> dict[str, Any]:
        """Return where the events come from, for the result."""
        names = {topic: [path.name for path in paths] for topic, paths in sorted(self.found.items())}
        return {"files": names, "barriers": f"every {self.every // 1_000} s of the records' own time"}


def _topic_of(name: str, topics: list[str]) -> str | None:
    """Return the topic that a file's or folder's name begins with, the longest there is."""
    begun = [topic for topic in topics if name == topic or name.startswith((f"{topic}.", f"{topic}-", f"{topic}_"))]
    return max(begun, key=len, default=None)


def with_arrival(schema: Any) -> Any:
    """Return a topic's schema with the column that says when a record arrived."""
    return {**schema, "fields": [*schema["fields"], {"name": ARRIVED, "type": ["null", "long"], "default": None}]}
