"""When the next order comes, and which products: `python -m bench.replenishment [--write]`.

Complete Journey, household x category. A case is a shopping day on which a household bought of a category it had bought
of before: what is its next? Everything that is learned is learned from days before the case: typical gaps from before
the split, the spread anew every 30 days from the last 120. Many cases are still open when the data ends, the long ones
most of all; so coverage is estimated as in survival analysis (Kaplan and Meier, 1958) from all cases: the share of next
orders before the window's begin, and after its end, each censored where its case is. Errors are told as they are
observed, and weighed by the inverse probability of being observed at all.

The second table is about products: of the first basket after the split, how much is among ten that are proposed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.harness.machine import about, machine, table, write
from orchestrator.demo.catalogue import read_catalogue, shopping_days
from orchestrator.demo.purchases import Purchases, read_purchases
from orchestrator.facts.fill import REPEATS
from orchestrator.learning.similar import LEAST_BUYERS, MOST_PRODUCTS, Together
from orchestrator.learning.survival import spread_by_class, surviving
from orchestrator.rhythm import GAP_CLASSES

DAY = 86_400_000
SPLIT, WINDOW, EVERY, SHIPPED = 243, 120, 30, 240
"""Days: the first of the test, two thirds into the year; what the spread is learned from; how often anew; and what the
one that we ship is learned from, which is long because it has to serve for long."""

POOLED, MOST_REGULAR = 3, 10
ENOUGH_GAPS, PULLED = 4, 5
LEAST_GAIN, COVERED = 0.15, (0.78, 0.82)
AT = 10

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cases:
    """Every shopping day of every household and category in order, and what came next.

    `first` is the place of the pair's first day, `gaps` how many there are before, `sum_log` the sum of their logs;
    `until` the days to the next, or to the end of the data where that was not `observed`.
    """

    category: Places
    day: Places
    first: Places
    gaps: Places
    sum_log: Numbers
    until: Numbers
    observed: Marks
    categories: list[str]
    end: int


def read_cases(purchases: Purchases) -> Cases:
    """Return the cases of all households; orders of one day are one shopping trip."""
    categories, pair, day, end = shopping_days(purchases)
    begins = np.r_[True, pair[1:] != pair[:-1]]
    first = np.flatnonzero(begins)[np.cumsum(begins) - 1]
    before = np.r_[0, np.diff(day)]
    log_gap = np.where(begins, 0.0, np.log(np.maximum(before, 1)))
    sums = np.cumsum(log_gap)
    observed = ~np.r_[begins[1:], True]
    until = np.where(observed, np.r_[np.diff(day), 0], end - day).astype(np.float64)
    gaps = np.arange(len(pair)) - first
    return Cases(pair % len(categories), day, first, gaps, sums - sums[first], until, observed, categories, end)


def typical_gaps(cases: Cases) -> Numbers:
    """Return the mean log gap of each category before the split; one that few tell of is pulled to that of all."""
    known = (cases.gaps > 0) & (cases.day < SPLIT)
    last = np.r_[cases.gaps[1:] == 0, True] | np.r_[cases.day[1:] >= SPLIT, True]
    pairs = known & last & (cases.gaps >= ENOUGH_GAPS)
    mean = cases.sum_log[pairs] / cases.gaps[pairs]
    households = np.bincount(cases.category[pairs], minlength=len(cases.categories))
    sums = np.bincount(cases.category[pairs], mean, len(cases.categories))
    found: Numbers = (sums + PULLED * mean.mean()) / (households + PULLED)
    return found


def expected_log(cases: Cases, typical: Numbers) -> Numbers:
    """Return the log of the expected gap after each day: own gaps, pooled with the category's as if that were three."""
    found: Numbers = (cases.sum_log + POOLED * typical[cases.category]) / (cases.gaps + POOLED)
    return found


def windows(cases: Cases, expected: Numbers, among: Marks, *, once: bool = False) -> tuple[Numbers, Numbers]:
    """Return the begin and the end of the window after each day of the test, learned anew or once, from before it."""
    low, high = np.zeros(len(expected)), np.zeros(len(expected))
    first = spread_at(cases, expected, among, SPLIT, window=SPLIT)
    for day in range(SPLIT, cases.end, EVERY):
        spread = first if once else spread_at(cases, expected, among, day)
        here = (cases.day >= day) & (cases.day < day + EVERY)
        for least, most in zip(GAP_CLASSES, (*GAP_CLASSES[1:], np.inf), strict=True):
            alike = here & (cases.gaps >= least) & (cases.gaps < most)
            low[alike] = np.exp(expected[alike] + spread[f"low_{least}"] / 1e6)
            high[alike] = np.exp(expected[alike] + spread[f"high_{least}"] / 1e6)
    return low, high


def spread_at(cases: Cases, expected: Numbers, among: Marks, day: int, window: int = WINDOW) -> Mapping[str, int]:
    """Return the spread as it is known on a day, from the cases of the time before it."""
    of_late = among & (cases.gaps > 0) & (cases.day < day) & (cases.day >= day - window)
    observed = cases.observed[of_late] & (cases.day + cases.until < day)[of_late]
    until = np.where(observed, cases.until[of_late], day - cases.day[of_late])
    return spread_by_class(np.log(until) - expected[of_late], observed, cases.gaps[of_late])


