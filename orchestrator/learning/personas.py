"""Sub-personas: for whom a campaign works extremely well, somewhat or not, found on one half and measured on the other.

Each campaign's windows are split in two by a condition on one feature, and the parts again, up to three deep. One half
of the customers decides by which condition; how large the difference is, and how sure that is, the other half tells
alone, which had no say in the choice: "honest" in Athey and Imbens, "Recursive partitioning for heterogeneous causal
effects" (2016). With many conditions compared, one that looks good by chance is no surprise: what is left then is what
`intervals.discoveries` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf, sqrt

import numpy as np

from orchestrator.learning.cuts import Cut, readable, sayable
from orchestrator.learning.intervals import Interval, discoveries, e_value, errors_wide
from orchestrator.learning.windows import Floats, Places, Truths, Windows

EXTREMELY, SOMEWHAT, NOT = "extremely effective", "somewhat effective", "not effective"
"""The labels: its interval is above both 0 and the campaign's mean; above 0; not above 0."""

MOST_VALUES = 20
"""Of a feature of words, the values that most windows have are tried."""

_LONGEST_VALUE = 64

WORTH_SPLITTING = 3.0
"""Standard errors of the difference, in the half that chooses, below which a part is not searched any further."""

_TENTHS = np.arange(1, 10) / 10
_CALMED = 0.995
"""The half that chooses looks at what was gained up to this quantile: single large orders choose nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What it takes to be called a sub-persona: `treated` and `control` customers in each part, both halves together.

    `difference` is what the parts must differ by for sure, minor units per window; `rate` the share of all sub-personas
    found that may be false.
    """

    rate: float = 0.10
    difference: float = 0.0
    treated: int = 200
    control: int = 100
    depth: int = 3


@dataclass(frozen=True, slots=True)
class Split:
    """A condition, how far the effects of those it holds for and of the others are apart, and the evidence for that.

    It is `clear` where the half that measures alone says that they differ by more than they must.
    """

    cut: Cut
    difference: Interval
    e_value: float
    clear: bool

    @property
    def counted(self) -> float:
        """The e-value that it is judged by."""
        return self.e_value if self.clear else 0.0


@dataclass(frozen=True, slots=True)
class Persona:
    """Customers of a campaign who share the cuts of `path`, and what it is worth per window with them, minor units.

    `windows`, `treated` and `control` count the half that measures, the last two its customers. With a `split` that is
    proven there are two `parts`, those it holds for first; one without parts was the best there was.
    """

    path: tuple[Cut, ...]
    windows: int
    treated: int
    control: int
    worth: Interval
    label: str
    split: Split | None = None
    parts: tuple[Persona, ...] = ()

    @property
    def harmed(self) -> bool:
        """Whether the campaign loses money with them for sure."""
        return self.worth.high < 0

    @property
    def leaves(self) -> tuple[Persona, ...]:
        """The parts that are not split any further."""
        return tuple(leaf for part in self.parts for leaf in part.leaves) if self.parts else (self,)


@dataclass(frozen=True, slots=True)
class Found:
    """The sub-personas of every campaign that has enough data, and how many conditions were compared for them."""

    campaigns: Mapping[str, Persona]
    too_few: tuple[str, ...]
    candidates: int
    limits: Limits

    @property
    def splits(self) -> int:
        """How many splits are proven."""
        return sum(1 for persona in self.campaigns.values() for _ in _splits(persona))

    @property
    def needed(self) -> float:
        """The e-value that one more split would have needed."""
        return max(self.candidates, 1) / (self.limits.rate * (self.splits + 1))


_ENOUGH = Limits()


def find(windows: Mapping[str, Windows], units: Mapping[str, str] | None = None, limits: Limits = _ENOUGH) -> Found:
    """Return the sub-personas of campaigns; `units` are the types of features' values, numbers where left out."""
    grown: dict[str, Persona] = {}
    too_few, candidates = [], 0
    for campaign, found in sorted(windows.items()):
        search = _Search(found, units or {}, limits)
        if not search.ready:
            too_few.append(campaign)
            continue
        grown[campaign] = search.grown()
        candidates += search.compared
    e_values = [split.counted for persona in grown.values() for split in _splits(persona)]
    # All that were compared, at any look, could have been put forward: those that were not count with 0.
    real = discoveries([*e_values, *[0.0] * (candidates - len(e_values))], limits.rate)
    least = min((e for e, sure in zip(e_values, real, strict=False) if sure), default=inf)
    pruned = {campaign: _pruned(persona, least) for campaign, persona in grown.items()}
    return Found(pruned, tuple(too_few), candidates, limits)


