"""`Campaign`: what we may do about a moment, and how we will know that it worked; durations in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.conditions import Condition
from orchestrator.moments.rules import EventMatch

AUDIENCE: Final = "audience"
"""The channel of campaigns that send no message: they add a customer to an audience, and remove them again."""


@dataclass(frozen=True, slots=True)
class Send:
    """What the sender is asked for."""

    channel: str
    template: str
    content: tuple[str, ...] = ()
    purpose: str = "marketing"


@dataclass(frozen=True, slots=True)
class Measure:
    """What a campaign is judged by, and for how long: the length of the slot."""

    objective: str
    window: int
    guard: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unless:
    """Events that make a step pointless: about the message of step `origin`, or any; at most `within` before it."""

    events: tuple[str, ...]
    origin: str | None = None
    within: int | None = None


@dataclass(frozen=True, slots=True)
class SeriesStep:
    """One message of a series, due `after` the step before it was due."""

    name: str
    send: Send
    after: int = 0
    unless: Unless | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What a message may give away: the choices in order of preference, who may have each, and what each costs.

    A cost is an amount in minor units, and a share of what is ordered in the window in basis points.
    """

    choices: tuple[str, ...]
    only_if: Mapping[str, Condition] = field(default_factory=dict)
    never_if: Mapping[str, Condition] = field(default_factory=dict)
    costs: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SharedCap:
    """At most `total` messages about one key of the moment within `over`, to all customers together."""

    total: int
    over: int


@dataclass(frozen=True, slots=True)
class After:
    """What must have become of another campaign, decided at most `within` ago: received, responded or ignored."""

    campaign: str
    outcome: str
    within: int


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Another campaign that keeps this one away for a time after its decision, in both arms."""

    after: str
    length: int


@dataclass(frozen=True, slots=True)
class Pinned:
    """What of a campaign with `on_change: pin` goes on as it was decided, for customers inside, whatever is changed."""

    series: tuple[SeriesStep, ...]
    stop_when: tuple[EventMatch, ...] = ()
    send_cost: int = 0


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign; `cost` in minor units per treated customer, `control_bp` its control group in basis points.

    The `send` of a `series` is that of its first step, and each later one costs `send_cost`. `stop_when` ends the
    messages and not the slot. A campaign of an exempt class answers the events `on` directly. With `pins`, customers
    inside a series keep the steps of their decision while others are published.
    """

    name: str
    when: tuple[str, ...]
    send: Send
    measure: Measure
    control_bp: int
    control_floor_bp: int
    priority: int = 50
    cost: int = 0
    only_if: Condition | None = None
    after: After | None = None
    exclusions: tuple[Exclusion, ...] = ()
    leads_to: tuple[str, ...] = ()
    offer: Offer | None = None
    cap: SharedCap | None = None
    message_class: str = "marketing"
    series: tuple[SeriesStep, ...] = ()
    stop_when: tuple[EventMatch, ...] = ()
    recheck_before_send: Condition | None = None
    on: tuple[EventMatch, ...] = ()
    send_cost: int = 0
    pins: bool = False
    grew_from: str = ""
    """The campaign that this one was split from or replaces: what was learned of it is where learning begins."""

    @property
    def exempt(self) -> bool:
        """Whether it needs no slot and is under no cap: a transactional or legal message."""
        return self.message_class != "marketing"

    @property
    def to_audience(self) -> bool:
        """Whether it adds customers to an audience instead of writing to them."""
        return self.send.channel == AUDIENCE

    def send_of(self, step: str) -> Send:
        """Return what the sender is asked for in a step of the series, or in the one message there is."""
        return next((one.send for one in self.series if one.name == step), self.send)

    @property
    def sends(self) -> tuple[Send, ...]:
        """What the sender may be asked for, in order."""
        return tuple(step.send for step in self.series) or (self.send,)

    def step_after(self, name: str) -> SeriesStep | None:
        """Return the step that follows another, None when that was the last or is in the series no more."""
        names = [step.name for step in self.series]
        place = names.index(name) + 1 if name in names else len(names)
        return self.series[place] if place < len(names) else None

    def cost_with(self, offer: str) -> tuple[int, int]:
        """Return what a message with an offer costs: minor units, and basis points of what is ordered."""
        fixed, share = (0, 0) if self.offer is None else self.offer.costs.get(offer, (0, 0))
        return self.cost + fixed, share
