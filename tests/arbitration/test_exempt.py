"""Transactional and legal messages: no slot, no cap, no morning; consent all the same, and every one on record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.arbitration.campaign import Campaign, Send
from orchestrator.arbitration.policy import Cap, QuietHours
from orchestrator.events import DAY, HOUR, MINUTE
from orchestrator.moments.rules import EventMatch
from orchestrator.simulation import Simulation
from tests.builders import (
    ABANDONED_CART,
    ANA,
    CART_RESCUE,
    ORDER_PLACED,
    cart_add,
    compare,
    consent,
    instant,
    order,
    policy,
    profile,
    program,
    simulation,
    unsubscribed,
)
from tests.test_engine_properties import check_audit

RECEIPT = Campaign(
    "receipt",
    (),
    Send("email", "receipt", purpose="transactional"),
    replace(CART_RESCUE.measure, window=0),
    0,
    0,
    message_class="transactional",
    on=(EventMatch((ORDER_PLACED,), "order_id"),),
)


def shop(
    receipt: Campaign = RECEIPT, *, max_lag: int | None = None, rescue: Any = CART_RESCUE, **rules: Any
) -> Simulation:
    """Return a simulation with a receipt beside a cart's rescue, in which Ana agreed to both."""
    compiled = program(moments=[ABANDONED_CART], campaigns=[rescue, receipt], rules=policy(**rules))
    simulated = simulation(compiled, known=False, max_lag=max_lag)
    service = {**consent(), "purpose": "transactional"}
    simulated.feed(profile(consents=[consent(), service]))
    return simulated


def receipts(simulated: Simulation) -> list[tuple[str, int]]:
    """Return the orders that were confirmed, each with the instant."""
    return [(one.moment_key, one.decided_at) for one in simulated.triggers if one.campaign == "receipt"]


def test_an_order_is_confirmed_at_once() -> None:
    """The trigger says what it is about, of which class it is, and that nothing is measured."""
    simulated = shop()
    simulated.feed(order("09:00", "o1"))
    simulated.advance(instant("10:00"))

    [trigger] = simulated.triggers
    assert (trigger.moment, trigger.moment_key, trigger.content) == (ORDER_PLACED, "o1", {"order_id": "o1"})
    assert trigger.message_class == "transactional"
    assert trigger.decided_at == trigger.window_until == instant("09:00")
    assert trigger.valid_until == instant("1d 09:00")
    [decision] = simulated.decisions
    assert (decision.kind, decision.arm, decision.trigger_id) == ("exempt", "treatment", trigger.trigger_id)
    assert [check.check for check in decision.candidates[0].checks] == ["no_consent"]
    assert simulated.customers[ANA].window is None
    check_audit(simulated)


def test_it_waits_for_no_slot_no_cap_and_no_morning() -> None:
    """Three orders on a quiet day in the window of a campaign, and in its control group too."""
    for share in (0, 10_000):
        rescue = replace(CART_RESCUE, control_bp=share)
        simulated = shop(rescue=rescue, caps=(Cap(1, DAY),), quiet_hours=QuietHours(11 * 60, 23 * 60))
        simulated.feed(cart_add("09:00"), *(order(f"{hour}:00", f"o{hour}") for hour in (12, 13, 14)))
        simulated.advance(instant("1d 00:00"))

        assert [key for key, _ in receipts(simulated)] == ["o12", "o13", "o14"]
        assert len(simulated.customers[ANA].sent) == (0 if share else 1)
        check_audit(simulated)


def test_who_is_held_out_is_confirmed_as_well() -> None:
    """The hold-out is about advertising."""
    simulated = shop(holdout_bp=10_000)
    simulated.feed(cart_add("09:00"), order("12:00", "o1"))
    simulated.advance(instant("1d 00:00"))

    assert [key for key, _ in receipts(simulated)] == ["o1"]
    check_audit(simulated)


def test_it_counts_neither_for_caps_nor_as_a_message() -> None:
    """So it keeps no campaign away."""
    simulated = shop(caps=(Cap(1, DAY),))
    simulated.feed(order("08:00", "o1"), cart_add("09:00"))
    simulated.advance(instant("1d 00:00"))

    assert [one.campaign for one in simulated.triggers] == ["receipt", "cart_rescue"]


def test_unsubscribing_from_advertising_does_not_end_it() -> None:
    """Consent is per purpose."""
    simulated = shop()
    simulated.feed(unsubscribed("08:00"), order("09:00", "o1"))
    simulated.advance(instant("1d 00:00"))

    assert [key for key, _ in receipts(simulated)] == ["o1"]


@pytest.mark.parametrize("receipt", [replace(RECEIPT, send=Send("sms", "receipt", purpose="transactional")), RECEIPT])
def test_without_consent_there_is_none(receipt: Campaign) -> None:
    """No record of consent for the channel and purpose: no message, and a record that says so."""
    simulated = shop(receipt)
    if receipt is RECEIPT:
        refused = {**consent(granted=False, at="07:00"), "purpose": "transactional"}
        simulated.feed(profile("07:00", consents=[refused]))
    simulated.feed(order("09:00", "o1"))
    simulated.advance(instant("1d 00:00"))

    assert simulated.triggers == []
    assert [(one.arm, one.reason) for one in simulated.decisions] == [("none", "no_consent")]
    check_audit(simulated)


def test_conditions_are_asked_at_the_event() -> None:
    """Who it is for, and what must be true when it goes out."""
    first = compare("orders_lifetime", "<=", 1)
    for receipt in (replace(RECEIPT, only_if=first), replace(RECEIPT, recheck_before_send=first)):
        simulated = shop(receipt)
        simulated.feed(order("09:00", "o1"), order("10:00", "o2"))
        simulated.advance(instant("1d 00:00"))

        assert [key for key, _ in receipts(simulated)] == ["o1"]
        assert simulated.decisions[-1].reason == "not_eligible"


def test_an_event_told_twice_is_answered_once() -> None:
    """Also under the same id only."""
    simulated = shop()
    placed = order("09:00", "o1")
    simulated.feed(placed, placed)
    simulated.advance(instant("10:00"))
    simulated.feed(placed)
    simulated.advance(instant("11:00"))

    assert [key for key, _ in receipts(simulated)] == ["o1"]


def test_after_an_outage_it_goes_out_now_or_is_too_old() -> None:
    """As of when it really goes out; who ordered two days ago need not be told."""
    simulated = shop(max_lag=MINUTE, default_accept_late=3 * DAY)
    simulated.advance(instant("06:00"))
    simulated.feed(order("09:00", "o1"), order("2d 09:00", "o2"))
    simulated.advance(instant("2d 12:00"))

    assert receipts(simulated) == [("o2", instant("2d 12:00") - MINUTE)]
    assert [one.reason for one in simulated.decisions] == ["too_old", "chosen"]


def test_what_comes_too_late_is_a_fact_only() -> None:
    """As for moments."""
    simulated = shop(default_accept_late=HOUR)
    simulated.advance(instant("12:00"))
    simulated.feed(order("09:00", "o1"))
    simulated.advance(instant("13:00"))

    assert simulated.decisions == []
