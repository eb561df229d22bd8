"""May this campaign speak to this customer now: hold-out, caps, quiet hours and audience, in their order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.arbitration.policy import Cap, QuietHours
from orchestrator.events import DAY, HOUR
from tests.builders import (
    ABANDONED_CART,
    ANA,
    CART_RESCUE,
    FEATURES,
    campaign,
    cart_add,
    compare,
    ends,
    instant,
    last_candidates,
    message,
    order,
    policy,
    profile,
    program,
    reasons,
    simulation,
)

AT_NIGHT = QuietHours(21 * 60, 9 * 60)


def test_hold_out_gets_nothing_and_takes_no_slot() -> None:
    """Who is held out in this period is tracked and left alone; the moment is over."""
    shop = simulation(program(rules=policy(holdout_bp=10_000)))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))

    [decision] = shop.decisions
    assert (decision.arm, decision.reason, decision.window_until) == ("holdout", "holdout", None)
    assert decision.candidates[0].saw == "2017Q1"
    assert [(over.state, over.reason) for over in ends(shop)] == [("acted", "holdout")]
    assert shop.triggers == []
    assert shop.active == {}


def test_the_hold_out_rotates() -> None:
    """Another quarter is another draw: about half of those held out at 50 % are held out again."""
    shop = simulation(program(rules=policy(holdout_bp=5_000)))
    names = [f"customer-{number}" for number in range(400)]
    for name in names:
        shop.feed(profile("08:00", name), cart_add("09:00", customer=name))
        shop.feed(cart_add("2017-04-01T09:00", cart="c2", customer=name))
    shop.advance(instant("2017-04-02T00:00"))

    held: dict[str, set[str]] = {"2017Q1": set(), "2017Q2": set()}
    for decision in shop.decisions:
        if decision.arm == "holdout":
            held[decision.candidates[0].saw].add(decision.customer_id)
    assert 160 <= len(held["2017Q1"]) <= 240
    assert 60 <= len(held["2017Q1"] & held["2017Q2"]) <= 140


def test_quiet_hours_delay_the_decision_not_the_trigger() -> None:
    """At night nothing is decided; in the morning it is, and the window starts then."""
    shop = simulation(program(rules=policy(quiet_hours=AT_NIGHT)))
    shop.feed(cart_add("20:30"))
    shop.advance(instant("1d 08:59:59"))
    assert reasons(shop) == ["quiet_hours"]
    assert shop.active == {}

    shop.advance(instant("1d 09:00"))
    [trigger] = shop.triggers
    assert (trigger.opened_at, trigger.decided_at) == (instant("21:30"), instant("1d 09:00"))
    assert shop.active[ANA].held_from == instant("1d 09:00")


def test_quiet_hours_are_on_the_customers_own_clock() -> None:
    """The zone of the profile decides, else the country's, else the policy's; never none."""
    rules = policy(quiet_hours=AT_NIGHT, zone_fallback="Europe/Madrid")
    for zone, country, expected in (
        ("America/New_York", None, "14:00"),
        (None, "JP", "1d 00:00"),
        (None, None, "13:00"),
        ("Mars/Olympus", None, "13:00"),
    ):
        shop = simulation(program(rules=rules), known=False)
        shop.feed(profile(zone=zone, country=country), cart_add("12:00"))
        shop.advance(instant("2d 00:00"))

        assert [trigger.decided_at for trigger in shop.triggers] == [instant(expected)], zone


def test_a_purchase_during_quiet_hours_ends_the_open_moment() -> None:
    """Nothing is queued: what is no longer true in the morning is not sent in the morning."""
    shop = simulation(program(rules=policy(quiet_hours=AT_NIGHT)))
    shop.feed(cart_add("20:30"), order("23:00"))
    shop.advance(instant("2d 00:00"))

    assert reasons(shop) == ["quiet_hours", "closing: cancelled"]


def test_caps_delay_the_decision() -> None:
    """The second message of a day waits until the first is a day old."""
    rules = policy(caps=(Cap(1, DAY),))
    shop = simulation(program(rules=rules, campaigns=[campaign("cart_rescue", "abandoned_cart", window=HOUR)]))
    shop.feed(cart_add("09:00"), cart_add("15:00", cart="c2"))
    shop.advance(instant("1d 09:59:59"))
    assert reasons(shop) == ["chosen", "cap"]
    assert last_candidates(shop)["cart_rescue"].saw == "1 in 1d, at most 1"

    shop.advance(instant("1d 10:00"))
    assert reasons(shop) == ["chosen", "cap", "chosen"]


def test_caps_count_what_others_send() -> None:
    """A message of a campaign that is not ours counts, one that names our trigger does not count twice."""
    shop = simulation(program(rules=policy(caps=(Cap(2, DAY),))))
    shop.feed(message("08:00"), message("08:30", trigger_id="ours"), cart_add("09:00"))
    shop.advance(instant("10:00"))
    assert reasons(shop) == ["chosen"]

    shop = simulation(program(rules=policy(caps=(Cap(2, DAY),))))
    shop.feed(message("08:00"), message("08:30"), cart_add("09:00"))
    shop.advance(instant("10:00"))
    assert reasons(shop) == ["cap"]


def test_a_cap_on_a_channel_counts_that_channel() -> None:
    """A text message does not use up the e-mails."""
    rules = policy(caps=(Cap(1, 30 * DAY, "email"), Cap(1, DAY, "sms")))
    shop = simulation(program(rules=rules))
    shop.feed(message("08:00", "sms"), cart_add("09:00"))
    shop.advance(instant("10:00"))

    assert reasons(shop) == ["chosen"]
    assert [check.saw for check in last_candidates(shop)["cart_rescue"].checks if check.check == "cap"] == [
        "0 in 30d, at most 1"
    ]


def test_control_counts_no_message() -> None:
    """Nobody wrote to control, so caps know of nothing."""
    shop = simulation(program(campaigns=[replace(CART_RESCUE, control_bp=10_000)]))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))

    assert shop.customers[ANA].sent == []


@pytest.mark.parametrize(
    ("value", "reason"), [(5_000, "chosen"), (3_000, "not_eligible")], ids=["meant_for_them", "not_meant_for_them"]
)
def test_the_audience_is_asked_last(value: int, reason: str) -> None:
    """The record has every check in its order, up to the first that failed, each with the value it saw."""
    rules = policy(caps=(Cap(9, DAY),), quiet_hours=AT_NIGHT, holdout_bp=1)
    picky = replace(CART_RESCUE, only_if=compare("cart_value", ">=", 4_000, "money"))
    shop = simulation(program(rules=rules, campaigns=[picky]))
    shop.feed(cart_add("09:00", total=value))
    shop.advance(instant("10:00"))

    candidate = last_candidates(shop)["cart_rescue"]
    assert candidate.reason == reason
    assert [(check.check, check.saw) for check in candidate.checks] == [
        ("no_consent", "email/marketing granted"),
        ("holdout", "2017Q1"),
        ("slot_held", "free"),
        ("cap", "0 in 1d, at most 9"),
        ("quiet_hours", "10:00 UTC"),
        ("not_eligible", f"cart_value = {value / 100:.2f}"),
    ]


def test_an_unknown_audience_fails_closed() -> None:
    """An audience that cannot be evaluated is no audience, and is asked again after a day."""
    unknown = replace(CART_RESCUE, only_if=compare("reorder_due", ">", 0))
    shop = simulation(program(moments=[ABANDONED_CART], campaigns=[unknown], features=FEATURES))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))

    candidate = last_candidates(shop)["cart_rescue"]
    assert (candidate.reason, candidate.retry_at) == ("unknown_value", instant("1d 10:00"))


def test_some_quiet_after_each_campaign() -> None:
    """Its measurement has ended; the next one comes when the rest is over, for the control group too."""
    for control_bp in (0, 10_000):
        short = campaign("cart_rescue", "abandoned_cart", window=HOUR, control_bp=control_bp)
        shop = simulation(program(rules=policy(rest=5 * HOUR), campaigns=[short]))
        shop.feed(cart_add("09:00"), cart_add("12:00", cart="c2"))
        shop.advance(instant("15:59:59"))
        assert reasons(shop)[1:] == ["rest"]
        assert last_candidates(shop)["cart_rescue"].saw == "cart_rescue ended 2h ago"
        assert shop.outcomes[0].window_until == instant("11:00")

        shop.advance(instant("16:00"))
        assert reasons(shop)[2:] == [reasons(shop)[0]]


def test_rivals_are_waited_for() -> None:
    """A moment that opens within the time takes part in the decision; who comes first is no better."""
    first, second = campaign("first", "abandoned_cart"), campaign("second", "birthday_week", priority=90)
    for wait, winner in ((0, "first"), (HOUR, "second")):
        shop = simulation(program(rules=policy(collect_for=wait), campaigns=[first, second]), known=False)
        shop.feed(profile(born="1980-03-07"), cart_add("07:30"))  # the birthday week begins at nine
        shop.advance(instant("1d 00:00"))

        assert [trigger.campaign for trigger in shop.triggers] == [winner]
        assert shop.triggers[0].decided_at == instant("08:30") + wait


def test_a_moment_that_ends_while_rivals_are_waited_for_is_not_answered() -> None:
    """The decision is taken on what is true then."""
    shop = simulation(program(rules=policy(collect_for=HOUR)))
    shop.feed(cart_add("07:30"), order("09:00"))
    shop.advance(instant("1d 00:00"))

    assert reasons(shop) == ["closing: cancelled"]


def test_a_hold_out_that_does_not_rotate() -> None:
    """The same people in every period."""
    shop = simulation(program(rules=policy(holdout_bp=5_000, holdout_rotate="never")))
    for name in (f"customer-{number}" for number in range(100)):
        shop.feed(profile("08:00", name), cart_add("09:00", customer=name))
        shop.feed(cart_add("2018-04-01T09:00", cart="c2", customer=name))
    shop.advance(instant("2018-04-02T00:00"))

    held = [decision.customer_id for decision in shop.decisions if decision.arm == "holdout"]
    assert len(held) == 2 * len(set(held))
    assert all(held.count(name) == 2 for name in held)
    assert 30 <= len(held) // 2 <= 70
