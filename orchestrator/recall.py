"""Rebuilding what we know from the inputs and our own committed decisions, after the loss of every stored state.

`recall` folds a stretch of history without deciding anything: events as `advance` would, and our own decisions as
facts. Which moments opened, what ended them, who was written to and who holds the slot is what the decisions say, for
the inputs cannot tell in which order they were read. `hand_over` ends the past: what could have opened until then and
did not, by our own records, never will.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from orchestrator.arbitration.act import look_again_at, mark_of, note_reasons
from orchestrator.arbitration.audience import MEMBER, forget_member, join
from orchestrator.arbitration.campaign import AUDIENCE
from orchestrator.arbitration.context import context_of
from orchestrator.arbitration.interrupt import interrupt
from orchestrator.arbitration.retract import forget_answered
from orchestrator.arbitration.series import SERIES, begin_series, free_slot, recall_step, recall_void, see
from orchestrator.arbitration.trigger import count_own_message
from orchestrator.customer import OPEN, WAITING, Answered, Customer, Instance, Window
from orchestrator.engine import observe
from orchestrator.events import DAY, FOREVER, Event
from orchestrator.measurement import SLOT, hold_slot
from orchestrator.moments.launches import await_launches, launch_is_over
from orchestrator.moments.lifecycle import arm, leave, look_at_all_stock, schedule
from orchestrator.moments.rules import Absence, Calendar, During, Launch, Membership, Moment, Schedule
from orchestrator.moments.watch import accompany, renew_membership
from orchestrator.program import Program
from orchestrator.quotas import Quotas
from orchestrator.reasons import Reason
from orchestrator.records import Candidate, Decision, EndedMoment
from orchestrator.reference import Reference
from orchestrator.step import Step

T = TypeVar("T")

_DAILY = frozenset({Reason.NOT_ELIGIBLE, Reason.UNKNOWN_VALUE, Reason.NONE_BETTER})
"""Why a moment was not answered that is looked at again a day later, and so on."""


def stretches(history: Iterable[tuple[int, T]], size: int) -> Iterator[list[T]]:
    """Cut a history, (instant, what) in order of instants, into stretches of about a size, never within an instant."""
    stretch: list[T] = []
    last = -FOREVER
    for at, what in history:
        if len(stretch) >= size and at > last:
            yield stretch
            stretch = []
        stretch.append(what)
        last = max(last, at)
    if stretch:
        yield stretch


def recall(
    program: Program,
    reference: Reference,
    customer_id: str,
    customer: Customer,
    events: Sequence[Event],
    own: Sequence[Decision],
) -> None:
    """Fold a stretch of one customer's history: events in order (`Event.order`), our decisions in theirs.

    What an event took back is in our decisions, so it takes nothing back here. Nothing counts as too late: nobody
    knows any more when it was read.
    """
    step = Step(program, reference, customer_id, customer, -FOREVER)
    relevant = program.relevant
    waiting = [event for event in events if event.name in relevant]
    waiting.reverse()
    for decision in own:
        at = decision.decided_at
        while waiting and waiting[-1].time <= at:
            _observe(step, waiting.pop())
        _release(step, at)
        _take(step, decision)
    while waiting:
        _observe(step, waiting.pop())


def hand_over(
    program: Program,
    reference: Reference,
    customer_id: str,
    customer: Customer,
    clock: int,
    revisions: Mapping[str, int],
) -> None:
    """End the past of a customer at an instant, so that `advance` goes on from there.

    `revisions` are the outcomes emitted so far, by decision id.
    """
    step = Step(program, reference, customer_id, customer, clock, clock=clock)
    running = customer.window
    _release(step, clock if running is None or running.decision_id not in revisions else FOREVER)
    forget_answered(step)
    something_is_open = False
    for moment in program.moments.values():
        look_at_all_stock(step, moment)
        _let_go_of_the_past(step, moment, clock)
        schedule(step, moment, clock)
        something_is_open |= any(one.state == OPEN for one in customer.instances(moment.name).values())
    for window in customer.closed:
        window.revision = max(window.revision, revisions.get(window.decision_id, 0))
    if not something_is_open:
        customer.decide_at = FOREVER
    elif customer.decide_at < FOREVER:
        _look_again(customer, clock + 1)
        customer.decide_at = max(customer.decide_at, clock + 1)


def count_use(program: Program, quotas: Quotas, decision: Decision) -> None:
    """Count what one of our own decisions used of a cap that customers share."""
    campaign = program.campaigns.get(decision.campaign or "")
    if campaign is None or campaign.cap is None or decision.kind != "choice" or decision.arm != "treatment":
        return  # of a series the first message counts
    for candidate in decision.candidates:
        if candidate.reason == Reason.CHOSEN:
            quotas.use(campaign.name, candidate.moment_key, decision.decided_at)


def _observe(step: Step, event: Event) -> None:
    _release(step, event.time - 1)  # an event at the very instant of a timer comes first
    customer = step.customer
    _look_again(customer, event.time)
    answered, customer.answered = customer.answered, []
    series, member = customer.fact(SERIES), customer.fact(MEMBER)
    if series is not None:
        customer.set_fact(SERIES, None)
    if member is not None:
        customer.set_fact(MEMBER, None)
    observe(step, event)
    customer.answered = answered
    if series is not None:
        customer.set_fact(SERIES, series)
        see(step, event)
    if member is not None:
        customer.set_fact(MEMBER, member)


def _release(step: Step, until: int) -> None:
    """Free the slot if its window was over by then."""
    customer = step.customer
    due = customer.fires.get(SLOT, FOREVER)
    if due <= until and customer.window is not None:
        customer.now = max(customer.now, min(due, until))
        free_slot(step)


def _look_again(customer: Customer, until: int) -> None:
    """Let the looks go by that came to nothing new before an instant, which nobody wrote down.

    What is not meant for a customer now, or not worth it, is looked at once a day.
    """
    late = until - customer.decide_at
    if late <= 0:
        return
    reasons = {one.reason for name in customer.fires for one in customer.peek(name).values() if one.state == OPEN}
    if reasons <= _DAILY:
        customer.decide_at += -(-late // DAY) * DAY


def _take(step: Step, decision: Decision) -> None:
    """Let one of our own decisions be a fact."""
    customer = step.customer
    if decision.kind == "exempt":
        return  # it counts for nothing
    customer.now = max(customer.now, decision.decided_at)
    if decision.kind == "step":
        recall_step(step, decision)
        return
    if decision.kind == "interruption":
        if customer.window is not None and customer.window.decision_id == decision.voids:
            interrupt(step)
        return
    if decision.kind == "removal":
        forget_member(customer, decision.continues or "")
        return
    if decision.kind == "void":
        forget_member(customer, decision.voids or "")
        _void(step, decision)
        return
    # What lives during another comes after it: it waits only once that one is open.
    for candidate in sorted(decision.candidates, key=lambda candidate: _depth(step, candidate.moment)):
        _open(step, candidate, decision.decided_at)
    winner = next((c for c in decision.candidates if c.reason in (Reason.CHOSEN, Reason.CONTROL)), None)
    if winner is not None and decision.window_until is not None:
        _hold(step, decision, winner, decision.window_until)
    for over in decision.ended:
        _end(step, over, decision.decided_at)
    if decision.kind == "choice":
        note_reasons(step, decision.candidates)
        customer.recorded = mark_of(decision.candidates)
        customer.decide_at = FOREVER
        if decision.arm == "none":
            customer.decide_at = look_again_at(decision.decided_at, decision.candidates)


def _open(step: Step, candidate: Candidate, at: int) -> None:
    """Open what was a candidate, if it waits here: what it grew from may be gone from the inputs."""
    moment = step.program.find(candidate.moment)
    if moment is None:
        return
    customer, opened = step.customer, candidate.opened_at
    instances = customer.instances(moment.name)
    if isinstance(moment.shape, Calendar) and candidate.moment_key not in instances:
        arm(step, moment, at)
    if isinstance(moment.shape, Launch):
        await_launches(step, moment, at)
    instance = instances.get(candidate.moment_key)
    if instance is None and isinstance(moment.shape, Membership | Schedule):
        until = FOREVER if moment.lasts is None else opened + moment.lasts
        instance = instances[candidate.moment_key] = Instance(WAITING, opened, opened, until)
    if moment.pick_one is not None or moment.at_most_every:
        customer.picked[moment.name] = max(opened, customer.picked.get(moment.name, -FOREVER))
    if instance is None or instance.state == OPEN or not _is_same(moment, instance, opened):
        return
    instance.state, instance.due = OPEN, opened
    if moment.lasts is not None:
        instance.until = min(instance.until, opened + moment.lasts)
    if isinstance(moment.shape, Calendar):
        arm(step, moment, at)
    accompany(step, moment.name)


def _depth(step: Step, name: str) -> int:
    """Return during how many others, one within the other, a moment lives."""
    moment = step.program.find(name)
    return 0 if moment is None or not isinstance(moment.shape, During) else 1 + _depth(step, moment.shape.moment)


def _is_same(moment: Moment, instance: Instance, opened: int) -> bool:
    """Return whether a waiting instance is the one that opened then."""
    if isinstance(moment.shape, Calendar):
        return True  # the year is its key
    if isinstance(moment.shape, Launch):
        return opened < instance.until
    if moment.pick_one is not None or isinstance(moment.shape, During):
        return instance.due <= opened < instance.until
    return instance.due == opened


def _end(step: Step, over: EndedMoment, at: int) -> None:
    moment = step.program.find(over.moment)
    if moment is None:
        return
    instances = step.customer.instances(moment.name)
    there = instances.get(over.moment_key)
    # Cancelled by a restart, another one waits under the same key; else nothing that began before its end is left.
    until = over.opened_at if isinstance(moment.shape, Absence) and over.state != "cancelled" else over.started_at
    if there is not None and (there.started <= until or isinstance(moment.shape, Calendar)):
        del instances[over.moment_key]
    leave(step, moment, over)
    if isinstance(moment.shape, Calendar):
        arm(step, moment, at)
    schedule(step, moment, at)


def _hold(step: Step, decision: Decision, winner: Candidate, until: int) -> None:
    """Give the slot to what was decided, remember what it answered, and count its message."""
    customer, start = step.customer, decision.decided_at
    campaign = step.program.campaigns.get(winner.campaign)
    control = decision.arm == "control"
    cost, cost_bp = (decision.cost, decision.cost_bp) if campaign is None else campaign.cost_with(winner.offer)
    version = decision.definitions_version
    window = Window(decision.decision_id, winner.campaign, control, winner.moment, start, until, cost, version)
    window.offer, window.cost_bp = winner.offer, cost_bp
    window.objective = window.objective if campaign is None else campaign.measure.objective
    if decision.trigger_id is not None:
        window.triggers.append(decision.trigger_id)
    window.context = context_of(step.program, customer, decision, winner)
    hold_slot(step, window)
    place = (winner.moment, winner.moment_key)
    ended = next((over for over in decision.ended if (over.moment, over.moment_key) == place), None)
    about = step.program.find(winner.moment)
    there = None if about is None else customer.instances(about.name).get(place[1])
    answered = Answered(
        *place,
        winner.opened_at if ended is None else ended.started_at,
        winner.opened_at,
        winner.opened_at if there is None else there.until,
        decision.decision_id,
        start,
        winner.campaign,
        "email" if campaign is None else campaign.send.channel,
        "" if campaign is None else campaign.send.template,
        decision.trigger_id or "",
    )
    customer.answered.append(answered)
    if campaign is not None and campaign.series:
        begin_series(step.program, customer, campaign, answered)
    if not control:
        count_own_message(step, answered)
        if answered.channel == AUDIENCE:
            join(customer, answered, until)


def _void(step: Step, decision: Decision) -> None:
    customer = step.customer
    recall_void(step, decision.voids or "")
    customer.answered[:] = [kept for kept in customer.answered if kept.decision_id != decision.voids]
    for window in (*customer.closed, *([] if customer.window is None else [customer.window])):
        if window.decision_id == decision.voids:
            window.void = True


def _let_go_of_the_past(step: Step, moment: Moment, clock: int) -> None:
    """Drop what was due by now: it would be in our records had it opened."""
    customer = step.customer
    instances = customer.instances(moment.name)
    if isinstance(moment.shape, Launch):
        await_launches(step, moment, clock)
    disorder = step.program.disorder[moment.name]
    pick_from = -FOREVER
    if moment.pick_one is not None:
        picked = customer.picked.get(moment.name)
        pick_from = -FOREVER if picked is None else picked + moment.pick_one.at_most_every
        if any(instance.state == OPEN for instance in instances.values()):
            pick_from = FOREVER
    for key, instance in list(instances.items()):
        was_due = instance.state == WAITING and max(instance.due + disorder, pick_from) <= clock
        if isinstance(moment.shape, During):
            was_due = False  # it may still come true
        if not was_due and instance.until > clock:
            continue
        del instances[key]
        if isinstance(moment.shape, Calendar):
            customer.years[moment.name] = max(int(key), customer.years.get(moment.name, 0))
        elif isinstance(moment.shape, Launch):
            launch_is_over(customer, moment, key, instance.started)
    if isinstance(moment.shape, Calendar):
        arm(step, moment, clock)
    if isinstance(moment.shape, During | Membership):
        customer.fires.pop(moment.name, None)  # what came true until now is in our records
        renew_membership(step, moment, clock)
