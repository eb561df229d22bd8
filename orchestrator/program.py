"""`Program`: definitions compiled once and frozen; an event finds there only what it can change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.policy import Policy
from orchestrator.conditions import Condition
from orchestrator.features import Feature
from orchestrator.moments.rules import Moment


@dataclass(frozen=True, slots=True)
class Segment:
    """A named group over features, always current."""

    name: str
    say: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class Definitions:
    """Everything marketers wrote, checked; `version` is a hash of the text."""

    version: str
    features: Mapping[str, Feature] = field(default_factory=dict)
    segments: Mapping[str, Segment] = field(default_factory=dict)
    moments: Mapping[str, Moment] = field(default_factory=dict)
    campaigns: Mapping[str, Campaign] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
