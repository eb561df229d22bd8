"""Promises that hold for every history: whatever is late, repeated or out of order, and wherever the barriers fall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.arbitration.policy import Cap, Policy, QuietHours
from orchestrator.audit import audit
from orchestrator.civil import period_of
from orchestrator.customer import OPEN
from orchestrator.events import DAY, HOUR, MINUTE, SECOND, Event
from orchestrator.identity import draw
from orchestrator.program import Program
from orchestrator.records import to_record
from orchestrator.reference import Reference
from orchestrator.simulation import Simulation
from tests.builders import (
    ABANDONED_CART,
    CAMPAIGNS,
    REFERENCE,
    campaign,
    cart_add,
    cart_emptied,
    consent,
    event,
    instant,
    line,
    message,
    order,
    policy,
    profile,
    program,
    unsubscribed,
)

PEOPLE = ("ana", "ben")
BEGIN = instant("00:00")
HOLDOUT_BP = 3_000
DISORDER = MINUTE

BUDGET = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
"""The same histories in every run, so that a red build is red for a reason; `--hypothesis-seed` explores others."""

STRICT: Policy = policy(
    default_disorder=DISORDER,
    holdout_bp=HOLDOUT_BP,
    holdout_rotate="monthly",
    caps=(Cap(2, DAY), Cap(4, 7 * DAY)),
    quiet_hours=QuietHours(22 * 60, 6 * 60),
)
RIVALS = [
    replace(one, control_bp=4_000, measure=replace(one.measure, window=window))
    for one, window in zip(CAMPAIGNS, (3 * HOUR, 2 * DAY, DAY, DAY), strict=True)
] + [campaign("nudge", "abandoned_cart", priority=85, window=HOUR, channel="sms", control_bp=1_000)]


def strict_program() -> Program:
    """Return all four moments with rivals, control groups, a hold-out, caps, quiet hours and stragglers."""
    return program(campaigns=RIVALS, rules=STRICT)


@dataclass(frozen=True)
class Arrival:
    """An event, and how much later than it happened it is read."""

    event: Event
    delay: int = 0

    @property
    def at(self) -> int:
        """The instant from which a barrier includes it."""
        return self.event.time + self.delay


GAPS = st.sampled_from((
    0, 0, SECOND, 30 * SECOND, DISORDER, 10 * MINUTE, 10 * MINUTE, 30 * MINUTE, 59 * MINUTE, HOUR, HOUR + SECOND,
    6 * HOUR, DAY, 3 * DAY, 20 * DAY,
))  # fmt: skip
END = BEGIN + 40 * 20 * DAY + 100 * DAY
"""After the longest history, and everything it could set waiting but next year's birthday."""

KINDS = st.sampled_from(
    ("cart", "cart", "cart", "cart", "emptied", "order", "order", "return", "cancel", "message", "no", "yes", "profile")
)


def event_of(kind: str, who: str, time: int, choice: int) -> Event:
    """Return an event of a kind; `choice` varies what it is about."""
    data = {"customer": who, "event_id": f"{kind}-{who}-{time}-{choice}"}
    if kind == "cart":
        return cart_add(time, cart=f"c{choice}", total=(1_000, 5_000, 9_000)[choice], **data)
    if kind == "emptied":
        return cart_emptied(time, cart=f"c{choice}", **data)
    if kind == "order":
        bought = ([line("SHAMPOO"), line("SOAP", 300, 100)], [line("SOAP", 300, 100)], [line("BOOK")])[choice]
        return order(time, f"o-{who}-{choice}", bought, **data)
    if kind in ("return", "cancel"):
        name = "order.returned" if kind == "return" else "order.cancelled"
        return event(name, time, order_id=f"o-{who}-{choice}", lines=[line("SOAP", 300, 100)], **data)
    if kind == "message":
        return message(time, ("email", "sms", "push")[choice], **data)
    if kind == "no":
        return unsubscribed(time, ("email", "sms", "push")[choice], **data)
    granted = {} if kind == "yes" else {"born": ("1980-03-04", "1988-02-29", "1900-01-01")[choice]}
    zone = ("Asia/Tokyo", "America/New_York", "Not/AZone")[choice]
    consents = [consent(granted=True, at=time, channel=channel) for channel in ("email", "sms")]
    return profile(time, who, consents=consents if kind == "yes" else [], zone=zone, **granted)


