"""Late truth: what an event from before the opening takes back, and what stays."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from orchestrator.events import HOUR
from tests.builders import (
    ANA,
    CART_RESCUE,
    campaign,
    cart_add,
    choices,
    event,
    instant,
    order,
    program,
    reasons,
    simulation,
)


@pytest.mark.parametrize("control_bp", [0, 10_000], ids=["treatment", "control"])
def test_late_purchase_takes_the_answer_back_in_both_arms(control_bp: int) -> None:
    """The decision is void by the same rule in either arm, and the slot is kept."""
    shop = simulation(program(campaigns=[replace(CART_RESCUE, control_bp=control_bp)]))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    shop.feed(order("09:30"))
    shop.advance(instant("10:30"))

    chosen, void = shop.decisions
    assert (void.kind, void.reason, void.voids, void.arm) == ("void", "cancelled", chosen.decision_id, chosen.arm)
    assert (void.campaign, void.window_until) == ("cart_rescue", None)
    assert shop.active[ANA].decision_id == chosen.decision_id

    shop.advance(instant("4d 00:00"))
    assert [outcome.void for outcome in shop.outcomes] == [True]


def test_the_retraction_has_the_id_of_what_it_takes_back() -> None:
    """A sender finds the message to take back by its trigger id."""
    shop = simulation()
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    shop.feed(order("09:30"))
    shop.advance(instant("10:30"))

    sent, taken_back = shop.triggers
    assert sent.action == "send"
    assert taken_back == msgspec.structs.replace(sent, action="retract")


def test_a_control_customer_has_nothing_to_take_back() -> None:
    """No message went out, so none is retracted."""
    shop = simulation(program(campaigns=[replace(CART_RESCUE, control_bp=10_000)]))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    shop.feed(order("09:30"))
    shop.advance(instant("10:30"))

    assert shop.triggers == []


@pytest.mark.parametrize(
    ("bought_at", "expected"),
    [
        ("08:59:59", ["chosen"]),
        ("09:00", ["chosen", "void: cancelled"]),
        ("10:00", ["chosen", "void: cancelled"]),
        ("10:00:01", ["chosen"]),
    ],
    ids=["before_the_start", "at_the_very_start", "at_the_due_instant", "one_second_after"],
)
def test_only_what_would_have_ended_it_takes_it_back(bought_at: str, expected: list[str]) -> None:
    """A purchase counts from the start to the opening, both included; one after it is what we hoped for."""
    shop = simulation()
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    shop.feed(order(bought_at))
    shop.advance(instant("10:30"))

    assert reasons(shop) == expected


def test_beyond_accept_late_nothing_is_taken_back() -> None:
    """A purchase we hear of a day later changes no decision."""
    shop = simulation()
    shop.feed(cart_add("09:00"))
    shop.advance(instant("1d 09:00"))
    shop.feed(order("09:30"))
    shop.advance(instant("1d 09:30"))

    assert reasons(shop) == ["chosen"]


def test_an_answer_is_taken_back_once() -> None:
    """A second late purchase finds nothing more to take back."""
    shop = simulation()
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    shop.feed(order("09:30"), order("09:31"))
    shop.advance(instant("10:30"))
    shop.feed(order("09:32"))
    shop.advance(instant("10:40"))

    assert [trigger.action for trigger in shop.triggers] == ["send", "retract"]


def test_a_void_decision_still_holds_the_slot() -> None:
    """The next campaign waits for the end of the window, or buyers would be measured for a shorter time."""
    shop = simulation()
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    shop.feed(order("09:30"), cart_add("2d 12:00", cart="c2"))
    shop.advance(instant("5d 00:00"))

    first, second = choices(shop)
    assert first.window_until == second.decided_at


def test_late_truth_about_a_closed_window_amends_its_outcome() -> None:
    """When the window is over already, its outcome is emitted again, void."""
    shop = simulation(program(campaigns=[campaign("cart_rescue", "abandoned_cart", window=HOUR)]))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("12:00"))
    shop.feed(order("09:30"))
    shop.advance(instant("12:30"))

    assert [(outcome.revision, outcome.void) for outcome in shop.outcomes] == [(0, False), (1, True)]


def test_answers_are_forgotten_when_nothing_can_prove_them_wrong() -> None:
    """A customer who is answered often and never buys has a state of bounded size."""
    shop = simulation(program(campaigns=[campaign("cart_rescue", "abandoned_cart", window=HOUR)]))
    for day in range(20):
        shop.feed(cart_add(f"{day}d 09:00", cart=f"c{day}"))
        shop.advance(instant(f"{day}d 23:00"))

    assert len(shop.triggers) == 20
    assert len(shop.customers[ANA].answered) == 1


def test_another_carts_end_takes_nothing_back() -> None:
    """What ends by key takes back by key."""
    shop = simulation()
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    shop.feed(event("cart.emptied", "09:30", cart_id="another"))
    shop.advance(instant("10:30"))
    assert reasons(shop) == ["chosen"]

    shop.feed(event("cart.emptied", "09:30", cart_id="c1"))
    shop.advance(instant("10:40"))
    assert reasons(shop) == ["chosen", "void: cancelled"]
