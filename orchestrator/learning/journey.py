"""What a free slot is worth to a customer in each leaf and stage of a journey: value iteration over recorded choices.

A slot that is free meets choices at some rate; each is a set of arms that could take it. With V(stage) the value of the
free slot, discounted at the rate r, a stage is worth what its choices bring:

    (r + e) V(stage) = rate x mean over sets of max(0, best advantage of the set) + e V(start)

where e is the rate at which the stage is forgotten, and an arm's advantage is gain - hold V(stage) + lift V(next), as
in `orchestrator/valuation.py`. The right side falls in V(stage), so Newton's method finds it in a few steps. The value
of a follow-on enters by one round for each step of the journey that is looked ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.learning.outcomes import Array, Columns
from orchestrator.learning.posterior import generator

MAX_SETS = 256
"""How many sets of arms are weighed; of more, a sample that is fair on average."""

MAX_WEIGHT = 20.0
"""For how many recorded choices one may stand that would mostly have been for nothing: such are worth little anyway."""

LEAN_ON_ALL = 30.0
"""How many choices what is known of all leaves together weighs as much as in each of them."""

_NEWTON_STEPS = 6


@dataclass(frozen=True, slots=True)
class Opportunities:
    """How often which sets of arms are met by a free slot: `sets` are padded rows of arms, `rate` [leaf, stage, set].

    The last leaf is all of them together. Rates are per millisecond.
    """

    sets: Array
    rate: Array


@dataclass(frozen=True, slots=True)
class Moves:
    """What an arm does to the slot, by [arm, leaf]: the shares `hold` and `lift`, and by arm the stage that follows."""

    hold: Array
    lift: Array
    following: Array


def opportunities_of(
    columns: Columns, weights: Array, as_of: int, arms: Sequence[str], leads: Sequence[int], longest: int
) -> Opportunities:
    """Return how often sets of *arms* were met, each recorded choice standing for those that were for nothing.

    `leads` is the stage each campaign leads to, -1 for none; `longest` the longest window: what began later than that
    ago may not have been told yet, so it is left out, and who was not heard of since was free until then.
    """
    rows = columns.rows
    leaves, stages = len(columns.leaves), len(columns.stages)
    if len(rows) == 0:
        return Opportunities(np.full((1, 1), len(arms)), np.zeros((leaves + 1, stages, 1)))
    first = int(rows["start"].min())
    until = as_of - min(longest, (as_of - first) // 4)
    told = (rows["start"] <= until) & (rows["free_for"] >= 0)  # of somebody's first, nobody knows since when
    stands_for = np.where(told, weights / np.maximum(1 - rows["none"], 1 / MAX_WEIGHT), 0.0)
    free = np.where(told, weights * rows["free_for"], 0.0)
    place = rows["leaf"].astype(np.int64) * stages + rows["stage"]
    time = np.bincount(place, free, leaves * stages)
    last = _last_of_each(rows)
    since = np.maximum(until - rows["end"][last], 0) * ~rows["unsubscribed"][last]
    after = np.asarray(leads)[rows["campaign"][last]]
    after = np.where(rows["responded"][last] & (after >= 0), after, rows["stage"][last])
    time += np.bincount(rows["leaf"][last].astype(np.int64) * stages + after, weights[last] * since, leaves * stages)

    sets, number, scale = _sets(columns, stands_for, arms)
    seen = number[rows["eligible"]]
    met = np.bincount(
        (place * len(sets) + seen)[seen >= 0], (stands_for * scale[rows["eligible"]])[seen >= 0],
        leaves * stages * len(sets),
    ).reshape(leaves, stages, len(sets))  # fmt: skip
    time = time.reshape(leaves, stages)
    count = np.bincount(place, np.where(told, weights, 0.0), leaves * stages).reshape(leaves, stages)
    all_met, all_time, all_count = met.sum(axis=0), time.sum(axis=0), count.sum(axis=0)
    some = LEAN_ON_ALL / np.maximum(all_count, 1e-9)
    met = np.concatenate([met + some[:, None] * all_met, all_met[None]])
    time = np.concatenate([time + some * all_time, all_time[None]])
    rate = np.divide(met, time[:, :, None], out=np.zeros_like(met), where=time[:, :, None] > 0)
    return Opportunities(sets, rate)


def values_of(
    gain: Array,
    moves: Moves,
    opportunities: Opportunities,
    discount: float,
    forget: Sequence[float],
    start: int,
    depth: int,
) -> Array:
    """Return the value of a free slot by [leaf, stage, draw]; `gain` is [arm, leaf, draw], -inf where never chosen.

    `forget` is the rate at which each stage ends, `start` the stage in which journeys begin.
    """
    _, leaves, draws = gain.shape
    stages = opportunities.rate.shape[1]
    values = np.zeros((leaves, stages, draws))
    nothing = np.full((1, draws), -np.inf)
    order = [start, *(stage for stage in range(stages) if stage != start)]
    for leaf in range(leaves):
        gains = np.concatenate([gain[:, leaf], nothing])
        hold = np.append(moves.hold[:, leaf], 0.0)
        lift = np.append(moves.lift[:, leaf], 0.0)
        following = np.append(moves.following, -1)
        here = values[leaf]
        for _ in range(depth + 1):
            before = here.copy()
            for stage in order:
                ends = forget[stage] if stage != start else 0.0
                # Where nothing follows, and before the first round, a response leaves the customer where they are.
                opens = (following >= 0) & (following != stage)
                ahead = np.where(opens[:, None], np.maximum(before[following], here[start]), 0.0)
                opens &= depth > 0
                share = np.where(opens, hold, hold - lift)
                fixed = gains + np.where(opens, lift, 0.0)[:, None] * ahead
                rate = opportunities.rate[leaf, stage]
                used = rate > 0
                here[stage] = _solve(
                    fixed, share, opportunities.sets[used], rate[used], discount + ends, ends * here[start], here[stage]
                )
        values[leaf] = np.maximum(here, here[start])
    return values


def _solve(fixed: Array, share: Array, sets: Array, rate: Array, falls: float, adds: Array, value: Array) -> Array:
    """Return the value at which what choices bring equals what it falls by, per draw."""
    if len(sets) == 0:
        return adds / falls
    for _ in range(_NEWTON_STEPS):
        advantage = (fixed - share[:, None] * value)[sets]
        best = advantage.argmax(axis=1)
        top = np.take_along_axis(advantage, best[:, None], axis=1)[:, 0]
        taken = np.where(top > 0, rate[:, None], 0.0)
        held = share[np.take_along_axis(sets, best, axis=1)]
        brings = (taken * np.where(top > 0, top, 0.0)).sum(axis=0) + adds - falls * value
        slope = (taken * held).sum(axis=0) + falls
        value = value + brings / slope
    return value


def earning_rate(columns: Columns, weights: Array, gain: Array, arm: Array) -> Array:
    """Return what slots earned of late per millisecond, free time included, by [leaf, draw]; the last leaf is all.

    `gain` is [arm, leaf, draw], and `arm` each outcome's place in it, -1 where it is of no use.
    """
    rows = columns.rows
    leaves, draws = len(columns.leaves), gain.shape[2]
    told = (rows["free_for"] >= 0) & (arm >= 0)
    weights = np.where(told, weights, 0.0)
    time = np.bincount(rows["leaf"], weights * (rows["free_for"] + rows["end"] - rows["start"]), leaves)
    place = np.maximum(arm, 0) * leaves + rows["leaf"]
    taken = np.bincount(place, weights, gain.shape[0] * leaves)[: gain.shape[0] * leaves]
    earned = (taken.reshape(-1, leaves)[:, :, None] * gain[:, :leaves]).sum(axis=0) if leaves else np.zeros((0, draws))
    count = np.bincount(rows["leaf"], weights, leaves)
    some = LEAN_ON_ALL / max(float(count.sum()), 1e-9)
    earned = np.concatenate([earned + some * earned.sum(axis=0), earned.sum(axis=0)[None]])
    time = np.append(time + some * time.sum(), time.sum())
    rate: Array = np.divide(earned, time[:, None], out=np.zeros_like(earned), where=time[:, None] > 0)
    return rate


def _last_of_each(rows: Array) -> Array:
    """Return the place of each customer's last outcome."""
    order = np.lexsort((rows["end"], rows["customer"]))
    customers = rows["customer"][order]
    last = np.ones(len(rows), dtype=bool)
    last[:-1] = customers[1:] != customers[:-1]
    return order[last]


def _sets(columns: Columns, weight: Array, arms: Sequence[str]) -> tuple[Array, Array, Array]:
    """Return padded sets of places in *arms*, and each recorded set's row there, -1 for none, and its weight."""
    place = {name: number for number, name in enumerate(arms)}
    known = [tuple(place[arm] for arm in one if arm in place) for one in columns.sets]
    total = np.bincount(columns.rows["eligible"], weight, len(known))
    share = np.minimum(MAX_SETS * total / max(float(total.sum()), 1e-9), 1.0)
    if len(known) > MAX_SETS:
        chance = generator("sets", *(str(len(known)), str(MAX_SETS))).random(len(known))
    else:
        chance, share = np.zeros(len(known)), np.ones(len(known))
    kept = [number for number, one in enumerate(known) if one and chance[number] < share[number]]
    row = np.full(len(known), -1)
    row[kept] = np.arange(len(kept))
    width = max((len(known[number]) for number in kept), default=1)
    sets = np.full((max(len(kept), 1), width), len(arms))
    for number, one in enumerate(kept):
        sets[number, : len(known[one])] = known[one]
    return sets, row, 1 / np.maximum(share, 1e-9)