@st.composite
def histories(draw_: st.DrawFn, delays: st.SearchStrategy[int], kinds: st.SearchStrategy[str] = KINDS) -> list[Arrival]:
    """Return up to forty events of two customers, in order of time, who first agree to be written to."""
    time = BEGIN
    found = [Arrival(event_of("yes", who, time, 0)) for who in PEOPLE]
    for _ in range(draw_(st.integers(1, 40))):
        time += draw_(GAPS)
        one = event_of(draw_(kinds), draw_(st.sampled_from(PEOPLE)), time, draw_(st.integers(0, 2)))
        found.append(Arrival(one, draw_(delays)))
    return found


IN_ORDER = st.just(0)
LATE = st.sampled_from((0, 0, 0, SECOND, DISORDER, HOUR, 2 * HOUR, 2 * HOUR, 5 * HOUR, 7 * HOUR, 2 * DAY))
WITHIN_DISORDER = st.integers(0, DISORDER)
OFFSETS = st.one_of(st.none(), st.sampled_from((0, 0, SECOND, DISORDER, HOUR, HOUR + DISORDER)))
BARRIERS = st.lists(OFFSETS, min_size=42, max_size=42)
"""For every arrival of a history no barrier, or one that much after it."""


def barriers_of(arrivals: Sequence[Arrival], offsets: Sequence[int | None]) -> list[int]:
    """Return the instants of barriers that a history's arrivals and their offsets make."""
    both = zip(arrivals, offsets, strict=False)
    return sorted(arrival.at + offset for arrival, offset in both if offset is not None)


def play(
    arrivals: Sequence[Arrival],
    barriers: Iterable[int],
    compiled: Program,
    *,
    ahead: int = 0,
    reference: Reference = REFERENCE,
    **options: bool | int,
) -> Simulation:
    """Return a simulation of arrivals with the given barriers, then one long after.

    `ahead` lets records be read by that much before the clock comes there, as when a worker catches up.
    """
    simulated = Simulation(compiled, reference, **options)  # type: ignore[arg-type]  # a strategy says what fits
    waiting = sorted(arrivals, key=lambda arrival: arrival.at)
    for to in (*barriers, END):
        ready = [arrival for arrival in waiting if arrival.at <= to + ahead]
        waiting = waiting[len(ready) :]
        simulated.feed(*(arrival.event for arrival in ready))
        simulated.advance(to)
        check_nothing_is_overdue(simulated)
    assert not waiting
    return simulated


# --- promises ---------------------------------------------------------------------------------------------------------


def check_nothing_is_overdue(simulated: Simulation) -> None:
    """Check that nothing that waits after a barrier was due before it."""
    assert all(customer.next_due > simulated.clock for customer in simulated.customers.values())


def check_audit(simulated: Simulation) -> None:
    """Let the audit, which shares no code with the engine, look for violations."""
    decisions = [(to_record(decision), ("decisions", 0, place)) for place, decision in enumerate(simulated.decisions)]
    triggers = [(to_record(trigger), ("triggers", 0, place)) for place, trigger in enumerate(simulated.triggers)]

    assert audit(decisions, triggers).violations == ()


def check_windows(simulated: Simulation) -> None:
    """Check that windows never overlap, and that each one that is over has one first revision of its outcome."""
    for who in PEOPLE:
        held = [
            (decision.decided_at, decision.window_until)
            for decision in simulated.decisions
            if decision.customer_id == who and decision.window_until is not None
        ]
        assert all(until <= start for (_, until), (start, _) in pairwise(held))
    measured = Counter((outcome.outcome_id, outcome.revision) for outcome in simulated.outcomes)
    assert set(measured.values()) <= {1}
    taken = {decision.decision_id for decision in simulated.decisions if decision.window_until is not None}
    running = {customer.window.decision_id for customer in simulated.customers.values() if customer.window is not None}
    assert {outcome_id for outcome_id, revision in measured if revision == 0} == taken - running


