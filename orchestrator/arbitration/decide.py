"""`arbitrate`: all open moments of a customer, all campaigns that answer them, and the one that is chosen, or none."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.eligibility import Situation, examine
from orchestrator.customer import OPEN, Instance
from orchestrator.identity import draw, identify
from orchestrator.moments.rules import Moment
from orchestrator.moments.worth import expected_margin
from orchestrator.reasons import Reason
from orchestrator.records import Candidate


@dataclass(frozen=True, slots=True)
class Option:
    """One campaign for one open instance, examined."""

    campaign: Campaign | None
    moment: Moment
    key: str
    instance: Instance
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a decision: every option with its final reason, the winner if there is one, and its arm."""

    decision_id: str
    arm: str
    winner: Option | None
    options: tuple[Option, ...]


def arbitrate(situation: Situation) -> Verdict | None:
    """Return the verdict over all open moments at this instant, or None when none is open."""
    options = _options(situation)
    if not options:
        return None
    decision_id = identify(
        situation.customer_id,
        situation.now,
        "choice",
        *(f"{o.candidate.campaign}/{o.moment.name}/{o.key}/{o.instance.due}" for o in options),
    )
    eligible = [option for option in options if option.candidate.reason == Reason.CHOSEN]
    if not eligible:
        held_out = any(option.candidate.reason == Reason.HOLDOUT for option in options)
        return Verdict(decision_id, "holdout" if held_out else "none", None, tuple(options))
    winner = min(eligible, key=lambda option: _rank(situation, option))
    assert winner.campaign is not None
    # Drawn after the choice, for the winner only: drawn before, the control group would hold people who would never
    # have received the campaign.
    control = draw("control", decision_id) < winner.campaign.control_bp
    arm = Reason.CONTROL if control else Reason.CHOSEN
    settled = tuple(_settle(option, winner, arm) for option in options)
    winner = next(option for option in settled if option.candidate.reason == arm)
    return Verdict(decision_id, "control" if control else "treatment", winner, settled)


def _options(situation: Situation) -> list[Option]:
    found = []
    for moment in situation.program.moments.values():
        if moment.name not in situation.customer.fires:
            continue  # an open instance always waits for its end, so its moment has a timer
        for key, instance in sorted(situation.customer.peek(moment.name).items()):
            if instance.state != OPEN:
                continue
            for named, campaigns in situation.program.answers[moment.name]:
                if not campaigns:
                    none = Candidate("", named.name, key, instance.due, Reason.NO_DEFINITION.value)
                    found.append(Option(None, named, key, instance, none))
                for campaign in campaigns:
                    candidate = examine(situation, campaign, named, key, instance)
                    found.append(Option(campaign, named, key, instance, candidate))
    return found


def _rank(situation: Situation, option: Option) -> tuple[int, int, str, str, str]:
    """Return the order of choice: priority, then expected margin, then names, so that ties never depend on order."""
    assert option.campaign is not None
    margin = expected_margin(situation.customer, option.moment, option.key)
    return -option.campaign.priority, -margin, option.campaign.name, option.moment.name, option.key


def _settle(option: Option, winner: Option, arm: Reason) -> Option:
    """Return an option with its final reason; what the winner's message also answers is not outranked by it."""
    by = winner.candidate.campaign
    if option is winner:
        settled = msgspec.structs.replace(option.candidate, reason=arm.value, propensity=1.0)
    elif option.candidate.reason != Reason.CHOSEN:
        return option
    elif option.campaign is winner.campaign and option.moment is winner.moment:
        settled = msgspec.structs.replace(option.candidate, reason=Reason.ALREADY_ANSWERED.value, saw=by)
    else:
        settled = msgspec.structs.replace(option.candidate, reason=Reason.OUTRANKED.value, saw=by)
    return Option(option.campaign, option.moment, option.key, option.instance, settled)
