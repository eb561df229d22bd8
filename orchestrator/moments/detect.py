"""How events move a moment's instances: what they end, what they start and what they restart.

Every function changes the instances it is given (one moment of one customer, by key) and returns the instances that had
opened, or would have, and are over; those that end while they wait leave no trace, for nothing was ever due.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orchestrator.customer import OPEN, WAITING, Instance
from orchestrator.events import FOREVER
from orchestrator.moments.rules import Calendar, During, Moment
from orchestrator.reasons import Reason
from orchestrator.records import EndedMoment

MAX_INSTANCES: Final = 100
"""Instances of one moment that wait at once for one customer; beyond, the one that started first is let go."""


def ended(moment: str, key: str, instance: Instance, state: str, reason: str, by: str = "") -> EndedMoment:
    """Return the record of an instance that is over."""
    return EndedMoment(moment, key, instance.started, instance.due, state, str(reason), by)


def end_instances(
    moment: Moment, instances: dict[str, Instance], keys: Iterable[str], time: int, by: str
) -> list[EndedMoment]:
    """End the instances with these keys that an event at `time` ends; return those that had opened.

    An event before an instance's start ends nothing. One after the due instant of an instance that still waits (its
    clock has not come that far) ends a moment that opened and was never acted on.
    """
    over = []
    for key in keys:
        instance = instances.get(key)
        if instance is None or time < instance.started:
            continue
        if instance.state == OPEN:
            opened = True
        else:
            opened = time > instance.due and moment.pick_one is None and not isinstance(moment.shape, During)
            if isinstance(moment.shape, Calendar) and not opened:
                continue  # nothing began that an event could end: a date only comes
        del instances[key]
        if opened:
            over.append(ended(moment.name, key, instance, "cancelled", Reason.CANCELLED, by))
    return over


def start_instance(
    moment: Moment, instances: dict[str, Instance], key: str, new: Instance, *, restarts: bool, by: str
) -> list[EndedMoment]:
    """File a new waiting instance under its key, or restart the one there; return the one that was over by that.

    Where nothing restarts, the earliest event counts, whenever it arrives; else the latest. Coming back to a moment
    that is open, or past its due instant, ends it: the same key left again is another instance.
    """
    there = instances.get(key)
    over: list[EndedMoment] = []
    if there is not None:
        waits = there.state == WAITING and new.started <= there.due
        if restarts:
            unchanged = new.started <= there.started
        else:
            unchanged = new.started >= there.started if waits else new.started <= there.due
        if unchanged:
            return over
        if not waits:
            over = end_instances(moment, instances, (key,), new.started, by)
    instances[key] = new
    if len(instances) > MAX_INSTANCES:
        waiting = [k for k, instance in instances.items() if instance.state == WAITING]
        del instances[min(waiting, key=lambda k: (instances[k].started, k))]
    return over


def look_at(moment: Moment, instances: dict[str, Instance], disorder: int, pick_from: int) -> int:
    """Return the earliest instant at which time alone moves one of the instances, FOREVER when none.

    `pick_from` is the instant from which the next of a `pick_one` moment may open, FOREVER while one is open.
    """
    earliest, during, picks = FOREVER, isinstance(moment.shape, During), moment.pick_one is not None
    for instance in instances.values():
        if during or instance.state == OPEN:
            at = instance.until
        elif picks:
            at = min(max(instance.due + disorder, pick_from), instance.until)
        else:
            at = instance.due + disorder
        if at < earliest:
            earliest = at
    return earliest
