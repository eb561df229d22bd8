"""What a campaign was worth: treatment against randomised control, with intervals that stay right at every look.

Never the difference between those who were written to and those who were not: that compares customers, not campaigns.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

from orchestrator.learning.intervals import Interval, discoveries, evidence, interval, more_customers, standard_error

Outcome = Mapping[str, Any]

OBJECTIVE = "objective"
"""Each campaign by what it names itself."""

UNSUBSCRIBED = "unsubscribed"
"""The guardrail that is always looked at; a campaign's margin is the other."""

MONEY = ("margin", "revenue")
"""What is in minor units."""

_SHARES = ("conversions", "retention", UNSUBSCRIBED)
"""What is 1 or 0 in a window."""

_MEASURED: Mapping[str, Callable[[Outcome], int]] = {
    "margin": lambda outcome: int(outcome["margin"]),
    "revenue": lambda outcome: int(outcome["revenue"]),
    "orders": lambda outcome: int(outcome["orders"]),
    "conversions": lambda outcome: int(outcome["orders"] > 0),
    "new_category": lambda outcome: int(outcome.get("new_categories") or 0),
    "retention": lambda outcome: int(outcome.get("retained") or False),
    UNSUBSCRIBED: lambda outcome: int(outcome[UNSUBSCRIBED]),
}

METRICS = tuple(_MEASURED)
"""What can be compared."""

ENOUGH = {"treatment": 50, "control": 30}
"""Customers per arm from which the normal approximation is used; below, there is not enough data yet."""

_FEW = 5
"""Windows in either arm below which their numbers say nothing of the share."""

WORTH_KNOWING = 0.1
"""The difference that one wants to be able to see, as a share of the control's mean, when asked how many it takes."""

TOLERATED = 0.005
"""The same for unsubscriptions, whose mean is near 0: half a percentage point of the customers."""

WORSE, NOT_WORSE, NOT_KNOWN = "worse", "not worse", "not known yet"
"""What can be said of a guardrail."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a comparison; the interval is None while there is not enough data."""

    windows: int
    customers: int
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One campaign, or a group of its windows: both arms and their difference per window, None before it is known.

    `own_history` is the share of the difference's variance that the customers' own history took away; `cost` what its
    messages and offers were declared to cost, minor units; `worth_knowing` the difference one wants to see, and
    `more_customers` about how many more it takes for that, or for any answer, None where that cannot be told yet.
    `evidence` is the e-value against no difference at all, `ratio` the treated mean in control means, where that is
    money and not 0.
    """

    campaign: str
    treatment: Arm
    control: Arm
    difference: Interval | None
    own_history: float = 0.0
    cost: int = 0
    more_customers: int | None = None
    group: str = ""
    metric: str = "margin"
    worth_knowing: float = 0.0
    evidence: float = 1.0
    ratio: Interval | None = None

    @property
    def total(self) -> Interval | None:
        """Return what the campaign brought in all its treated windows."""
        return None if self.difference is None else self.difference.times(self.treatment.windows)

    @property
    def standing(self) -> str:
        """Return whether a guardrail is worse in treatment, not worse by more than is tolerated, or not known yet."""
        if self.difference is None:
            return NOT_KNOWN
        bad = -1 if self.metric == UNSUBSCRIBED else 1
        ends = sorted((bad * self.difference.low, bad * self.difference.high))
        if ends[1] < 0:
            return WORSE
        return NOT_WORSE if ends[0] > -self.worth_knowing else NOT_KNOWN


@dataclass(frozen=True, slots=True)
class Results:
    """Every campaign, all of them together per treated window, and what was left out or marked.

    `together` is None where campaigns are measured in different units.
    """

    campaigns: tuple[Comparison, ...]
    together: Interval | None
    void: int
    contaminated: int
    interrupted: int = 0

    @property
    def covering(self) -> tuple[int, int]:
        """Return how many of how many campaigns' intervals cover 0."""
        found = [one.difference for one in self.campaigns if one.difference is not None]
        return sum(one.covers_zero for one in found), len(found)

    @property
    def found(self) -> tuple[Comparison, ...]:
        """Return those whose difference is no accident of having looked at so many: one in ten at most is false."""
        named = [one for one in self.campaigns if one.difference is not None]
        return tuple(one for one, real in zip(named, discoveries([one.evidence for one in named]), strict=True) if real)