def check_instances(simulated: Simulation) -> None:
    """Check that what opened ended in exactly one record or is still open, and was answered at most once."""
    ended = Counter(
        (decision.customer_id, over.moment, over.moment_key, over.opened_at)
        for decision in simulated.decisions
        for over in decision.ended
    )
    assert set(ended.values()) <= {1}
    still_open = {
        (who, moment.name, key, instance.due)
        for who, customer in simulated.customers.items()
        for moment in simulated.program.moments.values()
        for key, instance in customer.instances(moment.name).items()
        if instance.state == OPEN
    }
    assert not still_open & set(ended)
    considered = {
        (decision.customer_id, candidate.moment, candidate.moment_key, candidate.opened_at)
        for decision in simulated.decisions
        for candidate in decision.candidates
        if candidate.moment in simulated.program.definitions.moments  # or an event that a transactional one answers
    }
    assert considered <= still_open | set(ended)
    answered = Counter(
        (trigger.customer_id, trigger.moment, trigger.moment_key, trigger.opened_at)
        for trigger in simulated.triggers
        if trigger.action == "send"
    )
    assert set(answered.values()) <= {1}


def check_ids(simulated: Simulation) -> None:
    """Check that ids are unique, and that nobody gets a trigger in a period in which they are held out."""
    ids = [decision.decision_id for decision in simulated.decisions]
    assert len(set(ids)) == len(ids)
    triggers = [(trigger.trigger_id, trigger.action) for trigger in simulated.triggers]
    assert len(set(triggers)) == len(triggers)
    for trigger in simulated.triggers:
        period = period_of(trigger.decided_at, "monthly")
        assert draw("holdout", trigger.customer_id, period) >= HOLDOUT_BP


def check_promises(simulated: Simulation) -> None:
    """Check everything that holds for every history."""
    check_audit(simulated)
    check_windows(simulated)
    check_instances(simulated)
    check_ids(simulated)


@BUDGET
@given(histories(LATE), BARRIERS, st.sampled_from((0, 0, HOUR, 2 * DAY)), st.sampled_from((None, 5 * SECOND)))
def test_promises_hold(arrivals: list[Arrival], offsets: list[int | None], ahead: int, max_lag: int | None) -> None:
    """Late, out of order, read ahead of the clock, in a replay and live."""
    options: dict[str, Any] = {} if max_lag is None else {"max_lag": max_lag}

    check_promises(play(arrivals, barriers_of(arrivals, offsets), strict_program(), ahead=ahead, **options))


@BUDGET
@given(histories(LATE), BARRIERS, st.data())
def test_a_repeated_event_changes_nothing(
    arrivals: list[Arrival], offsets: list[int | None], data: st.DataObject
) -> None:
    """Whatever is delivered twice within the time it is accepted, nothing is decided twice."""
    soon = st.sampled_from((0, SECOND, 10 * MINUTE, HOUR))
    known = [arrival for arrival in arrivals if arrival.event.id]
    repeated = [
        replace(arrival, delay=arrival.delay + data.draw(soon))
        for arrival in known
        if arrival.delay <= 4 * HOUR and data.draw(st.booleans())
    ]
    once = play(arrivals, barriers_of(arrivals, offsets), strict_program())
    twice = play([*arrivals, *repeated], barriers_of(arrivals, offsets), strict_program())

    assert said(once) == said(twice)


@BUDGET
@given(histories(IN_ORDER), BARRIERS, BARRIERS)
def test_more_barriers_or_fewer_decide_the_same(
    arrivals: list[Arrival], few: list[int | None], many: list[int | None]
) -> None:
    """When everything arrives in order it does not matter how often the clock is looked at."""
    assert said(play(arrivals, barriers_of(arrivals, few), strict_program())) == said(
        play(arrivals, barriers_of(arrivals, many), strict_program())
    )


