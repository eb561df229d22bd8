"""Late truth: an event from before a moment opened that would have ended it takes back what answered it."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.arbitration.audience import void_member
from orchestrator.arbitration.campaign import AUDIENCE
from orchestrator.arbitration.series import campaign_of, void_series
from orchestrator.arbitration.trigger import trigger_of
from orchestrator.customer import Answered
from orchestrator.events import Event
from orchestrator.identity import identify
from orchestrator.measurement import emit_amended
from orchestrator.program import Role
from orchestrator.reasons import Reason
from orchestrator.records import Decision
from orchestrator.step import Step


def retract(step: Step, roles: Iterable[Role], event: Event) -> None:
    """Take back every answer that an event proves wrong, in both arms by the same rule; the slot stays taken."""
    customer = step.customer
    if not customer.answered:
        return
    forget_answered(step)
    for role in roles:
        names = step.program.names_of(role.moment.name)
        for match in role.ends:
            if match.state is not None:
                continue  # nothing opened before stock that is told in time was taken in
            keys = None if match.matching is None else step.keys(event, match.matching)
            for answered in [a for a in customer.answered if a.moment in names]:
                if (keys is None or answered.key in keys) and answered.started <= event.time <= answered.opened:
                    customer.answered.remove(answered)
                    _void(step, answered, event)


def forget_answered(step: Step) -> None:
    """Forget the answers that no event is late enough to prove wrong any more."""
    keep_from = step.clock_before - step.program.longest_late
    step.customer.answered[:] = [kept for kept in step.customer.answered if kept.opened >= keep_from]


def _void(step: Step, answered: Answered, event: Event) -> None:
    customer = step.customer
    windows = [*customer.closed, *([] if customer.window is None else [customer.window])]
    window = next((w for w in windows if w.decision_id == answered.decision_id), None)
    if window is None or window.void:
        return
    window.void = True
    step.effects.decisions.append(
        Decision(
            decision_id=identify(step.customer_id, "void", answered.decision_id),
            customer_id=step.customer_id,
            decided_at=max(event.time, customer.now),
            kind="void",
            arm="control" if window.control else "treatment",
            reason=Reason.CANCELLED.value,
            definitions_version=step.program.version,
            campaign=answered.campaign,
            voids=answered.decision_id,
        )
    )
    if answered.trigger_id:
        campaign = campaign_of(step.program, customer, answered.campaign, running=window is customer.window)
        first = campaign.series[0].name if campaign is not None and campaign.series else ""
        if answered.channel == AUDIENCE:
            void_member(step, campaign, answered, window.end, max(event.time, customer.now))
        else:
            step.effects.triggers.append(trigger_of(step, campaign, answered, window.end, "retract", first))
    if window is customer.window:
        void_series(step, window, event)
    else:
        emit_amended(step, [window], max(event.time, customer.now))
