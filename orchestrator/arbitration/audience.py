"""Audiences: a campaign adds a customer for its window, and removes them when they buy, at an exit, or when it ends.

Only treatment is added, so only treatment is removed: once, whatever comes first.
"""

from __future__ import annotations

from typing import Final

import msgspec

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.trigger import trigger_of
from orchestrator.customer import Answered, Customer
from orchestrator.events import ORDERED, Event
from orchestrator.identity import identify
from orchestrator.reasons import Reason
from orchestrator.records import Candidate, Decision
from orchestrator.step import Step

MEMBER: Final = "slot.audience"
"""The fact that tells of which audience a customer is a member, and the name under which its end waits."""


class Member(msgspec.Struct, array_like=True, gc=False):
    """A customer who was added to an audience by what `message` says, until the window ends."""

    message: Answered
    until: int


def join(customer: Customer, added: Answered, until: int) -> None:
    """Remember that a customer was added to an audience."""
    customer.set_fact(MEMBER, Member(added, until))
    customer.fires[MEMBER] = until


def forget_member(customer: Customer, decision_id: str) -> bool:
    """Forget that a decision added a customer to an audience; return whether they were still a member by it."""
    member = _member_of(customer)
    if member is None or member.message.decision_id != decision_id:
        return False
    customer.set_fact(MEMBER, None)
    del customer.fires[MEMBER]
    return True


def end_membership(step: Step) -> None:
    """Remove a customer whose window is over."""
    member = _member_of(step.customer)
    assert member is not None
    _remove(step, member, Reason.EXPIRED, "", step.customer.now)


def leave_audience(step: Step, event: Event) -> None:
    """Remove a customer who bought, or whom another event that the campaign names leads out of it."""
    member = _member_of(step.customer)
    campaign = None if member is None else step.program.campaigns.get(member.message.campaign)
    if member is None or campaign is None or not member.message.decided_at < event.time < member.until:
        return
    if event.name == ORDERED or any(
        event.name in match.events
        and (match.matching is None or member.message.key in step.keys(event, match.matching))
        for match in campaign.stop_when
    ):
        _remove(step, member, Reason.STOPPED, event.name, max(event.time, step.customer.now))


def void_member(step: Step, campaign: Campaign | None, added: Answered, until: int, at: int) -> None:
    """Remove a customer whose moment was proven wrong, unless they are removed already; the void record says why."""
    if forget_member(step.customer, added.decision_id):
        _tell(step, campaign, added, until, at)


def _member_of(customer: Customer) -> Member | None:
    state = customer.fact(MEMBER)
    return state if state is None or isinstance(state, Member) else msgspec.convert(state, Member)


def _remove(step: Step, member: Member, reason: Reason, saw: str, at: int) -> None:
    added = member.message
    forget_member(step.customer, added.decision_id)
    step.effects.decisions.append(
        Decision(
            decision_id=identify(step.customer_id, "removal", added.decision_id),
            customer_id=step.customer_id,
            decided_at=at,
            kind="removal",
            arm="none",
            reason=reason.value,
            definitions_version=step.program.version,
            campaign=added.campaign,
            trigger_id=added.trigger_id,
            candidates=(Candidate(added.campaign, added.moment, added.key, added.opened, reason.value, saw),),
            continues=added.decision_id,
        )
    )
    _tell(step, step.program.campaigns.get(added.campaign), added, member.until, at)


def _tell(step: Step, campaign: Campaign | None, added: Answered, until: int, at: int) -> None:
    removal = trigger_of(step, campaign, added, until, "remove")
    step.effects.triggers.append(msgspec.structs.replace(removal, decided_at=at))
