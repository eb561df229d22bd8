"""Dates known to come: what is forfeited by holding the slot over a birthday, a predicted order or a weekly day.

Whoever takes a campaign now cannot be answered a moment that opens and goes stale while its window runs. Where that
date is known already, the best that it is worth is what taking the campaign costs. Of several keys of one moment one
counts, for one is answered at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.eligibility import Situation, may_answer
from orchestrator.arbitration.grounds import Grounds
from orchestrator.customer import WAITING
from orchestrator.moments.rules import Around, Calendar, Launch, Moment, Schedule
from orchestrator.moments.wake import may_pick_from
from orchestrator.valuation import PROVEN, arm_of

DATED = (Around, Calendar, Launch, Schedule)
"""Moments that wait for a date; all others wait for what somebody does."""


@dataclass(frozen=True, slots=True)
class Coming:
    """One date to come: when it opens and goes stale, and per world what answering it is worth, never less than 0."""

    moment: str
    opens: int
    stale: int
    worth: Sequence[float]


@dataclass(frozen=True, slots=True)
class Forfeited:
    """What a campaign that holds the slot for a time forfeits: per world in minor units, and by which moments."""

    worth: Sequence[float] = ()
    moments: tuple[str, ...] = ()


def coming(situation: Situation, grounds: Grounds, until: int) -> tuple[Coming, ...]:
    """Return the dates that open up to an instant and are worth anything, in order of moments and keys."""
    return tuple(
        one
        for moment in situation.program.moments.values()
        if isinstance(moment.shape, DATED) and moment.name in situation.customer.fires
        for one in _of(situation, grounds, until, moment)
    )


def forfeited(dates: Sequence[Coming], now: int, until: int) -> Forfeited:
    """Return what is forfeited of some dates by holding the slot from now on until an instant."""
    best: dict[str, list[float]] = {}
    for date in dates:
        if now < date.opens < until and date.stale <= until:
            other = best.get(date.moment)
            worth = date.worth if other is None else map(max, other, date.worth)
            best[date.moment] = list(worth)
    if not best:
        return _NOTHING
    return Forfeited([fsum(world) for world in zip(*best.values(), strict=True)], tuple(best))


def _of(situation: Situation, grounds: Grounds, until: int, moment: Moment) -> Iterator[Coming]:
    customer = situation.customer
    instances = customer.peek(moment.name)
    pick_from = may_pick_from(moment, instances, customer.picked.get(moment.name))
    for key, instance in sorted(instances.items()):
        opens = max(instance.due, pick_from)
        if instance.state != WAITING or not situation.now < opens < min(until, instance.until):
            continue
        worth = _best(situation, grounds, moment, key)
        if worth and max(worth) > 0:
            stale = instance.until if moment.lasts is None else min(instance.until, opens + moment.lasts)
            yield Coming(moment.name, opens, stale, worth)


def _best(situation: Situation, grounds: Grounds, moment: Moment, key: str) -> list[float]:
    """Return per world what the best campaign for a moment is worth, nothing where none is proven."""
    worlds: list[Sequence[float]] = []
    for named, campaigns in situation.program.answers[moment.name]:
        for campaign in campaigns:
            arms = {offer: arm_of(campaign.name, offer, campaign.send.channel) for offer in _offers(campaign)}
            proven = {offer: arm for offer, arm in arms.items() if grounds.state(arm) == PROVEN}
            if proven:  # or there is nothing to find out
                may = may_answer(situation, campaign, named, key)
                worlds += [grounds.worlds(arm) for offer, arm in proven.items() if offer in may]
    return [max(0.0, *world) for world in zip(*worlds, strict=True)]


def _offers(campaign: Campaign) -> tuple[str, ...]:
    return ("",) if campaign.offer is None else campaign.offer.choices


_NOTHING = Forfeited()
