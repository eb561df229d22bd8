"""The program as a whole: who is in which group follows from hashes, and what counts is all that was earned."""

from __future__ import annotations

import random
from typing import Any

import pytest

from orchestrator.arbitration.choice import PRIORITY, method_for
from orchestrator.arbitration.eligibility import held_out
from orchestrator.arbitration.policy import Policy
from orchestrator.events import DAY, ERASED, ORDERED, PROFILE, Event
from orchestrator.learning.program import Ledger, Whole, fill, periods, whole_program
from orchestrator.reference import Reference
from tests.builders import instant
from tests.measured import MEASURED

START, END = instant("2025-01-01T00:00"), instant("2025-07-01T00:00")
Q2 = instant("2025-04-01T00:00")
HELD = Policy(holdout_bp=2_000)
COMPARED = Policy(method="compare", compare={"priority": 3_000, "expected_value": 7_000})


def ordered(customer: str, at: int, margin: int, order_id: str = "") -> Event:
    """Return an order of one line."""
    line = {"sku": "S", "quantity": 1, "price": 3 * margin, "margin": margin}
    data = {"order_id": order_id or f"{customer}/{at}", "lines": [line]}
    return Event(ORDERED, customer, at, id=f"e/{customer}/{at}", data=data)


def undone(name: str, order: Event, *, lines: bool) -> Event:
    """Return an order's end, or the return of its lines."""
    data = {"order_id": order.data["order_id"], "lines": order.data["lines"] if lines else None}
    return Event(name, order.customer, order.time + DAY, data=data)


def window(customer: str, start: int, end: int, **changes: Any) -> dict[str, Any]:
    """Return an outcome, as far as it is read here."""
    return {
        "outcome_id": f"{customer}/{start}",
        "revision": 0,
        "customer_id": customer,
        "window_from": start,
        "window_until": end,
        "cost": 0,
    } | changes


def ledger(*events: Event, customers: int = 0) -> Ledger:
    """Return a ledger of some events, with so many customers who never did anything."""
    found = Ledger()
    profiles = [Event(PROFILE, f"c{number}", START) for number in range(customers)]
    for event in (*profiles, *events):
        found.event(event, Reference(), 3_000)
    return found


def year(seed: int, policy: Policy, effect: int, customers: int = 1_500) -> Whole:
    """Return a program over half a year in which all who are not held out, or are chosen for by value, earn more."""
    draw, events = random.Random(seed), list[Event]()
    for number in range(customers):
        customer, size = f"{seed}/{number}", draw.lognormvariate(6, 0.7)
        events.append(Event(PROFILE, customer, START))
        for week in range(-12, 26):
            at = START + week * 7 * DAY + int(draw.random() * 7 * DAY)
            more = 0 if at < START else effect * _treated(policy, customer, at)
            events.append(ordered(customer, at, int(draw.expovariate(1 / size)) + more))
    return whole_program(ledger(*events), policy, START, END)


def _treated(policy: Policy, customer: str, at: int) -> bool:
    return method_for(policy, customer) != PRIORITY if policy.compare else not held_out(policy, customer, at)


def test_hold_out_and_methods_cover_the_truth() -> None:
    """What was planted is in the interval: per period against the hold-out, per customer between the methods."""
    for policy, weeks in ((HELD, 13), (COMPARED, 26)):
        covered, widths = 0, list[float]()
        for seed in range(8):
            whole = year(seed, policy, 60, customers=600)
            one = whole.against_none if policy is HELD else whole.methods
            assert one is not None
            assert one.difference is not None
            assert one.ratio is not None
            covered += one.difference.low <= 60 * weeks <= one.difference.high
            widths.append(one.difference.high - one.difference.low)
            assert one.ratio.low < 1 + 60 / 700 < one.ratio.high
        print(f"{MEASURED}program, planted {60 * weeks}: covered {covered} of 8, width {sum(widths) / 8:,.0f}")
        assert covered == 8


def test_own_history_makes_the_program_surer() -> None:
    """What customers earned in the twelve weeks before explains a large part of what they earn."""
    one = year(1, COMPARED, 60).methods

    assert one is not None
    assert one.own_history > 0.5
    assert one.campaign == "expected_value against priority"


