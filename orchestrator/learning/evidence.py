"""What outcomes say about each arm in each leaf: weighted means against randomised control, and rates of response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.learning.outcomes import Array, Columns
from orchestrator.measurement import HISTORY, WEEK

WINSORISE = 0.995
"""Money above this share of an arm's outcomes counts as much as there: one huge order is no evidence."""

MANY = 1e9
"""The variance of the mean of no outcomes, in variances of a single one: whatever the currency counts in."""

LEAN_ON_ALL = 50.0
"""How many outcomes what all arms have in common weighs as much as: slopes, spreads and rates of an arm with few."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything by arm and leaf, in arrays [arm, leaf] or [arm]; money in minor units, rates from 0 to 1.

    `mean` and `variance` are pairs (control, treatment) of what was earned net of cost, and of how well that is known.
    """

    mean: tuple[Array, Array]
    variance: tuple[Array, Array]
    spread: Array
    rows: tuple[Array, Array]
    responders: tuple[Array, Array]
    response: tuple[Array, Array]
    unsubscription: tuple[Array, Array]

    @property
    def unknown(self) -> float:
        """Return the variance of what nothing is known of, minor units squared."""
        return _unknown(self.spread**2)


def half_life_weights(columns: Columns, as_of: int, half_life: int) -> Array:
    """Return how much each outcome counts: half as much for every half-life that its window is past."""
    age = np.maximum(as_of - columns.rows["end"], 0)
    weights: Array = 0.5 ** (age / half_life)
    return weights


def evidence_of(
    columns: Columns, weights: Array, control: Sequence[float], *, money: str = "margin", own_history: bool = True
) -> Evidence:
    """Return the evidence in weighted outcomes; `control` is each arm's share of control where none was written down.

    The share of control changes over time, and so does what people earn. So that both sides tell of the same times, an
    outcome in treatment is weighted by the share of control at its decision, one in control by that of treatment: the
    overlap weights of Li, Morgan and Zaslavsky (2018), which have the least variance.
    """
    rows, arms, leaves = columns.rows, len(columns.arms), len(columns.leaves)
    shares = np.where(rows["control_bp"] > 0, rows["control_bp"] / 10_000, np.asarray(control)[rows["arm"]])
    treated = rows["treated"]
    overlap = np.where(treated, shares, 1 - shares)
    balanced = weights * np.clip(overlap, 0.001, 0.999)
    side = treated.astype(np.int64)
    place = (side * arms + rows["arm"]) * leaves + rows["leaf"]
    shape = 2, arms, leaves

    def total(values: Array) -> Array:
        return np.bincount(place, values, 2 * arms * leaves).reshape(shape)

    earned = _winsorised(rows[money], rows["arm"], arms) - rows["cost"]
    weight, squared = total(balanced), total(balanced * balanced)
    if own_history:
        before = rows["earned_before"] * ((rows["end"] - rows["start"]) / (HISTORY * WEEK))
        earned = earned - _explained(earned, before, balanced, place, rows["arm"], shape)
    mean = _over(total(balanced * earned), weight)
    centred = earned - mean.reshape(-1)[place]
    squares, freedom = total(balanced * centred * centred), weight - _over(squared, weight)
    seen = total(np.ones(len(rows)))
    spread = _spread(squares, freedom, weight, seen)
    known = weight > 0
    single = spread[:, :, None] * _unlike(squares, freedom * spread[:, :, None], seen)[:, None]
    common = spread.mean(axis=0)
    variance = np.where(known, single * _over(squared, weight * weight), _unknown(common))
    plain = total(weights)
    return Evidence(
        mean=(mean[0], mean[1]),
        variance=(variance[0], variance[1]),
        spread=np.sqrt(common),
        rows=_pair(seen),
        responders=_pair(total(rows["responded"].astype(float))),
        response=_pair(_rates(total(weights * rows["responded"]), plain)),
        unsubscription=_pair(_rates(total(weights * rows["unsubscribed"]), plain)),
    )


