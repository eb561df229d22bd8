"""Measured windows in columns: what was gained in each, what chance had drawn, and what was known of the customer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
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

_EVERY = frozenset({"*"})
_NO_WORD = "\n"
"""How an empty text stands in a column, in which the empty one is what is unknown; no condition can say it."""

_READ = (
    "outcome_id", "revision", "void", "interrupted", "decision_id", "customer_id", "campaign", "arm", "control_bp",
    "margin", "cost", "earned_before", "window_from", "window_until", "definitions_version",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of one campaign, one element each; `before` is what had been earned in the twelve weeks before.

    `share` is the share of winners that were drawn as control when a window began. `learning` is the half of the
    customers in which groups are looked for; the other half only measures them. Features are columns of `numbers`, NaN
    where unknown, and of `words`, empty where unknown. `asked` tells of a feature in which windows it was asked for,
    where that is not in all: nothing is known of the others, not even that it is unknown.
    """

    customers: Places
    learning: Truths
    treated: Truths
    share: Floats
    gained: Floats
    before: Floats
    numbers: Mapping[str, Floats]
    words: Mapping[str, Words]
    asked: Mapping[str, Truths] = field(default_factory=dict)

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

    `net` takes off what messages and offers were declared to cost. Windows are left out whose decision asked for no
    feature at all: they are of another time, and whatever has changed since would look like what is known.
    """
    rows = measured(newest_of(outcomes))
    asked = _Asked(rows, features)
    found: defaultdict[str, list[Outcome]] = defaultdict(list)
    for row in rows:
        of_campaign = found[row["campaign"]]  # which is named also where none of its windows is left
        if asked.of(row):
            of_campaign.append(row)
    return {campaign: _columns(of, features, asked, net=net) for campaign, of in sorted(found.items())}


class _Asked:
    """Which features a decision asked for, as far as records tell: what nobody knew is not written down.

    That is for its definitions to say, so whatever others of the same version wrote down was asked for, from the first
    of them to the last: decisions from before may be gone.
    """

    def __init__(self, rows: Iterable[Outcome], features: Mapping[str, Features]) -> None:
        self._features = features
        self._spans: defaultdict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
        self._same: dict[frozenset[str], frozenset[str]] = {}
        for row in rows:
            version, at = row.get("definitions_version", ""), row.get("window_from")
            if at is None:
                continue
            for name in features.get(row["decision_id"], ()):
                first, last = self._spans[version].get(name, (at, at))
                self._spans[version][name] = min(first, at), max(last, at)

    def of(self, row: Outcome) -> frozenset[str] | None:
        """Return the features that a window's decision asked for, None for none; all where it tells no time."""
        known, at = self._features.get(row["decision_id"], {}), row.get("window_from")
        if at is None:
            return _EVERY if known else None
        spans = self._spans.get(row.get("definitions_version", ""), {})
        names = frozenset(name for name, (first, last) in spans.items() if first <= at <= last)
        return self._same.setdefault(names, names) or None  # there are millions of windows, and few sets


def _columns(rows: list[Outcome], features: Mapping[str, Features], asked: _Asked, *, net: bool) -> Windows:
    names, customers = np.unique([row["customer_id"] for row in rows], return_inverse=True)
    learning = np.array([half_of(str(name)) == 0 for name in names], dtype=np.bool_)
    treated = np.array([row["arm"] == "treatment" for row in rows], dtype=np.bool_)
    share = np.array([row.get("control_bp") or 0 for row in rows]) / WHOLE
    # Records that do not tell it were drawn by one share, which is about the share that there is among them.
    untold = share == 0
    if untold.any():
        share[untold] = np.clip(1 - treated[untold].mean(), 1 / WHOLE, 1 - 1 / WHOLE)
    known = [features.get(row["decision_id"], {}) for row in rows]
    columns = {name: [one.get(name) for one in known] for name in sorted({name for one in known for name in one})}
    told = [asked.of(row) or _EVERY for row in rows]
    asks = {name: np.array([one is _EVERY or name in one for one in told], dtype=np.bool_) for name in columns}
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
        words={name: np.array([_word(value) for value in columns[name]]) for name in worded},
        asked={name: of for name, of in asks.items() if not of.all()},
    )


def _word(value: float | str | None) -> str:
    return "" if value is None else str(value) or _NO_WORD
