"""The program as a whole: who is in which group follows from hashes, and what counts is all that was earned."""

from __future__ import annotations

import random
from typing import Any

import pytest

from orchestrator.arbitration.choice import EXPECTED_VALUE, PRIORITY, method_for
from orchestrator.arbitration.eligibility import held_out
from orchestrator.arbitration.policy import Policy
from orchestrator.events import DAY, ERASED, ORDERED, PROFILE, Event
from orchestrator.learning.program import Ledger, UnmeasurableError, Whole, fill, periods, whole_program
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


def decided(customer: str, at: int, arm: str, until: int | None = None) -> dict[str, Any]:
    """Return a decision, as far as it is read here."""
    return {"customer_id": customer, "decided_at": at, "kind": "choice", "arm": arm, "window_until": until}


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


def test_without_profiles_only_who_had_ordered_before_is_compared() -> None:
    """Whether somebody orders at all is what campaigns change: to compare who did would hide that more do."""
    draw, events = random.Random(3), list[Event]()
    for number in range(4_000):
        customer = f"c{number}"
        events.append(ordered(customer, START - DAY, 100))
        if draw.random() < (0.1 if held_out(HELD, customer, START) else 0.2):
            events.append(ordered(customer, START + DAY, 10_000))
    newcomer = ordered("new", START + DAY, 10_000)
    whole = whole_program(ledger(newcomer, *events), HELD, START, Q2)
    one = whole.against_none

    assert whole.customers == 4_000
    assert one is not None and one.difference is not None
    assert one.difference.low <= 1_000 <= one.difference.high
    assert not one.difference.covers_zero
    assert whole.notes == ("No profile was read: only customers who had ordered before 2025-01-01 are compared.",)


def test_without_profiles_and_earlier_orders_nothing_is_said() -> None:
    """Nobody knows then who did not order."""
    with pytest.raises(UnmeasurableError, match=r"no profile was read, .* before 2025-01-01: .*later --since"):
        whole_program(ledger(ordered("b", START + DAY, 1)), HELD, START, Q2)


def test_the_erased_are_gone() -> None:
    """They are in no group and in no sum."""
    found = ledger(ordered("c1", START, 700), Event(ERASED, "c1", START + DAY), customers=3)

    assert [customer for customer, _ in found.accounts(START)] == ["c0", "c2"]


@pytest.mark.parametrize(("name", "lines", "left"), [
    ("order.cancelled", False, 0), ("order.returned", False, 0), ("order.returned", True, 0),
])  # fmt: skip
def test_orders_that_were_undone_earn_nothing(name: str, lines: bool, left: int) -> None:
    """In whatever order they are told."""
    order = ordered("c0", START + DAY, 700)
    end = undone(name, order, lines=lines)

    for events in ((order, end), (end, order)):
        ((_, account),) = ledger(*events, customers=1).accounts(START)
        assert account.earned.between(START, END) == left


def test_an_order_counts_once() -> None:
    """Under its own id, however often it is told."""
    order = ordered("c0", START + DAY, 700)
    ((_, account),) = ledger(order, order, customers=1).accounts(START)

    assert account.earned.between(START, END) == 700


def test_costs_are_taken_off_unless_nothing_was_spent() -> None:
    """The newest revision of each window's cost, on the day of its decision."""
    windows = [window("c0", START + DAY, START + 8 * DAY, cost=90)]
    windows.append(windows[0] | {"revision": 1, "cost": 40})
    for net, expected in ((True, 660), (False, 700)):
        found = ledger(ordered("c0", START + DAY, 700), customers=1)
        fill(found, windows, net=net)
        ((customer, account),) = found.accounts(START)

        assert account.unit(customer, "treatment", START, END, START).gained == expected


