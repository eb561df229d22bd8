"""What a worker has done, in plain numbers: the hot path adds integers, and only a scrape turns them into metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


class Histogram:
    """Counts of values by bucket, and their sum."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Take the upper bounds of the buckets, ascending; one without a bound comes after them."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self._counts)

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Yield every bucket as Prometheus wants it: its bound, and how many values are not above that."""
        so_far = 0
        for bound, count in zip((*map(repr, self._bounds), "+Inf"), list(self._counts), strict=True):
            so_far += count
            yield bound, so_far


def _step_records() -> Histogram:
    return Histogram((0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0))


def _timer_lateness() -> Histogram:
    return Histogram((0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0))


def _commit_seconds() -> Histogram:
    return Histogram((0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0))


@dataclass(slots=True)
class Tally:
    """What all partitions of one worker have done since its start; partitions come and go, these counts stay."""

    events: int = 0
    irrelevant: int = 0
    duplicates: int = 0
    erased_events: int = 0
    late: dict[tuple[str, str], int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    decisions: dict[str, int] = field(default_factory=dict)
    triggers: dict[str, int] = field(default_factory=dict)
    moment_ends: dict[tuple[str, str], int] = field(default_factory=dict)
    outcomes: int = 0
    steps: int = 0
    loads: int = 0
    hits: int = 0
    strangers: int = 0
    step_records: Histogram = field(default_factory=_step_records)
    timer_lateness: Histogram = field(default_factory=_timer_lateness)
    commit_seconds: Histogram = field(default_factory=_commit_seconds)
    counted_at: float = 0.0
    """When some partition last counted stored customers, on the monotonic clock: they take turns."""

    @property
    def moments(self) -> dict[str, int]:
        """Moments that ended, by name."""
        found: dict[str, int] = {}
        for (moment, _), count in list(self.moment_ends.items()):
            found[moment] = found.get(moment, 0) + count
        return found
