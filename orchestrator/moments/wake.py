"""How time moves a moment's instances: what opens, what goes stale, and which of many due at once is picked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from orchestrator.conditions import Condition
from orchestrator.customer import OPEN, WAITING, Instance
from orchestrator.events import FOREVER
from orchestrator.moments.detect import ended
from orchestrator.moments.rules import Moment
from orchestrator.reasons import Reason
from orchestrator.records import EndedMoment

Holds = Callable[[Condition, str], tuple[bool | None, str]]
"""Evaluates a moment's condition for a key: its truth, and the values it saw."""


class Woken(NamedTuple):
    """What time did: instances that are over, and whether one opened."""

    over: list[EndedMoment]
    opened: bool


def wake(
    moment: Moment,
    instances: dict[str, Instance],
    now: int,
    disorder: int,
    never_act_older_than: int,
    holds: Holds,
) -> Woken:
    """Open what is due at `now` and end what is stale; `holds` evaluates the moment's condition for a key."""
    over: list[EndedMoment] = []
    opened = False
    for key, instance in sorted(instances.items()):
        if instance.state == WAITING and instance.due + disorder <= now:
            if moment.lasts is not None:
                instance.until = instance.due + moment.lasts
            unfit = _unfit(moment, key, instance, now, never_act_older_than, holds)
            if unfit is not None:
                del instances[key]
                over.append(unfit)
                continue
            instance.state = OPEN
            opened = True
        if instance.state == OPEN and instance.until <= now:
            del instances[key]
            over.append(ended(moment, key, instance, "expired", instance.reason or Reason.EXPIRED, instance.by))
    return Woken(over, opened)


def wake_and_pick(
    moment: Moment,
    instances: dict[str, Instance],
    now: int,
    disorder: int,
    pick_from: int,
    holds: Holds,
    worth: Callable[[str], int],
) -> Woken:
    """Like `wake` for a `pick_one` moment: of all that are due, the one worth most opens, if one may open now.

    The others go on waiting while their own window lasts, and leave no trace: they were never talked about.
    """
    assert moment.pick_one is not None
    over: list[EndedMoment] = []
    for key, instance in sorted(instances.items()):
        if instance.until <= now:
            del instances[key]
            if instance.state == OPEN:
                over.append(ended(moment, key, instance, "expired", instance.reason or Reason.EXPIRED, instance.by))
    if any(instance.state == OPEN for instance in instances.values()) or now < pick_from:
        return Woken(over, opened=False)
    ready = [key for key, instance in instances.items() if instance.due + disorder <= now]
    for key in sorted(ready, key=lambda key: (-worth(key), key)):
        if moment.only_if is not None and holds(moment.only_if, key)[0] is not True:
            del instances[key]
            continue
        picked = instances[key]
        picked.state, picked.due = OPEN, now  # it opens when it is picked: that instant is part of its identity
        if moment.lasts is not None:
            picked.until = min(picked.until, now + moment.lasts)
        return Woken(over, opened=True)
    return Woken(over, opened=False)


def may_pick_from(moment: Moment, instances: dict[str, Instance], last_pick: int | None) -> int:
    """Return the instant from which the next instance may be picked, FOREVER while one is open."""
    if moment.pick_one is None or last_pick is None:
        return -FOREVER
    if any(instance.state == OPEN for instance in instances.values()):
        return FOREVER
    return last_pick + moment.pick_one.at_most_every


def _unfit(
    moment: Moment,
    key: str,
    instance: Instance,
    now: int,
    never_act_older_than: int,
    holds: Holds,
) -> EndedMoment | None:
    if now - instance.due > never_act_older_than:
        return ended(moment, key, instance, "expired", Reason.TOO_OLD)
    if moment.only_if is None:
        return None
    truth, saw = holds(moment.only_if, key)
    if truth is True:
        return None
    return ended(moment, key, instance, "unmet", Reason.NOT_ELIGIBLE if truth is False else Reason.UNKNOWN_VALUE, saw)
