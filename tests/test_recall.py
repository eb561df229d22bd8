"""After the loss of every state, rebuilt from the inputs and our own decisions, it goes on as if nothing were lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from heapq import heappush
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.arbitration.campaign import After, Exclusion, Offer
from orchestrator.arbitration.policy import Cap
from orchestrator.customer import Customer, customer_from_bytes
from orchestrator.events import DAY, HOUR, SECOND, Event
from orchestrator.program import Program
from orchestrator.recall import hand_over, recall, stretches
from orchestrator.records import Decision
from orchestrator.reference import Reference
from orchestrator.simulation import Simulation
from tests.builders import (
    ANA,
    LAPSED,
    REFERENCE,
    WINBACK,
    campaign,
    cart_add,
    choices,
    compare,
    event,
    instant,
    line,
    message,
    order,
    policy,
    profile,
    program,
    reasons,
)
from tests.test_engine_properties import (
    BARRIERS,
    BUDGET,
    END,
    IN_ORDER,
    LATE,
    Arrival,
    barriers_of,
    check_audit,
    check_ids,
    check_windows,
    histories,
    said,
    strict_program,
)


def rebuilt(lost: Simulation, read: Iterable[Event], pieces: int = 1) -> Simulation:
    """Return a simulation that knows only what its inputs and its decisions say, at the instant where another stood.

    The history is folded in so many pieces. What was emitted is taken over, for the outputs were not lost.
    """
    found = Simulation(lost.program, lost.reference, max_lag=lost.max_lag, round_trip=True, start=lost.clock)
    found.decisions, found.triggers, found.outcomes = lost.decisions, lost.triggers, lost.outcomes
    found.active = lost.active
    revisions: dict[str, int] = {}
    for outcome in lost.outcomes:
        revisions[outcome.decision_id] = outcome.revision
    history: list[tuple[int, Event | Decision]] = [(event.time, event) for event in read]
    history += [(one.decided_at, one) for one in lost.decisions]
    history.sort(key=lambda item: item[0])
    known: dict[str, Customer] = {}
    for stretch in stretches(history, len(history) // pieces + 1):
        events: dict[str, list[Event]] = {}
        own: dict[str, list[Decision]] = {}
        for one in stretch:
            if isinstance(one, Event):
                events.setdefault(one.customer, []).append(one)
            else:
                own.setdefault(one.customer_id, []).append(one)
        for who in events.keys() | own.keys():
            customer = known.setdefault(who, Customer())
            ordered = sorted(events.get(who, []), key=Event.order)
            recall(lost.program, lost.reference, who, customer, ordered, own.get(who, []))
            known[who] = customer_from_bytes(customer.to_bytes())
    for who, customer in known.items():
        hand_over(lost.program, lost.reference, who, customer, lost.clock, revisions)
        found.customers[who] = customer
        heappush(found._timers, (customer.next_due, who))
    return found


def play(
    arrivals: Sequence[Arrival],
    barriers: Sequence[int],
    *,
    cut: int | None,
    pieces: int = 1,
    max_lag: int | None = None,
    compiled: Program | None = None,
    reference: Reference = REFERENCE,
) -> Simulation:
    """Return a simulation of arrivals with the given barriers, one long after, and a loss after `cut` of them."""
    simulated = Simulation(
        strict_program() if compiled is None else compiled, reference, max_lag=max_lag, round_trip=True
    )
    waiting = sorted(arrivals, key=lambda arrival: arrival.at)
    read: list[Event] = []
    for number, to in enumerate((*barriers, END)):
        ready = [arrival.event for arrival in waiting if arrival.at <= to]
        waiting = waiting[len(ready) :]
        read += ready
        simulated.feed(*ready)
        simulated.advance(to)
        if cut is not None and number == cut % (len(barriers) + 1):
            simulated = rebuilt(simulated, read, pieces)
    return simulated


CUTS = st.integers(0, 41)
PIECES = st.sampled_from((1, 1, 2, 5))


@BUDGET
@given(histories(LATE), BARRIERS, CUTS, PIECES, st.sampled_from((None, 5 * SECOND)))
def test_promises_survive_the_loss_of_every_state(
    arrivals: list[Arrival], offsets: list[int | None], cut: int, pieces: int, max_lag: int | None
) -> None:
    """No windows overlap, no id is repeated, no outcome is told twice as the same revision: whatever came late."""
    barriers = barriers_of(arrivals, offsets)
    simulated = play(arrivals, barriers, cut=cut, pieces=pieces, max_lag=max_lag)

    check_audit(simulated)
    check_windows(simulated)
    check_ids(simulated)


@BUDGET
@given(histories(IN_ORDER), BARRIERS, CUTS, PIECES)
def test_a_loss_does_not_show_where_nothing_was_late(
    arrivals: list[Arrival], offsets: list[int | None], cut: int, pieces: int
) -> None:
    """Everything said after it is what would have been said without it, byte for byte."""
    barriers = barriers_of(arrivals, offsets)
    lost = play(arrivals, barriers, cut=cut, pieces=pieces)

    assert said(lost) == said(play(arrivals, barriers, cut=None))


# --- what each fact is for --------------------------------------------------------------------------------------------

SHY = campaign("cart_rescue", "abandoned_cart", only_if=compare("orders_lifetime", ">=", 99))


def lived(*events: Event, until: str, **definitions: Any) -> tuple[Simulation, list[Event]]:
    """Return a simulation that has come to an instant, and what it has read."""
    read = [profile(), *events]
    simulated = Simulation(program(**definitions), REFERENCE, round_trip=True)
    simulated.run(sorted(read, key=Event.order), to=instant(until), every=HOUR)
    return simulated, read


def test_a_running_window_goes_on_to_its_end() -> None:
    """It holds the slot, counts what was bought before the loss and after it, and tells its outcome once."""
    before, read = lived(
        cart_add("09:00"), order("12:00", "o1", [line(price=700)]), cart_add("13:00", cart="c2"), until="20:00"
    )
    after = rebuilt(before, read)
    after.feed(order("21:00", "o2", [line(price=500)]))
    after.advance(instant("4d 00:00"))

    assert [one.campaign for one in choices(after)] == ["cart_rescue"]
    assert [(one.revision, one.orders, one.revenue) for one in after.outcomes] == [(0, 2, 1_200)]
    assert after.active == {}


def test_a_return_amends_a_window_that_was_closed_before_the_loss() -> None:
    """Its revision is newer than the one that was told."""
    before, read = lived(cart_add("09:00"), order("12:00", "o1", [line(price=700)]), until="5d 00:00")
    after = rebuilt(before, read)
    after.feed(event("order.cancelled", "5d 01:00", order_id="o1"))
    after.advance(instant("6d 00:00"))

    assert [(one.revision, one.revenue) for one in after.outcomes] == [(0, 700), (1, 0)]


def test_what_was_sent_counts_for_the_caps() -> None:
    """Our own messages by our own decisions, other people's by the input."""
    rules = policy(caps=(Cap(2, 7 * DAY),))
    before, read = lived(cart_add("09:00"), message("3d 11:00"), until="3d 12:00", rules=rules)
    after = rebuilt(before, read)
    after.feed(cart_add("3d 12:00", cart="c2"))
    after.advance(instant("3d 14:00"))

    assert reasons(after) == ["chosen", "cap"]
    assert customer_of(after).sent == customer_of(before).sent


