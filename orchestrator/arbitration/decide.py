"""`arbitrate`: all open moments of a customer, all campaigns that answer them, and the one that is chosen, or none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from orchestrator.arbitration.choice import EXPECTED_VALUE, Choice, by_priority
from orchestrator.arbitration.eligibility import Situation, examine
from orchestrator.arbitration.grounds import Grounds, grounds_of
from orchestrator.arbitration.interrupt import contenders
from orchestrator.arbitration.leaf import features_of
from orchestrator.arbitration.option import Option
from orchestrator.arbitration.weigh import passed_over, valued, weigh
from orchestrator.customer import OPEN
from orchestrator.identity import draw, identify
from orchestrator.moments.worth import expected_margin
from orchestrator.reasons import Reason
from orchestrator.records import Candidate


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a decision: every option with its final reason, the winner if there is one, and its arm.

    Where anybody learns, `grounds` tells what it went by, `choice` how, and `features` what was known of the customer.
    `control_bp` is the share of winners that gets nothing; `interrupts` tells that another window is to end for it.
    """

    decision_id: str
    arm: str
    winner: Option | None
    options: tuple[Option, ...]
    control_bp: int = 0
    grounds: Grounds | None = None
    choice: Choice | None = None
    interrupts: bool = False
    features: dict[str, float | str] = field(default_factory=dict)


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
    by_value = grounds is not None and grounds.method == EXPECTED_VALUE
    if by_value:
        options = [each for option in options for each in option.with_every_offer()]
    eligible = [place for place, option in enumerate(options) if option.candidate.reason == Reason.CHOSEN]
    interrupts = False
    if not eligible and grounds is not None and by_value:
        eligible = _cut_in(situation, grounds, options)
        interrupts = bool(eligible)
    if grounds is not None and grounds.values.arms:
        weighed_below = set(eligible) if by_value and not interrupts else ()
        options = [
            option if place in weighed_below else valued(grounds, option) for place, option in enumerate(options)
        ]
    if not eligible:
        held_out = any(option.candidate.reason == Reason.HOLDOUT for option in options)
        return Verdict(decision_id, "holdout" if held_out else "none", None, tuple(options), grounds=grounds)
    eligible.sort(key=lambda place: _rank(situation, options[place]))
    choice = by_priority(len(eligible), EXPECTED_VALUE if interrupts else "priority")
    if grounds is not None and by_value and not interrupts:
        choice, weighed = weigh(situation, grounds, [options[place] for place in eligible])
        for place, option in zip(eligible, weighed, strict=True):
            options[place] = option
    if choice.winner is None:
        for place in eligible:
            options[place] = passed_over(options[place], situation.now)
        return Verdict(decision_id, "none", None, tuple(options), 0, grounds, choice)
    place, chance = eligible[choice.winner], choice.propensities[choice.winner]
    verdict = _won(grounds, decision_id, options, place, chance)
    features = {} if grounds is None else features_of(grounds.view)
    return replace(verdict, grounds=grounds, choice=choice, interrupts=interrupts, features=features)


def _won(grounds: Grounds | None, decision_id: str, options: list[Option], place: int, chance: float) -> Verdict:
    """Return the verdict that the option at a place won, which had such a chance, in treatment or in control."""
    winner = options[place]
    assert winner.campaign is not None
    # Drawn after the choice, for the winner only: drawn before, the control group would hold people who would never
    # have received the campaign.
    control_bp = winner.campaign.control_bp if grounds is None else grounds.control_bp(winner.campaign, winner.arm)
    control = draw("control", decision_id) < control_bp
    reason, side = (Reason.CONTROL, "control") if control else (Reason.CHOSEN, "treatment")
    settled = [option if option is winner else _settle(option, winner) for option in options]
    winner = settled[place] = winner.noted(reason=reason.value, propensity=chance)
    return Verdict(decision_id, side, winner, tuple(settled), control_bp)


def _cut_in(situation: Situation, grounds: Grounds, options: list[Option]) -> list[int]:
    """Let the best option that may cut in on the running campaign take its place among all; return that, or nothing."""
    found = sorted(
        contenders(situation, grounds, options),
        key=lambda option: (-(option.candidate.value or 0), _rank(situation, option)),
    )
    for best in found[:1]:
        for place, option in enumerate(options):
            if (option.campaign, option.moment, option.key) == (best.campaign, best.moment, best.key):
                options[place] = best
                return [place]
    return []


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
    program, reference, now = situation.program, situation.reference, situation.now
    margin = expected_margin(program, reference, situation.customer, now, option.moment, option.key)
    return -option.campaign.priority, -margin, option.campaign.name, option.moment.name, option.key


def _settle(option: Option, winner: Option) -> Option:
    """Return an option that did not win with its final reason; what the message also answers is not outranked by it."""
    if option.candidate.reason != Reason.CHOSEN:
        return option
    by, offer = winner.candidate.campaign, winner.candidate.offer
    if option.campaign is winner.campaign and option.instance is winner.instance:
        return option.noted(reason=Reason.OUTRANKED.value, saw=f"{by} with {offer}")
    if option.campaign is winner.campaign and option.moment is winner.moment:
        return option.noted(reason=Reason.ALREADY_ANSWERED.value, saw=by)
    return option.noted(reason=Reason.OUTRANKED.value, saw=by)