@BUDGET
@given(histories(WITHIN_DISORDER, st.sampled_from(("cart", "cart", "emptied", "order"))), BARRIERS)
def test_interleaving_within_disorder_does_not_change_absences(
    arrivals: list[Arrival], offsets: list[int | None]
) -> None:
    """The same carts are abandoned, at the same instants, whichever topic was a little slower."""
    carts = program(
        moments=[replace(ABANDONED_CART, only_if=None)], campaigns=[], rules=policy(default_disorder=DISORDER)
    )
    in_order = [replace(arrival, delay=0) for arrival in arrivals]

    assert opened(play(arrivals, barriers_of(arrivals, offsets), carts)) == opened(
        play(in_order, barriers_of(arrivals, offsets), carts)
    )


@BUDGET
@given(histories(LATE), BARRIERS, st.sampled_from((None, 5 * SECOND)))
def test_crash_and_resume_equals_no_crash(
    arrivals: list[Arrival], offsets: list[int | None], max_lag: int | None
) -> None:
    """A state that went through bytes after every step decides what one decides that never left memory."""
    options: dict[str, Any] = {} if max_lag is None else {"max_lag": max_lag}
    crashed = play(arrivals, barriers_of(arrivals, offsets), strict_program(), round_trip=True, **options)
    alive = play(arrivals, barriers_of(arrivals, offsets), strict_program(), round_trip=False, **options)

    assert said(crashed) == said(alive)
    for who in PEOPLE:
        assert known_of(crashed, who) == known_of(alive, who)


def test_the_histories_reach_what_they_are_about() -> None:
    """The generator is worth something: its histories have triggers, controls, hold-outs, retractions, every reason."""
    seen: Counter[str] = Counter()

    @BUDGET
    @given(histories(LATE), BARRIERS)
    def collect(arrivals: list[Arrival], offsets: list[int | None]) -> None:
        simulated = play(arrivals, barriers_of(arrivals, offsets), strict_program())
        seen.update(candidate.reason for decision in simulated.decisions for candidate in decision.candidates)
        seen.update(f"{decision.kind} {decision.arm}" for decision in simulated.decisions)
        seen.update(over.state for decision in simulated.decisions for over in decision.ended)
        seen.update(trigger.action for trigger in simulated.triggers)
        seen.update(f"revision {min(outcome.revision, 1)}" for outcome in simulated.outcomes)

    collect()
    wanted = {
        "chosen", "control", "holdout", "outranked", "slot_held", "no_consent", "cap", "quiet_hours",
        "already_answered", "choice treatment", "choice control", "choice holdout", "choice none", "closing none",
        "void treatment", "void control", "acted", "cancelled", "expired", "unmet", "send", "retract", "revision 0",
        "revision 1",
    }  # fmt: skip
    assert wanted - set(seen) == set(), seen


# --- what is compared -------------------------------------------------------------------------------------------------


def said(simulated: Simulation) -> dict[str, list[bytes]]:
    """Return everything emitted about each customer, in order, as bytes."""
    encode = msgspec.json.encode
    return {
        who: [
            *(encode(decision) for decision in simulated.decisions if decision.customer_id == who),
            *(encode(trigger) for trigger in simulated.triggers if trigger.customer_id == who),
            *(encode(outcome) for outcome in simulated.outcomes if outcome.customer_id == who),
        ]
        for who in PEOPLE
    }


def opened(simulated: Simulation) -> set[tuple[str, str, int]]:
    """Return every moment that opened, whatever became of it."""
    considered = {
        (decision.customer_id, one.moment_key, one.opened_at)
        for decision in simulated.decisions
        for one in decision.candidates
    }
    ended = {
        (decision.customer_id, one.moment_key, one.opened_at)
        for decision in simulated.decisions
        for one in decision.ended
    }
    return considered | ended


def known_of(simulated: Simulation, who: str) -> dict[str, object]:
    """Return what is known of a customer, whatever the order in which its sections were written."""
    customer = simulated.customers[who]
    customer.to_bytes()
    plain = {name: getattr(customer, name) for name in type(customer).__struct_fields__ if not name.startswith("raw_")}
    facts = {name: bytes(raw) for name, raw in customer.raw_facts.items()}
    instances = {name: bytes(raw) for name, raw in customer.raw_instances.items()}
    return {**plain, "facts": facts, "instances": instances, "closed": bytes(customer.raw_closed)}