def test_a_birthday_is_not_celebrated_twice() -> None:
    """Nor is one that came before the decisions that are kept."""
    read = [profile(born="1980-03-06")]
    before = Simulation(program(), REFERENCE, round_trip=True, start=instant("-2d 00:00"))
    before.run(read, to=instant("3d 00:00"), every=HOUR)
    assert reasons(before) == ["chosen"]

    after = rebuilt(before, read)
    after.advance(instant("300d 00:00"))
    assert reasons(after) == ["chosen"]

    before.decisions.clear()
    after = rebuilt(before, read)
    after.advance(instant("300d 00:00"))
    assert reasons(after) == []
    assert customer_of(after).instances("birthday_week").keys() == {"2018"}


def test_an_answered_cart_is_not_started_again() -> None:
    """By an item that comes late, after the loss."""
    before, read = lived(cart_add("09:00"), until="10:30")
    after = rebuilt(before, read)
    after.feed(cart_add("09:30"))
    after.advance(instant("5d 00:00"))

    assert reasons(after) == ["chosen"]


def test_late_truth_takes_back_what_was_decided_before_the_loss() -> None:
    """Once: what was taken back before it is not taken back again."""
    before, read = lived(cart_add("09:00"), until="10:30")
    late = order("09:30", event_id="late")
    after = rebuilt(before, read)
    after.feed(late)
    after.advance(instant("11:00"))

    assert reasons(after) == ["chosen", "void: cancelled"]
    assert [trigger.action for trigger in after.triggers] == ["send", "retract"]

    again = rebuilt(after, [*read, late])
    again.advance(instant("5d 00:00"))
    assert reasons(again) == ["chosen", "void: cancelled"]
    assert [one.void for one in again.outcomes] == [True]


