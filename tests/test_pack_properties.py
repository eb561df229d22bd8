"""The promises of every history, for the packs we ship: their own moments, campaigns, caps, quiet hours and waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from orchestrator.customer import OPEN, customer_from_bytes
from orchestrator.definitions.load import load
from orchestrator.events import DAY, HOUR, MINUTE, SECOND, Event
from orchestrator.moments.rules import Membership
from orchestrator.program import Program
from orchestrator.reference import Product, Reference
from orchestrator.runtime.definitions_folder import read_directory
from orchestrator.simulation import Simulation
from tests.builders import TOPICS, event, line, order
from tests.test_engine_properties import (
    BARRIERS,
    BEGIN,
    BUDGET,
    GAPS,
    HOLDOUT_BP,
    PEOPLE,
    Arrival,
    barriers_of,
    check_nothing_is_overdue,
    check_promises,
    check_windows,
    event_of,
    said,
)

PRODUCTS = Reference(
    (
        Product("SHAMPOO", family="hair", category="care", stock=6, price=1_000, typical_days_of_supply=30),
        Product("SOAP", family="soap", category="care", stock=0, price=300, typical_days_of_supply=30),
        Product("BOOK", family="books", category="media", stock=90, price=2_000),
    )
)
SKUS = ("SHAMPOO", "SOAP", "BOOK")
FEW = settings(BUDGET, max_examples=50)
END = 500 * DAY
"""How long after a history its last barrier is."""


def pack_of(name: str, *, campaigns: bool = True) -> Program:
    """Return a shipped pack with large control groups and a large hold-out, or only its moments."""
    definitions, problems = load(read_directory(Path("deploy/definitions") / name))
    assert definitions is not None, problems
    some = {name: replace(one, control_bp=4_000, control_floor_bp=4_000) for name, one in definitions.campaigns.items()}
    rules = replace(definitions.policy, holdout_bp=HOLDOUT_BP, holdout_rotate="monthly")
    return Program(replace(definitions, policy=rules, campaigns=some if campaigns else {}), TOPICS)


PACKS = {name: pack_of(name) for name in ("retail", "retail_plus")}
MOMENTS = {name: pack_of(name, campaigns=False) for name in PACKS}
"""The same without campaigns: what opens then depends on no slot."""

KINDS = st.sampled_from((
    "cart", "cart", "order", "order", "viewed", "viewed", "viewed", "searched", "emptied", "delivered", "return",
    "cancel", "message", "opened", "no", "yes", "profile",
))  # fmt: skip


def happening(kind: str, who: str, time: int, choice: int) -> Event:
    """Return an event of a kind; `choice` varies what it is about."""
    told = {"customer": who, "event_id": f"{kind}-{who}-{time}-{choice}"}
    if kind in ("viewed", "searched"):
        return event(f"product.{kind}", time, sku=SKUS[choice], **told)
    if kind == "delivered":
        return event("order.delivered", time, order_id=f"o-{who}-{choice}", lines=[line(SKUS[choice])], **told)
    if kind == "opened":
        return event("message.opened", time, channel="email", machine=choice == 2, **told)
    if kind == "order":  # of a size that makes tiers and months matter
        bought = [line(SKUS[choice], 60_000 if choice == 1 else 2_000), line("SOAP", 300)]
        return order(time, f"o-{who}-{choice}", bought, **told)
    if kind == "cart":
        return replace_sku(event_of(kind, who, time, choice), SKUS[choice])
    return event_of(kind, who, time, choice)


def replace_sku(one: Event, sku: str) -> Event:
    """Return an item put in the cart that names its product."""
    return event(one.name, one.time, one.customer, one.id, **{**one.data, "sku": sku})


class Histories(RuleBasedStateMachine):
    """Two customers, a clock and a worker: events come late, twice or ahead of the clock, and it crashes at will."""

    program: Program

    def __init__(self) -> None:
        super().__init__()
        self.time = BEGIN
        self.simulated = Simulation(self.program, PRODUCTS, start=BEGIN)
        self.waiting = [Arrival(happening("yes", who, BEGIN, 0)) for who in PEOPLE]
        self.read: list[Event] = []

    @initialize(live=st.booleans())
    def begin(self, *, live: bool) -> None:
        """Run in a replay or live, where a timer is judged by when it is looked at."""
        self.simulated.max_lag = 5 * SECOND if live else None

    @rule(kind=KINDS, who=st.sampled_from(PEOPLE), choice=st.integers(0, 2), gap=GAPS,
          delay=st.sampled_from((0, 0, 0, SECOND, MINUTE, HOUR, 5 * HOUR, 2 * DAY)))  # fmt: skip
    def happens(self, kind: str, who: str, choice: int, gap: int, delay: int) -> None:
        """Let something happen, and be heard of then or later."""
        self.time += gap
        self.waiting.append(Arrival(happening(kind, who, self.time, choice), delay))

    @rule(gap=GAPS, ahead=st.sampled_from((0, 0, HOUR, 2 * DAY)))
    def barrier(self, gap: int, ahead: int) -> None:
        """Let the clock come to an instant, read what has arrived by then, and perhaps more."""
        self.time += gap
        ready = [arrival for arrival in self.waiting if arrival.at <= self.time + ahead]
        self.waiting = [arrival for arrival in self.waiting if arrival not in ready]
        self.simulated.feed(*(arrival.event for arrival in ready))
        self.read += [arrival.event for arrival in ready]
        self.simulated.advance(self.time)

    @rule(place=st.integers(0, 5))
    def is_delivered_again(self, place: int) -> None:
        """Read again what was read."""
        if self.read:
            self.simulated.feed(self.read[-1 - place % len(self.read)])

    @rule(who=st.sampled_from(PEOPLE))
    def crash(self, who: str) -> None:
        """Restore from bytes what was in memory."""
        if who in self.simulated.customers:
            self.simulated.customers[who] = customer_from_bytes(self.simulated.customers[who].to_bytes())

    @invariant()
    def nothing_is_overdue(self) -> None:
        """Check that what waits is in the future, and that no window overlaps another."""
        if self.simulated.clock > BEGIN:
            check_nothing_is_overdue(self.simulated)
            check_windows(self.simulated)

    def teardown(self) -> None:
        """Let everything arrive and time pass, and let the audit look."""
        self.time += END
        self.barrier(0, 10 * DAY)
        check_promises(self.simulated)


@pytest.mark.parametrize("pack", PACKS)
def test_promises_hold_whatever_happens(pack: str) -> None:
    """Windows never overlap, nothing waiting is overdue, a moment is answered at most once, and the audit agrees."""
    machine = type("Histories", (Histories,), {"program": PACKS[pack]})

    run_state_machine_as_test(machine, settings=settings(BUDGET, max_examples=50, stateful_step_count=40))


@st.composite
def in_order(draw: st.DrawFn) -> list[Arrival]:
    """Return a history of two customers, in order of time, who first agree to be written to."""
    time = BEGIN
    found = [Arrival(happening("yes", who, time, 0)) for who in PEOPLE]
    for _ in range(draw(st.integers(2, 25))):
        time += draw(GAPS)
        found.append(Arrival(happening(draw(KINDS), draw(st.sampled_from(PEOPLE)), time, draw(st.integers(0, 2)))))
    return found


def simulate(arrivals: Sequence[Arrival], barriers: Iterable[int], compiled: Program, **options: bool) -> Simulation:
    """Return a simulation of arrivals with barriers at the instants given, and one long after."""
    simulated = Simulation(compiled, PRODUCTS, start=BEGIN, **options)  # type: ignore[arg-type]  # flags only
    waiting = sorted(arrivals, key=lambda arrival: arrival.at)
    for at in (*sorted(barriers), waiting[-1].at + END):
        ready = [arrival for arrival in waiting if arrival.at <= at]
        waiting = waiting[len(ready) :]
        simulated.feed(*(arrival.event for arrival in ready))
        simulated.advance(at)
    return simulated


def lives(arrivals: Sequence[Arrival], compiled: Program) -> dict[tuple[str, str, str, int], str]:
    """Return what became of every moment that opened, by customer, moment, key and instant.

    Who is in a segment is looked at when something arrives, so such moments open when it is known: they are left out.
    """
    simulated = simulate(arrivals, {arrival.at for arrival in arrivals}, compiled)
    found = {
        (decision.customer_id, over.moment, over.moment_key, over.opened_at): over.state
        for decision in simulated.decisions
        for over in decision.ended
    }
    for who, customer in simulated.customers.items():
        for moment in compiled.moments:
            for key, instance in customer.instances(moment).items():
                if instance.state == OPEN:
                    found[who, moment, key, instance.due] = "open"
    looked_at = {name for name, moment in compiled.moments.items() if isinstance(moment.shape, Membership)}
    return {instance: state for instance, state in found.items() if instance[1] not in looked_at}


@pytest.mark.parametrize("pack", PACKS)
def test_a_late_event_changes_nothing_that_it_could_not_have_changed_on_time(pack: str) -> None:
    """What is the same whether it came on time or never is the same when it comes late."""
    compiled = MOMENTS[pack]
    seen: Counter[str] = Counter()

    @FEW
    @given(in_order(), st.integers(0), st.sampled_from((SECOND, MINUTE, 5 * MINUTE, HOUR, 5 * HOUR)))
    def check(arrivals: list[Arrival], number: int, delay: int) -> None:
        place = 2 + number % (len(arrivals) - 2)
        one = arrivals[place]
        late_by = min(delay, compiled.accept_late(one.event.name))
        on_time = lives(arrivals, compiled)
        late = lives([*arrivals[:place], replace(one, delay=late_by), *arrivals[place + 1 :]], compiled)
        never = lives([*arrivals[:place], *arrivals[place + 1 :]], compiled)
        for instance in {*on_time, *late, *never}:
            if on_time.get(instance) == never.get(instance):
                assert late.get(instance) == never.get(instance), (instance, on_time, late, never)
            seen["changed"] += late.get(instance) != never.get(instance)
            seen["kept"] += late.get(instance) == never.get(instance)

    check()
    assert min(seen["changed"], seen["kept"]) > 0, seen


@pytest.mark.parametrize("pack", PACKS)
def test_stragglers_within_disorder_change_no_moment(pack: str) -> None:
    """The same moments open at the same instants and end alike, whichever topic was a little slower."""
    compiled = MOMENTS[pack]
    least = min(compiled.policy.disorder.values())

    @FEW
    @given(in_order(), st.lists(st.integers(0, least), min_size=30, max_size=30))
    def check(arrivals: list[Arrival], delays: list[int]) -> None:
        slower = [replace(one, delay=delay) for one, delay in zip(arrivals, delays, strict=False)]

        assert lives(slower, compiled) == lives(arrivals, compiled)

    check()


@pytest.mark.parametrize("pack", PACKS)
def test_barriers_crashes_and_repetitions_change_nothing(pack: str) -> None:
    """More barriers or fewer, states that go through bytes after every step, every event twice: all say the same."""
    compiled = PACKS[pack]

    @FEW
    @given(in_order(), BARRIERS)
    def check(arrivals: list[Arrival], offsets: list[int | None]) -> None:
        plain = said(simulate(arrivals, [arrival.at for arrival in arrivals], compiled))
        barriers = barriers_of(arrivals, offsets)
        twice = [*arrivals, *(arrival for arrival in arrivals if arrival.event.id)]

        assert said(simulate(arrivals, barriers, compiled)) == plain
        assert said(simulate(arrivals, barriers, compiled, round_trip=True)) == plain
        assert said(simulate(twice, barriers, compiled)) == plain

    check()
