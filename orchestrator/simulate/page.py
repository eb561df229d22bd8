"""What a simulation found, for people: tables for the terminal, the gates with their figures, and one drawing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean

from orchestrator.report import svg
from orchestrator.simulate.oracles import MYOPIC, PERSONA, SEGMENT
from orchestrator.simulate.run import HINDSIGHT, MANUAL, OURS, SWITCHES, Result

ORDER = (PERSONA, SEGMENT, OURS, HINDSIGHT, MYOPIC, MANUAL, *SWITCHES)
"""In which order policies are told of."""

YEAR_ONE = {2_500: 0.62, 8_000: 0.70, 30_000: 0.80}
"""What share of the segment oracle is to be reached in the first year, by customers."""

WORST_SEED, LAST_QUARTER, COVERED = 0.55, 0.85, 0.93
LAST_QUARTER_FROM = 8_000

WIDTH, HEIGHT = 960.0, 420.0
COLORS = {
    PERSONA: "#9a9a9a", SEGMENT: "#1b7f5c", OURS: "#c2410c", HINDSIGHT: "#2563eb", MYOPIC: "#7c3aed", MANUAL: "#64748b"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gate:
    """One bar, what was found, and whether it is reached."""

    what: str
    bar: str
    found: str
    reached: bool


class Results:
    """Results of all policies and seeds; scores are shares of what the segment oracle earns beyond sending nothing.

    Rivals that do not learn are lived by fewer people; who learns is held against the rivals of the same seed.
    """

    def __init__(self, results: Iterable[Result]) -> None:
        self.by_policy: dict[str, dict[int, Result]] = {}
        for result in sorted(results, key=lambda one: one.seed):
            self.by_policy.setdefault(result.policy, {})[result.seed] = result

    @property
    def policies(self) -> list[str]:
        """The policies there are, in their order."""
        return [name for name in ORDER if name in self.by_policy]

    @property
    def customers(self) -> int:
        """How many customers were learned from."""
        return max(one.customers for results in self.by_policy.values() for one in results.values())

    def year(self, policy: str) -> dict[int, float]:
        """Return a policy's score of the year by seed."""
        best = self.by_policy[SEGMENT]
        return {seed: one.value / best[seed].value for seed, one in self.by_policy[policy].items()}

    def quarter(self, policy: str, number: int) -> dict[int, float]:
        """Return a policy's score of a quarter by seed."""
        best = self.by_policy[SEGMENT]
        return {
            seed: one.quarters()[number] / best[seed].quarters()[number] for seed, one in self.by_policy[policy].items()
        }

    def ahead(self, policy: str, number: int, of: str) -> dict[int, float]:
        """Return what a policy earns in a quarter more than another, by seed, per customer."""
        other = self.by_policy[of]
        return {
            seed: (one.quarters()[number] - other[seed].quarters()[number]) / 100
            for seed, one in self.by_policy[policy].items()
        }

    def gates(self) -> list[Gate]:
        """Return the bars that these results can tell of."""
        if OURS not in self.by_policy or SEGMENT not in self.by_policy:
            return []
        ours = self.by_policy[OURS]
        year = self.year(OURS)
        found = []
        if self.customers in YEAR_ONE:
            bar = YEAR_ONE[self.customers]
            mean = fmean(year.values())
            found.append(Gate("year one, of the segment oracle", f">= {bar:.0%}", f"{mean:.1%}", mean >= bar))
        found.append(_worst("worst seed of year one", WORST_SEED, year))
        if self.customers >= LAST_QUARTER_FROM:
            last = self.quarter(OURS, 3)
            mean = fmean(last.values())
            said = f"{mean:.1%}, worst seed {_least(last)}"
            found.append(Gate("last quarter", f">= {LAST_QUARTER:.0%}", said, mean >= LAST_QUARTER))
        least = {seed: min(one.quarters()[1:]) / 100 for seed, one in ours.items()}
        seed, low = min(least.items(), key=lambda pair: pair[1])
        said = f"at least {low:.2f} per customer (seed {seed})"
        found.append(Gate("never below sending nothing after the first quarter", ">= 0", said, low >= 0))
        if HINDSIGHT in self.by_policy:
            for number in (2, 3):
                more = self.ahead(OURS, number, HINDSIGHT)
                seed, low = min(more.items(), key=lambda pair: pair[1])
                said = f"{fmean(more.values()):+.2f} per customer, worst seed {low:+.2f} (seed {seed})"
                found.append(Gate(f"quarter {number + 1}, above the hindsight list", "> 0", said, low > 0))
        inside, total = (sum(one.covered[place] for one in ours.values()) for place in (0, 1))
        if total:
            said = f"{inside / total:.1%} of {total:,} intervals"
            found.append(Gate("truth inside the 95 % intervals", f">= {COVERED:.0%}", said, inside / total >= COVERED))
        return found


