"""Who knows the truth: the best that can be done with it, and rivals that leave something out.

An oracle is a policy snapshot like those that are learned, with one world in it: the true one. What it earns beyond
nothing is a matter of the world's table; how often choices are met, and so what a free slot is worth, depends on what
the policy does. So it is found by turns: live a year, see what was met, solve again. The first year is lived by chance
alone, or a series that pays only at its end would never be met. At last the price of the slot is scaled to what serves
best in hindsight, which nobody else may do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from orchestrator.events import DAY, FOREVER
from orchestrator.learning.journey import Moves, earning_rate, opportunities_of, values_of
from orchestrator.learning.outcomes import Array, Columns, Outcomes
from orchestrator.program import Definitions
from orchestrator.simulate.drive import Year, live
from orchestrator.simulate.pack import FOLLOW_ON_WITHIN, definitions_of
from orchestrator.simulate.world import START, World, people_of
from orchestrator.valuation import EVERYBODY, PROVEN, ArmValue, LeafValue, PolicySnapshot, arm_of
from orchestrator.valuation import START as BEGINNING

SEGMENT, PERSONA, MYOPIC = "segment oracle", "persona oracle", "myopic oracle"

STUDY = 0
"""The seed of the people that oracles and lists are found with; nobody is judged on it."""

SCALES = (0.4, 0.6, 0.8, 1.0)
"""What the price of the slot is tried with."""

EXPLORES = (10_000, 500, 500)
"""How much of each turn's year is left to chance, basis points."""


def oracle(world: World, kind: str, customers: int) -> PolicySnapshot:
    """Return the snapshot of one of the oracles, found with so many people of its own."""
    by_persona = kind == PERSONA
    definitions = definitions_of(world, measured=False)
    people = people_of(world, STUDY, customers)

    def lived(snapshot: PolicySnapshot, *, keep: bool = False) -> Year:
        return live(world, people, STUDY, definitions, snapshot=snapshot, by_persona=by_persona, keep=keep)

    found = _snapshot(world, definitions, None, by_persona=by_persona)
    if kind == MYOPIC:
        return found
    for explore_bp in EXPLORES:
        met = Outcomes(lived(replace(found, explore_bp=explore_bp), keep=True).outcomes)
        found = _snapshot(world, definitions, met, by_persona=by_persona)
    scaled = [_scaled(found, scale) for scale in SCALES]
    return max(scaled, key=lambda one: float(lived(one).value.sum()))


def _snapshot(world: World, definitions: Definitions, met: Outcomes | None, *, by_persona: bool) -> PolicySnapshot:
    """Return the truth as a snapshot: without what was met, a free slot is worth nothing and nothing follows."""
    names = list(world.campaigns)
    arms = [arm_of(name, "", "email") for name in names]
    mixture = np.eye(len(world.personas)) if by_persona else world.mixture()
    leaves = [f"group=p{place}" if by_persona else f"group=g{place:02}" for place in range(len(mixture))]
    days = range(0, world.days, 5)
    uplift = np.array(
        [
            [np.mean([world.uplift(name, who, day) for day in days]) for who in range(len(world.personas))]
            for name in names
        ]
    )
    advance = np.array([[world.advances(name, who) for who in range(len(world.personas))] for name in names])
    stages = [BEGINNING, *(name for name in names if world.campaigns[name].leads_to)]
    following = np.array([stages.index(name) if name in stages else -1 for name in names])
    gain, moves = _blended(uplift, mixture), _moves(world, definitions, _blended(advance, mixture), following)
    values = np.zeros((len(leaves), len(stages)))
    if met is None:
        moves = replace(moves, hold=moves.hold * 0, lift=moves.lift * 0)
    else:
        values = _values(definitions, met, arms, stages, leaves, gain, moves)
    found = {
        leaf: LeafValue(
            {
                arm: ArmValue(
                    (float(gain[number, place]),), float(moves.hold[number, place]), float(moves.lift[number, place]),
                    BEGINNING if following[number] < 0 else stages[following[number]], 0, PROVEN,
                )
                for number, arm in enumerate(arms)
            },
            {stage: (float(values[place, number]),) for number, stage in enumerate(stages)},
        )
        for place, leaf in enumerate(leaves)
    }  # fmt: skip
    found[EVERYBODY] = found[leaves[0]]
    first = START - world.history * DAY
    return PolicySnapshot(first, first, definitions.version, 1, 0, found, version="truth")