def _winsorised(values: Array, arm: Array, arms: int) -> Array:
    """Return values with those above each arm's quantile brought down to it."""
    order = np.lexsort((values, arm))
    count = np.bincount(arm, minlength=arms)
    begin = np.cumsum(count) - count
    at = begin + np.maximum(np.ceil(WINSORISE * count).astype(np.int64) - 1, 0)
    limits = np.zeros(arms)
    there = count > 0
    limits[there] = values[order[at[there]]]
    lowered: Array = np.minimum(values.astype(float), limits[arm])
    return lowered


def _explained(
    earned: Array, before: Array, weights: Array, place: Array, arm: Array, shape: tuple[int, int, int]
) -> Array:
    """Return what of every outcome history explains: a customer's own within a leaf, and a leaf's among leaves (CUPED).

    Two slopes (Mundlak, 1978), for twelve weeks of one customer are mostly luck and those of a leaf are not: with one,
    leaves that buy much would seem to owe it to treatment wherever control is small. One per arm within leaves; among
    leaves one for all arms, from control alone, so that no uplift is explained away.
    """
    _, arms, leaves = shape
    cell = place % (arms * leaves)
    cells = 2 * arms * leaves

    def mean(values: Array, of: Array, count: int) -> Array:
        return _over(np.bincount(of, weights * values, count), np.bincount(of, weights, count))[of]

    x, y = before - mean(before, place, cells), earned - mean(earned, place, cells)
    across, square = np.bincount(arm, weights * x * y, arms), np.bincount(arm, weights * x * x, arms)
    common = _over(across.sum(), square.sum())
    few = LEAN_ON_ALL * _over(square.sum(), np.array(float(len(arm))))
    slope = _over(across + few * common, square + few)[arm]
    usual, middle = mean(before, cell, cells), mean(before, arm, arms)
    within = slope * (before - usual)
    control = place < arms * leaves
    weights = weights * control
    x = usual - mean(usual, arm, arms)
    y = earned - within - mean(earned - within, arm, arms)
    few = LEAN_ON_ALL * _over((weights * x * x).sum(), np.array(float(control.sum())))
    among = _over((weights * x * y).sum() + few * common, (weights * x * x).sum() + few)
    explained: Array = within + among * (usual - middle)
    return explained


def _spread(squares: Array, freedom: Array, weight: Array, seen: Array) -> Array:
    """Return the variance of single outcomes by side and arm; with few, a side leans on its arm, that on all arms."""
    squares, freedom = squares.sum(axis=2), freedom.sum(axis=2)
    few = LEAN_ON_ALL * _over(weight.sum(), seen.sum())
    common = _over(squares.sum(), freedom.sum())
    arm = _over(squares.sum(axis=0) + few * common, freedom.sum(axis=0) + few)
    return np.maximum(_over(squares + few * arm, freedom + few), 1.0)


def _unknown(variances: Array) -> float:
    return MANY * float(variances.max(initial=1.0))


def _unlike(squares: Array, usual: Array, seen: Array) -> Array:
    """Return how many times what is usual single outcomes vary in a leaf, by side and leaf: who buys much varies much.

    One factor for all arms, so that it does not go up and down with what one arm happened to earn in one leaf.
    """
    squares, usual = squares.sum(axis=1), usual.sum(axis=1)
    few = LEAN_ON_ALL * _over(usual.sum(axis=1), seen.sum(axis=(1, 2)))[:, None]
    factors: Array = np.where(usual + few > 0, _over(squares + few, usual + few), 1.0)
    return factors


def _rates(hits: Array, weight: Array) -> Array:
    """Return beta-binomial means by side, arm and leaf: a leaf leans on its arm, the arm on all arms."""
    overall = _over(hits.sum(axis=(1, 2)), weight.sum(axis=(1, 2)))[:, None]
    arm = (hits.sum(axis=2) + LEAN_ON_ALL * overall) / (weight.sum(axis=2) + LEAN_ON_ALL)
    rates: Array = (hits + LEAN_ON_ALL * arm[:, :, None]) / (weight + LEAN_ON_ALL)
    return rates


def _pair(values: Array) -> tuple[Array, Array]:
    return values[0], values[1]


def _over(above: Array, below: Array) -> Array:
    """Return a quotient, 0 where nothing is divided by."""
    result: Array = np.divide(above, below, out=np.zeros_like(np.asarray(above, dtype=float)), where=below > 0)
    return result
