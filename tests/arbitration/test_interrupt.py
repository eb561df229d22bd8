"""A campaign worth many times the running one may cut in on it, in both arms alike, where the policy says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.arbitration.campaign import AUDIENCE, Campaign, Send, SeriesStep
from orchestrator.arbitration.policy import Cap
from orchestrator.arbitration.series import NEXT_STEP, SERIES
from orchestrator.events import DAY
from orchestrator.simulation import Simulation
from orchestrator.valuation import COLD, STOPPED, ArmValue
from tests.builders import (
    ABANDONED_CART,
    ANA,
    campaign,
    cart_add,
    choices,
    compare,
    consent,
    instant,
    last_candidates,
    order,
    policy,
    profile,
    program,
    reasons,
    simulation,
    snapshot,
    worth,
)
from tests.test_engine_properties import check_audit

DEAR_CART = replace(ABANDONED_CART, name="dear_cart", only_if=compare("cart_value", ">=", 8_000, "money"))
FIRST = campaign("first", "abandoned_cart", window=10 * DAY)
BETTER = campaign("better", "dear_cart", window=2 * DAY)
SENT, WITHHELD = 0, 10_000


def shop_with(
    first: ArmValue,
    better: ArmValue,
    *,
    campaigns: Iterable[Campaign] = (FIRST, BETTER),
    control_bp: int = SENT,
    until: str = "1d 10:00",
    **rules: Any,
) -> Simulation:
    """Return a shop in which the first campaign holds the slot, and a day later a dearer cart is left."""
    rules = {"method": "expected_value", "interrupt_above": 3.0, **rules}
    chosen = [replace(one, control_bp=control_bp) if one.name == "first" else one for one in campaigns]
    values = {"first": first, "better": better}
    arms = {f"{one.name}@{one.send.channel}": replace(values[one.name], control_bp=one.control_bp) for one in chosen}
    compiled = program(moments=[ABANDONED_CART, DEAR_CART], campaigns=chosen, rules=policy(**rules))
    shop = simulation(compiled, known=False, learned=[snapshot(arms)])
    shop.feed(profile(consents=[consent(), consent(channel=AUDIENCE)]), cart_add("09:00"))
    shop.advance(instant("1d 00:00"))
    shop.feed(order("1d 07:00"), cart_add("1d 09:00", cart="c2", total=9_000))
    shop.advance(instant(until))
    check_audit(shop)
    return shop


@pytest.mark.parametrize("control_bp", [SENT, WITHHELD])
def test_many_times_the_value_cuts_in(control_bp: int) -> None:
    """In treatment and in control; the first window ends there, and neither is measured."""
    shop = shop_with(worth(100), worth(301), control_bp=control_bp, until="5d 00:00")

    assert [(decision.kind, decision.campaign, decision.decided_at) for decision in shop.decisions[:3]] == [
        ("choice", "first", instant("10:00")),
        ("interruption", "first", instant("1d 10:00")),
        ("choice", "better", instant("1d 10:00")),
    ]
    assert shop.decisions[1].voids == shop.decisions[0].decision_id
    assert [(one.campaign, one.interrupted, one.window_until, one.orders) for one in shop.outcomes] == [
        ("first", True, instant("1d 10:00"), 1),
        ("better", True, instant("3d 10:00"), 0),
    ]
    assert [one.arm for one in shop.outcomes] == ["control" if control_bp else "treatment", "treatment"]


@pytest.mark.parametrize(
    ("first", "better", "above"),
    [
        (worth(100), worth(300), 3.0),
        (worth(100), worth(900), 0.0),
        (worth(100), worth(900, state=COLD), 3.0),
        (worth(100), worth(900, state=STOPPED), 3.0),
    ],
    ids=["just as much", "not allowed", "not proven", "stopped"],
)
def test_otherwise_the_window_runs_on(first: ArmValue, better: ArmValue, above: float) -> None:
    """And holds the slot."""
    shop = shop_with(first, better, interrupt_above=above)

    assert reasons(shop) == ["chosen", "slot_held"]
    assert last_candidates(shop)["better"].value == better.gain[0]


def test_what_does_harm_now_is_cut_short_by_anything_that_does_not() -> None:
    """Three times less than nothing is no measure."""
    better = shop_with(worth(-50), worth(1), none_is_an_option=False)
    no_better = shop_with(worth(-50), worth(-1), none_is_an_option=False)

    assert reasons(better) == ["chosen", "interruption: outranked", "chosen"]
    assert reasons(no_better) == ["chosen", "slot_held"]


def test_the_other_rules_hold() -> None:
    """A cap, for one: also where the control group did not get what would have counted, so that both arms are alike."""
    cap = (Cap(1, 2 * DAY),)
    treated = shop_with(worth(100), worth(900), caps=cap)
    control = shop_with(worth(100), worth(900), caps=cap, control_bp=WITHHELD)

    assert reasons(treated) == ["chosen", "slot_held"]
    assert reasons(control) == ["control", "slot_held"]


def test_a_series_ends_with_its_window() -> None:
    """What was still to be sent of it is not."""
    mail = Send("email", "first")
    series = replace(FIRST, series=(SeriesStep("one", mail), SeriesStep("two", mail, after=3 * DAY)))
    shop = shop_with(worth(100), worth(900), campaigns=(series, BETTER), until="6d 00:00")

    assert [trigger.campaign for trigger in shop.triggers] == ["first", "better"]
    assert NEXT_STEP not in shop.customers[ANA].fires
    assert shop.customers[ANA].fact(SERIES) is None


def test_who_was_in_an_audience_is_taken_out() -> None:
    """Before the next campaign begins."""
    audience = replace(FIRST, send=Send(AUDIENCE, "buyers"))
    shop = shop_with(worth(100), worth(900), campaigns=(audience, BETTER))

    assert [decision.kind for decision in shop.decisions] == ["choice", "removal", "interruption", "choice"]
    assert [trigger.action for trigger in shop.triggers] == ["add", "remove", "send"]


def test_the_next_is_not_marked() -> None:
    """Only who was cut short, and who cut in."""
    shop = shop_with(worth(100), worth(900), until="4d 00:00")
    shop.feed(cart_add("4d 09:00", cart="c3"))
    shop.advance(instant("20d 00:00"))

    assert [decision.campaign for decision in choices(shop)] == ["first", "better", "first"]
    assert [one.interrupted for one in shop.outcomes] == [True, True, False]