def _worst(what: str, bar: float, scores: Mapping[int, float]) -> Gate:
    return Gate(what, f">= {bar:.0%}", _least(scores), min(scores.values()) >= bar)


def _least(scores: Mapping[int, float]) -> str:
    seed, least = min(scores.items(), key=lambda pair: pair[1])
    return f"{least:.1%} (seed {seed})"


def tables(results: Results) -> str:
    """Return the policies and the gates as Markdown tables."""
    known = SEGMENT in results.by_policy
    lines = [
        "| policy | customers x seeds | year, per customer | of the segment oracle | worst seed | quarters |",
        "|---|---|---|---|---|---|",
    ]
    for policy in results.policies:
        found = list(results.by_policy[policy].values())
        year = results.year(policy) if known else {}
        share, worst = (f"{fmean(year.values()):.1%}", _least(year)) if known else ("", "")
        value = fmean(one.value for one in found) / 100
        by_quarter = (fmean(values) / 100 for values in zip(*(one.quarters() for one in found), strict=True))
        quarters = " · ".join(f"{value:.2f}" for value in by_quarter)
        who = f"{found[0].customers:,} x {len(found)}"
        lines.append(f"| {policy} | {who} | {value:.2f} | {share} | {worst} | {quarters} |")
    gates = results.gates()
    if gates:
        lines += ["", "| gate | bar | found | |", "|---|---|---|---|"]
        lines += [
            f"| {one.what} | {one.bar} | {one.found} | {'reached' if one.reached else 'MISSED'} |" for one in gates
        ]
    return "\n".join(lines) + "\n"


def drawing(results: Results) -> str:
    """Return what each policy has earned beyond sending nothing over the year, per customer, as an SVG file."""
    names = [name for name in results.policies if name in COLORS]
    curves = {name: _cumulative(list(results.by_policy[name].values())) for name in names}
    left, right, top, bottom = 60.0, 190.0, 24.0, 40.0
    days = len(next(iter(curves.values())))
    marks = svg.ticks(min(0.0, *(min(curve) for curve in curves.values())), max(max(c) for c in curves.values()), 6)
    x, y = svg.Scale(0, days - 1, left, WIDTH - right), svg.Scale(marks[0], marks[-1], HEIGHT - bottom, top)
    parts = [
        svg.line(left, y(mark), WIDTH - right, y(mark), "guide")
        + svg.text(left - 8, y(mark), f"{mark:,.0f}", "axis", "end")
        for mark in marks
    ]
    for number in range(5):
        at = x(number * (days - 1) / 4)
        parts.append(svg.line(at, top, at, HEIGHT - bottom, "guide"))
        if number < 4:
            middle = at + (WIDTH - right - left) / 8
            parts.append(svg.text(middle, HEIGHT - bottom + 16, f"quarter {number + 1}", "axis", "middle"))
    ends: list[float] = []
    for name, curve in sorted(curves.items(), key=lambda pair: -pair[1][-1]):
        points = [(x(day), y(value)) for day, value in enumerate(curve)][::5]
        ends.append(max([y(curve[-1]), *(end + 18 for end in ends[-1:])]))
        line = svg.path(points, _class(name), name)
        parts += [line, svg.text(WIDTH - right + 8, ends[-1], f"{name}  {curve[-1]:.0f}", f"{_class(name)} name")]
    title = f"Earned beyond sending nothing, per customer ({results.customers:,} customers)"
    parts.append(svg.text(left, 10, title, "title"))
    colors = "".join(
        f".{_class(name)}{{stroke:{color}}}.{_class(name)}.name{{fill:{color};stroke:none}}"
        for name, color in COLORS.items()
    )
    style = (
        "text{font:13px system-ui,sans-serif;fill:#6b7280}.title{font-weight:600}.guide{stroke:#6b728044}"
        f"polyline{{fill:none;stroke-width:2}}{colors}"
    )
    picture = svg.drawing(WIDTH, HEIGHT, title, f"<style>{style}</style>", *parts)
    return picture.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _class(name: str) -> str:
    return name.replace(" ", "-")


def _cumulative(found: Sequence[Result]) -> list[float]:
    """Return the running total per customer in units of money, averaged over seeds."""
    return list(accumulate(fmean(values) / 100 for values in zip(*(one.daily for one in found), strict=True)))
