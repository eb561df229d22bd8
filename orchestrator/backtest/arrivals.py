"""A folder of recorded events as one stream, in the order in which they arrived: what a replay writes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.backtest.files import ARRIVED, Files, with_arrival
from orchestrator.backtest.fitting import Unfit, fitting
from orchestrator.backtest.formats import rows
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topic import Topic, Topics

Arrival = tuple[int, str, str, dict[str, Any]]
"""Arrival instant in milliseconds, topic, key and record."""


class Arrivals:
    """The records of a folder; `unfit` counts those that are no records of their topic, which are left out.

    `why` says of the first of them where it is and what is wrong with it.
    """

    def __init__(self, files: Files) -> None:
        self.unfit = 0
        self.why = ""
        self._files = files
        self._registry = FileRegistry(files.settings.schemas)

    def stream(self) -> Iterator[Arrival]:
        """Yield everything in order: reference data first, then what arrived, topic by topic at one instant.

        Each file must be in order by itself, so that nothing has to be held in memory; OperatorError where one is not.
        """
        topics, found = self._files.topics, self._files.found
        begin: int | None = None
        inputs = [topic for topic in (topics.profiles, *topics.inputs) if topic.name in found]
        lanes = [self._in_order(topics, topic, path) for topic in inputs for path in found[topic.name]]
        for at, place, key, record in heapq.merge(*lanes, key=lambda one: one[:2]):
            if at > self._files.until:
                return
            if begin is None:
                begin = at
                yield from self._references(topics, begin)
            yield at, inputs[place].name, key, record

    def _references(self, topics: Topics, at: int) -> Iterator[Arrival]:
        for topic in topics.references:
            for path in self._files.found.get(topic.name, ()):
                for _, record in self._rows(topic, path):
                    key = "/".join(str(record[name]) for name in topic.key.split("/"))
                    yield at, topic.name, key, record

    def _in_order(self, topics: Topics, topic: Topic, path: Path) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
        mapping = topic.events
        time, owner = ("updated_at", "customer_id") if mapping is None else (mapping.time, mapping.customer)
        names = [one.name for one in (topics.profiles, *topics.inputs) if one.name in self._files.found]
        place, before = names.index(topic.name), 0
        for arrived, record in self._rows(topic, path):
            at = arrived
            if at is None:
                at = record[time] if mapping is None else mapping.milliseconds(record[time] or 0)
            if at < before:
                raise OperatorError(
                    f"'{path}' is not in the order in which its records arrived: sort it by {ARRIVED}, or by {time} "
                    "where it has none",
                    exit_code=USAGE,
                )
            before = at
            yield at, place, str(record[owner]), record

    def _rows(self, topic: Topic, path: Path) -> Iterator[tuple[int | None, dict[str, Any]]]:
        schema = with_arrival(self._registry.named(topic.schema or ""))
        for _, record in rows(path, schema, fitting(schema), 0, 1):
            if isinstance(record, Unfit):
                self.unfit += 1
                self.why = self.why or f"{path.name}: {record}"
                continue
            yield record.pop(ARRIVED), record
