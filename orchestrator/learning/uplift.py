"""What a campaign was worth: treatment against randomised control, with intervals that stay right at every look.

Never the difference between those who were written to and those who were not: that compares customers, not campaigns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from orchestrator.learning.intervals import Interval, interval, more_customers, standard_error

Outcome = Mapping[str, Any]

METRICS = ("margin", "revenue", "orders", "unsubscribed")
"""What can be compared; the first two are in minor units, the last is a guardrail."""

ENOUGH = {"treatment": 50, "control": 30}
"""Customers per arm from which the normal approximation is used; below, there is not enough data yet."""

WORTH_KNOWING = 0.1
"""The difference that one wants to be able to see, as a share of the control's mean, when asked how many it takes."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a comparison; the interval is None while there is not enough data."""

    windows: int
    customers: int
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One campaign: both arms and their difference per window, None while there is not enough data.

    `own_history` is the share of the difference's variance that the customers' own history took away; `cost` what its
    messages and offers were declared to cost, minor units; `more_customers` about how many more it takes to see a
    difference of a tenth of the control's mean, None where that cannot be told yet.
    """

    campaign: str
    treatment: Arm
    control: Arm
    difference: Interval | None
    own_history: float = 0.0
    cost: int = 0
    more_customers: int | None = None

    @property
    def total(self) -> Interval | None:
        """Return what the campaign brought in all its treated windows."""
        return None if self.difference is None else self.difference.times(self.treatment.windows)


@dataclass(frozen=True, slots=True)
class Results:
    """Every campaign, all of them together per treated window, and what was left out or marked."""

    campaigns: tuple[Comparison, ...]
    together: Interval | None
    void: int
    contaminated: int

    @property
    def covering(self) -> tuple[int, int]:
        """Return how many of how many campaigns' intervals cover 0."""
        found = [one.difference for one in self.campaigns if one.difference is not None]
        return sum(one.covers_zero for one in found), len(found)