def test_nobody_is_left_out_who_did_nothing() -> None:
    """Whoever has a profile counts, with nothing earned: leaving them out would compare buyers with buyers."""
    whole = whole_program(ledger(ordered("c1", START + DAY, 700), customers=400), COMPARED, START, END)

    assert whole.customers == 400
    assert whole.methods is not None
    assert whole.methods.treatment.customers + whole.methods.control.customers == 400


def test_without_profiles_everybody_who_ever_ordered_counts() -> None:
    """Recorded files may hold orders only."""
    found = ledger(ordered("a", START - DAY, 1), ordered("b", START + DAY, 1))

    assert [customer for customer, _ in found.accounts()] == ["a", "b"]


def test_the_erased_are_gone() -> None:
    """They are in no group and in no sum."""
    found = ledger(ordered("c1", START, 700), Event(ERASED, "c1", START + DAY), customers=3)

    assert [customer for customer, _ in found.accounts()] == ["c0", "c2"]


@pytest.mark.parametrize(("name", "lines", "left"), [
    ("order.cancelled", False, 0), ("order.returned", False, 0), ("order.returned", True, 0),
])  # fmt: skip
def test_orders_that_were_undone_earn_nothing(name: str, lines: bool, left: int) -> None:
    """In whatever order they are told."""
    order = ordered("c0", START + DAY, 700)
    end = undone(name, order, lines=lines)

    for events in ((order, end), (end, order)):
        ((_, account),) = ledger(*events, customers=1).accounts()
        assert account.earned.between(START, END) == left


def test_an_order_counts_once() -> None:
    """Under its own id, however often it is told."""
    order = ordered("c0", START + DAY, 700)
    ((_, account),) = ledger(order, order, customers=1).accounts()

    assert account.earned.between(START, END) == 700


def test_costs_are_taken_off_unless_nothing_was_spent() -> None:
    """The newest revision of each window's cost, on the day of its decision."""
    windows = [window("c0", START + DAY, START + 8 * DAY, cost=90)]
    windows.append(windows[0] | {"revision": 1, "cost": 40})
    for net, expected in ((True, 660), (False, 700)):
        found = ledger(ordered("c0", START + DAY, 700), customers=1)
        fill(found, windows, net=net)
        ((customer, account),) = found.accounts()

        assert account.unit(customer, "treatment", START, END).gained == expected


def test_a_period_that_a_campaign_runs_into_is_left_out() -> None:
    """For who was held out since, it is not a time without campaigns; whoever was not is left out alike."""
    straddling = [window(f"c{number}", Q2 - DAY, Q2 + DAY) for number in range(30)]
    touching = [window(f"c{number}", Q2 - DAY, Q2) for number in range(30, 60)]
    found = ledger(customers=400)
    fill(found, straddling + touching, net=True)
    whole = whole_program(found, HELD, START, END)

    assert whole.straddling == 30
    assert whole.against_none is not None
    assert whole.against_none.treatment.windows + whole.against_none.control.windows == 2 * 400 - 30


def test_periods_are_those_of_the_engine() -> None:
    """The first and the last as far as the program ran in them."""
    begin, end = instant("2025-02-10T12:00"), instant("2025-08-01T00:00")

    assert list(periods(begin, end, "quarterly")) == [
        (begin, Q2), (Q2, instant("2025-07-01T00:00")), (instant("2025-07-01T00:00"), end),
    ]  # fmt: skip
    assert list(periods(begin, end, "never")) == [(begin, end)]


def test_without_groups_there_is_nothing_to_compare() -> None:
    """A policy without hold-out and comparison draws none."""
    whole = whole_program(ledger(customers=10), Policy(), START, END)

    assert (whole.against_none, whole.methods) == (None, None)


def test_too_few_held_out_are_not_enough_data() -> None:
    """And about how many more customers it takes is said."""
    one = whole_program(ledger(customers=100), HELD, START, Q2).against_none

    assert one is not None
    assert one.difference is None
    assert one.more_customers
