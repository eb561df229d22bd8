"""What campaigns were worth, from outcome records: every figure, what it says so far, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.learning.intervals import Interval
from orchestrator.learning.uplift import (
    MONEY,
    NOT_KNOWN,
    OBJECTIVE,
    UNSUBSCRIBED,
    Comparison,
    Outcome,
    Results,
    arms,
    compare,
    course,
    newest_of,
    segments,
)
from orchestrator.report import labels

UNKNOWN = "not enough data yet"

_LARGE = 100_000
"""Minor units of money from which nobody asks for the cents."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Worth:
    """The results by one metric, or each campaign's by its own; the guardrails, the parts, and what was known when.

    `by_arm` has the offers and channels of campaigns that have several, `by_segment` the customers that are told apart,
    `undisturbed` the results without the windows in which others wrote to the customer too.
    """

    metric: str
    net: bool
    currency: str
    results: Results
    margin: Results
    unsubscribed: Results
    by_arm: Results
    by_segment: Results
    undisturbed: Results
    looks: tuple[int, ...] = ()
    known_then: tuple[Results, ...] = ()

    @classmethod
    def fold(cls, outcomes: Iterable[Outcome], metric: str, *, net: bool, currency: str) -> Worth:
        """Return the figures of outcome records; money is `net` of declared costs, or before them."""
        newest = newest_of(outcomes)
        looks = _month_ends([outcome["window_until"] for outcome in newest])
        return cls(
            metric=metric,
            net=net and metric in (*MONEY, OBJECTIVE),
            currency=currency,
            results=compare(newest, metric, net=net),
            margin=compare(newest, "margin", net=net),
            unsubscribed=compare(newest, UNSUBSCRIBED),
            by_arm=_several(compare(newest, metric, net=net, groups=arms)),
            by_segment=compare(newest, metric, net=net, groups=segments),
            undisturbed=compare([one for one in newest if not one["contaminated"]], metric, net=net),
            looks=looks,
            known_then=tuple(course(newest, looks, metric, net=net)),
        )

    @property
    def named(self) -> str:
        """What is compared, in words."""
        what = "what each campaign is judged by" if self.metric == OBJECTIVE else labels.metric(self.metric)
        return f"{what}, money net of cost" if self.net else what

    def said(self, value: float, metric: str = "margin", *, signed: bool = False) -> str:
        """Return a value of a metric as people read it."""
        if metric in MONEY:
            return labels.money(value, self.currency, signed)
        if metric == UNSUBSCRIBED:
            return labels.points(value, signed)
        return f"{value:+,.3f}".replace("-", "−") if signed else f"{value:,.3f}"

    def whole(self, total: Interval | None, metric: str) -> str:
        """Return the interval of a total, large money without cents; nothing where it is not known."""
        if total is None:
            return ""
        if metric in MONEY and max(abs(total.low), abs(total.high)) >= _LARGE:
            low, high = (labels.money(at, self.currency, signed=True, cents=False) for at in (total.low, total.high))
        else:
            low, high = (self.said(at, metric, signed=True) for at in (total.low, total.high))
        return f"{low} to {high}"

    def span(self, found: Interval | None, metric: str = "margin") -> str:
        """Return a difference and its interval, or that it is not known."""
        if found is None:
            return UNKNOWN
        mean, low, high = (self.said(value, metric, signed=True) for value in (found.mean, found.low, found.high))
        return f"{mean} ({low} to {high})"

    def name(self, one: Comparison) -> str:
        """Return the name of a campaign, and what it is judged by where that is not money."""
        return one.campaign if one.metric in MONEY else f"{one.campaign} ({labels.metric(one.metric)})"

    def verdict(self, one: Comparison) -> str:
        """Return in one sentence what the data say about a campaign so far."""
        if one.difference is None:
            return _not_enough(one)
        if one.difference.low > 0:
            return "works"
        if one.difference.high < 0:
            return "does harm"
        if one.more_customers is None:
            return "no difference seen so far"
        if one.more_customers == 0:
            return "no difference of a tenth of the control's mean"
        more = labels.about(one.more_customers)
        return f"{NOT_KNOWN}: about {more} more customers would show a tenth of the control's mean"

    def standing(self, one: Comparison) -> str:
        """Return in a few words how a guardrail stands."""
        if one.standing != NOT_KNOWN:
            return one.standing
        if one.difference is None:
            return _not_enough(one)
        return (
            f"{NOT_KNOWN}: about {labels.about(one.more_customers)} more customers" if one.more_customers else NOT_KNOWN
        )

    def label(self, one: Comparison) -> str:
        """Return what can be said of one group among many: found, or only a hint."""
        if one.difference is None:
            return _not_enough(one)
        found = any(one is other for other in (*self.by_segment.found, *self.by_arm.found))
        if not found:
            more = one.more_customers if one.difference.covers_zero else None
            return f"exploratory: about {labels.about(more)} more customers" if more else "exploratory"
        return "found: works" if one.difference.mean > 0 else "found: does harm"

    def as_dict(self) -> dict[str, Any]:
        """Return everything for programs; amounts are in minor units."""

        def of(one: Comparison) -> dict[str, Any]:
            total = None if one.total is None else asdict(one.total)
            return asdict(one) | {"total": total, "verdict": self.verdict(one)}

        def part(one: Comparison) -> dict[str, Any]:
            return of(one) | {"verdict": self.label(one)}

        def guard(results: Results) -> dict[str, Any]:
            return {
                one.campaign: {"difference": one.difference and asdict(one.difference), "verdict": self.standing(one)}
                for one in results.campaigns
            }

        together = self.results.together
        return {
            "metric": self.metric,
            "net_of_cost": self.net,
            "currency": self.currency,
            "campaigns": [of(one) for one in self.results.campaigns],
            "offers_and_channels": [part(one) for one in self.by_arm.campaigns],
            "segments": [part(one) for one in self.by_segment.campaigns],
            "together_per_window": None if together is None else asdict(together),
            "void": self.results.void,
            "interrupted": self.results.interrupted,
            "contaminated": self.results.contaminated,
            "without_contaminated": {
                one.campaign: one.difference and asdict(one.difference) for one in self.undisturbed.campaigns
            },
            "guardrails": {"margin": guard(self.margin), "unsubscribe": guard(self.unsubscribed)},
            "over_time": [
                {
                    "until": look,
                    "campaigns": {one.campaign: one.difference and asdict(one.difference) for one in then.campaigns},
                }
                for look, then in zip(self.looks, self.known_then, strict=True)
            ],
        }