def _blended(by_persona: Array, mixture: Array) -> Array:
    """Return what is true of personas for leaves that have some of each."""
    blended: Array = (by_persona[:, None, :] * mixture[None]).sum(axis=2)
    return blended


def _moves(world: World, definitions: Definitions, advance: Array, following: Array) -> Moves:
    truths = world.campaigns.values()
    horizon = definitions.policy.horizon
    kept = np.array([np.exp(-truth.window / horizon) * (1 - truth.unsubscribes) for truth in truths])[:, None]
    responds = np.where(following[:, None] >= 0, advance, 0.0)
    return Moves(1 - kept * (1 - responds), kept * responds, following)


def _values(
    definitions: Definitions,
    met: Outcomes,
    arms: Sequence[str],
    stages: Sequence[str],
    leaves: Sequence[str],
    gain: Array,
    moves: Moves,
) -> Array:
    """Return what a free slot is worth by [leaf, stage], as choices were met."""
    columns = _in_stages(met.as_of(FOREVER, definitions.campaigns, arms), stages)
    order = [list(columns.leaves).index(leaf) for leaf in leaves]
    weights = np.ones(len(columns))
    leads = [stages.index(name) if name in stages else -1 for name in columns.campaigns]
    longest = max(campaign.measure.window for campaign in definitions.campaigns.values())
    as_of = int(columns.rows["end"].max())
    opportunities = opportunities_of(columns, weights, as_of, arms, leads, longest)
    opportunities = replace(opportunities, rate=opportunities.rate[order])
    forget = [1 / (FOLLOW_ON_WITHIN * DAY)] * len(stages)
    horizon = definitions.policy.horizon
    values = values_of(gain[:, :, None], moves, opportunities, 1 / horizon, forget, 0, len(stages))[:, :, 0]
    place = {arm: number for number, arm in enumerate(arms)}
    number = np.array([place[arm] for arm in columns.arms])
    everywhere = np.zeros((len(arms), len(columns.leaves), 1))
    everywhere[:, order, 0] = gain
    earning = earning_rate(columns, weights, everywhere, number[columns.rows["arm"]])[order, 0]
    found: Array = values - values[:, :1] + (earning * horizon)[:, None]
    return found


def _in_stages(columns: Columns, stages: Sequence[str]) -> Columns:
    """Return outcomes with their stages at the places of a list."""
    rows = columns.rows.copy()
    rows["stage"] = np.array([stages.index(stage) for stage in columns.stages])[rows["stage"]]
    return replace(columns, rows=rows, stages=stages)


def _scaled(snapshot: PolicySnapshot, scale: float) -> PolicySnapshot:
    """Return a snapshot in which a free slot is worth more or less, and stages differ as before."""
    leaves = {}
    for leaf, values in snapshot.leaves.items():
        [start] = values.stages[BEGINNING]
        stages = {stage: (value + (scale - 1) * start,) for stage, [value] in values.stages.items()}
        leaves[leaf] = replace(values, stages=stages)
    return replace(snapshot, leaves=leaves)


def best_list(world: World, customers: int) -> list[str]:
    """Return the best fixed list of priorities that a search with the truth finds: each campaign moved or left out."""
    people = people_of(world, STUDY, customers)
    known: dict[tuple[str, ...], float] = {}

    def value(names: Sequence[str]) -> float:
        key = tuple(names)
        if key not in known:
            definitions = definitions_of(world, method="priority", listed=names, measured=False)
            known[key] = float(live(world, people, STUDY, definitions).value.sum())
        return known[key]

    days = range(0, world.days, 5)
    shares = np.array(world.shares)

    def per_day(name: str) -> float:
        by_persona = [np.mean([world.uplift(name, who, day) for day in days]) for who in range(len(shares))]
        return float((shares * by_persona).sum()) / world.campaigns[name].window

    best = sorted(world.campaigns, key=per_day, reverse=True)
    improved = True
    while improved:
        improved = False
        for name in sorted(world.campaigns):
            rest = [one for one in best if one != name]
            tried = [rest, *([*rest[:place], name, *rest[place:]] for place in range(0, len(rest) + 1, 2))]
            top = max(tried, key=value)
            if value(top) > value(best):
                best, improved = top, True
    return best