def baselines(cases: Cases, tested: Marks) -> dict[str, Numbers]:
    """Return what the median gap, the mean gap and the last gap expect, for the cases that are tested."""
    places = np.flatnonzero(tested)
    spans = [cases.day[cases.first[place] : place + 1] for place in places]
    return {
        "median gap": np.array([np.median(np.diff(days)) for days in spans]),
        "mean gap": np.array([(days[-1] - days[0]) / (len(days) - 1) for days in spans]),
        "last gap": np.array([days[-1] - days[-2] for days in spans], dtype=np.float64),
    }


def measure_gaps(cases: Cases, among: Marks, least_gaps: int) -> dict[str, Any]:
    """Return the errors of every method and the coverage of our windows, on the same cases."""
    expected = expected_log(cases, typical_gaps(cases))
    tested = among & (cases.day >= SPLIT) & (cases.gaps >= least_gaps)
    seen = tested & cases.observed
    methods = {"ours": np.exp(expected[seen])} | baselines(cases, seen)
    until = cases.until[seen]
    follow_up = np.sort(cases.end - cases.day[tested])
    weight = 1 / (1 - np.searchsorted(follow_up, until, side="left") / len(follow_up))
    low, high = windows(cases, expected, among)
    before, after = outside(cases, tested, low, high)
    inside = (cases.until >= low) & (cases.until <= high)
    return {
        "cases": int(tested.sum()),
        "observed": int(seen.sum()),
        "mae": {name: float(np.abs(days - until).mean()) for name, days in methods.items()},
        "mae_weighed": {
            name: float((np.abs(days - until) * weight).sum() / weight.sum()) for name, days in methods.items()
        },
        "before": before,
        "after": after,
        "covered": 1 - before - after,
        "covered_once": 1 - sum(outside(cases, tested, *windows(cases, expected, among, once=True))),
        "covered_observed": float(inside[seen].mean()),
        "width": float(np.median(high[tested] / low[tested])),
    }


def outside(cases: Cases, tested: Marks, low: Numbers, high: Numbers) -> tuple[float, float]:
    """Return the share of next orders before their window's begin, and after its end, open cases included."""
    until, observed = cases.until[tested], cases.observed[tested]
    before = 1 - surviving(until / low[tested], observed, at=1.0, including=True)
    return before, surviving(until / high[tested], observed, at=1.0)


def measure_repeats(cases: Cases, among: Marks) -> dict[str, float]:
    """Return how many next gaps of the test are regular, by how many more were regular before than were not."""
    expected = expected_log(cases, typical_gaps(cases))
    regular = cases.observed & (np.abs(np.log(np.maximum(cases.until, 0.5)) - expected) <= np.log(2))
    counted = np.zeros(len(regular), dtype=np.int64)
    for place in np.flatnonzero(cases.gaps > 0).tolist():
        counted[place] = min(max(counted[place - 1] + (1 if regular[place - 1] else -1), 0), MOST_REGULAR)
    seen = among & cases.observed & (cases.day >= SPLIT) & (cases.gaps >= REPEATS)
    enough = counted >= REPEATS
    return {
        "of these customers": float(enough[seen].mean()),
        "next is regular, after three regular ones more than others": float(regular[seen & enough].mean()),
        "next is regular, of all others": float(regular[seen & ~enough].mean()),
    }


def measure_products(purchases: Purchases) -> dict[str, dict[str, float]]:
    """Return recall@10 of the first basket after the split, for all its products and for those that are new."""
    begin = int(purchases.placed_at.min()) + SPLIT * DAY
    counts: dict[int, dict[int, int]] = {}
    targets: dict[int, set[int]] = {}
    for position in range(len(purchases.households)):
        bought: dict[int, int] = {}
        for basket in purchases.baskets(position):
            products = set(purchases.line_sku[basket.first_line : basket.end_line].tolist())
            if basket.placed_at >= begin:
                targets[position] = products
                break
            for product in products:
                bought[product] = bought.get(product, 0) + 1
        counts[position] = bought
    buyers: dict[int, int] = {}
    for bought in counts.values():
        for product in bought:
            buyers[product] = buyers.get(product, 0) + 1
    popular = sorted(buyers, key=lambda product: (-buyers[product], product))
    compared = [product for product in popular if buyers[product] >= LEAST_BUYERS][:MOST_PRODUCTS]
    together = Together(purchases.skus[product] for product in compared)
    for position, bought in counts.items():
        together.put(str(position), (purchases.skus[product] for product in bought))
    closeness = together.closeness()
    place = {sku: number for number, sku in enumerate(together.skus)}
    product_at = {sku: product for product, sku in enumerate(purchases.skus)}

    def by_similar(bought: Mapping[int, int]) -> list[int]:
        held = [(place[sku], n) for product, n in bought.items() if (sku := purchases.skus[product]) in place]
        score = sum((n * closeness[number] for number, n in held), np.zeros(len(together.skus)))
        ranked = np.argsort(-score, kind="stable")[: AT + len(held)]
        return [product_at[together.skus[number]] for number in ranked.tolist() if score[number] > 0]

    methods: dict[str, Callable[[Mapping[int, int]], list[int]]] = {
        "own repeats": lambda bought: sorted(bought, key=lambda product: (-bought[product], product)),
        "popularity": lambda _: popular,
        "liked by similar": by_similar,
    }
    found: dict[str, dict[str, float]] = {}
    for name, propose in methods.items():
        recalls: dict[str, list[float]] = {"all": [], "new": []}
        for position, target in targets.items():
            bought = counts[position]
            if not bought:
                continue
            proposed = propose(bought)
            new = target - bought.keys()
            recalls["all"].append(len(target & set(proposed[:AT])) / len(target))
            if new:
                unknown = [product for product in proposed if product not in bought][:AT]
                recalls["new"].append(len(new & set(unknown)) / len(new))
        found[name] = {which: float(np.mean(values)) for which, values in recalls.items()}
    return found


