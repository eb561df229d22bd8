"""The whole decision as one pure function: what we know about a customer, and what happened, to what we know now.

`advance` takes one customer through one step: its events in order, interleaved with what time alone brings, up to the
step's instant. It reads no clock, draws no chance and does no I/O; workers, replays and tests all drive this function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orchestrator.arbitration.act import decide
from orchestrator.arbitration.audience import MEMBER, end_membership, leave_audience
from orchestrator.arbitration.exempt import answer
from orchestrator.arbitration.retract import retract
from orchestrator.arbitration.series import NEXT_STEP, follow, free_slot, take_step
from orchestrator.contact import give_consent, learn_profile
from orchestrator.customer import Customer
from orchestrator.events import FOREVER, ORDERED, PROFILE, SENT, UNSUBSCRIBED, Event
from orchestrator.identity import fingerprint
from orchestrator.measurement import SLOT, measure, remember_earned
from orchestrator.moments.lifecycle import arm_calendars, move, wake_moment
from orchestrator.moments.watch import accompany, look, note_memberships
from orchestrator.program import Program
from orchestrator.quotas import Quotas
from orchestrator.records import Effects, EndedMoment
from orchestrator.reference import Reference
from orchestrator.sharing import refile
from orchestrator.step import Step

SEEN_BEFORE_PRUNING: Final = 8
MAX_SEEN: Final = 64
"""Event ids remembered per customer within `accept_late`; a repetition further back than these is not recognised."""


def advance(
    program: Program,
    reference: Reference,
    customer_id: str,
    customer: Customer,
    events: Sequence[Event],
    clock: int,
    *,
    clock_before: int = -FOREVER,
    not_before: int = -FOREVER,
    quotas: Quotas | None = None,
) -> Effects:
    """Take a customer through one step, changing its state; return everything that is to be emitted.

    `events` are in order (`Event.order`); an event at the very instant of a timer comes first. Timers due up to `clock`
    fire, each evaluated as of its due instant but not before `not_before`. `clock_before` is the clock of the step
    before, against which lateness is judged. `quotas` count what customers share; without them nothing goes out that is
    capped so.
    """
    if customer.filed_by is not program.filed:
        refile(customer, program.filed)
    step = Step(program, reference, customer_id, customer, clock_before, not_before, clock)
    step.quotas = quotas
    relevant, due = program.relevant, customer.next_due
    for event in events:
        if event.name in relevant:
            before = event.time - 1 if event.time <= clock else clock
            if due <= before:
                _fire_until(step, before, not_before)
            observe(step, event)
            due = customer.next_due
    if due <= clock:
        due = _fire_until(step, clock, not_before)
    step.effects.next_due = due
    return step.effects


def _fire_until(step: Step, limit: int, not_before: int) -> int:
    """Do everything that is due up to an instant, in order; return what is due next.

    A timer that is judged at `not_before`, later than it was due, comes after the events up to there.
    """
    customer = step.customer
    while max(due := customer.next_due, not_before) <= limit:
        now = customer.now = max(due, customer.now, not_before)
        while customer.fires.get(NEXT_STEP, FOREVER) <= now:
            take_step(step)
        if customer.fires.get(MEMBER, FOREVER) <= now:
            end_membership(step)
        if customer.fires.get(SLOT, FOREVER) <= now:
            free_slot(step)
            customer.decide_at = now
        over: list[EndedMoment] = []
        due_now = _due_moments(step, now)
        for name in due_now:
            woken = wake_moment(step, name)
            over += woken.over
            if woken.opened:  # rivals may be waited for
                customer.decide_at = min(customer.decide_at, now + step.program.policy.collect_for)
                if name in step.program.followers:  # what opens with it is decided with it
                    due_now += accompany(step, name)
        if customer.decide_at <= now:
            decide(step, over)
        elif over:
            step.close(now, over)
    return due


def _due_moments(step: Step, now: int) -> list[str]:
    """Return the moments that time moves now, in the order of the definitions, those that are gone from them last."""
    due = [name for name, at in step.customer.fires.items() if at <= now]
    if len(due) > 1:
        order = step.program.order
        due.sort(key=lambda name: (order.get(name, len(order)), name))
    return due


def observe(step: Step, event: Event) -> None:
    """Take in one event: facts, contact, measurement and moments."""
    name, time = event.name, event.time
    if name == PROFILE:
        watched = step.program.watched
        note_memberships(step, watched, max(time, step.customer.now))
        consents_changed = learn_profile(step.customer, event)
        arm_calendars(step, max(time, step.customer.now))
        for moment in watched:
            look(step, moment, time)
        if consents_changed:
            step.reconsider(time)
        return
    if _repeated(step, event):
        return
    dispatch = step.program.dispatch(name)
    if dispatch.watched:
        note_memberships(step, dispatch.watched, max(time, step.customer.now))
    foreign = name == SENT and event.data.get("trigger_id") is None
    if name != SENT or foreign:  # our own messages were facts when they were decided
        step.learn(dispatch.folds, event)
    if name == ORDERED:
        remember_earned(step, event)
    elif foreign:
        step.count_message(time, _channel(event))
    elif name == UNSUBSCRIBED and give_consent(step.customer, f"{_channel(event)}/marketing", granted=False, at=time):
        step.reconsider(time)
    if time < step.clock_before - step.program.accept_late(name):
        return  # beyond its lateness: a fact, but never a moment, a cancellation or an amendment
    for moment in dispatch.watched:
        look(step, moment, time)
    if name in step.program.measured and (name != SENT or foreign):
        measure(step, event)
    if dispatch.follows:
        follow(step, event)
        leave_audience(step, event)
    for campaign in dispatch.exempt:
        answer(step, campaign, event)
    if not dispatch.roles:
        return
    retract(step, dispatch.roles, event)
    over: list[EndedMoment] = []
    for role in dispatch.roles:
        over += move(step, role, event)
    if over:
        step.close(max(time, step.customer.now), over)


def _repeated(step: Step, event: Event) -> bool:
    """Return whether an event was seen before, and remember it for as long as it would change anything."""
    if not event.id:
        return False
    seen = step.customer.seen
    mark = fingerprint(f"{event.topic}/{event.id}")
    if mark in seen:
        step.effects.repeated += 1
        return True
    if len(seen) >= SEEN_BEFORE_PRUNING:
        for old in [old for old, forget_at in seen.items() if forget_at < step.clock_before]:
            del seen[old]
        while len(seen) >= MAX_SEEN:
            del seen[next(iter(seen))]
    seen[mark] = event.time + step.program.accept_late(event.name)
    return False


def _channel(event: Event) -> str:
    return event.data.get("channel") or "email"
