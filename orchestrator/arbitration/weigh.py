"""What options are worth to one customer, less what they forfeit, and the choice among them by that."""

from __future__ import annotations

from orchestrator.arbitration.ahead import Coming, Forfeited, coming, forfeited
from orchestrator.arbitration.choice import Choice, Eligible, by_value
from orchestrator.arbitration.eligibility import Situation
from orchestrator.arbitration.grounds import Grounds, expected
from orchestrator.arbitration.option import Option
from orchestrator.conditions import readable
from orchestrator.events import DAY
from orchestrator.reasons import Reason
from orchestrator.valuation import PROVEN


def valued(grounds: Grounds, option: Option) -> Option:
    """Return an option with what it is expected to be worth, also where a rule keeps it away.

    Which offers somebody may have is not asked when a rule fails before: then the best of them counts.
    """
    campaign, candidate = option.campaign, option.candidate
    if campaign is None:
        return option
    if campaign.offer is None or candidate.offer:
        return option.noted(value=grounds.value(option.arm))
    values = [grounds.value(option.noted(offer=offer).arm) for offer in campaign.offer.choices]
    return option.noted(value=max((value for value in values if value is not None), default=None))


def weigh(situation: Situation, grounds: Grounds, ranked: list[Option]) -> tuple[Choice, list[Option]]:
    """Return the choice among eligible options in order of priority, and the options with what it went by."""
    among, said = [], []
    for option, less in zip(ranked, _forfeited(situation, grounds, ranked), strict=True):
        worlds = grounds.worlds(option.arm)
        if less.worth and worlds:
            worlds = [worth - cost for worth, cost in zip(worlds, less.worth, strict=True)]
        name = f"{option.arm}/{option.moment.name}/{option.key}/{option.instance.due}"
        among.append(Eligible(name, grounds.state(option.arm), worlds))
        said.append(_said(less) if less.worth else option.candidate.saw)
    choice = by_value(situation.program.policy, grounds.snapshot, situation.customer_id, among)
    return choice, [
        option.noted(value=expected(one.worlds), propensity=chance, saw=saw)
        for option, one, chance, saw in zip(ranked, among, choice.propensities, said, strict=True)
    ]


def passed_over(option: Option, now: int) -> Option:
    """Return an eligible option that a free slot was better than; a day later something else may have been learned."""
    value, saw = option.candidate.value, option.candidate.saw
    worth = "not known yet" if value is None else f"worth {readable(value, 'money')}"
    return option.noted(reason=Reason.NONE_BETTER.value, saw=f"{worth}; {saw}" if saw else worth, retry_at=now + DAY)


def _forfeited(situation: Situation, grounds: Grounds, ranked: list[Option]) -> list[Forfeited]:
    """Return what each option forfeits by holding the slot for its window, stragglers included."""
    now, waits = situation.now, situation.program.order_disorder
    untils = [now + option.campaign.measure.window + waits for option in ranked if option.campaign is not None]
    dates: tuple[Coming, ...] = ()
    if situation.program.policy.look_ahead and any(grounds.state(option.arm) == PROVEN for option in ranked):
        dates = coming(situation, grounds, max(untils))
    return [forfeited(dates, now, until) for until in untils]


def _said(less: Forfeited) -> str:
    return f"holding the slot over {', '.join(less.moments)} costs {readable(expected(less.worth), 'money')}"
