"""A failing schedule made small: fewer faults, fewer records, a plainer set-up, as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

from tests.simulator.run import Run
from tests.simulator.schedule import Schedule, Shape

ATTEMPTS = 400
"""How many smaller schedules are tried."""


def fails(schedule: Schedule) -> str | None:
    """Return the first violation of a schedule, None when it has none."""
    violations = Run(schedule).run().violations
    return violations[0] if violations else None


def shrink(schedule: Schedule, failing: Callable[[Schedule], str | None] = fails) -> Schedule:
    """Return a smaller schedule that fails with the same kind of violation."""
    kind = _kind(failing(schedule))
    attempts = 0
    found = True
    while found and attempts < ATTEMPTS:
        found = False
        for candidate in _smaller(schedule):
            attempts += 1
            if attempts > ATTEMPTS:
                break
            if _kind(failing(candidate)) == kind:
                schedule, found = candidate, True
                break
    return schedule


def _kind(violation: str | None) -> str | None:
    return None if violation is None else violation.split(":")[0]


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    faults, arrivals = schedule.faults, schedule.arrivals
    for place in range(len(faults)):
        yield replace(schedule, faults=faults[:place] + faults[place + 1 :])
    size = max(1, len(arrivals) // 2)
    while arrivals:
        for start in range(0, len(arrivals), size):
            yield replace(schedule, arrivals=arrivals[:start] + arrivals[start + size :])
        if size == 1:
            break
        size //= 2
    plain = Shape()
    for field in fields(Shape):
        value = getattr(plain, field.name)
        if getattr(schedule.shape, field.name) != value:
            yield replace(schedule, shape=replace(schedule.shape, **{field.name: value}))


def describe(schedule: Schedule) -> str:
    """Return a schedule in lines that a person can follow."""
    lines = [f"seed {schedule.seed}, {schedule.mode}, {schedule.shape}"]
    lines += [f"  {fault}" for fault in schedule.faults]
    lines.append(f"  {len(schedule.arrivals)} records: " + ", ".join(_brief(schedule)))
    return "\n".join(lines)


def _brief(schedule: Schedule) -> Iterator[str]:
    first = schedule.arrivals[0].at if schedule.arrivals else 0
    for arrival in schedule.arrivals[:12]:
        yield f"{arrival.topic}/{arrival.partition} +{(arrival.at - first) / 1_000:g} s"
    if len(schedule.arrivals) > 12:
        yield f"and {len(schedule.arrivals) - 12} more"
