"""When time advances in a back-test: barriers that follow from the records' own times, or those that a worker used."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.events import FOREVER, HOUR
from orchestrator.runtime.barriers import Barrier

BARRIER_EVERY = HOUR
"""Below what a marketer's rules can tell apart, and above what would cost anything."""


class Steps(Protocol):
    """The barriers of one partition, numbered."""

    @property
    def until(self) -> int:
        """The instant of the last one."""

    def time(self, step: int) -> int:
        """Return the instant of a step's barrier."""

    def before(self, step: int) -> int:
        """Return the instant of the barrier before it, -FOREVER when there was none."""

    def at(self, instant: int) -> int:
        """Return the instant of the first barrier that is not before an instant."""


@dataclass(frozen=True, slots=True)
class EvenSteps:
    """A barrier at every multiple of `every`, from the first record's on, and a last one at `until`.

    A record is in the step up to the first barrier at or after its arrival: its column `arrived_at` where the history
    has one, else its event time. So the barriers depend on the records alone.
    """

    every: int
    first: int = 0
    until: int = FOREVER

    def step_of(self, arrival: int) -> int:
        """Return the step that a record belongs to."""
        return -(-arrival // self.every)

    def time(self, step: int) -> int:
        """Return the instant of a step's barrier."""
        return min(step * self.every, self.until)

    def before(self, step: int) -> int:
        """Return the instant of the barrier before it, -FOREVER when there was none."""
        return -FOREVER if step <= self.first else (step - 1) * self.every

    def at(self, instant: int) -> int:
        """Return the instant of the first barrier that is not before an instant."""
        return self.time(max(self.first, self.step_of(instant)))


@dataclass(frozen=True, slots=True)
class RecordedSteps:
    """The barriers of one partition as the clock topic has them: a record is in the first whose ends come after it."""

    barriers: Sequence[Barrier]

    @property
    def until(self) -> int:
        """The instant of the last one."""
        return self.barriers[-1].time if self.barriers else -FOREVER

    def step_of(self, topic: str, offset: int) -> int:
        """Return the step that a record belongs to; beyond the last when no barrier says that it was read."""
        return bisect_right(self.barriers, offset, key=lambda barrier: barrier.ends.get(topic, 0))

    def time(self, step: int) -> int:
        """Return the instant of a step's barrier."""
        return self.barriers[step].time

    def before(self, step: int) -> int:
        """Return the instant of the barrier before it, -FOREVER when there was none."""
        return self.barriers[step - 1].time if step else -FOREVER

    def at(self, instant: int) -> int:
        """Return the instant of the first barrier that is not before an instant."""
        step = bisect_left(self.barriers, instant, key=lambda barrier: barrier.time)
        return self.barriers[step].time if step < len(self.barriers) else self.until
