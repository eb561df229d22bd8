"""A series: several messages of one campaign in one slot; each step is due in its turn, and sent, put off or skipped.

The first step goes out with the decision that takes the slot. The others are decided when they are due, in both arms
alike: by what has happened since, and by every rule of contact. Events of `stop_when` end the messages at once; the
window and the slot run on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from orchestrator.arbitration.campaign import Campaign, Pinned, SeriesStep
from orchestrator.arbitration.eligibility import examine_step, situation_of
from orchestrator.arbitration.trigger import count_own_message, trigger_id_of, trigger_of
from orchestrator.conditions import readable
from orchestrator.customer import Answered, Customer, Window
from orchestrator.events import FOREVER, Event
from orchestrator.identity import identify
from orchestrator.measurement import release_slot
from orchestrator.program import Program
from orchestrator.reasons import Reason
from orchestrator.records import Candidate, Decision
from orchestrator.step import Step

SERIES: Final = "slot.series"
"""The fact that tells how far the series has come that holds the slot; no longer than it does."""

NEXT_STEP: Final = "slot.step"
"""The name under which the next step waits among the moments' timers."""

PINNED: Final = "slot.pinned"
"""The fact that tells which steps were in force when the slot was taken; kept for campaigns that pin them."""

_WAITS_FOR: Final = (Reason.CAP, Reason.QUIET_HOURS)


class Sent(msgspec.Struct, array_like=True, gc=False):
    """A step whose message went out, or would have in the control group; `since` is from when on events concern it."""

    name: str
    since: int
    message: Answered


class Progress(msgspec.Struct, array_like=True, gc=False):
    """How far a series has come: the last step settled and when that was due, what was sent, what was seen since.

    `seen` has, for steps to come, the newest event that may make them pointless.
    """

    last: str
    due: int
    sent: list[Sent]
    seen: dict[str, int] = {}


def progress_of(customer: Customer) -> Progress | None:
    """Return how far the series has come that holds a customer's slot, None when none does."""
    state = customer.fact(SERIES)
    if state is None or isinstance(state, Progress):
        return state
    progress = msgspec.convert(state, Progress)
    customer.set_fact(SERIES, progress)
    return progress


def campaign_of(program: Program, customer: Customer, name: str, *, running: bool = True) -> Campaign | None:
    """Return a campaign as it goes on for a customer inside: as it was decided if it pins that, else as it is now.

    Who was decided before it pinned anything has nothing to go on with but what it is now; one that is gone is gone.
    """
    campaign = program.campaigns.get(name)
    if campaign is None or not campaign.pins or not running:
        return campaign
    pinned = customer.fact(PINNED)
    if pinned is None:
        return campaign
    if not isinstance(pinned, Pinned):
        pinned = msgspec.convert(pinned, Pinned)
        customer.set_fact(PINNED, pinned)
    return replace(campaign, series=pinned.series, stop_when=pinned.stop_when, send_cost=pinned.send_cost)


def begin_series(program: Program, customer: Customer, campaign: Campaign, first: Answered) -> None:
    """Let the later steps of a series wait, the first being decided."""
    name, start = campaign.series[0].name, first.decided_at
    if campaign.pins:
        customer.set_fact(PINNED, Pinned(campaign.series, campaign.stop_when, campaign.send_cost))
    _keep(program, customer, campaign, Progress(name, start, [Sent(name, start, first)]))


def free_slot(step: Step) -> None:
    """End the running window, and with it whatever is left of a series."""
    release_slot(step)
    step.customer.fires.pop(NEXT_STEP, None)
    for fact in (SERIES, PINNED):
        if step.customer.fact(fact) is not None:
            step.customer.set_fact(fact, None)


# --- when a step is due -----------------------------------------------------------------------------------------------


