"""Promises between campaigns that hold for every history: who comes after whom, and who stays away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.arbitration.campaign import After, Exclusion
from orchestrator.events import DAY, HOUR, SENT, Event
from orchestrator.program import Program
from orchestrator.records import Decision
from orchestrator.simulation import Simulation
from tests import test_engine_properties
from tests.builders import ABANDONED_CART, campaign, policy, program
from tests.test_engine_properties import (
    BARRIERS,
    DISORDER,
    IN_ORDER,
    LATE,
    PEOPLE,
    Arrival,
    barriers_of,
    check_audit,
    check_instances,
    check_windows,
    histories,
    play,
    said,
)

BUDGET = settings(test_engine_properties.BUDGET, max_examples=60)
WITHIN, APART, REST, AMEND = 8 * DAY, 4 * DAY, 6 * HOUR, 2 * DAY
KINDS = st.sampled_from(("cart", "cart", "cart", "cart", "order", "order", "return", "cancel"))


def with_after(outcome: str) -> Program:
    """Return two campaigns that come by themselves, one that comes after the first and one that stays away from it."""
    rules = policy(default_disorder=DISORDER, amend_for=AMEND, rest=REST)
    first = campaign("first", "abandoned_cart", priority=60, window=DAY, control_bp=3_000)
    return program(
        moments=[ABANDONED_CART],
        campaigns=[
            replace(first, exclusions=(Exclusion("first", APART),)),
            replace(campaign("apart", "abandoned_cart", window=HOUR), exclusions=(Exclusion("first", APART),)),
            replace(first, name="after", priority=90, after=After("first", outcome, WITHIN)),
        ],
        rules=rules,
    )


def taken(simulated: Simulation, who: str, campaign: str) -> list[Decision]:
    """Return the decisions that gave somebody's slot to a campaign."""
    return [
        one for one in simulated.decisions if (one.customer_id, one.campaign, one.kind) == (who, campaign, "choice")
    ]


def responded(decision: Decision, events: Sequence[Event], at: int) -> bool:
    """Return by brute force whether something ordered in a window was still kept at an instant."""
    paid: dict[str, int] = {}
    start, end = decision.decided_at, decision.window_until or 0
    for one in sorted(events, key=Event.order):
        order_id = one.data.get("order_id")
        if one.customer != decision.customer_id or one.time > at or order_id is None or one.time > end + AMEND:
            continue
        if one.name == "order.placed" and start <= one.time < end:
            paid.setdefault(order_id, one.data["total"])
        elif one.name == "order.returned" and order_id in paid:
            paid[order_id] -= sum(line["price"] for line in one.data["lines"])
        elif one.name == "order.cancelled":
            paid.pop(order_id, None)
    return any(kept > 0 for kept in paid.values())


@pytest.mark.parametrize("outcome", ["received", "responded", "ignored"])
def test_who_comes_after_another(outcome: str) -> None:
    """Exactly those of whom a count by brute force says that they received, responded or ignored."""
    seen: Counter[str] = Counter()

    @BUDGET
    @given(histories(IN_ORDER, KINDS), BARRIERS)
    def check(arrivals: list[Arrival], offsets: list[int | None]) -> None:
        simulated = play(arrivals, barriers_of(arrivals, offsets), with_after(outcome))
        events = [arrival.event for arrival in arrivals]
        for decision in simulated.decisions:
            for candidate in decision.candidates:
                checks = [one for one in candidate.checks if one.check == "not_eligible"]
                if candidate.campaign != "after" or not checks:
                    continue
                at = decision.decided_at
                earlier = [one for one in taken(simulated, decision.customer_id, "first") if one.decided_at < at]
                mine = [one for one in earlier if one.arm == "treatment" and one.decided_at >= at - WITHIN]
                answers = {one.decision_id: responded(one, events, at) for one in mine}
                wanted = {
                    "received": bool(mine),
                    "responded": any(answers.values()),
                    "ignored": not all(answers.values()),
                }
                assert checks[-1].passed == wanted[outcome], checks[-1].saw
                seen[candidate.reason] += 1

    check()
    assert {"chosen", "not_eligible"} <= set(seen), seen


@BUDGET
@given(histories(LATE, KINDS), BARRIERS, st.sampled_from((0, HOUR)))
def test_nobody_comes_within_the_time_it_stays_away(
    arrivals: list[Arrival], offsets: list[int | None], ahead: int
) -> None:
    """Nor within the rest after any campaign, whatever is late; and every other promise holds as well."""
    simulated = play(arrivals, barriers_of(arrivals, offsets), with_after("ignored"), ahead=ahead)
    check_audit(simulated)
    check_windows(simulated)
    check_instances(simulated)
    for who in PEOPLE:
        firsts = [one.decided_at for one in taken(simulated, who, "first")]
        for kept_away in (*taken(simulated, who, "apart"), *taken(simulated, who, "first")):
            assert not any(0 < kept_away.decided_at - first < APART for first in firsts)
        held = [one for one in simulated.decisions if one.customer_id == who and one.window_until is not None]
        for before, later in pairwise(held):
            assert later.decided_at >= (before.window_until or 0) + REST


@BUDGET
@given(histories(LATE, KINDS), BARRIERS)
def test_what_is_remembered_survives_a_crash(arrivals: list[Arrival], offsets: list[int | None]) -> None:
    """A state that went through bytes after every step decides what one decides that never left memory."""
    crashed = play(arrivals, barriers_of(arrivals, offsets), with_after("responded"), round_trip=True)
    alive = play(arrivals, barriers_of(arrivals, offsets), with_after("responded"), round_trip=False)

    assert said(crashed) == said(alive)
    assert SENT not in {arrival.event.name for arrival in arrivals}