def _splits(persona: Persona) -> Iterator[Split]:
    """Yield the splits of a persona and of its parts."""
    if persona.parts:
        assert persona.split is not None
        yield persona.split
    for part in persona.parts:
        yield from _splits(part)


def _pruned(persona: Persona, least: float) -> Persona:
    """Return a persona without the splits whose e-value is below the least that counts."""
    if persona.split is None or persona.split.counted < least:
        return replace(persona, parts=())
    return replace(persona, parts=tuple(_pruned(part, least) for part in persona.parts))


class _Search:
    """The search through the windows of one campaign."""

    def __init__(self, windows: Windows, units: Mapping[str, str], limits: Limits) -> None:
        self.windows = windows
        self.limits = limits
        self.compared = 0
        self.choosing, self.measuring = np.flatnonzero(windows.learning), np.flatnonzero(~windows.learning)
        self.weight = windows.weight
        self.apart = _share_of_customer(windows)
        self.ready = self.enough(self.choosing) and self.enough(self.measuring)
        if not self.ready:
            return
        calmed = np.minimum(windows.gained, np.quantile(windows.gained[self.choosing], _CALMED))
        self.sums = self._sums(_adjusted(calmed, windows, self.choosing))
        self.money = _adjusted(windows.gained, windows, np.arange(len(windows)))
        self.average, _ = self._effect(self.measuring)
        numbers = (
            _numbers(name, windows, self.choosing, units.get(name, "number")) for name in sorted(windows.numbers)
        )
        words = (_words(name, windows) for name in sorted(windows.words))
        self.columns = [column for column in (*numbers, *words) if column.cuts]

    def enough(self, rows: Places) -> bool:
        """Return whether one half has customers enough in both arms for the normal approximation."""
        treated = self.windows.treated[rows]
        return bool(
            self.apart[rows][treated].sum() >= self.limits.treated / 2
            and self.apart[rows][~treated].sum() >= self.limits.control / 2
        )

    def grown(self) -> Persona:
        """Return everybody, split as far as it seems worth it; what is proven of that is for others to say."""
        return self._persona((), self.choosing, self.measuring, inf)

    def _persona(self, path: tuple[Cut, ...], choosing: Places, measuring: Places, evidence: float) -> Persona:
        """Return the customers of a path; `evidence` is what the split that they are a part of is judged by."""
        persona = self._whole(path, measuring)
        best = self._best(choosing) if len(path) < self.limits.depth else None
        if best is None:
            return persona
        cut, holding, errors = best
        # Who was never asked is in neither part.
        asked = self.windows.asked.get(cut.feature, np.ones(len(self.windows), dtype=bool))
        choosing, measuring = choosing[asked[choosing]], measuring[asked[measuring]]
        inside, here = holding[measuring], holding[choosing]
        if not (self.enough(measuring[inside]) and self.enough(measuring[~inside])):
            return persona
        difference, _ = self._difference(measuring, inside)
        # The half that chose counts here too, for every condition that it compared is held against this one; but not
        # where it chose the part that is split. And a part of a part is believed no more than the part: the smaller of
        # two e-values is one as well.
        counted = measuring if path else np.flatnonzero(asked)
        _, found = self._difference(counted, holding[counted])
        clear = min(abs(difference.low), abs(difference.high)) > self.limits.difference and not difference.covers_zero
        split = Split(cut, difference, min(found, evidence), clear)
        if errors < WORTH_SPLITTING:
            parts = self._whole((*path, cut), measuring[inside]), self._whole((*path, cut.others), measuring[~inside])
        else:
            parts = (
                self._persona((*path, cut), choosing[here], measuring[inside], split.counted),
                self._persona((*path, cut.others), choosing[~here], measuring[~inside], split.counted),
            )
        return replace(persona, split=split, parts=parts)

    def _whole(self, path: tuple[Cut, ...], rows: Places) -> Persona:
        treated, customers = self.windows.treated[rows], self.windows.customers[rows]
        mean, influences = self._effect(rows)
        worth = _interval(mean, _by_customer(customers, influences), len(np.unique(customers)))
        return Persona(
            path=path,
            windows=len(rows),
            treated=len(np.unique(customers[treated])),
            control=len(np.unique(customers[~treated])),
            worth=worth,
            label=_label(worth, self.average),
        )

    def _difference(self, rows: Places, inside: Truths) -> tuple[Interval, float]:
        """Return how far the effects inside and outside are apart, and the e-value against less than it must be."""
        customers = self.windows.customers[rows]
        (there, moves), (elsewhere, moved) = self._effect(rows[inside]), self._effect(rows[~inside])
        both = np.concatenate((customers[inside], customers[~inside]))
        influences = _by_customer(both, np.concatenate((moves, -moved)))
        known = len(np.unique(customers))
        found = _interval(there - elsewhere, influences, known)
        error = (found.high - found.mean) / errors_wide(known)
        beyond = max(abs(found.mean) - self.limits.difference, 0.0)
        return found, e_value(known, beyond / error) if error else 0.0

    def _effect(self, rows: Places) -> tuple[float, Floats]:
        """Return treated minus control over windows, and how far each window moves that."""
        weight, gained, treated = self.weight[rows], self.money[rows], self.windows.treated[rows]
        effect, influences = 0.0, np.zeros(len(rows))
        for arm, sign in ((treated, 1), (~treated, -1)):
            number, total = int(arm.sum()), float(weight[arm].sum())
            mean = float(weight[arm] @ gained[arm]) / total
            effect += sign * mean
            influences[arm] = sign * sqrt(number / (number - 1)) * weight[arm] * (gained[arm] - mean) / total
        return effect, influences

    def _best(self, rows: Places) -> tuple[Cut, Truths, float] | None:
        """Return the cut by which the effects differ most surely in the half that chooses, and by how many errors."""
        sums, control = self.sums[:, rows], ~self.windows.treated[rows]
        best: tuple[Cut, Truths, float] | None = None
        for column in self.columns:
            size = column.holds.shape[1] + 1  # the last is of those who were not asked, and in neither part
            places = column.bins[rows] + control * size
            binned = np.empty((2 * size, len(sums)))
            for place, one in enumerate(sums):
                binned[:, place] = np.bincount(places, one, 2 * size)
            binned = binned.reshape(2, size, len(sums))[:, :-1]
            inside = column.holds.astype(float) @ binned
            errors, possible = self._apart(inside, binned.sum(axis=1, keepdims=True) - inside)
            self.compared += int(possible.sum())
            first = int(np.argmax(errors))
            if possible[first] and (best is None or errors[first] > best[2]):
                best = column.cuts[first], column.holding(first), float(errors[first])
        return best

    def _apart(self, inside: Floats, outside: Floats) -> tuple[Floats, Truths]:
        """Return per cut by how many standard errors its parts' effects differ, and whether both are large enough."""
        effect, variance = np.zeros(inside.shape[1]), np.zeros(inside.shape[1])
        possible = np.ones(inside.shape[1], dtype=bool)
        for sign, part in ((1, inside), (-1, outside)):
            for arm, least, of_arm in zip(part, (self.limits.treated, self.limits.control), (sign, -sign), strict=True):
                customers, weight, gained, squares, products, powers = arm.T
                possible &= customers >= least / 2
                total = np.where(possible, weight, 1.0)
                mean = gained / total
                effect += of_arm * mean
                variance += np.maximum(powers - 2 * mean * products + mean * mean * squares, 0.0) / total**2
        beyond = np.maximum(np.abs(effect) - self.limits.difference, 0.0)
        possible &= variance > 0
        return np.where(possible, beyond / np.sqrt(np.where(possible, variance, 1.0)), 0.0), possible

    def _sums(self, gained: Floats) -> Floats:
        """Return what is added up over windows: customers, weight, money, and what their variance is made of."""
        weight, square = self.weight, self.weight**2
        return np.stack((self.apart, weight, weight * gained, square, square * gained, square * gained**2))


