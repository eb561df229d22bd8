"""Which of the eligible campaigns, or none, is chosen by what they are worth, and how likely each of them was.

A snapshot holds many possible worlds. One is drawn by hash, and in it the option that is worth most beyond a free slot
wins, none if no option is worth anything. So an option is chosen as often as it is believed to be the best, which is
how the choice learns about it. Beyond that every eligible option keeps a small share, drawn by hash as well.

The hash is of the customer, the snapshot and the options, not of the instant: asked again about the same, the answer
is the same. So "none" stands until one of these changes, without anything to remember.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.arbitration.policy import Policy
from orchestrator.identity import draw, identify, pick
from orchestrator.valuation import COLD, PROVEN, ArmValue, LeafValue, PolicySnapshot

PRIORITY, EXPECTED_VALUE, EXPLORE = "priority", "expected_value", "explore"
"""How a choice was made."""

WHOLE = 10_000


@dataclass(frozen=True, slots=True)
class Eligible:
    """One option that passed every check: its arm, and what names it among all of its decision."""

    arm: str
    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The place of the option chosen, None for none; how; and how likely each option was, and none."""

    winner: int | None
    by: str
    propensities: tuple[float, ...]
    none_propensity: float


def method_for(policy: Policy, customer_id: str) -> str:
    """Return how is chosen for a customer: where methods are compared, each customer is drawn for one, for good."""
    if not policy.compare:
        return policy.method
    place = draw("compare", customer_id)
    for method, share in policy.compare.items():
        if place < share:
            return method
        place -= share
    return PRIORITY


def by_priority(count: int) -> Choice:
    """Return the choice among options in order of priority: the first."""
    return Choice(0, PRIORITY, (1.0, *(0.0,) * (count - 1)), 0.0)


def by_value(
    policy: Policy,
    snapshot: PolicySnapshot | None,
    values: LeafValue,
    stage: str,
    customer_id: str,
    options: Sequence[Eligible],
) -> Choice:
    """Return the choice among options in order of priority, by what their arms are worth to a customer in a stage.

    Before anything is known of any of them, the first is chosen, but for the share that explores.
    """
    version = "" if snapshot is None else snapshot.version
    cause = identify(customer_id, version, *sorted(option.name for option in options))
    explore_bp = policy.explore_start_bp if snapshot is None else snapshot.explore_bp
    arms = [values.arms.get(option.arm) for option in options]
    worlds = 1 if snapshot is None else snapshot.draws
    if all(arm is None or arm.state == COLD for arm in arms):
        best: list[int | None] = [0] * worlds
        by = PRIORITY
    else:
        best = _best(arms, values, stage, worlds, none=policy.none_is_an_option)
        by = EXPECTED_VALUE
    explored = explore_bp / WHOLE
    floor = explored / len(options)
    shares = [(1 - explored) * (best.count(place) / worlds) for place in range(len(options))]
    propensities = tuple(share + floor for share in shares)
    none = (1 - explored) * (best.count(None) / worlds)
    if draw("explore", cause) < explore_bp:
        return Choice(pick("explored", len(options), cause), EXPLORE, propensities, none)
    return Choice(best[pick("world", worlds, cause)], by, propensities, none)


def _best(
    arms: Sequence[ArmValue | None], values: LeafValue, stage: str, worlds: int, *, none: bool
) -> list[int | None]:
    """Return the best option of each world, of equals the first; None where none is worth more than a free slot."""
    places = [place for place, arm in enumerate(arms) if arm is not None and arm.state == PROVEN]
    if not places:
        return [None] * worlds
    advantages = [values.advantages(arms[place], stage) for place in places]  # type: ignore[arg-type]  # proven ones are there
    found: list[int | None] = []
    for world in zip(*advantages, strict=True):
        most = max(world)
        found.append(places[world.index(most)] if most > 0 or not none else None)
    return found
