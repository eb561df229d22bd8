"""What the page, the table and the JSON say of campaigns: the same figures, and never more than is known."""

from typing import Any

import pytest
from rich.console import Console

from orchestrator.report.worth import Worth, render, table
from tests.learning.test_uplift import both_arms, lives

DAY = 86_400_000


def ending(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return outcomes whose windows end over half a year, with what every outcome record has."""
    return [
        {"orders": 1, "revenue": 2, "unsubscribed": False, "window_until": number * 180 * DAY // len(outcomes)} | one
        for number, one in enumerate(outcomes)
    ]


def worth_of(outcomes: list[dict[str, Any]], metric: str = "margin", net: bool = False) -> Worth:
    """Return the figures of some outcomes."""
    return Worth.fold(ending(outcomes), metric, net=net, currency="EUR")


@pytest.mark.parametrize(
    ("treated", "control", "expected"),
    [(500, 300, "works"), (300, 500, "does harm"), (300, 300, "no difference of a tenth of the control's mean")],
)
def test_verdict(treated: int, control: int, expected: str) -> None:
    """One sentence per campaign, which follows from the interval."""
    (one,) = worth_of(both_arms(400, treated, control)).results.campaigns

    assert worth_of(both_arms(400, treated, control)).verdict(one) == expected


def test_not_enough_data_is_an_answer() -> None:
    """With few customers there is no figure, and with noisy ones it is said how many more it takes."""
    few, noisy = worth_of(both_arms(5)), worth_of(lives(3, 300))

    assert few.verdict(few.results.campaigns[0]).startswith("not enough data yet")
    assert "more customers would show a tenth" in noisy.verdict(noisy.results.campaigns[0])


def test_page_and_table_show_the_same_figures() -> None:
    """Difference, total and guardrail; and how the interval narrowed from month to month."""
    worth = worth_of([one | {"cost": 50} for one in both_arms(200)])
    console = Console(width=160, record=True)
    console.print(table(worth))
    printed, page = console.export_text(), render(worth)

    (one,) = worth.results.campaigns
    assert one.total is not None
    for shown in (printed, page):
        assert "+€2.00 (+€2.00 to" in shown
        assert worth.said(one.total.low, signed=True) in shown
    assert "What was known when" in page
    assert "Guardrail: unsubscribes" in page
    assert len(worth.looks) >= 6


def test_net_is_of_money_only() -> None:
    """Cost is taken off margin and revenue, never off a number of orders."""
    costly = [one | {"cost": 50 if one["arm"] == "treatment" else 0} for one in both_arms(200)]
    margin, orders = worth_of(costly, net=True), worth_of(costly, "orders", net=True)

    assert margin.results.campaigns[0].difference is not None
    assert margin.results.campaigns[0].difference.mean == pytest.approx(150)
    assert not orders.net


def test_nothing_measured_is_a_page_too() -> None:
    """Before the first window has closed."""
    assert "No window has closed yet." in render(worth_of([]))