@dataclass(frozen=True, slots=True)
class _Column:
    """The cuts that are tried on a feature: windows are sorted into `bins`, and `holds` tells for which a cut holds.

    One more bin is of those whose decision did not ask for it.
    """

    cuts: tuple[Cut, ...]
    bins: Places
    holds: Truths

    def holding(self, place: int) -> Truths:
        """Return for which windows the cut at a place holds."""
        holding: Truths = np.append(self.holds[place], False)[self.bins]
        return holding


def _numbers(name: str, windows: Windows, choosing: Places, unit: str) -> _Column:
    """Return the cuts of a feature by its tenths in the half that chooses; an unknown value compares with nothing."""
    column, asked = windows.numbers[name], windows.asked.get(name, np.ones(len(windows), dtype=bool))
    unknown = np.isnan(column)
    known = column[choosing][~unknown[choosing]]
    points = np.unique([readable(float(point), unit) for point in np.quantile(known, _TENTHS)]) if len(known) else known
    if unit == "truth":
        points = np.ones(min(len(points), 1))  # there is one thing to ask: whether it is true
    bins = np.where(unknown, len(points) + 1, np.searchsorted(points, column, side="right"))
    bins[~asked] = len(points) + 2
    numbered, place = np.arange(len(points) + 2), np.arange(len(points))[:, None]
    above, below = (place < numbered) & (numbered <= len(points)), numbered <= place
    if not unknown[asked].any():
        return _Column(tuple(Cut(name, ">=", float(point), unit) for point in points), bins, above)
    cuts = tuple(Cut(name, operator, float(point), unit, False) for operator in (">=", "<") for point in points)
    return _Column(cuts, bins, np.concatenate((above, below)))


