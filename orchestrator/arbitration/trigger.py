"""What we ask a sender to do, or to take back, with an id derived from its cause."""

from __future__ import annotations

from orchestrator.arbitration.campaign import Campaign
from orchestrator.customer import Answered
from orchestrator.events import SENT, Event
from orchestrator.facts.fill import facts_of
from orchestrator.identity import identify
from orchestrator.moments.watch import look
from orchestrator.records import Trigger
from orchestrator.step import Step
from orchestrator.view import CustomerView

_TAKES_BACK = ("retract", "remove")


def trigger_id_of(customer_id: str, campaign: Campaign, moment: str, key: str, opened: int, step: str = "") -> str:
    """Return the id of what a campaign does about a moment; definitions may be published in between, it stays."""
    return identify(customer_id, campaign.name, moment, key, opened, step)


def trigger_of(
    step: Step, campaign: Campaign | None, answered: Answered, window_until: int, action: str, of_series: str = ""
) -> Trigger:
    """Return the trigger of a campaign that answers a moment, or takes that answer back.

    `of_series` is the step of a series; the campaign is None when it is gone by the time of a retraction.
    """
    moment = step.program.find(answered.moment)
    key_name = None if moment is None else moment.key
    running = step.customer.window
    window = running if running is not None and running.decision_id == answered.decision_id else None
    requested = () if campaign is None else campaign.send_of(of_series).content
    facts = None
    if requested and action not in _TAKES_BACK:
        view = CustomerView(step.program, step.reference, step.customer, answered.decided_at, moment, answered.key)
        facts = facts_of(view, requested)
    return Trigger(
        trigger_id=answered.trigger_id,
        decision_id=answered.decision_id,
        customer_id=step.customer_id,
        campaign=answered.campaign,
        channel=answered.channel,
        template=answered.template,
        moment=answered.moment,
        moment_key=answered.key,
        opened_at=answered.opened,
        decided_at=answered.decided_at,
        valid_until=answered.until,
        window_until=window_until,
        definitions_version=step.program.version,
        action=action,
        step=of_series,
        content={} if key_name is None else {key_name: answered.key},
        requested=requested,
        offer="" if window is None else window.offer,
        cost=0 if window is None else window.cost,
        cost_bp=0 if window is None else window.cost_bp,
        facts=facts,
    )


def count_own_message(step: Step, answered: Answered) -> None:
    """Count our own message from the instant it is decided; what a topic reports of it later counts no more."""
    step.count_message(answered.decided_at, answered.channel)
    sent = {"channel": answered.channel, "trigger_id": answered.trigger_id, "campaign": answered.campaign}
    dispatch = step.program.dispatch(SENT)
    step.learn(dispatch.folds, Event(SENT, step.customer_id, answered.decided_at, data=sent))
    for moment in dispatch.watched:
        look(step, moment, answered.decided_at)
