"""Recorded events: what a folder of files or the topics hold, read in portions by as many processes as there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator.backtest.steps import Steps
from orchestrator.events import Event
from orchestrator.reference import Reference

Located = tuple[int, int, Event]
"""Partition, step and event."""


@dataclass(slots=True)
class Seen:
    """What was read: records by topic, those that cannot be used by topic and reason, and the steps they fell into."""

    records: Counter[str] = field(default_factory=Counter)
    unusable: Counter[tuple[str, str]] = field(default_factory=Counter)
    example: dict[tuple[str, str], str] = field(default_factory=dict)
    events: int = 0
    first_step: int | None = None
    last_step: int | None = None

    def bury(self, topic: str, reason: str, detail: str) -> None:
        """Count a record that cannot be used."""
        self.unusable[topic, reason] += 1
        self.example.setdefault((topic, reason), detail)

    def note_step(self, step: int) -> None:
        """Take note that a record fell into a step."""
        if self.first_step is None or step < self.first_step:
            self.first_step = step
        if self.last_step is None or step > self.last_step:
            self.last_step = step

    def add(self, other: Seen) -> None:
        """Take in what another reader has seen."""
        self.records += other.records
        self.unusable += other.unusable
        self.example = {**other.example, **self.example}
        self.events += other.events
        for step in (other.first_step, other.last_step):
            if step is not None:
                self.note_step(step)


class History(Protocol):
    """Where recorded events come from; it is sent to the processes that read it."""

    @property
    def is_small(self) -> bool:
        """Whether one process is done before others would have started."""

    @property
    def readers(self) -> int:
        """How many portions there are; each can be read by itself."""

    @property
    def partitions(self) -> int:
        """How many partitions the customers are divided among."""

    @property
    def max_lag(self) -> int | None:
        """How much later than due a timer may be judged, None for never later."""

    def read(self, reader: int, seen: Seen, only: str | None = None) -> Iterator[Located]:
        """Yield the events of one portion, of everybody or of one customer only."""

    def products(self) -> Reference:
        """Return the reference data."""

    def steps(self, seen: Seen) -> Mapping[int, Steps]:
        """Return each partition's barriers, once everything was read."""

    def said(self) -> dict[str, Any]:
        """Return where the events come from, for the result."""
