"""What the page, the table and the JSON say of campaigns: the same figures, and never more than is known."""

from typing import Any

import pytest
from rich.console import Console

from orchestrator.report.worth import Worth
from orchestrator.report.worth_page import render
from orchestrator.report.worth_table import table
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
    few, noisy, alone = worth_of(both_arms(5)), worth_of(lives(3, 300)), worth_of(both_arms(5)[::2])

    assert few.verdict(few.results.campaigns[0]) == "not enough data yet: about 90 more customers"
    assert alone.verdict(alone.results.campaigns[0]).endswith("at least 50 treated and 30 control customers are needed")
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
        assert "not known yet: about" in shown  # nobody has unsubscribed, of 200: that is not much
    assert "What was known when" in page
    assert "Guardrails" in page
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


def guarded(**changes: int) -> Worth:
    """Return a campaign in which a share of the treated customers, in thousandths, unsubscribed or bought."""
    return worth_of(
        [
            one
            | {
                "unsubscribed": one["arm"] == "treatment" and number % 1000 < 2 * changes.get("gone", 0),
                "margin": one["margin"] - changes.get("lost", 0) * (one["arm"] == "treatment"),
            }
            for number, one in enumerate(both_arms(changes.get("customers", 2_000), 300, 300))
        ]
    )


@pytest.mark.parametrize(
    ("changes", "margin", "unsubscribes"),
    [
        ({}, "not worse", "not worse"),
        ({"lost": 10}, "worse", "not worse"),
        ({"gone": 100}, "not worse", "worse"),
        ({"customers": 200}, "not worse", "not known yet"),
        ({"customers": 5}, "not enough data yet", "not enough data yet"),
    ],
)
def test_guardrails_have_a_verdict(changes: dict[str, int], margin: str, unsubscribes: str) -> None:
    """Worse, not worse by more than is tolerated, or not known yet: nobody unsubscribed of few says little."""
    worth = guarded(**changes)

    assert worth.standing(worth.margin.campaigns[0]).startswith(margin)
    assert worth.standing(worth.unsubscribed.campaigns[0]).startswith(unsubscribes)


def of_objective(campaign: str, objective: str, **changes: Any) -> list[dict[str, Any]]:
    """Return a campaign's windows that are judged by an objective; the treated half has what changes say."""
    return [
        one
        | {"outcome_id": campaign + one["outcome_id"], "campaign": campaign, "objective": objective}
        | (changes if one["arm"] == "treatment" else {})
        for one in ending(both_arms(200, 300, 300))
    ]


def test_each_campaign_by_its_own_objective() -> None:
    """New categories and money stand side by side, never on one axis and never added up; margin guards both."""
    windows = of_objective("wider", "new_category", new_categories=2) + of_objective("rescue", "margin", margin=400)
    worth = Worth.fold(windows, "objective", net=True, currency="EUR")
    rescue, wider = worth.results.campaigns
    console = Console(width=160, record=True)
    console.print(table(worth))
    printed = console.export_text()

    assert rescue.difference is not None
    assert wider.difference is not None
    assert (wider.metric, wider.difference.mean) == ("new_category", 2)
    assert (rescue.metric, worth.results.together) == ("margin", None)
    for shown in (printed, render(worth)):
        assert "+2.000 (+2.000 to +2.000)" in shown
        assert "new categories" in shown
    assert [one.metric for one in worth.margin.campaigns] == ["margin", "margin"]


def test_parts_of_a_campaign_are_found_or_exploratory() -> None:
    """Offers, channels and segments have figures of their own, and a warning that there are many of them."""
    windows = [
        one
        | {
            "outcome_id": f"{tier}{one['outcome_id']}",
            "leaf": f"value_tier={tier};heroes=no",
            "offer": "pct_10" if number % 2 else "",
            "channel": "email",
        }
        for tier, treated in (("high", 500), ("low", 300))
        for number, one in enumerate(ending(both_arms(400, treated, 300)))
    ]
    worth = Worth.fold(windows, "margin", net=True, currency="EUR")
    said = {one.group: worth.label(one) for one in worth.by_segment.campaigns}
    page = render(worth)

    assert said["value_tier=high"] == said["value_tier=high, heroes=no"] == "found: works"
    assert said["value_tier=low"] == "exploratory"
    assert "Of many groups some look good by chance" in page
    assert "heroes=no" in page
    assert {one.group for one in worth.by_arm.campaigns} == {"no offer by email", "pct_10 by email"}
    assert len(worth.as_dict()["segments"]) == 5


def test_what_is_left_out_is_said() -> None:
    """Windows that were taken back or cut short leave; disturbed ones stay, with the figure without them."""
    windows = ending(both_arms(400, 500, 300))
    for place, mark in ((0, "void"), (2, "interrupted"), (4, "contaminated")):
        windows[place] = {**windows[place], mark: True}
    page = render(Worth.fold(windows, "margin", net=True, currency="EUR"))

    assert "Left out: 1 windows that late data took back. Left out: 1 windows that another campaign cut short." in page
    assert "Kept in: 1 windows in which others wrote to the customer too; without them: cart +€2.00" in page
