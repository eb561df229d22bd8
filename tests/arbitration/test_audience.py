"""Campaigns whose channel is an audience: whom they add is removed again, once, whatever comes first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.arbitration.audience import MEMBER
from orchestrator.arbitration.campaign import Campaign, Send
from orchestrator.arbitration.policy import QuietHours
from orchestrator.customer import customer_from_bytes
from orchestrator.events import DAY, Event
from orchestrator.moments.rules import EventMatch
from orchestrator.program import Program
from orchestrator.simulation import Simulation
from tests.builders import (
    ABANDONED_CART,
    ANA,
    ORDER_PLACED,
    campaign,
    cart_add,
    choices,
    consent,
    event,
    instant,
    order,
    policy,
    profile,
    program,
    simulation,
)
from tests.test_engine_properties import check_audit
from tests.test_recall import rebuilt

ELSEWHERE = replace(
    campaign("elsewhere", "abandoned_cart", window=7 * DAY),
    send=Send("audience", "carts"),
    stop_when=(EventMatch(("cart.emptied",), "cart_id"),),
)


def of(elsewhere: Campaign = ELSEWHERE, **rules: Any) -> Program:
    """Return definitions with one audience for abandoned carts."""
    return program(moments=[ABANDONED_CART], campaigns=[elsewhere], rules=policy(**rules))


def added(compiled: Program | None = None, *, at: str = "09:00", agrees: bool = True, **more: Any) -> Simulation:
    """Return a simulation in which Ana left a cart behind, and time for it to be answered."""
    simulated = simulation(of() if compiled is None else compiled, known=False, **more)
    simulated.feed(profile(consents=[consent(channel="audience", granted=agrees)]), cart_add(at))
    simulated.advance(instant("12:00"))
    return simulated


def told(simulated: Simulation) -> list[tuple[str, int]]:
    """Return the actions that were emitted with their instants."""
    return [(one.action, one.decided_at) for one in simulated.triggers]


TEN, END = instant("10:00"), instant("10:00") + 7 * DAY


@pytest.mark.parametrize(
    ("happens", "at", "reason", "saw"),
    [
        (None, END, "expired", ""),
        (order("2d 09:00"), instant("2d 09:00"), "stopped", ORDER_PLACED),
        (event("cart.emptied", "3d 09:00", cart_id="c1"), instant("3d 09:00"), "stopped", "cart.emptied"),
        (event("cart.emptied", "3d 09:00", cart_id="c2"), END, "expired", ""),
    ],
    ids=["the window ends", "a purchase", "an exit", "an exit of another cart"],
)
def test_whoever_is_added_is_removed_once(happens: Event | None, at: int, reason: str, saw: str) -> None:
    """By a second record about the same, with a decision that says why; the slot is held to the end all the same."""
    simulated = added()
    if happens is not None:
        simulated.feed(happens)
        simulated.advance(happens.time)
    if reason == "stopped":
        simulated.feed(order("5d 09:00"))
    simulated.advance(instant("30d 00:00"))

    assert told(simulated) == [("add", TEN), ("remove", at)]
    add, remove = simulated.triggers
    assert (add.trigger_id, add.decision_id, add.template) == (remove.trigger_id, remove.decision_id, "carts")
    [removal] = [one for one in simulated.decisions if one.kind == "removal"]
    assert (removal.decided_at, removal.reason, removal.candidates[0].saw) == (at, reason, saw)
    assert removal.continues == add.decision_id
    assert [one.window_until for one in simulated.outcomes] == [END]
    assert simulated.customers[ANA].fact(MEMBER) is None
    check_audit(simulated)


def test_the_control_group_is_neither_added_nor_removed() -> None:
    """They are measured by their own window."""
    simulated = added(of(replace(ELSEWHERE, control_bp=10_000)))
    simulated.feed(order("2d 09:00"))
    simulated.advance(instant("30d 00:00"))

    assert [one.arm for one in choices(simulated)] == ["control"]
    assert simulated.triggers == []
    assert [one for one in simulated.decisions if one.kind == "removal"] == []
    check_audit(simulated)


def test_nobody_is_added_who_has_not_agreed() -> None:
    """Consent is asked for as for any channel."""
    simulated = added(agrees=False)

    assert simulated.triggers == []
    assert simulated.decisions[-1].reason == "no_consent"


def test_the_night_does_not_matter() -> None:
    """Nobody is woken by being added."""
    always = QuietHours(0, 24 * 60 - 1)
    quiet = added(of(quiet_hours=always))
    message = added(of(replace(ELSEWHERE, send=Send("email", "mail")), quiet_hours=always))

    assert told(quiet) == [("add", TEN)]
    assert told(message) == []


def test_late_truth_removes_instead_of_taking_back_a_message() -> None:
    """An order that was read late proves that the cart was not given up; who was removed before is not again."""
    simulated = added()
    simulated.feed(order("09:30"))
    simulated.advance(instant("30d 00:00"))

    assert [action for action, _ in told(simulated)] == ["add", "remove"]
    assert [one.kind for one in simulated.decisions if one.kind in ("void", "removal")] == ["void"]
    check_audit(simulated)

    again = added()
    again.feed(order("11:00"))
    again.advance(instant("12:30"))
    again.feed(order("09:30"))
    again.advance(instant("30d 00:00"))

    assert [action for action, _ in told(again)] == ["add", "remove"]
    check_audit(again)


def test_who_is_inside_when_the_campaign_goes_is_removed_when_the_window_ends() -> None:
    """Also by a worker that has loaded them from their bytes."""
    simulated = added()
    simulated.customers[ANA] = customer_from_bytes(simulated.customers[ANA].to_bytes())
    simulated.publish(of(replace(ELSEWHERE, name="another")))
    simulated.advance(instant("30d 00:00"))

    assert told(simulated) == [("add", TEN), ("remove", END)]
    check_audit(simulated)


@pytest.mark.parametrize("bought", [False, True], ids=["still a member", "removed before"])
def test_what_was_lost_and_rebuilt_goes_on_alike(bought: bool) -> None:
    """Who is a member is in our own decisions; nobody is removed a second time."""
    read = [profile(consents=[consent(channel="audience")]), cart_add("09:00")]
    lost = added()
    if bought:
        read.append(order("2d 09:00"))
        lost.feed(read[-1])
    lost.advance(instant("3d 00:00"))
    found = rebuilt(lost, read)
    found.advance(instant("30d 00:00"))

    assert told(found) == [("add", TEN), ("remove", instant("2d 09:00") if bought else END)]
    check_audit(found)
