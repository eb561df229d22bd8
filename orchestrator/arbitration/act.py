"""What a decision does: the winner takes the slot in either arm, its trigger goes out in treatment, all is recorded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.arbitration.audience import join
from orchestrator.arbitration.context import context_of
from orchestrator.arbitration.decide import Verdict, arbitrate
from orchestrator.arbitration.eligibility import situation_of
from orchestrator.arbitration.interrupt import interrupt
from orchestrator.arbitration.option import Option
from orchestrator.arbitration.retract import forget_answered
from orchestrator.arbitration.series import begin_series
from orchestrator.arbitration.trigger import count_own_message, trigger_id_of, trigger_of
from orchestrator.customer import OPEN, Answered, Instance, Window
from orchestrator.events import FOREVER
from orchestrator.identity import fingerprint
from orchestrator.measurement import hold_slot
from orchestrator.moments.detect import ended
from orchestrator.moments.lifecycle import leave, schedule
from orchestrator.reasons import Reason
from orchestrator.records import Candidate, Decision, EndedMoment
from orchestrator.step import Step


def decide(step: Step, over: list[EndedMoment]) -> None:
    """Decide over all open moments now; `over` are the moments that ended at this very instant."""
    customer, now = step.customer, step.customer.now
    customer.decide_at = FOREVER
    verdict = arbitrate(situation_of(step.program, step.reference, customer, step.customer_id, now, step.quotas))
    if verdict is None:
        if over:
            step.close(now, over)
        return
    trigger_id = None
    if verdict.winner is not None:
        if verdict.interrupts:
            interrupt(step)
        answered, trigger_id = _act(step, verdict, verdict.winner)
        over = over + answered
    elif verdict.arm == "holdout":
        over = over + _hold_out(step, verdict)
    else:
        customer.decide_at = look_again_at(now, (option.candidate for option in verdict.options))
    note_reasons(step, (option.candidate for option in verdict.options))
    decision = _record(step, verdict, over, trigger_id)
    if decision is not None and verdict.winner is not None and customer.window is not None:
        customer.window.context = context_of(step.program, customer, decision, verdict.winner.candidate)


def _act(step: Step, verdict: Verdict, winner: Option) -> tuple[list[EndedMoment], str | None]:
    """Give the slot to the winner and emit its trigger; return what that answered, and the trigger's id."""
    customer, campaign, now = step.customer, winner.campaign, step.customer.now
    assert campaign is not None
    control = verdict.arm == "control"
    end = now + campaign.measure.window
    version = step.program.version
    offer = winner.candidate.offer
    cost, cost_bp = campaign.cost_with(offer)
    window = Window(verdict.decision_id, campaign.name, control, winner.moment.name, now, end, cost, version)
    window.offer, window.cost_bp, window.objective = offer, cost_bp, campaign.measure.objective
    hold_slot(step, window)
    over = []
    answered_too: set[tuple[str, str]] = set()
    for option in verdict.options:
        place = option.moment.name, option.key
        if option is winner:
            reason = Reason.CONTROL if control else Reason.CHOSEN
        elif option.candidate.reason == Reason.ALREADY_ANSWERED and place not in answered_too:
            reason = Reason.ALREADY_ANSWERED
        else:
            continue
        answered_too.add(place)  # once, whatever offers could have gone with it
        over.append(_answer(step, option, reason, campaign.name))
    opened = winner.instance.due
    first = campaign.series[0].name if campaign.series else ""
    about = (campaign, winner.moment.name, winner.key, opened, first)
    trigger_id = "" if control else trigger_id_of(step.customer_id, *about)
    answered = Answered(
        winner.moment.name,
        winner.key,
        winner.instance.started,
        opened,
        winner.instance.until,
        verdict.decision_id,
        now,
        campaign.name,
        campaign.send.channel,
        campaign.send.template,
        trigger_id,
    )
    forget_answered(step)
    customer.answered.append(answered)
    if campaign.series:
        begin_series(step.program, customer, campaign, answered)
    if control:
        return over, None
    window.triggers.append(trigger_id)
    if campaign.cap is not None and step.quotas is not None:
        step.quotas.use(campaign.name, winner.key, now)
    action = "send"
    if campaign.to_audience:
        action = "add"
        join(customer, answered, end)
    step.effects.triggers.append(trigger_of(step, campaign, answered, end, action, first))
    count_own_message(step, answered)
    return over, trigger_id