def main() -> None:
    """Measure, print, and keep the result; a missed bar ends with an error."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="keep the result under bench/results")
    given = parser.parse_args()

    purchases = read_purchases()
    cases = read_cases(purchases)
    runs_out = read_catalogue().days_of_supply
    consumed = np.array([name in runs_out for name in cases.categories])[cases.category]
    everything = np.ones(len(consumed), dtype=bool)
    sets = {
        "every category, from the second order on": (everything, 1),
        "every category, from the third order on": (everything, 2),
        "what runs out, from the second order on": (consumed, 1),
        "what runs out, from the third order on": (consumed, 2),
    }
    found = {name: measure_gaps(cases, *which) for name, which in sets.items()}
    repeats = measure_repeats(cases, consumed)
    products = measure_products(purchases)
    shipped = spread_at(cases, expected_log(cases, typical_gaps(cases)), consumed, cases.end, SHIPPED)
    said = _said(found, repeats, products, shipped)
    print(said)
    if given.write:
        facts = machine(split=f"day {SPLIT} of {cases.end}; spread from {WINDOW} days, anew every {EVERY}")
        title = "# When the next order comes\n\n`python -m bench.replenishment --write`, on Complete Journey."
        kept = {"about": facts, "gaps": found, "repeats": repeats, "recall": products, "spread": dict(shipped)}
        write("replenishment", kept, f"{title}\n\n{about(facts)}\n{said}")
    for name, one in found.items():
        gain = 1 - one["mae"]["ours"] / one["mae"]["median gap"]
        if gain < LEAST_GAIN or not COVERED[0] <= one["covered"] <= COVERED[1]:
            raise SystemExit(f"missed: {name}, {gain:.1%} better than the median gap, {one['covered']:.1%} covered")


def _said(
    found: Mapping[str, Mapping[str, Any]],
    repeats: Mapping[str, float],
    products: Mapping[str, Mapping[str, float]],
    spread: Mapping[str, int],
) -> str:
    errors, covers = [], []
    for name, one in found.items():
        for kind, label in (("mae", "as observed"), ("mae_weighed", "weighed")):
            mae = one[kind]
            days = (f"{mae[method]:.2f}" for method in ("ours", "median gap", "mean gap", "last gap"))
            errors.append((name, label, f"{one['observed']:,}", *days, f"{1 - mae['ours'] / mae['median gap']:.1%}"))
        shares = (f"{one[part]:.1%}" for part in ("before", "after", "covered", "covered_observed", "covered_once"))
        covers.append((name, f"{one['cases']:,}", f"{one['observed']:,}", *shares, f"{one['width']:.1f}"))
    parts = [
        "Mean absolute error of the next gap, days; at least 15 % better than the median gap.\n",
        table(("cases", "", "observed", "ours", "median gap", "mean gap", "last gap", "better by"), errors, 2),
        "Where next orders come, of windows that are to cover 80 %: 78 to 82 % of all cases, censored ones included.\n",
        table(
            (
                "cases",
                "all",
                "observed",
                "before",
                "after",
                "covered",
                "covered, observed only",
                "covered, learned once",
                "end / begin",
            ),
            covers,
        ),
        "Regular repeats of what runs out, each after half to twice the expected gap.\n",
        table(("", "share"), [(name, f"{share:.1%}") for name, share in repeats.items()]),
        f"Recall@{AT} of the first basket after the split.\n",
        table(
            ("proposed", "all products", "new products"),
            [(name, f"{one['all']:.3f}", f"{one['new']:.3f}") for name, one in products.items()],
        ),
        f"The spread that `orchestrator/rhythm.py` ships: of what runs out, from the last {SHIPPED} days.\n",
        table(
            ("own gaps", "low", "high"),
            [(f"{known}", f"{spread[f'low_{known}']}", f"{spread[f'high_{known}']}") for known in GAP_CLASSES],
        ),
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
