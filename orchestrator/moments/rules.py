"""The shapes a moment can have, as marketers describe them; durations in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.conditions import Condition


@dataclass(frozen=True, slots=True)
class EventMatch:
    """Events by name; with `matching`, only those that carry the instance's key."""

    events: tuple[str, ...]
    matching: str | None = None


@dataclass(frozen=True, slots=True)
class Absence:
    """Something began and what should follow did not come within a time."""

    starts_on: EventMatch
    restarts_on: EventMatch | None
    unless: EventMatch
    within: int


@dataclass(frozen=True, slots=True)
class Silence:
    """No such event for a multiple of the customer's own rhythm; `times_permille` 2000 is twice."""

    event: EventMatch
    times_permille: int
    of: str
    min: int
    max: int


@dataclass(frozen=True, slots=True)
class Around:
    """A window around a predicted date, one per key of the feature: [date + start, date + end)."""

    date: str
    start: int
    end: int
    unless: EventMatch | None


@dataclass(frozen=True, slots=True)
class Calendar:
    """A yearly date on the customer's own clock: from day `start` at `minute` to the end of day `end`, around it."""

    field: str
    start: int
    end: int
    minute: int
    feb_29: str
    ignore_dates: frozenset[str]


@dataclass(frozen=True, slots=True)
class PickOne:
    """Among many keys due at once keep one open: the best by `by`, at most one every `at_most_every`."""

    by: str
    at_most_every: int


@dataclass(frozen=True, slots=True)
class Moment:
    """When something is worth reacting to; `lasts` None means until the end of its own window."""

    name: str
    say: str
    shape: Absence | Silence | Around | Calendar
    key: str | None = None
    only_if: Condition | None = None
    cancelled_by: tuple[EventMatch, ...] = ()
    lasts: int | None = None
    pick_one: PickOne | None = None