Groups = Callable[[Outcome], Iterable[str]]
"""Returns the groups of a campaign's windows that one belongs to."""


def whole(outcome: Outcome) -> tuple[str]:  # noqa: ARG001 (one of several ways to group)
    """Return the one group that a whole campaign is."""
    return ("",)


def arms(outcome: Outcome) -> tuple[str]:
    """Return the offer and the channel of a window."""
    offer, channel = outcome.get("offer") or "no offer", outcome.get("channel") or ""
    return (f"{offer} by {channel}" if channel else offer,)


def segments(outcome: Outcome) -> tuple[str, ...]:
    """Return the segments of a customer at the decision: each value that tells customers apart, and all together."""
    leaf = outcome.get("leaf") or ""
    parts = tuple(part for part in leaf.split(";") if part)
    return (*parts, leaf.replace(";", ", ")) if len(parts) > 1 else parts


def newest_of(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the newest revision of each outcome, in the order of their ids."""
    newest: dict[str, Outcome] = {}
    for outcome in outcomes:
        known = newest.get(outcome["outcome_id"])
        if known is None or outcome["revision"] >= known["revision"]:
            newest[outcome["outcome_id"]] = outcome
    return [newest[outcome_id] for outcome_id in sorted(newest)]


def measured(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return those of the newest revisions that count: neither taken back nor cut short by another campaign."""
    return [outcome for outcome in outcomes if not outcome["void"] and not outcome.get("interrupted")]


def compare(
    outcomes: Iterable[Outcome], metric: str = "margin", *, net: bool = False, groups: Groups = whole
) -> Results:
    """Return the results of outcome records, the newest revision of each, of all that count.

    `net` takes off what messages and offers were declared to cost; in a replay nobody was sent anything, so there
    nothing was spent.
    """
    newest = newest_of(outcomes)
    kept = measured(newest)
    by_campaign: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in kept:
        by_campaign[outcome["campaign"]].append(outcome)

    pairs: list[_Pair] = []
    for campaign, windows in sorted(by_campaign.items()):
        chosen = objective_of(windows) if metric == OBJECTIVE else metric
        pairs += _pairs(campaign, windows, chosen, net and chosen in MONEY, groups)
    alike = len({pair.metric for pair in pairs}) == 1 and groups is whole
    return Results(
        campaigns=tuple(pair.comparison() for pair in pairs),
        together=_together([pair for pair in pairs if pair.enough]) if alike else None,
        void=sum(bool(outcome["void"]) for outcome in newest),
        contaminated=sum(bool(outcome["contaminated"]) for outcome in kept),
        interrupted=sum(not outcome["void"] and bool(outcome.get("interrupted")) for outcome in newest),
    )


def objective_of(windows: Sequence[Outcome]) -> str:
    """Return what a campaign is judged by: what the last of its windows says."""
    last = max(windows, key=lambda outcome: (outcome.get("window_from") or 0, outcome["outcome_id"]))
    objective = last.get("objective") or "margin"
    return objective if objective in _MEASURED else "margin"


def course(
    outcomes: Iterable[Outcome], looks: Iterable[int], metric: str = "margin", *, net: bool = False
) -> list[Results]:
    """Return what was known at each of the looks, from the windows that had ended by then as we know them today."""
    newest = newest_of(outcomes)
    return [compare([one for one in newest if one["window_until"] <= look], metric, net=net) for look in looks]


def _pairs(campaign: str, windows: Sequence[Outcome], metric: str, net: bool, groups: Groups) -> list[_Pair]:
    """Return the groups of one campaign's windows.

    The share that gets nothing shrinks as more is known, and differs between groups of customers. A window in control
    stands for as many treated ones as there were to each like it: (1 - share) / share. Pooled as they are, control
    would be of earlier weeks and of other customers than treatment, and the season would count as uplift.
    """
    value, pairs = _MEASURED[metric], dict[str, _Pair]()
    odds = _odds([outcome for outcome in windows if not outcome.get("control_bp")])
    for outcome in windows:
        share = outcome.get("control_bp") or 0
        weight = 1.0
        if outcome["arm"] == "control":
            weight = (10_000 - share) / share if share else odds[_version(outcome)]
        gained = value(outcome) - (outcome["cost"] if net else 0)
        before = outcome.get("earned_before") or 0
        for group in groups(outcome):
            pair = pairs.get(group)
            if pair is None:
                pair = pairs[group] = _Pair(campaign, group, metric)
            side = pair.control if outcome["arm"] == "control" else pair.treatment
            side.add(outcome["customer_id"], weight, gained, before)
            pair.cost += outcome["cost"]
    for pair in pairs.values():
        pair.settle()
    return [pairs[group] for group in sorted(pairs)]


def _odds(windows: Iterable[Outcome]) -> dict[str, float]:
    """Return how many treated windows there were to each in control, by version of the definitions.

    Nobody wrote the share down, but within a version it is one. Versions with hardly any windows have that of a
    neighbour.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for outcome in sorted(windows, key=lambda one: (one.get("window_from") or 0, one["outcome_id"])):
        counts[_version(outcome)][outcome["arm"]] += 1
    spans: list[tuple[list[str], Counter[str]]] = []
    for place, (version, arms) in enumerate(counts.items(), 1):
        last = place == len(counts) and min(arms["treatment"], arms["control"]) < _FEW
        if spans and (last or min(spans[-1][1]["treatment"], spans[-1][1]["control"]) < _FEW):
            spans[-1][0].append(version)
            spans[-1][1].update(arms)
        else:
            spans.append(([version], arms))
    return {name: (arms["treatment"] or 1) / (arms["control"] or 1) for names, arms in spans for name in names}


def _version(outcome: Outcome) -> str:
    return outcome.get("definitions_version") or ""


class Unit(NamedTuple):
    """One customer for some time: the group they were drawn for, what they earned net of `cost`, and before it."""

    customer: str
    arm: str
    gained: int
    before: int
    cost: int = 0


def contrast(name: str, units: Iterable[Unit]) -> Comparison:
    """Return the comparison of two groups of customers drawn by hash, as sure at every look as that of a campaign."""
    pair = _Pair(name, "", "margin")
    for unit in units:
        side = pair.control if unit.arm == "control" else pair.treatment
        side.add(unit.customer, 1.0, unit.gained, unit.before)
        pair.cost += unit.cost
    pair.settle()
    return pair.comparison()


class _Sample:
    """Windows in one arm: per customer their weight, what was gained in them and what had been earned before them."""

    def __init__(self) -> None:
        self.windows = 0
        self.weight = 0.0
        self.gained = 0.0
        self.before = 0.0
        self.by_customer: dict[str, tuple[float, float, float]] = {}
        self._influences: dict[float, dict[str, float]] = {}

    def add(self, customer: str, weight: float, gained: int, before: int) -> None:
        self.windows += 1
        self.weight += weight
        self.gained += weight * gained
        self.before += weight * before
        known, total, history = self.by_customer.get(customer, (0.0, 0.0, 0.0))
        self.by_customer[customer] = known + weight, total + weight * gained, history + weight * before

    def mean(self, slope: float = 0.0) -> float:
        return (self.gained - slope * self.before) / self.weight

    def influences(self, slope: float = 0.0) -> dict[str, float]:
        """Return how far each customer moves the mean: a ratio of sums over customers, whose windows are alike.

        Asked for several times once all windows are there, and worked out once.
        """
        known = self._influences.get(slope)
        if known is None:
            mean, few = self.mean(slope), len(self.by_customer)
            correction = sqrt(few / (few - 1)) / self.weight
            known = self._influences[slope] = {
                customer: correction * (total - slope * before - mean * weight)
                for customer, (weight, total, before) in self.by_customer.items()
            }
        return known

    def slope_sums(self) -> tuple[float, float]:
        """Return what the arm adds to the slope's numerator and denominator."""
        gained, before = self.gained / self.weight, self.before / self.weight
        across = square = 0.0
        for weight, total, history in self.by_customer.values():
            moved = (history - before * weight) / self.weight
            across += moved * (total - gained * weight) / self.weight
            square += moved * moved
        return across, square

    def rare(self) -> float:
        """Return the least variance that a share may be said to have: none of few is not none of all (Laplace)."""
        customers = len(self.by_customer)
        chance = (sum(total > 0 for _, total, _ in self.by_customer.values()) + 1) / (customers + 2)
        return chance * (1 - chance) / customers

    def arm(self, least: int) -> Arm:
        enough = len(self.by_customer) >= least and self.weight > 0
        return Arm(self.windows, len(self.by_customer), interval(self.mean(), self.influences()) if enough else None)


class _Pair:
    """Windows of a campaign in both arms and their contrast, adjusted for what the customers had earned before (CUPED).

    Deng, Xu, Kohavi and Walker, "Improving the sensitivity of online controlled experiments by utilizing
    pre-experiment data" (2013): y - slope (x - mean x), with the slope that leaves the least variance. A randomised
    control has the same x on average, so the difference stays unbiased; only its noise gets less.
    """

    def __init__(self, campaign: str, group: str, metric: str) -> None:
        self.campaign = campaign
        self.group = group
        self.metric = metric
        self.treatment = _Sample()
        self.control = _Sample()
        self.cost = 0
        self.enough = False
        self.slope = self.difference = self.least = 0.0
        self.influences: dict[str, float] = {}

    def settle(self) -> None:
        """Compare the arms, once all windows are there."""
        treatment, control = self.treatment, self.control
        self.enough = (
            len(treatment.by_customer) >= ENOUGH["treatment"]
            and len(control.by_customer) >= ENOUGH["control"]
            and control.weight > 0
        )
        if self.enough:
            across, square = map(sum, zip(treatment.slope_sums(), control.slope_sums(), strict=True))
            self.slope = across / square if square else 0.0
            self.difference = treatment.mean(self.slope) - control.mean(self.slope)
            self.influences = self._contrast(self.slope)
            self.least = sqrt(treatment.rare() + control.rare()) if self.metric in _SHARES else 0.0

    def _contrast(self, slope: float) -> dict[str, float]:
        """Return how far each customer moves the difference: with the windows in both arms added up."""
        return _minus(self.treatment.influences(slope), self.control.influences(slope))

    def _ratio(self) -> Interval | None:
        """Return the treated mean in control means, both as if all had earned the same before."""
        treatment, control, slope = self.treatment, self.control, self.slope
        usual = slope * (treatment.before + control.before) / (treatment.weight + control.weight)
        base = control.mean(slope) + usual
        if self.metric not in MONEY or base <= 0:
            return None
        ratio = (treatment.mean(slope) + usual) / base
        influences = _minus(treatment.influences(slope), control.influences(slope), ratio)
        return interval(ratio, {customer: influence / base for customer, influence in influences.items()})

    def comparison(self) -> Comparison:
        arms = self.treatment.arm(ENOUGH["treatment"]), self.control.arm(ENOUGH["control"])
        if not self.enough:
            return Comparison(
                self.campaign,
                *arms,
                difference=None,
                cost=self.cost,
                more_customers=_until_enough(*arms),
                group=self.group,
                metric=self.metric,
            )
        raw = standard_error(self._contrast(0.0)) if self.slope else 0.0
        worth = TOLERATED if self.metric == UNSUBSCRIBED else WORTH_KNOWING * abs(self.control.mean())
        return Comparison(
            self.campaign,
            *arms,
            difference=interval(self.difference, self.influences, self.least),
            own_history=max(0.0, 1 - (standard_error(self.influences) / raw) ** 2) if raw else 0.0,
            cost=self.cost,
            more_customers=more_customers(self.influences, worth, self.least) if worth else None,
            group=self.group,
            metric=self.metric,
            worth_knowing=worth,
            evidence=evidence(self.difference, self.influences, self.least),
            ratio=self._ratio(),
        )


def _minus(ones: Mapping[str, float], others: Mapping[str, float], times: float = 1.0) -> dict[str, float]:
    """Return the first influences less the others, customer by customer."""
    found = dict(ones)
    for customer, influence in others.items():
        found[customer] = found.get(customer, 0.0) - times * influence
    return found


def _until_enough(treatment: Arm, control: Arm) -> int | None:
    """Return about how many more customers it takes for any answer, None where an arm has nobody yet."""
    known = treatment.customers + control.customers
    if not treatment.customers or not control.customers:
        return None
    lacking = (
        (arm.customers, ENOUGH[name] - arm.customers) for name, arm in (("treatment", treatment), ("control", control))
    )
    return max(1, *(-(-known * missing // here) for here, missing in lacking))


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