def test_a_period_that_a_campaign_runs_into_is_left_out() -> None:
    """For who was held out since, it is not a time without campaigns; whoever was not is left out alike."""
    written_to = [f"c{number}" for number in range(400) if not held_out(HELD, f"c{number}", Q2 - DAY)]
    straddling = [window(customer, Q2 - DAY, Q2 + DAY) for customer in written_to[:30]]
    touching = [window(customer, Q2 - DAY, Q2) for customer in written_to[30:60]]
    found = ledger(customers=400)
    fill(found, straddling + touching, net=True)
    whole = whole_program(found, HELD, START, END)

    assert whole.straddling == 30
    assert whole.against_none is not None
    assert whole.against_none.treatment.windows + whole.against_none.control.windows == 2 * 400 - 30


def weekly(policy: Policy, begins: int, days: int = 80, customers: int = 2_000) -> Ledger:
    """Return a program whose hold-out begins some day: an order of 1,000 a week, 200 more for who is written to."""
    events, windows = list[Event](), list[dict[str, Any]]()
    for number in range(customers):
        customer = f"c{number}"
        events.append(Event(PROFILE, customer, START))
        for at in range(START, START + days * DAY, 7 * DAY):
            writes = at < begins or not held_out(policy, customer, at)
            events.append(ordered(customer, at + DAY, 1_200 if writes else 1_000))
            if writes:
                windows.append(window(customer, at, at + 7 * DAY))
    found = ledger(*events)
    fill(found, windows, net=True)
    return found


def test_who_was_written_to_never_counts_as_held_out() -> None:
    """A hold-out that was introduced later is refused with the day to begin from; from there on the truth is found."""
    begins = START + 56 * DAY
    found = weekly(HELD, begins)
    held = sum(held_out(HELD, f"c{number}", START) for number in range(2_000))

    with pytest.raises(UnmeasurableError) as refused:
        whole_program(found, HELD, START, START + 80 * DAY)
    assert f"customers of the hold-out had {8 * held:,} windows before 2025-02-26" in str(refused.value)
    assert str(refused.value).endswith("--since 2025-02-26")

    later = whole_program(found, HELD, begins, found.until(HELD)).against_none
    assert later is not None and later.difference is not None
    assert later.difference.mean == pytest.approx(200 * 2)  # the third window has not ended when orders do


def test_window_that_runs_on_belies_the_hold_out_until_it_ends() -> None:
    """What was sent before the hold-out began is not undone by it."""
    customer = next(f"c{number}" for number in range(400) if held_out(HELD, f"c{number}", START))
    found = ledger(customers=400)
    fill(found, [window(customer, START, START + 9 * DAY)], net=True)

    with pytest.raises(UnmeasurableError, match=r"had 1 windows before 2025-01-10.*--since 2025-01-10"):
        whole_program(found, HELD, START + 5 * DAY, Q2)
    assert whole_program(found, HELD, START + 9 * DAY, Q2).straddling == 0


def test_own_history_ends_where_the_groups_were_drawn() -> None:
    """What was earned since is an effect already: to take it out would hide the same effect afterwards."""
    began, middle = instant("2025-04-01T00:00"), instant("2025-05-27T00:00")
    draw, events = random.Random(9), list[Event]()
    windows = [window("c0", START, START + DAY)] if not held_out(HELD, "c0", START) else []
    for number in range(3_000):
        customer, size = f"c{number}", draw.randrange(500, 1_500)
        events.append(Event(PROFILE, customer, START))
        for week in range(-12, 13):
            at = began + week * 7 * DAY
            more = 200 * (week >= 0 and not held_out(HELD, customer, at))
            events.append(ordered(customer, at, size + draw.randrange(200) + more))
    found = ledger(*events)
    fill(found, windows or [window("c1", START, START + DAY)], net=True)
    one = whole_program(found, HELD, middle, END).against_none

    assert one is not None and one.difference is not None
    assert one.own_history > 0.9
    assert one.difference.mean == pytest.approx(200 * 5, rel=0.05)


def test_hold_out_that_was_lowered_is_refused() -> None:
    """Who was held out then would count as written to; recorded decisions say who was."""
    found = ledger(customers=400)
    for number in range(400):
        found.decision(decided(f"c{number}", START + 9 * DAY, "holdout"))

    with pytest.raises(
        UnmeasurableError, match=r"who are not in the hold-out were held out \d+ times before 2025-01-11"
    ):
        whole_program(found, HELD, START, Q2)
    assert whole_program(found, HELD, START + 10 * DAY, Q2).customers == 400


