"""Cutting in: a campaign worth many times the running one may end its window, where the policy allows it.

Both arms alike: whether the running window is treatment or control is not asked, and what the control group would have
been sent counts for the caps. Neither window is measured then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from orchestrator.arbitration.audience import MEMBER, end_membership
from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.eligibility import Situation, examine_beside
from orchestrator.arbitration.grounds import Grounds
from orchestrator.arbitration.option import Option
from orchestrator.arbitration.series import free_slot, progress_of
from orchestrator.customer import Context, Customer, Window
from orchestrator.identity import identify
from orchestrator.reasons import Reason
from orchestrator.records import Decision
from orchestrator.step import Step
from orchestrator.valuation import PROVEN, arm_of


def contenders(situation: Situation, grounds: Grounds, options: Iterable[Option]) -> Iterator[Option]:
    """Yield the options that are worth enough more than the running campaign, and which only its window keeps away."""
    times, window = situation.program.policy.interrupt_above, situation.customer.window
    running = None
    campaign = None if window is None else situation.program.campaigns.get(window.campaign)
    if times and window is not None and campaign is not None:
        running = grounds.value(arm_of(window.campaign, window.offer, campaign.send.channel))
    if running is None or window is None or campaign is None or window.start >= situation.now:
        return  # nothing to compare with, or it begins at this very instant: a window of no length is none
    withheld = _messages(situation.customer, window, campaign) if window.control else ()
    beside = replace(situation, withheld=withheld, contacts={})
    for option in options:
        if option.candidate.reason != Reason.SLOT_HELD or option.campaign is None:
            continue
        candidate = examine_beside(beside, option.campaign, option.moment, option.key, option.instance)
        for each in replace(option, candidate=candidate).with_every_offer():
            if each.candidate.reason == Reason.CHOSEN and grounds.state(each.arm) == PROVEN:
                value = grounds.value(each.arm)
                if value is not None and value > max(times * running, 0):
                    yield each.noted(value=value)


def interrupt(step: Step) -> None:
    """End the window that holds the slot now, and record that it is not measured."""
    customer, now = step.customer, step.customer.now
    window = customer.window
    assert window is not None
    if customer.fact(MEMBER) is not None:
        end_membership(step)
    window.end = now
    window.context = window.context or Context()
    window.context.interrupted = True
    free_slot(step)
    step.effects.decisions.append(
        Decision(
            decision_id=identify(step.customer_id, "interruption", window.decision_id),
            customer_id=step.customer_id,
            decided_at=now,
            kind="interruption",
            arm="control" if window.control else "treatment",
            reason=Reason.OUTRANKED.value,
            definitions_version=step.program.version,
            campaign=window.campaign,
            voids=window.decision_id,
        )
    )


def _messages(customer: Customer, window: Window, campaign: Campaign) -> tuple[tuple[int, str], ...]:
    """Return when the messages of a running window were decided, and their channels."""
    progress = progress_of(customer)
    if progress is None:
        return ((window.start, campaign.send.channel),)
    return tuple((sent.message.decided_at, sent.message.channel) for sent in progress.sent)