def take_step(step: Step) -> None:
    """Do what is due of the series that holds the slot: send the next step, put it off or skip it."""
    customer, program, now = step.customer, step.program, step.customer.now
    planned, window, progress = customer.fires.pop(NEXT_STEP), customer.window, progress_of(customer)
    assert window is not None
    assert progress is not None
    campaign = campaign_of(program, customer, window.campaign)
    following = None if campaign is None else campaign.step_after(progress.last)
    if campaign is None or following is None:  # other definitions were published since it was planned
        gone = Candidate(window.campaign, window.moment, "", window.start, Reason.NO_DEFINITION.value)
        _record(step, window, "", gone)
        return
    due = progress.due + following.after
    if due + program.series_wait(campaign) > now:  # later than when it was planned, as published since
        _plan(program, customer, campaign, progress)
        return
    deadline = _deadline(campaign, following, due, window)
    candidate = _judge(step, campaign, following, progress, now - planned, deadline)
    if candidate.reason in _WAITS_FOR and candidate.retry_at is not None and candidate.retry_at < deadline:
        customer.fires[NEXT_STEP] = candidate.retry_at
        _record(step, window, following.name, candidate)
        return
    if candidate.reason == Reason.CHOSEN:
        _send(step, window, campaign, following, progress, candidate, deadline)
    else:
        _record(step, window, following.name, msgspec.structs.replace(candidate, retry_at=None))
    progress.last, progress.due = following.name, due
    _keep(program, customer, campaign, progress)


def _judge(
    step: Step, campaign: Campaign, following: SeriesStep, progress: Progress, overdue: int, deadline: int
) -> Candidate:
    """Return the step as a candidate, with why it may not go out now if it may not."""
    customer, now = step.customer, step.customer.now
    first = progress.sent[0].message
    about = (campaign.name, first.moment, first.key, first.opened)
    if now >= deadline:
        return Candidate(*about, Reason.EXPIRED.value)
    if overdue > step.program.policy.never_act_older_than:
        return Candidate(*about, Reason.TOO_OLD.value, readable(overdue, "duration"))
    if progress.seen.get(following.name, -FOREVER) > _since(following, progress, now):
        assert following.unless is not None
        return Candidate(*about, Reason.CANCELLED.value, " or ".join(following.unless.events))
    situation = situation_of(step.program, step.reference, customer, step.customer_id, now)
    # What is given away was settled with the first message.
    return examine_step(situation, replace(campaign, send=following.send, offer=None), *about[1:])


def _send(
    step: Step,
    window: Window,
    campaign: Campaign,
    following: SeriesStep,
    progress: Progress,
    candidate: Candidate,
    deadline: int,
) -> None:
    """Emit the trigger of a step in treatment, only record it in control."""
    now, first, name = step.customer.now, progress.sent[0].message, following.name
    reason = Reason.CONTROL if window.control else Reason.CHOSEN
    about = (step.customer_id, campaign, first.moment, first.key, first.opened, name)
    message = Answered(
        first.moment,
        first.key,
        first.started,
        first.opened,
        deadline,
        _id_of(step, window, name, reason, now),
        now,
        campaign.name,
        following.send.channel,
        following.send.template,
        "" if window.control else trigger_id_of(*about),
    )
    progress.sent.append(Sent(name, _since(following, progress, now), message))
    settled = msgspec.structs.replace(candidate, reason=reason.value, propensity=1.0)
    _record(step, window, name, settled, message.trigger_id or None)
    if not window.control:
        _pay(window, campaign, message)
        trigger = trigger_of(step, campaign, message, window.end, "send", name)
        costs = {"offer": window.offer, "cost": campaign.send_cost}
        step.effects.triggers.append(msgspec.structs.replace(trigger, **costs))
        count_own_message(step, message)


def _pay(window: Window, campaign: Campaign, message: Answered) -> None:
    window.triggers.append(message.trigger_id)
    window.cost += campaign.send_cost


def _since(following: SeriesStep, progress: Progress, now: int) -> int:
    """Return after which instant an event makes a step pointless that goes out now."""
    unless = following.unless
    if unless is not None and unless.within is not None:
        return now - unless.within
    if unless is not None and unless.origin is not None:
        return -FOREVER  # whenever it came, it is about that message
    return progress.due


