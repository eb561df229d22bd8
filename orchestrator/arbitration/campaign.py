"""`Campaign`: what we may do about a moment, and how we will know that it worked; durations in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.conditions import Condition


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
class Campaign:
    """One campaign; `cost` in minor units per treated customer, `control_bp` its control group in basis points."""

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
