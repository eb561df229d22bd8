"""The choice: which of several campaigns answers, what else that answers, and what it means for the others."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.events import DAY, HOUR
from tests.builders import (
    ABANDONED_CART,
    ANA,
    BIRTHDAY,
    CART_RESCUE,
    FEATURES,
    REPLENISHMENT,
    campaign,
    cart_add,
    choices,
    compare,
    ends,
    instant,
    last_candidates,
    line,
    order,
    profile,
    program,
    reasons,
    simulation,
)


def test_priority_decides() -> None:
    """Of two campaigns that may answer, the one with the higher priority does, and the other says who outranked it."""
    rivals = [
        campaign("quiet", "abandoned_cart", priority=10),
        campaign("loud", "abandoned_cart", priority=20),
    ]
    shop = simulation(program(campaigns=rivals))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))

    candidates = last_candidates(shop)
    assert (candidates["loud"].reason, candidates["loud"].propensity) == ("chosen", 1.0)
    assert (candidates["quiet"].reason, candidates["quiet"].saw, candidates["quiet"].propensity) == (
        "outranked",
        "loud",
        0.0,
    )


def test_ties_are_broken_by_expected_margin_then_by_name() -> None:
    """Equal priority never depends on the order in which something is stored."""
    moments = [replace(REPLENISHMENT, pick_one=None)]
    shop = simulation(program(moments=moments, campaigns=[campaign("b", REPLENISHMENT.name)]))
    shop.feed(order("09:00", lines=[line("SHAMPOO", 500, 100), line("SOAP", 500, 300)]))
    shop.advance(instant("40d 00:00"))
    assert shop.triggers[0].moment_key == "soap"

    rivals = [campaign(name, "abandoned_cart") for name in ("b", "a", "c")]
    shop = simulation(program(campaigns=rivals))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    assert shop.triggers[0].campaign == "a"


def test_the_same_moments_other_instances_are_already_answered() -> None:
    """One message answers all carts that are open when it is decided."""
    shop = simulation()
    shop.feed(cart_add("09:00", cart="c2"), cart_add("09:00", cart="c1"))
    shop.advance(instant("10:00"))

    assert [(over.moment_key, over.state, over.reason, over.by) for over in ends(shop)] == [
        ("c1", "acted", "chosen", "cart_rescue"),
        ("c2", "acted", "already_answered", "cart_rescue"),
    ]
    assert [candidate.reason for candidate in shop.decisions[0].candidates] == ["chosen", "already_answered"]
    assert len(shop.triggers) == 1


def test_an_instance_the_campaign_is_not_meant_for_is_not_answered_by_it() -> None:
    """A cart too small for the campaign goes on waiting when the message about another goes out."""
    picky = replace(CART_RESCUE, only_if=compare("cart_value", ">=", 4_000, "money"))
    shop = simulation(program(campaigns=[picky]))
    shop.feed(cart_add("09:00", cart="big"), cart_add("09:00", cart="small", total=3_000))
    shop.advance(instant("10:00"))

    assert [(over.moment_key, over.reason) for over in ends(shop)] == [("big", "chosen")]
    assert list(shop.customers[ANA].instances("abandoned_cart")) == ["small"]


def test_an_instance_is_answered_at_most_once() -> None:
    """What has had its answer is over: nothing else answers it when the slot is free again."""
    rivals = [
        campaign("first", "abandoned_cart", priority=60, window=HOUR),
        campaign("second", "abandoned_cart", window=HOUR),
    ]
    shop = simulation(program(campaigns=rivals))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("3d 00:00"))

    assert [trigger.campaign for trigger in shop.triggers] == ["first"]


def test_control_holds_the_slot_and_gets_no_trigger() -> None:
    """Held back on purpose is measured like treated: the same window, the same slot, no message."""
    shop = simulation(program(campaigns=[replace(CART_RESCUE, control_bp=10_000)]))
    shop.feed(cart_add("09:00"), order("1d 00:00"))
    shop.advance(instant("1d 00:00"))

    [decision] = shop.decisions
    assert (decision.arm, decision.reason, decision.campaign) == ("control", "control", "cart_rescue")
    assert decision.window_until == instant("3d 10:00")
    assert decision.trigger_id is None
    assert shop.triggers == []
    assert (shop.active[ANA].arm, shop.active[ANA].held_until) == ("control", instant("3d 10:00"))
    assert [(over.state, over.reason, over.by) for over in ends(shop)] == [("acted", "control", "cart_rescue")]

    shop.advance(instant("4d 00:00"))
    [outcome] = shop.outcomes
    assert (outcome.arm, outcome.orders, outcome.cost) == ("control", 1, 0)
    assert shop.active == {}


def test_control_is_drawn_for_the_winner_only() -> None:
    """Who would not have won is in nobody's control group."""
    rivals = [campaign("loser", "abandoned_cart", priority=1, control_bp=10_000), CART_RESCUE]
    shop = simulation(program(campaigns=rivals))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))

    assert [trigger.campaign for trigger in shop.triggers] == ["cart_rescue"]


