"""Measured windows in columns: what was gained in each, what chance had drawn, and what was known of the customer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.learning.outcomes import half_of
from orchestrator.learning.uplift import Outcome, measured, newest_of

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]
Places = NDArray[np.int64]
Words = NDArray[np.str_]

WHOLE = 10_000
"""Everybody, in basis points."""

Features = Mapping[str, float | str]

_READ = (
    "outcome_id", "revision", "void", "interrupted", "decision_id", "customer_id", "campaign", "arm", "control_bp",
    "margin", "cost", "earned_before", "window_until",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of one campaign, one element each; `before` is what had been earned in the twelve weeks before.

    `share` is the share of winners that were drawn as control when a window began. `learning` is the half of the
    customers in which groups are looked for; the other half only measures them. Features are columns of `numbers`, NaN
    where unknown, and of `words`, empty where unknown.
    """

    customers: Places
    learning: Truths
    treated: Truths
    share: Floats
    gained: Floats
    before: Floats
    numbers: Mapping[str, Floats]
    words: Mapping[str, Words]

    def __len__(self) -> int:
        return len(self.customers)

    @property
    def weight(self) -> Floats:
        """How many treated windows each stands for: one in control for as many as there were to each like it.

        The share of control shrinks as more is known: without this, control would be of earlier weeks than treatment.
        """
        return np.where(self.treated, 1.0, (1 - self.share) / self.share)

    def with_arms(self, treated: Truths) -> Windows:
        """Return the same windows as if others of them had been treated."""
        return replace(self, treated=treated)


def features_of(decisions: Iterable[Mapping[str, Any]]) -> dict[str, Features]:
    """Return what was known of the customer at each decision that took the slot, by decision."""
    return {one["decision_id"]: one["features"] for one in decisions if one.get("features")}


def slim(outcome: Outcome) -> Outcome:
    """Return what is read of an outcome: there may be millions, and each says much more."""
    return {name: outcome[name] for name in _READ if name in outcome}


def windows_of(
    outcomes: Iterable[Outcome], features: Mapping[str, Features], *, net: bool = True
) -> dict[str, Windows]:
    """Return the windows of each campaign, the newest revision of each, without those taken back or cut short.

    `net` takes off what messages and offers were declared to cost.
    """
    found: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in measured(newest_of(outcomes)):
        found[outcome["campaign"]].append(outcome)
    return {campaign: _columns(rows, features, net=net) for campaign, rows in sorted(found.items())}


def _columns(rows: list[Outcome], features: Mapping[str, Features], *, net: bool) -> Windows:
    names, customers = np.unique([row["customer_id"] for row in rows], return_inverse=True)
    learning = np.array([half_of(str(name)) == 0 for name in names])
    treated = np.array([row["arm"] == "treatment" for row in rows])
    share = np.array([row.get("control_bp") or 0 for row in rows]) / WHOLE
    # Records that do not tell it were drawn by one share, which is about the share that there is among them.
    untold = share == 0
    if untold.any():
        share[untold] = np.clip(1 - treated[untold].mean(), 1 / WHOLE, 1 - 1 / WHOLE)
    known = [features.get(row["decision_id"], {}) for row in rows]
    columns = {name: [one.get(name) for one in known] for name in sorted({name for one in known for name in one})}
    worded = {name for name, values in columns.items() if any(isinstance(value, str) for value in values)}
    return Windows(
        customers=customers.astype(np.int64),
        learning=learning[customers],
        treated=treated,
        share=share,
        gained=np.array([row["margin"] - (row["cost"] if net else 0) for row in rows], dtype=np.float64),
        before=np.array([row.get("earned_before") or 0 for row in rows], dtype=np.float64),
        numbers={
            name: np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            for name, values in columns.items()
            if name not in worded
        },
        words={name: np.array(["" if value is None else str(value) for value in columns[name]]) for name in worded},
    )