def _deadline(campaign: Campaign, following: SeriesStep, due: int, window: Window) -> int:
    """Return the instant from which a step is not worth sending: the next one is due, or the window ends."""
    later = campaign.step_after(following.name)
    return window.end if later is None else min(window.end, due + later.after)


def _keep(program: Program, customer: Customer, campaign: Campaign, progress: Progress) -> None:
    customer.set_fact(SERIES, progress)
    _plan(program, customer, campaign, progress)


def _plan(program: Program, customer: Customer, campaign: Campaign, progress: Progress) -> None:
    following = campaign.step_after(progress.last)
    if following is None:
        customer.fires.pop(NEXT_STEP, None)
    else:
        customer.fires[NEXT_STEP] = progress.due + following.after + program.series_wait(campaign)


# --- what events do ---------------------------------------------------------------------------------------------------


def follow(step: Step, event: Event) -> None:
    """Let an event end the messages of the series that holds the slot, or make steps of it pointless.

    One that arrives late also takes back the steps that would not have gone out, had it been on time.
    """
    running = _running(step, event)
    if running is None:
        return
    window, campaign, progress = running
    stops = _stops(step, campaign, progress, event)
    for sent in progress.sent[1:]:
        at = sent.message.decided_at
        following = next((one for one in campaign.series if one.name == sent.name), None)
        pointless = following is not None and _concerns(following, progress, event) and sent.since < event.time
        if event.time <= at and (stops or pointless):
            progress.sent.remove(sent)
            _take_back(step, window, campaign, sent, event)
    if stops:
        _stop(step, window, campaign, progress, Reason.STOPPED, event)
    else:
        _see(campaign, progress, event)
    step.customer.set_fact(SERIES, progress)


def see(step: Step, event: Event) -> None:
    """Note an event that may make a step pointless, without a word: what it ended is recorded elsewhere."""
    running = _running(step, event)
    if running is not None:
        _see(*running[1:], event)
        step.customer.set_fact(SERIES, running[2])


def void_series(step: Step, window: Window, event: Event) -> None:
    """Take back the later steps of a series whose moment was proven wrong, and send no more of it."""
    progress, campaign = progress_of(step.customer), campaign_of(step.program, step.customer, window.campaign)
    if progress is None:
        return
    for sent in progress.sent[1:]:
        _take_back(step, window, campaign, sent, event)
    del progress.sent[1:]
    if campaign is not None:
        _stop(step, window, campaign, progress, Reason.CANCELLED, event)
    step.customer.set_fact(SERIES, progress)


def _running(step: Step, event: Event) -> tuple[Window, Campaign, Progress] | None:
    """Return the series that an event falls into; one at the very instant of the decision came before it."""
    window = step.customer.window
    campaign = None if window is None else campaign_of(step.program, step.customer, window.campaign)
    if window is None or campaign is None or not campaign.series or not window.start < event.time < window.end:
        return None
    progress = progress_of(step.customer)
    return None if progress is None else (window, campaign, progress)


def _stops(step: Step, campaign: Campaign, progress: Progress, event: Event) -> bool:
    key = progress.sent[0].message.key
    return any(
        event.name in match.events and (match.matching is None or key in step.keys(event, match.matching))
        for match in campaign.stop_when
    )


def _concerns(following: SeriesStep, progress: Progress, event: Event) -> bool:
    """Return whether an event is one that makes a step pointless, going by what it is about."""
    unless = following.unless
    if unless is None or event.name not in unless.events:
        return False
    if unless.origin is None:
        return True
    message = next((sent.message for sent in progress.sent if sent.name == unless.origin), None)
    if message is None or not message.trigger_id:
        return False
    trigger_id = event.data.get("trigger_id")
    # Whoever names the trigger is believed; without one the campaign's name will do.
    return trigger_id == message.trigger_id if trigger_id else event.data.get("campaign") == message.campaign


def _see(campaign: Campaign, progress: Progress, event: Event) -> None:
    following = campaign.step_after(progress.last)
    while following is not None:
        if _concerns(following, progress, event):
            progress.seen[following.name] = max(event.time, progress.seen.get(following.name, -FOREVER))
        following = campaign.step_after(following.name)


