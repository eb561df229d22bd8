"""`Policy`: the rules nobody can forget, because they are not per campaign; durations in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.events import DAY, HOUR, MINUTE


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `max` messages per `per`, on one channel or on all."""

    max: int
    per: int
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class QuietHours:
    """No message from minute `start` to before minute `end` of the customer's local day; may span midnight."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Policy:
    """Program-wide rules; rates in basis points, `disorder` and `accept_late` per topic."""

    currency: str = "USD"
    metric: str = "margin"
    assumed_margin_bp: int = 3_000
    amend_for: int = 60 * DAY
    rest: int = 0
    collect_for: int = 0
    method: str = "priority"
    """How one is chosen: `priority`, `expected_value`, or `compare` where customers are split between both."""
    compare: Mapping[str, int] = field(default_factory=dict)
    """The share of customers that each method decides for, basis points; empty where one decides for all."""
    by: tuple[str, ...] = ()
    """The features and segments by which customers are told apart when learning: their values make up the leaf."""
    split_on: tuple[str, ...] = ()
    """The features among which sub-personas are looked for, written down with every decision that takes the slot."""
    horizon: int = 365 * DAY
    follow_on_depth: int = 3
    follow_on_discount: float = 0.9
    none_is_an_option: bool = True
    look_ahead: bool = True
    """Whether a date known to come may be waited for, instead of letting another campaign hold the slot over it."""
    explore_start_bp: int = 500
    explore_floor_bp: int = 100
    unsubscribe_cost: int = 0
    """What an unsubscription loses beyond the campaigns to come, minor units."""
    half_life: int = 180 * DAY
    """After which time an outcome counts half."""
    interrupt_above: float = 0.0
    """How many times the value of the running campaign another must have to cut in; 0 for never."""
    holdout_bp: int = 0
    holdout_rotate: str = "quarterly"
    caps: tuple[Cap, ...] = ()
    quiet_hours: QuietHours | None = None
    zone_fallback: str = "UTC"
    use_country_zone: bool = True
    disorder: Mapping[str, int] = field(default_factory=dict)
    accept_late: Mapping[str, int] = field(default_factory=dict)
    never_act_older_than: int = DAY
    default_disorder: int = MINUTE
    default_accept_late: int = HOUR

    @property
    def learns(self) -> bool:
        """Whether decisions and outcomes tell what learning asks for: who is alike, what could be chosen."""
        return self.method != "priority" or bool(self.by) or bool(self.split_on)