def _words(name: str, windows: Windows) -> _Column:
    """Return the cuts of a feature by its values, the most frequent ones, and by whether it has one."""
    column, asked = windows.words[name], windows.asked.get(name, np.ones(len(windows), dtype=bool))
    values, bins = np.unique(column, return_inverse=True)
    counts = np.bincount(bins[asked], minlength=len(values))
    often = [
        place for place in np.argsort(-counts, kind="stable") if counts[place] and _can_be_said(str(values[place]))
    ][:MOST_VALUES]
    unknown = False if (column[asked] == "").any() else None
    cuts = tuple(Cut(name, "==", str(values[place]), "text", unknown if values[place] else None) for place in often)
    bins[~asked] = len(values)
    return _Column(cuts, bins, np.array(often, dtype=np.int64)[:, None] == np.arange(len(values)))


def _can_be_said(value: str) -> bool:
    """Return whether a condition can name a value; a long one was perhaps cut short when it was written down."""
    return sayable(value) and len(value) < _LONGEST_VALUE


def _adjusted(gained: Floats, windows: Windows, rows: Places) -> Floats:
    """Return what was gained without what the customer's own history explains of it (CUPED), by the slope of some rows.

    The slope is found within each arm, so that no effect of the campaign gets into it.
    """
    weights, across, square = windows.weight, 0.0, 0.0
    for arm in (windows.treated[rows], ~windows.treated[rows]):
        weight, before = weights[rows][arm], windows.before[rows][arm]
        centred = before - np.average(before, weights=weight)
        across += float(weight @ (centred * gained[rows][arm]))
        square += float(weight @ (centred * centred))
    slope = across / square if square else 0.0
    adjusted: Floats = gained - slope * (windows.before - windows.before[rows].mean())
    return adjusted


def _share_of_customer(windows: Windows) -> Floats:
    """Return per window a part of 1, so that a customer's windows in an arm make 1: sums never count too many."""
    together = windows.customers * 2 + windows.treated
    return 1 / np.bincount(together)[together]


def _by_customer(customers: Places, influences: Floats) -> Floats:
    """Return how far each customer moves an estimate, with all windows of theirs: these are alike."""
    return np.bincount(customers, influences).astype(np.float64)


def _interval(mean: float, influences: Floats, customers: int) -> Interval:
    half = errors_wide(customers) * float(np.sqrt(influences @ influences))
    return Interval(mean, mean - half, mean + half)


def _label(worth: Interval, average: float) -> str:
    if worth.low > max(average, 0.0):
        return EXTREMELY
    return SOMEWHAT if worth.low > 0 else NOT
