"""How time moves a moment's instances: what opens, what goes stale, and which of many due at once is picked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from orchestrator.conditions import Condition
from orchestrator.customer import OPEN, WAITING, Instance
from orchestrator.events import FOREVER
from orchestrator.moments.detect import ended
from orchestrator.moments.rules import During, Moment
from orchestrator.reasons import Reason
from orchestrator.records import EndedMoment


@dataclass(frozen=True, slots=True)
class Waking:
    """The instant at which a moment is looked at, and by which rules; `holds` evaluates its condition for a key.

    `rests_until` is the instant before which it may not open again.
    """

    now: int
    disorder: int
    never_act_older_than: int
    holds: Callable[[Condition, str], tuple[bool | None, str]]
    rests_until: int = -FOREVER


class Woken(NamedTuple):
    """What time did: instances that are over, and whether one opened."""

    over: list[EndedMoment]
    opened: bool


def wake(moment: Moment, instances: dict[str, Instance], waking: Waking) -> Woken:
    """Open what is due and end what is stale."""
    over: list[EndedMoment] = []
    opened = False
    rests_until = waking.rests_until
    for key, instance in sorted(instances.items()):
        if instance.state == WAITING:
            if instance.due + waking.disorder > waking.now:
                continue
            unfit = _unfit(moment, key, instance, instance.due, waking)
            if unfit is not None and isinstance(moment.shape, During) and instance.until > waking.now:
                continue  # it may still come true
            if unfit is None and instance.due < rests_until:
                unfit = ended(moment.name, key, instance, "unmet", Reason.NOT_ELIGIBLE, _RESTS)
            if unfit is not None:
                del instances[key]
                over.append(unfit)
                continue
            _open(moment, instance)
            opened = opened or instance.until > waking.now
            rests_until = max(rests_until, instance.due + moment.at_most_every)
        if instance.until <= waking.now:
            del instances[key]
            over.append(_stale(moment, key, instance))
    return Woken(over, opened)


def wake_and_pick(
    moment: Moment,
    instances: dict[str, Instance],
    waking: Waking,
    pick_from: int,
    expected_at: int,
    worth: Callable[[str], int],
) -> Woken:
    """Like `wake` for a `pick_one` moment: of all that are due, the one worth most opens, if one may open now.

    The others go on waiting while their own window lasts and leave no trace: they were never talked about.
    `expected_at` is when this look was due; one that could have been picked long before now is too old.
    """
    now = waking.now
    over: list[EndedMoment] = []
    for key, instance in sorted(instances.items()):
        if instance.until <= now:
            del instances[key]
            if instance.state == OPEN:
                over.append(_stale(moment, key, instance))
    if now < pick_from or any(instance.state == OPEN for instance in instances.values()):
        return Woken(over, opened=False)
    ready = [key for key, instance in instances.items() if instance.due + waking.disorder <= now]
    for key in sorted(ready, key=lambda key: (-worth(key), key)):
        picked = instances[key]
        unfit = _unfit(moment, key, picked, max(picked.due, pick_from, expected_at), waking)
        if unfit is not None:
            del instances[key]
            over.append(unfit)
            continue
        picked.due = now  # it opens when it is picked: that instant is part of its identity
        _open(moment, picked)
        return Woken(over, opened=True)
    return Woken(over, opened=False)


def may_pick_from(moment: Moment, instances: dict[str, Instance], last_pick: int | None) -> int:
    """Return the instant from which the next instance may be picked, FOREVER while one is open."""
    if moment.pick_one is None or last_pick is None:
        return -FOREVER
    if any(instance.state == OPEN for instance in instances.values()):
        return FOREVER
    return last_pick + moment.pick_one.at_most_every


def _open(moment: Moment, instance: Instance) -> None:
    instance.state = OPEN
    if moment.lasts is not None:
        instance.until = min(instance.until, instance.due + moment.lasts)


_RESTS: Final = "at_most_every"


def _stale(moment: Moment, key: str, instance: Instance) -> EndedMoment:
    return ended(moment.name, key, instance, "expired", instance.reason or Reason.EXPIRED, instance.by)


def _unfit(moment: Moment, key: str, instance: Instance, could_open: int, waking: Waking) -> EndedMoment | None:
    if waking.now - could_open > waking.never_act_older_than:
        return ended(moment.name, key, instance, "expired", Reason.TOO_OLD)
    if moment.only_if is None:
        return None
    truth, saw = waking.holds(moment.only_if, key)
    if truth is True:
        return None
    reason = Reason.NOT_ELIGIBLE if truth is False else Reason.UNKNOWN_VALUE
    return ended(moment.name, key, instance, "unmet", reason, saw)
