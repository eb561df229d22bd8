"""Who is in which segment over recorded events, at the end of every week: sizes, who entered and left, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from orchestrator.backtest.history import History
from orchestrator.backtest.life import in_order
from orchestrator.backtest.pool import Partition, Pool, Progress
from orchestrator.backtest.spool import Placed, read_spool
from orchestrator.backtest.steps import Steps
from orchestrator.customer import Customer
from orchestrator.events import DAY, FOREVER
from orchestrator.needs import needs
from orchestrator.program import Definitions, Program
from orchestrator.reference import Reference
from orchestrator.report.data import WEEK
from orchestrator.simulation import Simulation
from orchestrator.view import CustomerView

NEW = "their first event"
"""Why somebody entered of whom nothing was known the week before."""

_MONDAY = 4 * DAY  # 1970 began on a Thursday


@dataclass(slots=True)
class Look:
    """All customers at one instant; who came and went since the look before, by segment and the value that changed."""

    known: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    entered: Counter[tuple[str, str]] = field(default_factory=Counter)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: Look) -> None:
        """Take in another partition's customers."""
        self.known += other.known
        self.sizes += other.sizes
        self.entered += other.entered
        self.left += other.left

    def as_dict(self, segments: Iterable[str]) -> dict[str, Any]:
        """Return the figures for programs."""

        def of(counts: Counter[tuple[str, str]], segment: str) -> dict[str, int]:
            return {why: count for (name, why), count in sorted(counts.items()) if name == segment}

        return {
            "customers": self.known,
            "segments": {
                name: {"size": self.sizes[name], "entered": of(self.entered, name), "left": of(self.left, name)}
                for name in segments
            },
        }


Looks = dict[int, Look]
"""Looks by their instants: every Monday at midnight, UTC, and the end."""


def segment_sizes(history: History, definitions: Definitions, *, processes: int, progress: Progress) -> Looks:
    """Return who was in which segment over a history."""
    found: Looks = {}
    with Pool(history, [definitions], processes) as pool:
        seen = pool.read(progress)
        for part in pool.decide(_look, history.steps(seen), progress):
            for at, look in part.items():
                found.setdefault(at, Look()).add(look)
    return dict(sorted(found.items()))


def _look(partition: Partition) -> Looks:
    found: Looks = {}
    (program,), reference = partition.programs, partition.job.reference
    for events in read_spool(partition.job.folder, partition.number).values():
        inside: dict[str, str | None] = dict.fromkeys(program.segments, NEW)
        for at, state in _states(program, reference, partition.steps, events):
            look = found.setdefault(at, Look())
            look.known += 1
            inside = _compare(look, inside, CustomerView(program, reference, state, at))
    return found


def _compare(look: Look, before: dict[str, str | None], view: CustomerView) -> dict[str, str | None]:
    """Count one customer; return per segment what keeps them out of it now, None where nothing does."""
    after: dict[str, str | None] = {}
    for name, segment in view.program.segments.items():
        missing = needs(segment.condition.expression, view)
        after[name] = ", ".join(dict.fromkeys(str(need.read or need.text) for need in missing)) if missing else None
        look.sizes[name] += not missing
        was, is_now = before[name], after[name]
        if is_now is None and was is not None:
            look.entered[name, was] += 1
        elif is_now is not None and was is None:
            look.left[name, is_now] += 1
    return after


def _states(
    program: Program, reference: Reference, steps: Steps, events: Iterable[Placed]
) -> Iterator[tuple[int, Customer]]:
    """Yield one customer's state at every look from their first event on."""
    simulation = Simulation(program, reference)
    at = FOREVER
    placed = sorted(events, key=in_order)
    for step, group in groupby(placed, itemgetter(0)):
        time = steps.time(step)
        if at == FOREVER:
            at = time + (_MONDAY - time) % WEEK
        while at < time:
            yield from ((at, state) for state in simulation.customers.values())
            at += WEEK
        simulation.feed(*(event for _, event in group))
        simulation.advance(time)
    for look in [*range(at, steps.until, WEEK), steps.until] if at < FOREVER else []:
        yield from ((look, state) for state in simulation.customers.values())