def test_control_groups_have_their_size() -> None:
    """A control group of 20 % is 20 % of the decisions, by hash and without chance."""
    shop = simulation(program(campaigns=[replace(CART_RESCUE, control_bp=2_000)]))
    for number in range(2_000):
        name = f"customer-{number}"
        shop.feed(profile("08:00", name), cart_add("09:00", customer=name))
    shop.advance(instant("10:00"))

    arms = [decision.arm for decision in shop.decisions]
    assert 340 <= arms.count("control") <= 460
    assert arms.count("control") + arms.count("treatment") == 2_000


def test_the_slot_is_held_until_the_window_ends() -> None:
    """Whatever opens meanwhile waits, and the record names who holds the slot."""
    shop = simulation()
    shop.feed(cart_add("09:00"), cart_add("12:00", cart="c2"))
    shop.advance(instant("13:00"))

    assert reasons(shop) == ["chosen", "slot_held"]
    candidate = last_candidates(shop)["cart_rescue"]
    assert (candidate.moment_key, candidate.saw, candidate.retry_at) == ("c2", "cart_rescue", instant("3d 10:00"))


def test_slot_release_re_evaluates_all_open_moments_together() -> None:
    """When the slot is free again, everything that waits is compared in one decision."""
    short = [replace(one, measure=replace(one.measure, window=DAY)) for one in (CART_RESCUE, BIRTHDAY)]
    shop = simulation(program(campaigns=short))
    shop.feed(cart_add("09:00"), cart_add("12:00", cart="c2"), profile("14:00", born="1980-03-05"))
    shop.advance(instant("1d 09:59:59"))
    assert reasons(shop) == ["chosen", "slot_held", "slot_held"]

    shop.advance(instant("1d 10:00"))
    decision = shop.decisions[-1]
    assert decision.decided_at == instant("1d 10:00")
    assert {(c.campaign, c.reason) for c in decision.candidates} == {
        ("cart_rescue", "chosen"),
        ("birthday_offer", "outranked"),
    }


def test_windows_touch_and_never_overlap() -> None:
    """The next decision may be taken at the instant at which the window ends, not before."""
    shop = simulation(program(campaigns=[campaign("cart_rescue", "abandoned_cart", window=DAY)]))
    shop.feed(cart_add("09:00"), cart_add("12:00", cart="c2"))
    shop.advance(instant("5d 00:00"))

    first, second = choices(shop)
    assert first.window_until == second.decided_at == instant("1d 10:00")


def test_expired_keeps_the_last_reason() -> None:
    """A moment that went stale says what kept it from being answered: here, who held the slot all the time."""
    shop = simulation()
    shop.feed(cart_add("09:00"), cart_add("12:00", cart="c2"))
    shop.advance(instant("3d 00:00"))

    over = ends(shop)[-1]
    assert (over.moment_key, over.state, over.reason, over.by) == ("c2", "expired", "slot_held", "cart_rescue")


def test_outranked_becomes_slot_held() -> None:
    """What lost a decision waits for the slot that the winner took."""
    moments = [ABANDONED_CART, replace(ABANDONED_CART, name="small_talk", cancelled_by=())]
    rivals = [CART_RESCUE, campaign("small_talk", "small_talk", priority=1)]
    shop = simulation(program(moments=moments, campaigns=rivals))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("3d 00:00"))

    assert [(over.moment, over.reason, over.by) for over in ends(shop)] == [
        ("abandoned_cart", "chosen", "cart_rescue"),
        ("small_talk", "slot_held", "cart_rescue"),
    ]


def test_none_is_recorded_once_when_nothing_changes() -> None:
    """A campaign that is not meant for somebody is looked at every day and recorded once."""
    never = replace(CART_RESCUE, only_if=compare("orders_lifetime", ">=", 100))
    lasting = replace(ABANDONED_CART, lasts=30 * DAY)
    shop = simulation(program(moments=[lasting], campaigns=[never]))
    shop.feed(cart_add("09:00"))
    for day in range(1, 29):
        shop.advance(instant(f"{day}d 00:00"))

    assert reasons(shop) == ["not_eligible"]
    assert shop.customers[ANA].window is None


def test_what_ended_meanwhile_is_recorded_with_a_none_that_did_not_change() -> None:
    """A moment that ends at the instant of the daily look is not lost because that look finds nothing new."""
    never = replace(CART_RESCUE, only_if=compare("orders_lifetime", ">=", 100))
    lasting = replace(ABANDONED_CART, lasts=30 * DAY)
    shop = simulation(program(moments=[lasting], campaigns=[never]))
    shop.feed(cart_add("09:00"), cart_add("1d 09:00", cart="low", total=1))
    shop.advance(instant("1d 12:00"))

    assert [(over.moment_key, over.state) for over in ends(shop)] == [("low", "unmet")]


def test_none_is_looked_at_again_after_a_day() -> None:
    """A feature that has changed meanwhile is seen at the next look, a day later."""
    regulars = replace(CART_RESCUE, only_if=compare("orders_lifetime", ">=", 1))
    lasting = replace(ABANDONED_CART, lasts=30 * DAY)
    shop = simulation(program(moments=[lasting], campaigns=[regulars], features=FEATURES))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("12:00"))
    shop.customers[ANA].set_fact(shop.program.features["orders_lifetime"].name, 1)
    shop.advance(instant("3d 00:00"))

    assert [(decision.reason, decision.decided_at) for decision in shop.decisions] == [
        ("not_eligible", instant("10:00")),
        ("chosen", instant("1d 10:00")),
    ]
