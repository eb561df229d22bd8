"""A simulation: every policy lives the same year with the same people, and is counted in what is true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from orchestrator.events import DAY
from orchestrator.learning.outcomes import Outcomes
from orchestrator.learning.plan import Model, plan
from orchestrator.program import Definitions
from orchestrator.simulate.drive import PLAN_EVERY, Year, live
from orchestrator.simulate.oracles import MYOPIC, PERSONA, SEGMENT, oracle
from orchestrator.simulate.pack import definitions_of
from orchestrator.simulate.world import START, World, people_of, worlds
from orchestrator.valuation import PolicySnapshot

OURS, MANUAL, HINDSIGHT, GROSS = "ours", "manual list", "hindsight list", "most revenue"

RIVALS = (SEGMENT, PERSONA, MYOPIC, HINDSIGHT, MANUAL)
"""Who does not learn: what they earn per customer is the same with more customers, so fewer will do."""

SWITCHES: Mapping[str, tuple[Model, bool]] = {
    "without own history": (Model(own_history=False), True),
    "without pooling": (Model(pooling=False), True),
    "without the slot's price": (Model(slot_price=False), True),
    "without follow-ons": (Model(follow_ons=False), True),
    "without look-ahead": (Model(), False),
    GROSS: (Model(against_control=False, money="revenue"), True),
}
"""What our policy is without one of its parts, and whether it looks ahead to dates known to come."""

MOST_RIVALS = 2_500
"""Customers of a rival; its share of the truth is known well enough with so many."""

ORACLE_CUSTOMERS = 600
"""People with whom an oracle finds out what a free slot is worth."""

STUDENT = 1.96


@dataclass(frozen=True, slots=True)
class Result:
    """One policy with one seed: true value per customer and day, minor units, and what its intervals covered."""

    policy: str
    seed: int
    customers: int
    daily: tuple[float, ...]
    earned: float
    sent: Mapping[str, float] = field(default_factory=dict)
    covered: tuple[int, int] = (0, 0)

    @property
    def value(self) -> float:
        """Return the true value of the year per customer, minor units."""
        return float(sum(self.daily))

    def quarters(self) -> list[float]:
        """Return the true value of each quarter per customer, minor units."""
        return [float(part.sum()) for part in np.array_split(np.array(self.daily), 4)]

    def to_dict(self) -> dict[str, Any]:
        """Return the result for a file."""
        return asdict(self)


def simulate(
    world: str, customers: int, seeds: Sequence[int], policies: Iterable[str], processes: int
) -> Iterator[Result]:
    """Yield results as they come, each policy with each seed in a process of its own."""
    policies = list(policies)
    with ProcessPoolExecutor(processes) as pool:
        kinds = [kind for kind in (SEGMENT, PERSONA, MYOPIC) if kind in policies]
        found = dict(zip(kinds, pool.map(_oracle, [world] * len(kinds), kinds, [customers] * len(kinds)), strict=True))
        coming = [
            pool.submit(_lived, world, customers, seed, policy, found.get(policy))
            for policy in policies
            for seed in seeds
        ]
        for done in as_completed(coming):
            yield done.result()


def _oracle(world: str, kind: str, customers: int) -> PolicySnapshot:
    return oracle(worlds()[world], kind, min(customers, ORACLE_CUSTOMERS))


def _lived(name: str, customers: int, seed: int, policy: str, snapshot: PolicySnapshot | None) -> Result:
    world = worlds()[name]
    if policy in RIVALS:
        customers = min(customers, MOST_RIVALS)
        people = people_of(world, seed, customers)
        if snapshot is not None:
            definitions = definitions_of(world, measured=False)
            year = live(world, people, seed, definitions, snapshot=snapshot, by_persona=policy == PERSONA)
        else:
            listed = world.hindsight if policy == HINDSIGHT else None
            definitions = definitions_of(world, method="priority", listed=listed, measured=False)
            year = live(world, people, seed, definitions)
        return _result(policy, seed, customers, year)
    model, ahead = SWITCHES.get(policy, (Model(), True))
    definitions = definitions_of(world)
    definitions = replace(definitions, policy=replace(definitions.policy, look_ahead=ahead))

    def planner(outcomes: Outcomes, now: int) -> PolicySnapshot:
        return plan(outcomes, definitions, now, now, model)

    year = live(world, people_of(world, seed, customers), seed, definitions, planner=planner, keep=policy == OURS)
    covered = coverage(world, definitions, year) if policy == OURS else (0, 0)
    return _result(policy, seed, customers, year, covered)


def _result(policy: str, seed: int, customers: int, year: Year, covered: tuple[int, int] = (0, 0)) -> Result:
    daily = tuple((year.value / customers).tolist())
    sent = {name: count / customers for name, count in sorted(year.sent.items())}
    return Result(policy, seed, customers, daily, year.earned / customers, sent, covered)


def coverage(world: World, definitions: Definitions, year: Year) -> tuple[int, int]:
    """Return how many intervals of how many hold the truth: of arms in leaves with enough evidence, at the year's end.

    What is true of an arm in a leaf is the mean over the decisions that were made, weighted as learning weights them:
    who gets a third step is not whom a leaf is made of, and a season changes it too.
    """
    last = START + (world.days - 1) // PLAN_EVERY * PLAN_EVERY * DAY
    snapshot = plan(Outcomes(year.outcomes), definitions, last, last)
    kept = [one for one in _newest(year.outcomes, last) if one["arm"] == "treatment"]
    cells: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for one in kept:
        age = max(last - one["window_until"], 0) / definitions.policy.half_life
        weight = 0.5**age * one["control_bp"]
        place = f"{one['campaign']}@{one['channel']}", one["leaf"]
        cells.setdefault(place, []).append((weight, year.truths[one["outcome_id"]]))
    inside = total = 0
    for (arm, leaf), seen in sorted(cells.items()):
        if len(seen) < 30:
            continue
        weight = sum(share for share, _ in seen)
        truth = sum(share * worth for share, worth in seen) / weight
        gain = np.array(snapshot.leaf(leaf).arms[arm].gain, dtype=float)
        total += 1
        inside += abs(float(gain.mean()) - truth) <= STUDENT * float(gain.std())
    return inside, total


def _newest(outcomes: Iterable[Mapping[str, Any]], known_at: int) -> list[Mapping[str, Any]]:
    newest: dict[str, Mapping[str, Any]] = {}
    for one in outcomes:
        if one["known_at"] <= known_at and not one["void"]:
            newest[one["outcome_id"]] = one
    return [newest[name] for name in sorted(newest)]
