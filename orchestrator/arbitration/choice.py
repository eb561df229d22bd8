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
from orchestrator.valuation import COLD, PROVEN, PolicySnapshot

PRIORITY, EXPECTED_VALUE, EXPLORE = "priority", "expected_value", "explore"
"""How a choice was made."""

WHOLE = 10_000
NONE = -1


@dataclass(frozen=True, slots=True)
class Eligible:
    """One option that passed every check: what names it among all, what is known of it, and its worth in each world.

    The worth is what it earns beyond a free slot, minor units; nothing where nobody knows.
    """

    name: str
    state: str = COLD
    worlds: Sequence[float] = ()


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


def by_priority(count: int, by: str = PRIORITY) -> Choice:
    """Return the choice among options in order of priority: the first."""
    return Choice(0, by, (1.0, *(0.0,) * (count - 1)), 0.0)


def by_value(policy: Policy, snapshot: PolicySnapshot | None, customer_id: str, options: Sequence[Eligible]) -> Choice:
    """Return the choice among options in order of priority, by what they are worth.

    Before anything is known of any of them, the first is chosen, but for the share that explores.
    """
    version, explore_bp, worlds = "", policy.explore_start_bp, 1
    if snapshot is not None:
        version, explore_bp, worlds = snapshot.version, snapshot.explore_bp, snapshot.draws
    cause = identify(customer_id, version, *sorted(option.name for option in options))
    if all(option.state == COLD for option in options):
        by, best = PRIORITY, [0] * worlds
    else:
        by, best = EXPECTED_VALUE, _best(options, worlds, none=policy.none_is_an_option)
    explored = explore_bp / WHOLE
    floor = explored / len(options)
    propensities = tuple((1 - explored) * (best.count(place) / worlds) + floor for place in range(len(options)))
    none = (1 - explored) * (best.count(NONE) / worlds)
    if draw("explore", cause) < explore_bp:
        return Choice(pick("explored", len(options), cause), EXPLORE, propensities, none)
    chosen = best[pick("world", worlds, cause)]
    return Choice(None if chosen == NONE else chosen, by, propensities, none)


def _best(options: Sequence[Eligible], worlds: int, *, none: bool) -> list[int]:
    """Return the best option of each world, of equals the first; NONE where none is worth more than a free slot."""
    places = [place for place, option in enumerate(options) if option.state == PROVEN]
    if not places:
        return [NONE] * worlds
    found = []
    for world in zip(*(options[place].worlds for place in places), strict=True):
        most = max(world)
        found.append(places[world.index(most)] if most > 0 or not none else NONE)
    return found
