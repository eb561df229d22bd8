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
