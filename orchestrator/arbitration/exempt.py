"""Transactional and legal messages: they answer an event directly, and need no slot; recorded like everything else."""

from __future__ import annotations

import msgspec

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.eligibility import examine_exempt, situation_of
from orchestrator.arbitration.trigger import trigger_id_of, trigger_of
from orchestrator.conditions import readable
from orchestrator.customer import Answered
from orchestrator.events import Event
from orchestrator.identity import identify
from orchestrator.reasons import Reason
from orchestrator.records import Candidate, Decision
from orchestrator.step import Step


def answer(step: Step, campaign: Campaign, event: Event) -> None:
    """Send the message that a campaign has for an event, or record why not.

    It counts neither for caps nor as a message in features, and takes part in no choice.
    """
    now = max(event.time, step.customer.now, step.not_before)
    key_name = next(match.matching for match in campaign.on if event.name in match.events)
    key = next(iter(step.keys(event, key_name)), "") if key_name is not None else ""
    max_age = step.program.policy.never_act_older_than
    if now - event.time > max_age:
        age = readable(now - event.time, "duration")
        candidate = Candidate(campaign.name, event.name, key, event.time, Reason.TOO_OLD.value, age)
    else:
        situation = situation_of(step.program, step.reference, step.customer, step.customer_id, now)
        candidate = examine_exempt(situation, campaign, event.name, key, event.time)
    decision_id = identify(step.customer_id, "exempt", campaign.name, event.name, key, event.time)
    goes_out = candidate.reason == Reason.CHOSEN
    message = Answered(
        event.name,
        key,
        event.time,
        event.time,
        event.time + max_age,
        decision_id,
        now,
        campaign.name,
        campaign.send.channel,
        campaign.send.template,
        trigger_id_of(step.customer_id, campaign, event.name, key, event.time) if goes_out else "",
    )
    step.effects.decisions.append(
        Decision(
            decision_id=decision_id,
            customer_id=step.customer_id,
            decided_at=now,
            kind="exempt",
            arm="treatment" if goes_out else "none",
            reason=candidate.reason,
            definitions_version=step.program.version,
            campaign=campaign.name,
            trigger_id=message.trigger_id or None,
            candidates=(candidate,),
        )
    )
    if goes_out:
        content = {} if key_name is None else {key_name: key}
        trigger = trigger_of(step, campaign, message, now, "send")
        kind = campaign.message_class
        step.effects.triggers.append(msgspec.structs.replace(trigger, content=content, message_class=kind))
