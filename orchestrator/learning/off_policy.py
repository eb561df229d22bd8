"""What another way to choose would have earned, from the log of this one: off-policy evaluation, doubly robust.

Every decision wrote down how likely each option was, and who got nothing was drawn at random. So a window of the option
that another policy would have chosen stands for as many as were as likely to be chosen otherwise. What an option earns
on average, measured on the other half of the customers, takes away most of the noise of that, and adds no bias however
wrong it is (Dudik, Erhan, Langford and Li, "Doubly robust policy evaluation and optimization", 2014).

It compares what opportunities earn at once, in the windows that they open: neither how long these block the slot nor
what comes after is in it. The simulator answers that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.learning.intervals import Interval, errors_wide
from orchestrator.learning.outcomes import half_of
from orchestrator.learning.uplift import Outcome, measured, newest_of
from orchestrator.learning.windows import WHOLE, Floats, Places, Truths
from orchestrator.reasons import Reason

LEAST_EFFECTIVE = 500
"""With so many customers, as weights leave them, a figure means something; of fewer it would only look like one."""

ENOUGH = {True: 50, False: 30}
"""Windows per arm of the draw from which on an option's average counts; below, it is taken for 0."""

_ELIGIBLE = (Reason.CHOSEN.value, Reason.CONTROL.value, Reason.OUTRANKED.value, Reason.ALREADY_ANSWERED.value)


@dataclass(frozen=True, slots=True)
class Listed:
    """What a priority list would have chosen at a decision, as campaign and offer, and how likely that was."""

    option: tuple[str, str]
    chance: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a policy earns per opportunity beyond another, None where too few customers stand for all: insufficient."""

    worth: Interval | None
    effective: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The policy that was logged against sending nothing, a priority list against the same, and one against the other.

    `opportunities` are the decisions at which something could be sent, those included at which nothing was chosen.
    """

    windows: int
    opportunities: float
    logged: Estimate
    priority: Estimate
    difference: Estimate


def listed_by(decisions: Iterable[Mapping[str, Any]]) -> dict[str, Listed]:
    """Return what the highest priority would have chosen at each decision that took the slot, by decision."""
    found = {}
    for decision in decisions:
        if decision.get("window_until") is None or decision["kind"] != "choice":
            continue
        chances: defaultdict[tuple[str, str], float] = defaultdict(float)
        first: tuple[tuple[int, str, int], tuple[str, str]] | None = None
        for place, one in enumerate(decision["candidates"]):
            if one["reason"] in _ELIGIBLE:
                option = one["campaign"], one["offer"]
                chances[option] += one["propensity"]
                rank = -one["priority"], one["campaign"], place
                first = min(first, (rank, option)) if first else (rank, option)
        if first:
            found[decision["decision_id"]] = Listed(first[1], chances[first[1]])
    return found


def evaluate(outcomes: Iterable[Outcome], listed: Mapping[str, Listed], *, net: bool = True) -> Evaluation | None:
    """Return what the log says, None where no measured window is of a decision that says how likely it was."""
    rows = [one for one in measured(newest_of(outcomes)) if one["decision_id"] in listed and one.get("propensity")]
    return _Log(rows, listed, net=net).evaluation() if rows else None


