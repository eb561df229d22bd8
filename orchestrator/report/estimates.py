"""What a campaign was worth: treatment against control, with honest intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

Z = 1.96
"""Half the width of a 95 % interval, in standard errors."""

ENOUGH = 30
"""Customers per arm from which the normal approximation is used; below, there is not enough data yet."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def covers_zero(self) -> bool:
        """Return whether no effect at all is compatible with the data."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a comparison; the interval is None while there is not enough data."""

    windows: int
    customers: int
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One campaign: both arms and their difference, None while there is not enough data."""

    campaign: str
    treatment: Arm
    control: Arm
    difference: Interval | None


@dataclass(frozen=True, slots=True)
class Results:
    """Every campaign, all of them together, and what was left out or marked."""

    campaigns: tuple[Comparison, ...]
    together: Interval | None
    void: int
    contaminated: int

    @property
    def covering(self) -> tuple[int, int]:
        """Return how many of how many campaigns' intervals cover 0."""
        found = [one.difference for one in self.campaigns if one.difference is not None]
        return sum(interval.covers_zero for interval in found), len(found)


def compare(outcomes: Iterable[Mapping[str, Any]]) -> Results:
    """Return the results of outcome records, the newest revision of each, without those taken back.

    A customer's windows resemble each other and may lie in both arms, so the unit of chance is the customer: standard
    errors are those of a ratio of sums over customers, and a difference adds up each customer's part in both arms.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    for outcome in outcomes:
        known = newest.get(outcome["outcome_id"])
        if known is None or outcome["revision"] >= known["revision"]:
            newest[outcome["outcome_id"]] = outcome
    kept = [outcome for outcome in newest.values() if not outcome["void"]]
    samples: defaultdict[str, dict[str, _Sample]] = defaultdict(lambda: {"treatment": _Sample(), "control": _Sample()})
    for outcome in kept:
        # Before the declared cost of sends and offers: in a replay nobody was sent anything, so nothing was spent.
        samples[outcome["campaign"]][outcome["arm"]].add(outcome["customer_id"], outcome["margin"])

    return Results(
        campaigns=tuple(_comparison(campaign, arms) for campaign, arms in sorted(samples.items())),
        together=_together([arms for _, arms in sorted(samples.items())]),
        void=len(newest) - len(kept),
        contaminated=sum(outcome["contaminated"] for outcome in kept),
    )


class _Sample:
    """Windows and their sum per customer, in one arm."""

    def __init__(self) -> None:
        self.windows = 0
        self.total = 0
        self.by_customer: dict[str, tuple[int, int]] = {}

    def add(self, customer: str, margin: int) -> None:
        self.windows += 1
        self.total += margin
        count, total = self.by_customer.get(customer, (0, 0))
        self.by_customer[customer] = count + 1, total + margin

    @property
    def enough(self) -> bool:
        return len(self.by_customer) >= ENOUGH

    @property
    def mean(self) -> float:
        return self.total / self.windows

    def influences(self) -> dict[str, float]:
        """Return how far each customer moves the mean."""
        mean, few = self.mean, len(self.by_customer)
        correction = sqrt(few / (few - 1))
        return {
            customer: correction * (total - mean * count) / self.windows
            for customer, (count, total) in self.by_customer.items()
        }

    def arm(self) -> Arm:
        interval = _interval(self.mean, self.influences()) if self.enough else None
        return Arm(self.windows, len(self.by_customer), interval)


def _comparison(campaign: str, arms: Mapping[str, _Sample]) -> Comparison:
    treatment, control = arms["treatment"], arms["control"]
    difference = None
    if treatment.enough and control.enough:
        difference = _interval(treatment.mean - control.mean, _contrast(treatment, control))

    return Comparison(campaign, treatment.arm(), control.arm(), difference)


def _together(campaigns: Iterable[Mapping[str, _Sample]]) -> Interval | None:
    """Return the difference over all campaigns, each weighted by its treated windows.

    Pooling the windows instead would compare campaigns with each other, for their control groups differ in size.
    """
    usable = [
        (one["treatment"], one["control"]) for one in campaigns if one["treatment"].enough and one["control"].enough
    ]
    if not usable:
        return None
    treated = sum(treatment.windows for treatment, _ in usable)
    mean = 0.0
    influences: defaultdict[str, float] = defaultdict(float)
    for treatment, control in usable:
        weight = treatment.windows / treated
        mean += weight * (treatment.mean - control.mean)
        for customer, influence in _contrast(treatment, control).items():
            influences[customer] += weight * influence

    return _interval(mean, influences)


def _contrast(treatment: _Sample, control: _Sample) -> dict[str, float]:
    influences = treatment.influences()
    for customer, influence in control.influences().items():
        influences[customer] = influences.get(customer, 0.0) - influence
    return influences


def _interval(mean: float, influences: Mapping[str, float]) -> Interval:
    error = sqrt(sum(influence * influence for influence in influences.values()))
    return Interval(mean, mean - Z * error, mean + Z * error)
