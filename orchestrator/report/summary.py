"""The report's figures as tables, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.reasons import Reason
from orchestrator.report import labels
from orchestrator.report.data import ReportData


def summary(data: ReportData, currency: str = "USD") -> RenderableType:
    """Return everything a person wants to see at the end, for rich to print."""
    tables = [_run(data), _reasons(data), _carts(data), _worth(data, currency)]
    parts: list[RenderableType] = []
    for table in tables:
        if table is not None:
            parts += [table, ""]
    covering, judged = data.results.covering
    if judged:
        honest = "A replay cannot react, so the true uplift is 0 and at least 95 % of the intervals should cover 0: "
        parts.append(Text(f"{honest}{covering} of {judged} do."))

    return Group(*parts)


def _run(data: ReportData) -> Table:
    table = _table("The run", "")
    counted = {
        "decisions": f"{data.decisions:,} about {data.customers:,} customers",
        "messages triggered": f"{data.sends:,}",
        "held back as control": f"{data.arms.get('control', 0):,}",
        "hold-out decisions": f"{data.arms.get('holdout', 0):,}",
        "taken back later": f"{data.kinds.get('void', 0):,}",
    }
    for name, value in {**data.summary, **counted}.items():
        table.add_row(name, value)
    return table


def _reasons(data: ReportData) -> Table | None:
    if not data.reasons:
        return None
    return _shares("What was decided", {labels.reason(word): count for word, count in data.reasons.items()})


def _carts(data: ReportData) -> Table | None:
    abandoned = next((one for one in data.carts if one.kind == "abandoned"), None)
    if abandoned is None:
        return None
    fates = {labels.fate(word): count for word, count in abandoned.fates.items()}
    table = _shares(f"The {abandoned.planted:,} planted abandoned carts, and what became of them", fates)
    answered = sum(abandoned.fates.get(reason, 0) for reason in (Reason.CHOSEN, Reason.CONTROL))
    table.caption = f"{answered:,} led to a message or a control; the rows sum to {sum(fates.values()):,}"

    return table


def _worth(data: ReportData, currency: str) -> Table | None:
    if not data.results.campaigns:
        return None
    plain, signed = partial(labels.money, currency=currency), partial(labels.money, currency=currency, signed=True)
    table = _table(
        "What the campaigns were worth", "treated", "control", "mean treated", "mean control", "difference (95 %)"
    )
    for one in data.results.campaigns:
        means = ["–" if arm.interval is None else plain(arm.interval.mean) for arm in (one.treatment, one.control)]
        said = "not enough data yet"
        if one.difference is not None:
            low, high = one.difference.low, one.difference.high
            said = f"{signed(one.difference.mean)} ({signed(low)} to {signed(high)})"
        table.add_row(one.campaign, f"{one.treatment.windows:,}", f"{one.control.windows:,}", *means, said)

    return table


def _shares(title: str, counts: Mapping[str, int]) -> Table:
    table = _table(title, "", "")
    total = sum(counts.values()) or 1
    for name, count in counts.items():
        table.add_row(name, f"{count:,}", f"{count / total:.1%}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_header=any(columns))
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    return table