def return_on_cost(one: Comparison) -> str:
    """Return the uplift in money per unit of cost; nothing where nothing is known or spent, or no money is measured."""
    if one.total is None or not one.cost or one.metric not in MONEY:
        return "–"
    ends = [one.total.low / one.cost, one.total.high / one.cost]
    return " to ".join(f"{end:+,.{1 if abs(end) < 100 else 0}f}" for end in ends).replace("-", "−")


def _not_enough(one: Comparison) -> str:
    if one.more_customers is None:
        return f"{UNKNOWN}: at least 50 treated and 30 control customers are needed"
    return f"{UNKNOWN}: about {labels.about(one.more_customers)} more customers"


def _several(results: Results) -> Results:
    """Return the results without campaigns that have one group only."""
    names = [one.campaign for one in results.campaigns]
    kept = tuple(one for one in results.campaigns if names.count(one.campaign) > 1)
    return Results(kept, None, results.void, results.contaminated, results.interrupted)


def _month_ends(ends: list[int]) -> tuple[int, ...]:
    """Return the first instant of every month after the first window's end, and the last end."""
    if not ends:
        return ()
    first, last = min(ends), max(ends)
    month = (_EPOCH + timedelta(milliseconds=first)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    looks = []
    while (at := (month - _EPOCH) // timedelta(milliseconds=1)) < last:
        looks += [at] * (at >= first)
        month = (month + timedelta(days=32)).replace(day=1)
    return (*looks, last)