def test_the_same_none_is_not_recorded_again() -> None:
    """The candidates and their reasons are as they were."""
    before, read = lived(cart_add("09:00"), until="12:00", campaigns=[SHY])
    after = rebuilt(before, read)
    after.advance(instant("2d 05:00"))

    assert reasons(after) == ["not_eligible"]


def test_an_open_moment_waits_for_its_chance() -> None:
    """As it did before the loss, and goes stale when it would have."""
    before, read = lived(cart_add("09:00"), until="12:00", campaigns=[SHY])
    after = rebuilt(before, read)
    assert customer_of(after).instances("abandoned_cart") == customer_of(before).instances("abandoned_cart")
    after.advance(instant("3d 00:00"))

    (over,) = after.decisions[-1].ended
    assert (over.state, over.reason, over.opened_at) == ("expired", "not_eligible", instant("10:00"))


def test_what_should_have_opened_and_did_not_never_does() -> None:
    """What ended it may be gone from the inputs: nothing is decided for the past."""
    before, read = lived(cart_add("09:00"), order("09:30"), until="12:00")
    after = rebuilt(before, [one for one in read if one.name != "order.placed"])
    after.advance(instant("5d 00:00"))

    assert after.decisions == []


def test_what_waits_goes_on_waiting() -> None:
    """Its time has not come."""
    before, read = lived(cart_add("09:00"), until="09:45")
    after = rebuilt(before, read)
    after.advance(instant("11:00"))

    assert [(one.decided_at, one.reason) for one in after.decisions] == [(instant("10:00"), "chosen")]


def test_decisions_about_definitions_that_are_gone_still_hold_the_slot() -> None:
    """A window is a promise, whatever became of its campaign."""
    before, read = lived(cart_add("09:00"), until="12:00")
    before.program = program(moments=[LAPSED], campaigns=[WINBACK])
    after = rebuilt(before, read)

    kept, lost = customer_of(after).window, customer_of(before).window
    assert kept is not None
    assert lost is not None
    assert (kept.decision_id, kept.end) == (lost.decision_id, lost.end)
    assert customer_of(after).sent == customer_of(before).sent
    after.advance(instant("5d 00:00"))
    assert [(one.campaign, one.revision) for one in after.outcomes] == [("cart_rescue", 0)]


def test_only_one_of_many_is_open_at_a_time_over_a_loss() -> None:
    """The last pick is among our decisions."""
    orders = [order(f"{day}d 09:00", lines=[line("SHAMPOO"), line("SOAP")]) for day in (0, 20, 40, 60)]
    before, read = lived(*orders, until="80d 00:00")
    undisturbed, _ = lived(*orders, until="80d 00:00")
    after = rebuilt(before, read)
    assert customer_of(after).picked == customer_of(before).picked
    after.advance(instant("200d 00:00"))
    undisturbed.advance(instant("200d 00:00"))

    assert any(one.campaign == "reorder_reminder" for one in choices(undisturbed))
    assert said(after)["ana"] == said(undisturbed)["ana"]


def customer_of(simulated: Simulation) -> Customer:
    """Return Ana."""
    return simulated.customers[ANA]


def test_what_became_of_campaigns_is_known_again() -> None:
    """Who responded to which, and what it gave away, for as long as others ask."""
    first = replace(
        campaign("cart_rescue", "abandoned_cart"),
        offer=Offer(("pct_10",), costs={"pct_10": (20, 1_000)}),
        exclusions=(Exclusion("cart_rescue", 90 * DAY),),
    )
    second = replace(campaign("follow_up", "abandoned_cart"), after=After("cart_rescue", "responded", 90 * DAY))
    click = event("message.clicked", "1d 00:00", campaign="cart_rescue")
    before, read = lived(cart_add("09:00"), click, order("1d 09:00"), until="4d 00:00", campaigns=[first, second])
    after = rebuilt(before, read)
    assert customer_of(after).closed == customer_of(before).closed
    assert customer_of(after).closed[0].clicked
    after.feed(cart_add("5d 09:00", cart="c2"))
    after.advance(instant("5d 10:00"))

    assert after.triggers[-1].campaign == "follow_up"
