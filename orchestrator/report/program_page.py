"""What all campaigns together are worth and what the rules cost, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.learning.intervals import Interval
from orchestrator.learning.program import Whole
from orchestrator.learning.uplift import Comparison
from orchestrator.report import charts, labels, page
from orchestrator.report.levers import Levers
from orchestrator.report.worth import UNKNOWN

_LEVER_HEAD = ("rule", "moments", "at most", "most of it")


def sections(whole: Whole | None, levers: Levers | None, currency: str) -> list[str]:
    """Return the page's sections."""
    return [
        *([] if whole is None else [_whole_section(whole, currency)]),
        *([] if levers is None else [_levers_section(levers, currency)]),
    ]


def tables(whole: Whole | None, levers: Levers | None, currency: str) -> list[RenderableType]:
    """Return the tables for the terminal."""
    found: list[RenderableType] = []
    if whole is not None:
        head, rows = _columns(whole, currency)
        found.append(_table(f"The program from {_span(whole)}", head, rows, "left"))
    if levers is not None:
        found.append(
            _table(_LEVERS, _LEVER_HEAD, _lever_rows(levers, currency), "right")
            if levers.rules
            else Text(f"{_LEVERS}: {_no_levers(levers)}")
        )
    return found


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], justify: Literal["left", "right"]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left")
    for place, name in enumerate(head):
        table.add_column(name, justify=justify if place else "left")
    for row in rows:
        table.add_row(*row)
    return table


def as_dict(whole: Whole | None, levers: Levers | None) -> dict[str, Any]:
    """Return the figures for programs; amounts are in minor units."""

    def of(one: Comparison | None) -> dict[str, Any] | None:
        if one is None:
            return None
        total = None if one.total is None else asdict(one.total)
        return asdict(one) | {"total": total, "verdict": verdict(one)}

    found: dict[str, Any] = {}
    if whole is not None:
        found["program"] = {
            "since": whole.since,
            "until": whole.until,
            "customers": whole.customers,
            "left_out_as_straddling": whole.straddling,
            "against_holdout": of(whole.against_none),
            "expected_value_against_priority": of(whole.methods),
        }
    if levers is not None:
        found["rules"] = levers.as_dict()
    return found


def verdict(one: Comparison) -> str:
    """Return in one sentence what the groups say so far."""
    if one.difference is None:
        more = one.more_customers
        return f"{UNKNOWN}: about {labels.about(more)} more customers" if more else UNKNOWN
    if not one.difference.covers_zero:
        return "worth it" if one.difference.mean > 0 else "does harm"
    if not one.more_customers:
        return "no difference of a tenth"
    return f"not known yet: about {labels.about(one.more_customers)} more customers would show a tenth"


def _whole_section(whole: Whole, currency: str) -> str:
    compared = _compared(whole)
    title = "The program as a whole"
    if not compared:
        nothing = "No group was drawn: neither `holdout` nor `compare` is in the policy."
        return page.section(title, page.paragraph(nothing, "soft"))
    said = (
        f"From {_span(whole)}: all that {whole.customers:,} customers earned us, less what was spent on them, "
        "whether or not they were written to. The groups are drawn by hash, and what customers had earned before takes "
        "noise out. The hold-out counts per customer and period."
    )
    signed = partial(labels.money, currency=currency, signed=True)
    drawing = charts.differences([(one.campaign, one.difference) for one in compared], lambda _: "accent", signed)
    left_out = f"Left out: {whole.straddling:,} periods of customers into which a campaign of the period before ran."
    return page.section(
        title,
        page.paragraph(said, "soft"),
        page.figure(drawing, "Earned per customer, net of cost. The dashed line is no difference."),
        page.table(*_columns(whole, currency)),
        page.paragraph(left_out, "soft") if whole.straddling else "",
    )


def _columns(whole: Whole, currency: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return a table with a column per comparison: its head and its rows."""
    money, signed = partial(labels.money, currency=currency), partial(labels.money, currency=currency, signed=True)
    compared = _compared(whole)

    def arms(one: Comparison) -> str:
        means = [arm.interval for arm in (one.treatment, one.control)]
        return " and ".join("–" if mean is None else money(mean.mean) for mean in means)

    rows: Mapping[str, Callable[[Comparison], str]] = {
        "customers": lambda one: f"{one.treatment.customers:,} and {one.control.customers:,}",
        "earned per customer": arms,
        "difference (95 %)": lambda one: UNKNOWN if one.difference is None else _interval(one.difference, signed),
        "in total": lambda one: "–" if one.total is None else _interval(one.total, partial(signed, cents=False)),
        "as a ratio": lambda one: "–" if one.ratio is None else _interval(one.ratio, _percent),
        "so far": verdict,
    }
    head = ["", *(one.campaign for one in compared)]
    return head, [(name, *map(said, compared)) for name, said in rows.items()]


def _compared(whole: Whole) -> list[Comparison]:
    return [one for one in (whole.against_none, whole.methods) if one is not None]


def _interval(found: Interval, said: Callable[[float], str]) -> str:
    return f"{said(found.mean)} ({said(found.low)} to {said(found.high)})"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %".replace("-", "−")


def _span(whole: Whole) -> str:
    return f"{charts.day(whole.since)} to {charts.day(whole.until)}"


_LEVERS = "What the rules cost"


def _levers_section(levers: Levers, currency: str) -> str:
    said = (
        "The expected value of what each rule kept away, beyond what was done instead; moments that were answered "
        "later are not among them. It is at most what the rule costs: the next rule might have kept it away too."
    )
    if not levers.rules:
        return page.section(_LEVERS, page.paragraph(_no_levers(levers), "soft"))
    return page.section(_LEVERS, page.paragraph(said, "soft"), page.table(_LEVER_HEAD, _lever_rows(levers, currency)))


def _lever_rows(levers: Levers, currency: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in levers.rules:
        campaign = max(one.by_campaign, key=lambda name: (one.by_campaign[name], name))
        rows.append((labels.reason(one.rule), f"{one.moments:,}", labels.money(one.value, currency), campaign))
    return rows


def _no_levers(levers: Levers) -> str:
    if levers.valued:
        return "No rule kept anything away that was expected to be worth more than what was done."
    return "No value was known at any decision yet: it takes a policy snapshot."
