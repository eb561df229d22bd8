"""Campaigns that come after others, or stay away after them: what the customer's own windows say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.arbitration.campaign import After, Exclusion
from orchestrator.events import DAY, HOUR, Event
from orchestrator.simulation import Simulation
from tests.builders import (
    ABANDONED_CART,
    ANA,
    CART_RESCUE,
    TOPICS,
    campaign,
    cart_add,
    event,
    instant,
    last_candidates,
    line,
    order,
    policy,
    program,
    reasons,
    simulation,
)

LATER = "5d 09:00"
"""When the second cart is filled: two days after the first campaign's window has ended."""


def shop_with(after: After, *events: Event, control_bp: int = 0, until: str = "5d 10:00") -> Simulation:
    """Return a shop in which the first cart is rescued at ten, and another campaign may follow up on the second."""
    first = replace(CART_RESCUE, control_bp=control_bp, exclusions=(Exclusion("cart_rescue", 90 * DAY),))
    second = replace(campaign("follow_up", "abandoned_cart", priority=90), after=after)
    shop = simulation(program(moments=[ABANDONED_CART], campaigns=[first, second], rules=policy()))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    shop.feed(*events, cart_add(LATER, cart="c2"))
    shop.advance(instant(until))
    return shop


def clicked(at: str, **data: str) -> Event:
    """Return a click on a message of the first campaign, unless it says otherwise."""
    return event("message.clicked", at, **{"campaign": "cart_rescue", **data})


RECEIVED, RESPONDED, IGNORED = (After("cart_rescue", word, 30 * DAY) for word in ("received", "responded", "ignored"))


@pytest.mark.parametrize(
    ("events", "became"),
    [
        ([], IGNORED),
        ([clicked("1d 00:00")], RESPONDED),
        ([clicked("3d 09:59:59")], RESPONDED),
        ([clicked("3d 10:00")], IGNORED),
        ([clicked("1d 00:00", campaign="of_others")], IGNORED),
        ([clicked("1d 00:00", trigger_id="of others")], IGNORED),
        ([order("1d 00:00")], RESPONDED),
        ([order("3d 10:00")], IGNORED),
        ([order("1d 00:00", "o1"), event("order.cancelled", "4d 00:00", order_id="o1")], IGNORED),
        ([order("1d 00:00", "o1"), event("order.returned", "4d 00:00", order_id="o1", lines=[line("BOOK")])], IGNORED),
        (
            [
                order("1d 00:00", "o1", [line("BOOK"), line("SOAP")]),
                event("order.returned", "4d 00:00", order_id="o1", lines=[line("BOOK")]),
            ],
            RESPONDED,
        ),
    ],
)
def test_somebody_has_responded_or_ignored(events: list[Event], became: After) -> None:
    """One or the other, never both, and received in either case; a return takes a response back."""
    for after in (RESPONDED, IGNORED):
        shop = shop_with(after, *events)
        followed = last_candidates(shop)["follow_up"]
        assert followed.reason == ("chosen" if after is became else "not_eligible"), after
        assert followed.checks[-1].saw == f"cart_rescue: {became.outcome}, 5d ago"
    assert reasons(shop_with(RECEIVED, *events))[-1] == "chosen"


def test_a_click_names_its_trigger() -> None:
    """As the sender reports it; the campaign's name is not needed then."""
    shop = shop_with(RESPONDED, until="10:00")
    shop.feed(clicked("1d 00:00", trigger_id=shop.triggers[0].trigger_id, campaign=""))
    shop.advance(instant("5d 10:00"))

    assert reasons(shop)[-1] == "chosen"


@pytest.mark.parametrize("after", [RECEIVED, RESPONDED, IGNORED])
def test_the_control_group_has_received_nothing(after: After) -> None:
    """Whoever bought in the control group would have come anyway."""
    shop = shop_with(after, order("1d 00:00"), control_bp=10_000)

    assert last_candidates(shop)["follow_up"].reason == "not_eligible"
    assert last_candidates(shop)["follow_up"].saw == "cart_rescue: control group, 5d ago"


@pytest.mark.parametrize(("within", "reason"), [(5 * DAY, "chosen"), (5 * DAY - 1, "not_eligible")])
def test_it_counts_from_the_decision(within: int, reason: str) -> None:
    """To the millisecond, both ends included."""
    shop = shop_with(replace(IGNORED, within=within))

    assert last_candidates(shop)["follow_up"].reason == reason
    if reason == "not_eligible":
        assert last_candidates(shop)["follow_up"].saw == "cart_rescue: not in 5d"


def test_what_was_taken_back_was_not_received() -> None:
    """A purchase that is read late proves the message wrong."""
    shop = shop_with(RECEIVED, order("09:30"))

    assert last_candidates(shop)["follow_up"].saw == "cart_rescue: taken back, 5d ago"


@pytest.mark.parametrize(("within", "kept"), [(None, 11), (100 * DAY, 12), (700 * DAY, 12)])
def test_windows_are_remembered_for_as_long_as_others_ask(within: int | None, kept: int) -> None:
    """Beyond the time in which returns amend them, the last one that was ignored."""
    first = campaign("cart_rescue", "abandoned_cart", window=HOUR)
    second = replace(first, name="other", after=None if within is None else After("cart_rescue", "ignored", within))
    shop = simulation(program(campaigns=[first, second][: 1 + (within is not None)]))
    for day in range(0, 300, 6):
        shop.feed(cart_add(f"{day}d 09:00", cart=f"c{day}"))
    shop.advance(instant("299d 00:00"))

    windows = shop.customers[ANA].closed
    assert len(windows) == kept
    assert kept == 11 or not windows[0].triggers  # made small
    assert windows == sorted(windows, key=lambda window: window.start)


def test_clicks_cost_nothing_where_nobody_asks() -> None:
    """They are not even decoded."""
    assert "message.clicked" not in program().relevant
    assert "message.clicked" in shop_with(RESPONDED, until="10:00").program.relevant
    assert "message.clicked" not in TOPICS  # nothing else in these tests looks at them


def test_it_stays_away_after_another() -> None:
    """For its time after the decision, in both arms alike, then it is decided without anything happening."""
    for control_bp in (0, 10_000):
        first = replace(CART_RESCUE, control_bp=control_bp, exclusions=(Exclusion("cart_rescue", 90 * DAY),))
        second = replace(campaign("other", "abandoned_cart"), exclusions=(Exclusion("cart_rescue", 6 * DAY),))
        shop = simulation(program(moments=[ABANDONED_CART], campaigns=[first, second]))
        shop.feed(cart_add("09:00"), cart_add(LATER, cart="c2"))
        shop.advance(instant("6d 09:59:59"))
        assert reasons(shop)[-1] == "excluded"
        assert last_candidates(shop)["other"].saw == "cart_rescue"

        shop.advance(instant("6d 10:00"))
        assert reasons(shop)[-1] == "chosen"
