"""What campaigns were worth, as tables for the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from orchestrator.learning.uplift import Comparison
from orchestrator.report import labels
from orchestrator.report.worth import Worth


def table(worth: Worth) -> RenderableType:
    """Return the figures for the terminal: a row per campaign, its guardrails, and its parts where there are any."""
    found = _table(f"Uplift in {worth.named} against randomised control", "so far")
    for one in worth.results.campaigns:
        found.add_row(worth.name(one), *figures(worth, one), worth.verdict(one))
    together, measured = worth.results.together, worth.results.campaigns
    if together is not None and len(measured) > 1:
        found.add_row("all together", "", "", worth.span(together, measured[0].metric))
    tables = [found, _guardrails(worth)]
    for title, results in (("Per offer and channel", worth.by_arm), ("Per segment", worth.by_segment)):
        if results.campaigns:
            part = _head(f"{title}: among many some look good by chance, so what is not found is exploratory")
            for name in (*FIGURES[:3], "so far"):
                part.add_column(name, justify="left" if name == "so far" else "right")
            for one in results.campaigns:
                part.add_row(f"{one.campaign}: {one.group}", *figures(worth, one)[:3], worth.label(one))
            tables.append(part)
    return Group(*tables)


def figures(worth: Worth, one: Comparison) -> tuple[str, ...]:
    """Return what is shown of a comparison, in table and page alike."""
    return (
        f"{one.treatment.windows:,}",
        f"{one.control.windows:,}",
        worth.span(one.difference, one.metric),
        worth.whole(one.total, one.metric),
        labels.money(one.cost, worth.currency),
    )


FIGURES = ("treated", "control", "per window (95 %)", "in total", "cost")
"""The heads of their columns."""


def _table(title: str, last: str) -> Table:
    found = _head(title)
    for name in FIGURES:
        found.add_column(name, justify="right")
    found.add_column(last)
    return found


def _head(title: str) -> Table:
    found = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left")
    found.add_column("campaign", no_wrap=True)
    return found


def _guardrails(worth: Worth) -> Table:
    found = _head("Guardrails")
    for name in ("margin", "unsubscribes"):
        found.add_column(name)
    for money, gone in zip(worth.margin.campaigns, worth.unsubscribed.campaigns, strict=True):
        found.add_row(money.campaign, worth.standing(money), worth.standing(gone))
    return found
