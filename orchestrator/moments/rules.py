"""The shapes a moment can have, as marketers describe them; durations in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.conditions import Condition
from orchestrator.reference import Product


@dataclass(frozen=True, slots=True)
class ProductState:
    """The stock of the product that a moment's key names is between two numbers, both included."""

    low: int
    high: int

    def fits(self, product: Product | None) -> bool:
        """Return whether a product is in this state; not one of which the stock is unknown."""
        return product is not None and product.stock is not None and self.low <= product.stock <= self.high


@dataclass(frozen=True, slots=True)
class EventMatch:
    """Events by name; with `matching`, only those that carry the instance's key, with `state` if its product is so."""

    events: tuple[str, ...]
    matching: str | None = None
    state: ProductState | None = None


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
    """A window around a date, predicted or told, one per key of the feature: [date + start, date + end)."""

    date: str
    start: int
    end: int
    unless: EventMatch | None


@dataclass(frozen=True, slots=True)
class Launch:
    """A window around the next launch of a product, one per category: [launch + start, launch + end).

    `feature` keeps when the customer bought last in each category; it concerns who did so `bought_within` a time.
    """

    feature: str
    bought_within: int
    start: int
    end: int


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
class Total:
    """So many events, or so much, within a time, which `feature` keeps; it opens `within` after what reaches it."""

    event: EventMatch
    feature: str
    at_least: int
    field: str | None
    where: Condition | None
    unless: EventMatch | None
    within: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One event of a sequence, and within which time after the one before."""

    event: EventMatch
    within: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """Events one after the other, or in any order all within one time; it opens `wait` after the last.

    `first_per` is the feature that tells whether the first event is the first of its kind; `state` must hold then.
    `then` must hold after the last event, or come to hold: `then_within` after it, in any order after the first.
    """

    stages: tuple[Stage, ...]
    ordered: bool
    wait: int
    unless: EventMatch | None
    first_per: str | None = None
    state: ProductState | None = None
    then: ProductState | None = None
    then_within: int = 0

    @property
    def longest(self) -> int:
        """How long the events may take at most."""
        return sum(stage.within for stage in self.stages)


@dataclass(frozen=True, slots=True)
class During:
    """The window of another moment: opens with it, or when the condition comes true while it lasts."""

    moment: str


@dataclass(frozen=True, slots=True)
class Membership:
    """The customer enters a segment, or leaves it.

    Who was in it before comes in, so many per hour over all partitions: `include_per_hour`, 0 for nobody.
    """

    segment: str
    entered: bool
    include_per_hour: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """A day of the week, or every day, on the customer's own clock, for those in a segment then.

    `weekday` counts from Monday, None is every day; everybody has their own place in the time over which it is spread.
    """

    segment: str
    weekday: int | None
    minute: int
    spread: int


@dataclass(frozen=True, slots=True)
class PickOne:
    """Among many keys due at once keep one open: the best by `by`, at most one every `at_most_every`."""

    by: str
    at_most_every: int


Shape = Absence | Silence | Around | Launch | Calendar | Total | Sequence | During | Membership | Schedule


@dataclass(frozen=True, slots=True)
class Moment:
    """When something is worth reacting to; `lasts` None means until the end of its own window.

    `at_most_every` is the least time between two openings.
    """

    name: str
    say: str
    shape: Shape
    key: str | None = None
    only_if: Condition | None = None
    cancelled_by: tuple[EventMatch, ...] = ()
    lasts: int | None = None
    pick_one: PickOne | None = None
    at_most_every: int = 0
