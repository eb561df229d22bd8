"""What campaigns were worth, from outcome records: the figures, as a page, as tables for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from rich import box
from rich.table import Table

from orchestrator.learning.intervals import Interval
from orchestrator.learning.uplift import Comparison, Outcome, Results, compare, course, newest_of
from orchestrator.report import charts, labels, page

MONEY = ("margin", "revenue")
UNKNOWN = "not enough data yet"

GUARD = "unsubscribed"
"""The guardrail that is always looked at, whatever the metric."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Worth:
    """The results by one metric, their guardrail, and what was known at the end of each month."""

    metric: str
    net: bool
    currency: str
    results: Results
    guard: Results
    looks: tuple[int, ...] = ()
    known_then: tuple[Results, ...] = ()

    @classmethod
    def fold(cls, outcomes: Iterable[Outcome], metric: str, *, net: bool, currency: str) -> Worth:
        """Return the figures of outcome records; money is `net` of declared costs, or before them."""
        newest = newest_of(outcomes)
        net = net and metric in MONEY
        looks = _month_ends([outcome["window_until"] for outcome in newest])
        return cls(
            metric=metric,
            net=net,
            currency=currency,
            results=compare(newest, metric, net=net),
            guard=compare(newest, GUARD),
            looks=looks,
            known_then=tuple(course(newest, looks, metric, net=net)),
        )

    def said(self, value: float, *, signed: bool = False) -> str:
        """Return a value of the metric as people read it."""
        if self.metric in MONEY:
            return labels.money(value, self.currency, signed)
        return f"{value:+,.3f}".replace("-", "−") if signed else f"{value:,.3f}"

    def verdict(self, one: Comparison) -> str:
        """Return in one sentence what the data say about a campaign so far."""
        if one.difference is None:
            return f"{UNKNOWN}: at least 50 treated and 30 control customers are needed"
        if one.difference.low > 0:
            return "works"
        if one.difference.high < 0:
            return "does harm"
        if one.more_customers is None:
            return "no difference seen so far"
        if one.more_customers == 0:
            return "no difference of a tenth of the control's mean"
        return f"not known yet: about {one.more_customers:,} more customers would show a tenth of the control's mean"

    def as_dict(self) -> dict[str, Any]:
        """Return everything for programs; amounts are in minor units."""

        def of(one: Comparison) -> dict[str, Any]:
            total = None if one.total is None else asdict(one.total)
            return asdict(one) | {"total": total, "verdict": self.verdict(one)}

        together = self.results.together
        return {
            "metric": self.metric,
            "net_of_cost": self.net,
            "currency": self.currency,
            "campaigns": [of(one) for one in self.results.campaigns],
            "together_per_window": None if together is None else asdict(together),
            "void": self.results.void,
            "contaminated": self.results.contaminated,
            GUARD: {one.campaign: one.difference and asdict(one.difference) for one in self.guard.campaigns},
            "over_time": [
                {
                    "until": look,
                    "campaigns": {one.campaign: one.difference and asdict(one.difference) for one in then.campaigns},
                }
                for look, then in zip(self.looks, self.known_then, strict=True)
            ],
        }


def table(worth: Worth) -> Table:
    """Return the figures for the terminal, a row per campaign."""
    signed = partial(worth.said, signed=True)
    found = Table(
        box=box.SIMPLE_HEAD, title=f"Uplift in {_named(worth)} against randomised control", title_style="bold"
    )
    found.add_column("campaign", no_wrap=True)
    for name in ("treated", "control", "per window (95 %)", "in total", "cost"):
        found.add_column(name, justify="right")
    found.add_column("so far")
    for one in worth.results.campaigns:
        found.add_row(*_row(worth, one, signed), worth.verdict(one))
    return found


def render(worth: Worth) -> str:
    """Return the figures as one self-contained HTML page."""
    title = "What the campaigns are worth"
    campaigns = worth.results.campaigns
    if not campaigns:
        return page.page(title, f"<header><h1>{title}</h1></header>", page.paragraph("No window has closed yet."))
    colors = {one.campaign: f"c{number % page.COLORS}" for number, one in enumerate(campaigns)}
    signed, plain = partial(worth.said, signed=True), worth.said
    rows: list[tuple[str, Interval | None]] = [(one.campaign, one.difference) for one in campaigns]
    rows += [("all together", worth.results.together)] * (len(rows) > 1)
    lead = (
        f"{_named(worth).capitalize()} per measurement window, treatment minus randomised control, intention to treat. "
        "The intervals hold however often one looks: 95 of 100 campaigns never leave theirs."
    )
    return page.page(
        title,
        f"<header><h1>{title}</h1>{page.paragraph(lead, 'lead')}</header>",
        page.section(
            "Difference per window",
            page.figure(charts.differences(rows, lambda name: colors.get(name, "quiet"), signed)),
            page.table(
                ("campaign", "treated", "control", "per window (95 %)", "in total", "cost", "return on cost"),
                [(*_row(worth, one, signed), _return_on_cost(one)) for one in campaigns],
            ),
            page.facts((one.campaign, worth.verdict(one)) for one in campaigns),
        ),
        page.section("Both arms", page.figure(charts.arms(campaigns, colors.__getitem__, plain), _left_out(worth))),
        _over_time(worth, colors, signed),
        page.section(
            "Guardrail: unsubscribes",
            page.figure(
                charts.differences(
                    [(one.campaign, one.difference) for one in worth.guard.campaigns],
                    lambda name: colors.get(name, "quiet"),
                    _points,
                ),
                "Customers who unsubscribed in the window, treatment minus control, in percentage points.",
            ),
        ),
    )


def _over_time(worth: Worth, colors: Mapping[str, str], signed: Callable[[float], str]) -> str:
    if len(worth.looks) < 2:
        return ""
    by_look = [{one.campaign: one.difference for one in then.campaigns} for then in worth.known_then]
    rows = [(name, [look.get(name) for look in by_look]) for name in colors]
    drawing = charts.courses(worth.looks, rows, colors.__getitem__, signed)
    return page.section(
        "What was known when", page.figure(drawing, "At the end of each month, all windows until then.")
    )


def _row(worth: Worth, one: Comparison, signed: Callable[[float], str]) -> tuple[str, ...]:
    difference, total = one.difference, one.total
    return (
        one.campaign,
        f"{one.treatment.windows:,}",
        f"{one.control.windows:,}",
        UNKNOWN
        if difference is None
        else f"{signed(difference.mean)} ({signed(difference.low)} to {signed(difference.high)})",
        "" if total is None else f"{signed(total.low)} to {signed(total.high)}",
        labels.money(one.cost, worth.currency),
    )


def _return_on_cost(one: Comparison) -> str:
    """Return the uplift per unit of cost, net of it where the metric is; nothing where nothing is known or spent."""
    if one.total is None or not one.cost:
        return "–"
    return f"{one.total.low / one.cost:+.1f} to {one.total.high / one.cost:+.1f}".replace("-", "−")


def _left_out(worth: Worth) -> str:
    said = f"Left out: {worth.results.void:,} windows that late data took back. " * bool(worth.results.void)
    others = f"Kept in: {worth.results.contaminated:,} in which others wrote to the customer too."
    return said + others * bool(worth.results.contaminated)


def _named(worth: Worth) -> str:
    return f"{worth.metric}, net of cost" if worth.net else worth.metric


def _points(value: float) -> str:
    return f"{100 * value:+.2f} %".replace("-", "−")


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
