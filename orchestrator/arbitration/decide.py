"""`arbitrate`: all open moments of a customer, all campaigns that answer them, and the one that is chosen, or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.choice import EXPECTED_VALUE, Choice, Eligible, by_priority, by_value
from orchestrator.arbitration.eligibility import Situation, examine
from orchestrator.arbitration.grounds import Grounds, grounds_of
from orchestrator.conditions import readable
from orchestrator.customer import OPEN, Instance
from orchestrator.events import DAY
from orchestrator.identity import draw, identify
from orchestrator.moments.rules import Moment
from orchestrator.moments.worth import expected_margin
from orchestrator.reasons import Reason
from orchestrator.records import Candidate
from orchestrator.valuation import arm_of


@dataclass(frozen=True, slots=True)
class Option:
    """One campaign for one open instance, examined."""

    campaign: Campaign | None
    moment: Moment
    key: str
    instance: Instance
    candidate: Candidate

    @property
    def arm(self) -> str:
        """What is chosen with it: the campaign, its offer and its channel."""
        assert self.campaign is not None
        return arm_of(self.campaign.name, self.candidate.offer, self.campaign.send.channel)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a decision: every option with its final reason, the winner if there is one, and its arm.

    Where anybody learns, `grounds` tells what it went by and `choice` how likely each of the eligible options `among`
    was, in order of priority. `control_bp` is the share of winners that gets nothing.
    """

    decision_id: str
    arm: str
    winner: Option | None
    options: tuple[Option, ...]
    control_bp: int = 0
    grounds: Grounds | None = None
    choice: Choice | None = None
    among: tuple[Eligible, ...] = ()


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
    grounds = grounds_of(situation)
    if grounds is not None and grounds.method == EXPECTED_VALUE:
        options = [each for option in options for each in _with_every_offer(option)]
    eligible = [option for option in options if option.candidate.reason == Reason.CHOSEN]
    if not eligible:
        held_out = any(option.candidate.reason == Reason.HOLDOUT for option in options)
        return Verdict(decision_id, "holdout" if held_out else "none", None, tuple(options), grounds=grounds)
    ranked = sorted(eligible, key=lambda option: _rank(situation, option))
    among = () if grounds is None else tuple(map(_eligible, ranked))
    choice = _choose(situation, grounds, among) if grounds is not None else by_priority(len(ranked))
    chances = dict(zip(map(id, ranked), choice.propensities, strict=True))
    if choice.winner is None:
        passed_over = tuple(_pass_over(situation, grounds, option, chances.get(id(option))) for option in options)
        return Verdict(decision_id, "none", None, passed_over, 0, grounds, choice, among)
    winner = ranked[choice.winner]
    assert winner.campaign is not None
    # Drawn after the choice, for the winner only: drawn before, the control group would hold people who would never
    # have received the campaign.
    control_bp = winner.campaign.control_bp if grounds is None else grounds.control_bp(winner.campaign, winner.arm)
    control = draw("control", decision_id) < control_bp
    arm = Reason.CONTROL if control else Reason.CHOSEN
    settled = tuple(_settle(option, winner, arm, chances.get(id(option), 0.0)) for option in options)
    winner = next(option for option in settled if option.candidate.reason == arm)
    side = "control" if control else "treatment"
    return Verdict(decision_id, side, winner, settled, control_bp, grounds, choice, among)


def _choose(situation: Situation, grounds: Grounds, among: tuple[Eligible, ...]) -> Choice:
    if grounds.method != EXPECTED_VALUE:
        return by_priority(len(among))
    policy, customer_id = situation.program.policy, situation.customer_id
    return by_value(policy, grounds.snapshot, grounds.values, grounds.stage, customer_id, among)


def _eligible(option: Option) -> Eligible:
    return Eligible(option.arm, f"{option.arm}/{option.moment.name}/{option.key}/{option.instance.due}")


def _with_every_offer(option: Option) -> Iterator[Option]:
    """Yield an option once for each offer that this customer may have, in the order listed."""
    yield option
    campaign, candidate = option.campaign, option.candidate
    if campaign is not None and candidate.reason == Reason.CHOSEN:
        for check in candidate.offers:
            if check.passed and check.check != candidate.offer:
                yield replace(option, candidate=msgspec.structs.replace(candidate, offer=check.check))


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


def _settle(option: Option, winner: Option, arm: Reason, chance: float) -> Option:
    """Return an option with its final reason; what the winner's message also answers is not outranked by it."""
    by, offer = winner.candidate.campaign, winner.candidate.offer
    if option is winner:
        reason, saw = arm, option.candidate.saw
    elif option.candidate.reason != Reason.CHOSEN:
        return option
    elif option.campaign is winner.campaign and option.instance is winner.instance:
        reason, saw = Reason.OUTRANKED, f"{by} with {offer}"
    elif option.campaign is winner.campaign and option.moment is winner.moment:
        reason, saw = Reason.ALREADY_ANSWERED, by
    else:
        reason, saw = Reason.OUTRANKED, by
    settled = msgspec.structs.replace(option.candidate, reason=reason.value, saw=saw, propensity=chance)
    return replace(option, candidate=settled)


def _pass_over(situation: Situation, grounds: Grounds | None, option: Option, chance: float | None) -> Option:
    """Return an option with why sending nothing is better; looked at again after a day, for values may be learned."""
    if chance is None or grounds is None:
        return option
    value = grounds.value(option.arm)
    settled = msgspec.structs.replace(
        option.candidate,
        reason=Reason.NONE_BETTER.value,
        saw="not known yet" if value is None else f"worth {readable(value, 'money')}",
        retry_at=situation.now + DAY,
        propensity=chance,
    )
    return replace(option, candidate=settled)