def _learned_from(verdict: Verdict) -> dict[str, Any]:
    """Return the fields of a decision that learning asks for, where anybody learns."""
    grounds, choice = verdict.grounds, verdict.choice
    if grounds is None:
        return {}
    found: dict[str, Any] = {"policy_version": grounds.version, "leaf": grounds.leaf, "stage": grounds.stage}
    if choice is not None:
        found |= {"none_propensity": choice.none_propensity, "chosen_by": choice.by, "control_bp": verdict.control_bp}
    return {**found, "features": verdict.features}


def look_again_at(now: int, candidates: Iterable[Candidate]) -> int:
    """Return when to decide again after a decision for none: when the first answer can change by itself."""
    retries = [candidate.retry_at for candidate in candidates if candidate.retry_at is not None]
    return max(min(retries), now + 1) if retries else FOREVER


def _hold_out(step: Step, verdict: Verdict) -> list[EndedMoment]:
    """Let go of what a customer would have been considered for, was nobody written to in this period."""
    held: dict[tuple[str, str], Option] = {}
    for option in verdict.options:
        if option.candidate.reason == Reason.HOLDOUT:
            held[option.moment.name, option.key] = option
    return [_answer(step, option, Reason.HOLDOUT, "") for option in held.values()]


def _answer(step: Step, option: Option, reason: Reason, by: str) -> EndedMoment:
    moment = step.program.find(option.moment.name)
    assert moment is not None
    step.customer.instances(moment.name).pop(option.key, None)  # once for all of its names
    over = ended(option.moment.name, option.key, option.instance, "acted", reason, by)
    leave(step, moment, over)
    schedule(step, moment, step.customer.now)
    return over


def note_reasons(step: Step, candidates: Iterable[Candidate]) -> None:
    """Keep with every instance that stays open why it was not answered, for the record of its end.

    Of several campaigns the one that came furthest through the checks says it.
    """
    filed_as = step.program.filed.filed_as
    furthest: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:
        place = filed_as.get(candidate.moment, candidate.moment), candidate.moment_key
        there = furthest.get(place)
        if there is None or len(candidate.checks) > len(there.checks):
            furthest[place] = candidate
    for (moment, key), candidate in furthest.items():
        instance: Instance | None = step.customer.instances(moment).get(key)
        if instance is None or instance.state != OPEN:
            continue  # answered
        outranked = candidate.reason == Reason.OUTRANKED
        instance.reason, instance.by = Reason.SLOT_HELD.value if outranked else candidate.reason, candidate.saw


def mark_of(candidates: Iterable[Candidate]) -> int:
    """Return what stands for the candidates of a decision and their reasons, to see whether anything has changed."""
    return fingerprint("|".join(f"{c.campaign}/{c.moment}/{c.moment_key}/{c.opened_at}/{c.reason}" for c in candidates))


def _record(step: Step, verdict: Verdict, over: list[EndedMoment], trigger_id: str | None) -> Decision | None:
    """Record a decision, and return it; None when nothing has changed since the last."""
    customer = step.customer
    candidates = tuple(option.candidate for option in verdict.options)
    mark = mark_of(candidates)
    winner = verdict.winner
    if winner is None and mark == customer.recorded and not over:
        return None  # the same candidates for the same reasons: nothing changed
    customer.recorded = mark
    chosen = None if winner is None else winner.candidate
    treated = customer.window if verdict.arm == "treatment" else None
    if chosen is not None:
        reason = chosen.reason
    elif verdict.arm == "holdout":
        reason = Reason.HOLDOUT.value
    else:
        reason = candidates[0].reason if verdict.choice is None else Reason.NONE_BETTER.value
    decision = Decision(
        decision_id=verdict.decision_id,
        customer_id=step.customer_id,
        decided_at=customer.now,
        kind="choice",
        arm=verdict.arm,
        reason=reason,
        definitions_version=step.program.version,
        campaign=None if chosen is None else chosen.campaign,
        window_until=None if chosen is None or customer.window is None else customer.window.end,
        trigger_id=trigger_id,
        candidates=candidates,
        ended=step.named(over),
        offer="" if chosen is None else chosen.offer,
        cost=0 if treated is None else treated.cost,
        cost_bp=0 if treated is None else treated.cost_bp,
        **_learned_from(verdict),
    )
    step.effects.decisions.append(decision)
    return decision