class _Log:
    """The measured windows in columns, with what is known of every option from the other half of the customers."""

    def __init__(self, rows: list[Outcome], listed: Mapping[str, Listed], *, net: bool) -> None:
        names, self.customers = np.unique([row["customer_id"] for row in rows], return_inverse=True)
        self.half = np.array([half_of(str(name)) for name in names])[self.customers]
        self.treated: Truths = np.array([row["arm"] == "treatment" for row in rows])
        share = np.array([row.get("control_bp") or 0 for row in rows]) / WHOLE
        share[share == 0] = np.clip(1 - self.treated.mean(), 1 / WHOLE, 1 - 1 / WHOLE)
        self.drawn = np.where(self.treated, 1 - share, share)
        self.none = np.array([row.get("none_propensity") or 0.0 for row in rows])
        self.gained = np.array([row["margin"] - (row["cost"] if net else 0) for row in rows], dtype=np.float64)
        self.before = np.array([row.get("earned_before") or 0 for row in rows], dtype=np.float64)
        others = [listed[row["decision_id"]] for row in rows]
        chosen = [(row["campaign"], row.get("offer") or "") for row in rows]
        place = {option: number for number, option in enumerate(sorted({*chosen, *(one.option for one in others)}))}
        self.chosen: Places = np.array([place[option] for option in chosen])
        self.wanted: Places = np.array([place[one.option] for one in others])
        self.chance = np.array([one.chance for one in others])
        self.options = len(place)

    def evaluation(self) -> Evaluation:
        """Return the three comparisons."""
        uplift, control = self._known()
        here = self.half, self.chosen
        adjusted = self.gained - control[here] - self._history()
        # The option's own effect in this window: what is known of it, and by how much this window says otherwise.
        surprise = np.where(self.treated, adjusted - uplift[here], -adjusted) / self.drawn
        effect = uplift[here] + surprise
        stands_for = 1 / (1 - self.none)
        expected = uplift[self.half, self.wanted]
        same = np.where((self.chosen == self.wanted) & (self.chance > 0), 1 / np.maximum(self.chance, 1 / WHOLE), 0.0)
        instead = stands_for * expected + same * (effect - expected)
        logged, priority = 1 / self.drawn, same / self.drawn
        return Evaluation(
            windows=len(self.gained),
            opportunities=float(stands_for.sum()),
            logged=self._estimate(effect, stands_for, logged),
            priority=self._estimate(instead, stands_for, priority),
            difference=self._estimate(effect - instead, stands_for, priority),
        )

    def _known(self) -> tuple[Floats, Floats]:
        """Return each option's average uplift and control for either half of the customers, measured on the other."""
        uplift, control = np.zeros((2, self.options)), np.zeros((2, self.options))
        left = self.gained - self._history()
        for half in (0, 1):
            usual = left[(self.half != half) & ~self.treated]
            control[half] = usual.mean() if len(usual) else 0.0
            for option in range(self.options):
                there = (self.half != half) & (self.chosen == option)
                arms = {arm: there & (self.treated == arm) for arm in (True, False)}
                if all(int(arms[arm].sum()) >= least for arm, least in ENOUGH.items()):
                    means = {
                        arm: float(np.average(left[rows], weights=1 / self.drawn[rows])) for arm, rows in arms.items()
                    }
                    control[half, option] = means[False]
                    uplift[half, option] = means[True] - means[False]
        return uplift, control

    def _history(self) -> Floats:
        """Return what the customers' own history explains of what they earned, by the slope of the other half."""
        slopes = np.zeros(2)
        for half in (0, 1):
            rows = (self.half != half) & ~self.treated
            if rows.sum() > 1 and self.before[rows].std():
                centred = self.before[rows] - self.before[rows].mean()
                slopes[half] = float(centred @ self.gained[rows]) / float(centred @ centred)
        explained: Floats = slopes[self.half] * (self.before - self.before.mean())
        return explained

    def _estimate(self, earned: Floats, opportunities: Floats, weight: Floats) -> Estimate:
        """Return a ratio of sums over customers, whose windows are alike."""
        by_customer = np.bincount(self.customers, weight)
        squares = float(by_customer @ by_customer)
        effective = float(by_customer.sum()) ** 2 / squares if squares else 0.0
        if effective < LEAST_EFFECTIVE:
            return Estimate(None, effective)
        mean = float(earned.sum() / opportunities.sum())
        moves = np.bincount(self.customers, earned - mean * opportunities) / opportunities.sum()
        half = errors_wide(len(moves)) * float(np.sqrt(moves @ moves))
        return Estimate(Interval(mean, mean - half, mean + half), effective)
