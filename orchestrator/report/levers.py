"""What the rules cost: how much more was expected of what they kept away than of what was done instead.

A rule is a lever: whoever sets it should know its price. What is summed is the expected value that decisions wrote down
with each candidate, so it is at most what the rule costs: a campaign that a cap kept away was asked nothing further,
and might have been kept away by the next rule as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.reasons import Reason

Decision = Mapping[str, Any]

RULES = (
    Reason.CAP,
    Reason.QUIET_HOURS,
    Reason.EXCLUDED,
    Reason.REST,
    Reason.SLOT_HELD,
    Reason.SKU_CAP,
    Reason.NO_CONSENT,
    Reason.HOLDOUT,
)
"""What keeps a campaign away that was meant for the customer; the slot is one, for it is what makes figures right."""


@dataclass(frozen=True, slots=True)
class Lever:
    """One rule: how many moments it left unanswered that would have been worth it, and what of, minor units."""

    rule: str
    moments: int
    value: float
    by_campaign: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Levers:
    """All rules, the dearest first, and how many decisions had a value for what they rejected."""

    rules: tuple[Lever, ...]
    valued: int

    def as_dict(self) -> list[dict[str, Any]]:
        """Return the figures for programs; minor units."""
        return [
            {"rule": one.rule, "moments": one.moments, "value": one.value, "campaigns": dict(one.by_campaign)}
            for one in self.rules
        ]


def fold(decisions: Iterable[Decision]) -> Levers:
    """Return what each rule cost over the decisions, in whatever order they come.

    A moment counts once, however often it was decided about, and not if it was answered in the end: then the rule only
    made it wait. Of its campaigns, and of all moments open at once, only the best could have gone out.
    """
    answered: set[tuple[Any, ...]] = set()
    missed: dict[tuple[Any, ...], tuple[int, float, str, str]] = {}
    valued = 0
    for decision in decisions:
        if decision["kind"] != "choice":
            continue
        customer, at = decision["customer_id"], decision["decided_at"]
        taken, best = 0.0, dict[str, tuple[float, str, tuple[Any, ...]]]()
        for one in decision["candidates"]:
            place = customer, one["moment"], one["moment_key"], one["opened_at"]
            value = one.get("value")
            if one["reason"] in (Reason.CHOSEN, Reason.CONTROL, Reason.ALREADY_ANSWERED):
                answered.add(place)
                taken = max(taken, value or 0.0)
            elif value is not None and value > 0 and one["reason"] in RULES:
                best[one["reason"]] = max(best.get(one["reason"], (0.0, "", ())), (value, one["campaign"], place))
        valued += any(one.get("value") is not None for one in decision["candidates"])
        for rule, (value, campaign, place) in best.items():
            if value > taken and (place not in missed or missed[place][0] <= at):
                missed[place] = at, value - taken, rule, campaign

    kept = [missed[place] for place in sorted(missed) if place not in answered]
    values: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    moments: defaultdict[str, int] = defaultdict(int)
    for _, value, rule, campaign in kept:
        values[rule][campaign] += value
        moments[rule] += 1
    rules = [
        Lever(rule, moments[rule], sum(found.values()), dict(sorted(found.items()))) for rule, found in values.items()
    ]
    return Levers(tuple(sorted(rules, key=lambda one: (-one.value, one.rule))), valued)