def newest_of(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the newest revision of each outcome, in the order first met."""
    newest: dict[str, Outcome] = {}
    for outcome in outcomes:
        known = newest.get(outcome["outcome_id"])
        if known is None or outcome["revision"] >= known["revision"]:
            newest[outcome["outcome_id"]] = outcome
    return list(newest.values())


def compare(outcomes: Iterable[Outcome], metric: str = "margin", *, net: bool = False) -> Results:
    """Return the results of outcome records, the newest revision of each, without those taken back.

    `net` takes off what messages and offers were declared to cost; in a replay nobody was sent anything, so there
    nothing was spent.
    """
    newest = newest_of(outcomes)
    kept = [outcome for outcome in newest if not outcome["void"]]
    samples: defaultdict[str, dict[str, _Sample]] = defaultdict(lambda: {"treatment": _Sample(), "control": _Sample()})
    costs: defaultdict[str, int] = defaultdict(int)
    for outcome in kept:
        gained = int(outcome[metric]) - (outcome["cost"] if net else 0)
        before = outcome.get("earned_before") or 0
        samples[outcome["campaign"]][outcome["arm"]].add(outcome["customer_id"], gained, before)
        costs[outcome["campaign"]] += outcome["cost"]

    pairs = {campaign: _Pair(arms["treatment"], arms["control"]) for campaign, arms in sorted(samples.items())}
    return Results(
        campaigns=tuple(pair.comparison(campaign, costs[campaign]) for campaign, pair in pairs.items()),
        together=_together([pair for pair in pairs.values() if pair.enough]),
        void=len(newest) - len(kept),
        contaminated=sum(outcome["contaminated"] for outcome in kept),
    )


def course(
    outcomes: Iterable[Outcome], looks: Iterable[int], metric: str = "margin", *, net: bool = False
) -> list[Results]:
    """Return what was known at each of the looks, from the windows that had ended by then as we know them today."""
    newest = newest_of(outcomes)
    return [compare([one for one in newest if one["window_until"] <= look], metric, net=net) for look in looks]


class _Sample:
    """Windows in one arm: per customer their number, what was gained in them and what had been earned before them."""

    def __init__(self) -> None:
        self.windows = 0
        self.gained = 0
        self.before = 0
        self.by_customer: dict[str, tuple[int, int, int]] = {}

    def add(self, customer: str, gained: int, before: int) -> None:
        self.windows += 1
        self.gained += gained
        self.before += before
        count, total, history = self.by_customer.get(customer, (0, 0, 0))
        self.by_customer[customer] = count + 1, total + gained, history + before

    def mean(self, slope: float = 0.0) -> float:
        return (self.gained - slope * self.before) / self.windows

    def influences(self, slope: float = 0.0) -> dict[str, float]:
        """Return how far each customer moves the mean: a ratio of sums over customers, whose windows are alike."""
        mean, few = self.mean(slope), len(self.by_customer)
        correction = sqrt(few / (few - 1))
        return {
            customer: correction * (total - slope * before - mean * count) / self.windows
            for customer, (count, total, before) in self.by_customer.items()
        }

    def slope_sums(self) -> tuple[float, float]:
        """Return what the arm adds to the slope's numerator and denominator."""
        gained, before = self.gained / self.windows, self.before / self.windows
        across = square = 0.0
        for count, total, history in self.by_customer.values():
            moved = (history - before * count) / self.windows
            across += moved * (total - gained * count) / self.windows
            square += moved * moved
        return across, square

    def arm(self, least: int) -> Arm:
        enough = len(self.by_customer) >= least
        return Arm(self.windows, len(self.by_customer), interval(self.mean(), self.influences()) if enough else None)


class _Pair:
    """A campaign's two arms and their contrast, adjusted for what the customers had earned before (CUPED).

    Deng, Xu, Kohavi and Walker, "Improving the sensitivity of online controlled experiments by utilizing
    pre-experiment data" (2013): y - slope (x - mean x), with the slope that leaves the least variance. A randomised
    control has the same x on average, so the difference stays unbiased; only its noise gets less.
    """

    def __init__(self, treatment: _Sample, control: _Sample) -> None:
        self.treatment = treatment
        self.control = control
        self.enough = (
            len(treatment.by_customer) >= ENOUGH["treatment"] and len(control.by_customer) >= ENOUGH["control"]
        )
        if self.enough:
            across, square = map(sum, zip(treatment.slope_sums(), control.slope_sums(), strict=True))
            self.slope = across / square if square else 0.0
            self.difference = treatment.mean(self.slope) - control.mean(self.slope)
            self.influences = self._contrast(self.slope)

    def _contrast(self, slope: float) -> dict[str, float]:
        """Return how far each customer moves the difference: with the windows in both arms added up."""
        influences = self.treatment.influences(slope)
        for customer, influence in self.control.influences(slope).items():
            influences[customer] = influences.get(customer, 0.0) - influence
        return influences

    def comparison(self, campaign: str, cost: int) -> Comparison:
        arms = self.treatment.arm(ENOUGH["treatment"]), self.control.arm(ENOUGH["control"])
        if not self.enough:
            return Comparison(campaign, *arms, difference=None, cost=cost)
        raw = standard_error(self._contrast(0.0)) if self.slope else 0.0
        worth = WORTH_KNOWING * abs(self.control.mean())
        return Comparison(
            campaign,
            *arms,
            difference=interval(self.difference, self.influences),
            own_history=max(0.0, 1 - (standard_error(self.influences) / raw) ** 2) if raw else 0.0,
            cost=cost,
            more_customers=more_customers(self.influences, worth) if worth else None,
        )


def _together(pairs: list[_Pair]) -> Interval | None:
    """Return the difference over all campaigns, each weighted by its treated windows.

    Pooling the windows instead would compare campaigns with each other, for their control groups differ in size.
    """
    if not pairs:
        return None
    treated = sum(pair.treatment.windows for pair in pairs)
    mean = 0.0
    influences: defaultdict[str, float] = defaultdict(float)
    for pair in pairs:
        weight = pair.treatment.windows / treated
        mean += weight * pair.difference
        for customer, influence in pair.influences.items():
            influences[customer] += weight * influence

    return interval(mean, influences)
