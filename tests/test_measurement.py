"""What a customer did in a window: orders, returns and late truth, in treatment and control alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.events import DAY, HOUR, MINUTE
from orchestrator.features import Feature
from orchestrator.measurement import FIRST_BOUGHT, NEW_CATEGORY, RETENTION
from orchestrator.records import CampaignOutcome
from orchestrator.simulation import Simulation
from tests.builders import (
    ABANDONED_CART,
    ANA,
    CART_RESCUE,
    FEATURES,
    campaign,
    cart_add,
    choices,
    event,
    instant,
    line,
    message,
    order,
    policy,
    program,
    simulation,
    unsubscribed,
)

START, END = "10:00", "3d 10:00"
GOODS = [line("SHAMPOO", 1_000, 400), line("SOAP", 300, 100)]


def treated(**rules: int) -> Simulation:
    """Return a shop in which Ana was written to at ten, measured for three days."""
    shop = simulation(program(moments=[ABANDONED_CART], campaigns=[CART_RESCUE], rules=policy(**rules)))
    shop.feed(cart_add("09:00"))
    shop.advance(instant(START))
    return shop


def figures(outcome: CampaignOutcome) -> tuple[int, int, int, int]:
    """Return what matters of an outcome: its revision, orders, revenue and margin."""
    return outcome.revision, outcome.orders, outcome.revenue, outcome.margin


def test_orders_in_the_window_count() -> None:
    """From the decision to before the end; no click is asked for."""
    shop = treated()
    for at in (START, "1d 00:00", "3d 09:59:59", END):
        shop.feed(order(at, lines=GOODS))
    shop.advance(instant("4d 00:00"))

    [outcome] = shop.outcomes
    assert figures(outcome) == (0, 3, 3_900, 1_500)
    assert (outcome.window_from, outcome.window_until) == (instant(START), instant(END))
    assert (outcome.outcome_id, outcome.decision_id) == (shop.decisions[0].decision_id,) * 2
    assert (outcome.arm, outcome.cost, outcome.campaign, outcome.moment) == (
        "treatment", 1, "cart_rescue", "abandoned_cart",
    )  # fmt: skip


def test_no_order_is_an_outcome_too() -> None:
    """Who bought nothing is measured as nothing."""
    shop = treated()
    shop.advance(instant("4d 00:00"))

    assert [figures(outcome) for outcome in shop.outcomes] == [(0, 0, 0, 0)]


def test_an_order_repeated_under_another_event_id_counts_once() -> None:
    """An order is known by its own id."""
    shop = treated()
    shop.feed(order("11:00", "o1", GOODS), order("11:00", "o1", GOODS))
    shop.advance(instant("4d 00:00"))

    assert shop.outcomes[0].orders == 1


def test_the_outcome_waits_for_stragglers() -> None:
    """An order of the last second that arrives within the disorder is in the first revision."""
    shop = treated(default_disorder=MINUTE)  # decided at 10:01 instead
    shop.advance(instant("10:01"))
    shop.advance(instant("3d 10:01:30"))
    assert shop.outcomes == []

    shop.feed(order("3d 10:00:59", lines=GOODS))
    shop.advance(instant("3d 10:02"))
    assert [figures(outcome) for outcome in shop.outcomes] == [(0, 1, 1_300, 500)]


def test_a_late_order_amends() -> None:
    """An order that arrives after the end, within accept_late, is in the next revision."""
    shop = treated()
    shop.advance(instant("3d 12:00"))
    shop.feed(order("3d 09:00", lines=GOODS))
    shop.advance(instant("3d 13:00"))

    assert [figures(outcome) for outcome in shop.outcomes] == [(0, 0, 0, 0), (1, 1, 1_300, 500)]
    assert shop.outcomes[0].outcome_id == shop.outcomes[1].outcome_id


def test_an_order_later_than_accepted_does_not_amend() -> None:
    """A day later it is a fact and no more."""
    shop = treated()
    shop.advance(instant("4d 12:00"))
    shop.feed(order("3d 09:00", lines=GOODS))
    shop.advance(instant("4d 13:00"))

    assert len(shop.outcomes) == 1


def test_a_return_amends_with_a_higher_revision() -> None:
    """What is brought back is taken out of the window in which it was bought, line by line."""
    shop = treated()
    shop.feed(order("11:00", "o1", GOODS))
    shop.advance(instant("4d 00:00"))
    shop.feed(event("order.returned", "10d 00:00", order_id="o1", lines=GOODS[1:]))
    shop.advance(instant("11d 00:00"))

    assert [figures(outcome) for outcome in shop.outcomes] == [(0, 1, 1_300, 500), (1, 1, 1_000, 400)]


@pytest.mark.parametrize("name", ["order.cancelled", "order.returned"])
def test_a_whole_order_undone_is_no_order(name: str) -> None:
    """A cancellation, or a return that names no lines, takes out everything."""
    shop = treated()
    shop.feed(order("11:00", "o1", GOODS), event(name, "12:00", order_id="o1"))
    shop.advance(instant("4d 00:00"))

    assert [figures(outcome) for outcome in shop.outcomes] == [(0, 0, 0, 0)]


def test_a_return_of_another_order_changes_nothing() -> None:
    """Only what a window counted can be taken out of it."""
    shop = treated()
    shop.advance(instant("4d 00:00"))
    shop.feed(event("order.returned", "5d 00:00", order_id="o1", lines=GOODS))
    shop.advance(instant("6d 00:00"))

    assert len(shop.outcomes) == 1


@pytest.mark.parametrize(("returned_at", "revisions"), [("63d 10:00", 2), ("63d 10:00:01", 1)])
def test_an_order_remembers_its_window_for_as_long_as_the_policy_says(returned_at: str, revisions: int) -> None:
    """Sixty days after its end a window is final."""
    shop = treated()
    shop.feed(order("11:00", "o1", GOODS), event("order.returned", returned_at, order_id="o1"))
    shop.advance(instant("70d 00:00"))

    assert len(shop.outcomes) == revisions


def test_closed_windows_are_forgotten() -> None:
    """A customer of many campaigns keeps those that returns may still amend."""
    rules = policy(amend_for=10 * DAY)
    shop = simulation(program(rules=rules, campaigns=[campaign("cart_rescue", "abandoned_cart", window=DAY)]))
    for day in range(0, 60, 2):
        shop.feed(cart_add(f"{day}d 09:00", cart=f"c{day}"))
    shop.advance(instant("70d 00:00"))

    assert len(shop.outcomes) == 30
    assert len(shop.customers[ANA].closed) <= 6


def test_control_is_measured_the_same_way() -> None:
    """The same orders, and nothing spent."""
    shop = simulation(program(campaigns=[replace(CART_RESCUE, control_bp=10_000)]))
    shop.feed(cart_add("09:00"), order("11:00", lines=GOODS))
    shop.advance(instant("4d 00:00"))

    [outcome] = shop.outcomes
    assert (outcome.arm, outcome.cost, figures(outcome)) == ("control", 0, (0, 1, 1_300, 500))


def test_a_message_of_others_contaminates() -> None:
    """Somebody else wrote in the window; our own message did not."""
    for trigger_id, contaminated in ((None, True), ("ours", False)):
        shop = treated()
        shop.feed(message("11:00", trigger_id=trigger_id))
        shop.advance(instant("4d 00:00"))

        assert [outcome.contaminated for outcome in shop.outcomes] == [contaminated]


def test_a_message_before_the_window_contaminates_nothing() -> None:
    """What was sent before the decision was there in both arms."""
    shop = treated()
    shop.feed(message("09:30"))
    shop.advance(instant("4d 00:00"))

    assert [outcome.contaminated for outcome in shop.outcomes] == [False]


def test_an_opt_out_in_the_window_is_a_guardrail() -> None:
    """Whoever unsubscribes while measured is counted, before and after is not."""
    for at, counted in (("09:30", False), ("11:00", True), ("3d 10:00", False)):
        shop = treated()
        shop.feed(unsubscribed(at))
        shop.advance(instant("4d 00:00"))

        assert [outcome.unsubscribed for outcome in shop.outcomes][-1:] == [counted], at


def test_every_window_has_one_first_revision() -> None:
    """Each decision that took the slot is measured, once."""
    shop = simulation(program(campaigns=[campaign("cart_rescue", "abandoned_cart", window=HOUR)]))
    for day in range(10):
        shop.feed(cart_add(f"{day}d 09:00", cart=f"c{day}"))
    shop.advance(instant("20d 00:00"))

    assert [outcome.outcome_id for outcome in shop.outcomes] == [decision.decision_id for decision in choices(shop)]


def test_what_was_earned_in_the_twelve_weeks_before_is_known() -> None:
    """Older orders and those in the window are not part of it, whatever order they are told in."""
    shop = simulation(program(moments=[ABANDONED_CART], campaigns=[CART_RESCUE], rules=policy()))
    for at in ("-10d 10:00", "-91d 10:00", "-70d 10:00", "-70d 11:00"):
        shop.feed(order(at, lines=GOODS))
    shop.feed(cart_add("09:00"))
    shop.advance(instant(START))
    shop.feed(order("1d 00:00", lines=GOODS))
    shop.advance(instant("4d 00:00"))

    [outcome] = shop.outcomes
    assert outcome.earned_before == 3 * 500
    assert outcome.margin == 500
    assert len(shop.customers[ANA].earned) <= 13


def test_new_categories_are_counted_where_they_are_the_objective() -> None:
    """Each once, of orders that were kept, and only those never bought before."""
    first = Feature(FIRST_BOUGHT, "first_time", ("order.placed",), key="category")
    wider = replace(CART_RESCUE, measure=replace(CART_RESCUE.measure, objective=NEW_CATEGORY))
    for kept in (True, False):
        shop = simulation(program(moments=[ABANDONED_CART], campaigns=[wider], features=[*FEATURES, first]))
        shop.feed(order("07:00", lines=[line("SOAP")]), cart_add("09:00"))
        shop.advance(instant("10:00"))
        shop.feed(order("11:00", "o1", [line("SHAMPOO"), line("BOOK")]), order("12:00", "o2", [line("BOOK")]))
        if not kept:
            shop.feed(*(event("order.cancelled", "13:00", order_id=one) for one in ("o1", "o2")))
        shop.advance(instant("4d 00:00"))

        [outcome] = shop.outcomes
        assert (outcome.objective, outcome.new_categories) == ("new_category", 1 if kept else 0)


@pytest.mark.parametrize(
    ("at", "undone", "retained"),
    [
        ("1d 21:59:59", None, False),
        ("1d 22:00", None, True),
        ("3d 09:59", None, True),
        ("2d 00:00", "order.cancelled", False),
        ("2d 00:00", "order.returned", False),
    ],
)
def test_retention_is_an_order_kept_in_the_second_half_of_the_window(
    at: str, undone: str | None, retained: bool
) -> None:
    """From ten in the morning, three days: whoever still orders after 36 hours."""
    keep = replace(CART_RESCUE, measure=replace(CART_RESCUE.measure, objective=RETENTION))
    shop = simulation(program(moments=[ABANDONED_CART], campaigns=[keep]))
    shop.feed(cart_add("09:00"))
    shop.advance(instant(START))
    shop.feed(order("11:00"), order(at, "late"))
    if undone:
        shop.feed(event(undone, "2d 12:00", order_id="late"))
    shop.advance(instant("4d 00:00"))

    assert [(one.objective, one.retained) for one in shop.outcomes][-1:] == [("retention", retained)]


def test_other_objectives_count_no_categories() -> None:
    """They would only cost state."""
    shop = treated()
    shop.feed(order("11:00"))
    shop.advance(instant("1d 00:00"))

    window = shop.customers[ANA].window
    assert window is not None
    assert (window.categories, window.late) == ({}, [])
    assert (window.objective, window.offer) == ("margin", "")