@pytest.mark.parametrize("told", [
    {"chosen_by": "expected_value"}, {"chosen_by": "explore"}, {"chosen_by": ""},
    {"chosen_by": "priority", "propensity": 1.0, "eligible": ["a+@email", "b+@email"]},
])  # fmt: skip
def test_windows_of_the_other_method_are_refused(told: dict[str, Any]) -> None:
    """Where the shares of `compare` were others, a customer's windows were chosen by the other method."""
    other = PRIORITY if told["chosen_by"] in ("expected_value", "explore") else EXPECTED_VALUE
    customer = next(f"c{number}" for number in range(400) if method_for(COMPARED, f"c{number}") == other)
    found = ledger(customers=400)
    fill(found, [window(customer, START + DAY, START + 8 * DAY, **told)], net=True)

    with pytest.raises(UnmeasurableError, match=r"^1 windows were chosen .* before 2025-01-09: .*--since 2025-01-09$"):
        whole_program(found, COMPARED, START, Q2)


def test_value_that_knows_nothing_yet_chooses_by_priority() -> None:
    """That is no other method: it explores, and of a single option nobody can tell."""
    customer = next(f"c{number}" for number in range(400) if method_for(COMPARED, f"c{number}") == EXPECTED_VALUE)
    found = ledger(customers=400)
    told = {"chosen_by": "priority", "propensity": 0.95, "eligible": ["a+@email", "b+@email"]}
    alone = {"chosen_by": "priority", "propensity": 1.0, "eligible": ["a+@email"]}
    fill(
        found,
        [window(customer, START + day * DAY, START + (day + 1) * DAY, **one) for day, one in enumerate((told, alone))],
        net=True,
    )

    assert whole_program(found, COMPARED, START, Q2).methods is not None


def test_what_open_windows_cost_and_earn_is_left_out() -> None:
    """Costs are known when windows end: orders count as far as those are known, and what runs over a border is seen."""
    start, customers = instant("2025-03-04T00:00"), [f"c{number}" for number in range(2_000)]
    written_to = [one for one in customers if not held_out(HELD, one, start)]
    everybody = [
        window(one, start + day * DAY, start + (day + 28) * DAY, cost=500) for one in written_to for day in (0, 27)
    ]
    orders = [
        ordered(one, start + day * DAY, 1_000 + 7 * place % 300)
        for place, one in enumerate(customers)
        for day in (3, 52)
    ]
    found = ledger(*orders, customers=2_000)
    known = start + 52 * DAY
    fill(found, [one for one in everybody if one["window_until"] < known], net=True)
    for one in everybody:
        found.decision(decided(one["customer_id"], one["window_from"], "treatment", until=one["window_until"]))
    whole = whole_program(found, HELD, start, found.until(HELD))

    assert whole.until == known + 1 - 28 * DAY - HELD.default_disorder
    assert whole.against_none is not None and whole.against_none.difference is not None
    assert whole.against_none.difference.low <= -500 <= whole.against_none.difference.high
    assert whole.notes == (
        "The program is measured to 2025-03-27, not to the last order on 2025-04-25: what was spent is known of "
        "windows that have ended.",
    )


def test_length_of_windows_that_have_not_ended_counts() -> None:
    """A campaign that is new may take longer than all that ended."""
    found = ledger(ordered("c0", Q2, 1), customers=1)
    found.decision(decided("c0", Q2 - 30 * DAY, "control", until=Q2 + 26 * DAY))

    assert found.until(HELD) == Q2 + 1 - 56 * DAY - HELD.default_disorder
    with pytest.raises(UnmeasurableError, match=r"too early to measure from 2025-03-01 on: .*56 days"):
        whole_program(found, HELD, instant("2025-03-01T00:00"), found.until(HELD))


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