def _stop(step: Step, window: Window, campaign: Campaign, progress: Progress, reason: Reason, event: Event) -> None:
    """Record every step to come as ended by an event, and let none wait."""
    first = progress.sent[0].message
    following = campaign.step_after(progress.last)
    while following is not None:
        ended = Candidate(campaign.name, first.moment, first.key, first.opened, reason.value, event.name)
        _record(step, window, following.name, ended, at=max(event.time, step.customer.now))
        progress.last = following.name
        following = campaign.step_after(following.name)
    step.customer.fires.pop(NEXT_STEP, None)


def _take_back(step: Step, window: Window, campaign: Campaign | None, sent: Sent, event: Event) -> None:
    message = sent.message
    step.effects.decisions.append(
        Decision(
            decision_id=identify(step.customer_id, "void", message.decision_id),
            customer_id=step.customer_id,
            decided_at=max(event.time, step.customer.now),
            kind="void",
            arm="control" if window.control else "treatment",
            reason=Reason.CANCELLED.value,
            definitions_version=step.program.version,
            campaign=message.campaign,
            voids=message.decision_id,
            step=sent.name,
        )
    )
    if message.trigger_id:
        step.effects.triggers.append(trigger_of(step, campaign, message, window.end, "retract", sent.name))


# --- what is recorded -------------------------------------------------------------------------------------------------


def _id_of(step: Step, window: Window, name: str, reason: str, at: int) -> str:
    return identify(step.customer_id, window.decision_id, "step", name, reason, at)


def _record(
    step: Step, window: Window, name: str, candidate: Candidate, trigger_id: str | None = None, at: int | None = None
) -> None:
    """Record what became of a step, or that it is put off."""
    goes_out = candidate.reason in (Reason.CHOSEN, Reason.CONTROL)
    arm = "control" if window.control else "treatment"
    decided_at = step.customer.now if at is None else at
    step.effects.decisions.append(
        Decision(
            decision_id=_id_of(step, window, name, candidate.reason, decided_at),
            customer_id=step.customer_id,
            decided_at=decided_at,
            kind="step",
            arm=arm if goes_out else "none",
            reason=candidate.reason,
            definitions_version=step.program.version,
            campaign=window.campaign,
            trigger_id=trigger_id,
            candidates=(candidate,),
            step=name,
            continues=window.decision_id,
        )
    )


def recall_step(step: Step, decision: Decision) -> None:
    """Let what we recorded of a step be a fact."""
    customer, program = step.customer, step.program
    window, progress = customer.window, progress_of(customer)
    campaign = None if window is None else campaign_of(program, customer, window.campaign)
    following = next((one for one in campaign.series if one.name == decision.step), None) if campaign else None
    if window is None or progress is None or campaign is None or following is None:
        customer.fires.pop(NEXT_STEP, None)
        return
    candidate = decision.candidates[0]
    if candidate.retry_at is not None:
        customer.fires[NEXT_STEP] = candidate.retry_at
        return
    due = progress.due + following.after
    if decision.arm != "none":
        first, send, at = progress.sent[0].message, following.send, decision.decided_at
        place = (first.moment, first.key, first.started, first.opened, _deadline(campaign, following, due, window))
        trigger_id = decision.trigger_id or ""
        message = Answered(*place, decision.decision_id, at, campaign.name, send.channel, send.template, trigger_id)
        progress.sent.append(Sent(following.name, _since(following, progress, at), message))
        if trigger_id:
            _pay(window, campaign, message)
            count_own_message(step, message)
    progress.last, progress.due = following.name, due
    _keep(program, customer, campaign, progress)


def recall_void(step: Step, voids: str) -> None:
    """Forget a step that we recorded as taken back."""
    progress = progress_of(step.customer)
    if progress is not None:
        progress.sent[1:] = [sent for sent in progress.sent[1:] if sent.message.decision_id != voids]
        step.customer.set_fact(SERIES, progress)
