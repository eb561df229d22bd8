"""Whether the figures can be believed: `python -m bench.measurement [--runs N]`.

Real purchases, where nobody was sent anything: windows at random instants of real households, half of them "treated".
So the truth is 0, or what we add to it, and the money is as uneven as money is. Prints how often an interval that is
looked at again and again excludes the truth, against an ordinary z-test; how often it covers a planted effect at the
end; and how much of the noise the customers' own history takes away.
"""

from __future__ import annotations

import argparse
import random
import statistics
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from bench.harness.machine import about, machine, table, write
from orchestrator.demo.purchases import read_purchases
from orchestrator.learning.intervals import errors_wide
from orchestrator.learning.uplift import Results, compare

DAY = 86_400_000
HISTORY = 84 * DAY
WINDOW = 14 * DAY
LOOKS = 85
Z = 1.96
MOST_ALARMS, LEAST_COVERED = 0.05, 0.93


@dataclass(frozen=True, slots=True)
class Household:
    """One household's orders: their instants, and the margin earned until before each."""

    instants: Sequence[int]
    earned: Sequence[int]

    def margin(self, start: int, end: int) -> int:
        """Return the margin of the orders from `start` to before `end`, minor units."""
        return self.earned[bisect_left(self.instants, end)] - self.earned[bisect_left(self.instants, start)]


def households() -> list[Household]:
    """Return all households of Complete Journey."""
    purchases = read_purchases()
    found = []
    for position in range(len(purchases.households)):
        baskets = purchases.baskets(position)
        margins = (sum(line["margin"] for line in purchases.lines(basket)) for basket in baskets)
        found.append(Household([basket.placed_at for basket in baskets], [0, *accumulate(margins)]))
    return found


def world(seed: int, people: Sequence[Household], window: int = WINDOW, effect: int = 0) -> list[dict[str, Any]]:
    """Return an outcome per household, with an effect added to every treated window, in the order they end."""
    chance = random.Random(seed)
    first = min(one.instants[0] for one in people) + HISTORY
    last = max(one.instants[-1] for one in people) - window
    outcomes = []
    for number, one in enumerate(people):
        start, treated = chance.randrange(first, last), chance.random() < 0.5
        outcomes.append(
            {
                "outcome_id": str(number),
                "revision": 0,
                "customer_id": str(number),
                "campaign": "any",
                "arm": "treatment" if treated else "control",
                "window_until": start + window,
                "margin": one.margin(start, start + window) + effect * treated,
                "earned_before": one.margin(start - HISTORY, start),
                "cost": 0,
                "contaminated": False,
                "void": False,
            }
        )
    return sorted(outcomes, key=lambda outcome: outcome["window_until"])


def looks_at(outcomes: Sequence[dict[str, Any]]) -> Iterator[Results]:
    """Yield what is known at each of many looks while the windows end one after another."""
    for look in range(1, LOOKS + 1):
        yield compare(outcomes[: len(outcomes) * look // LOOKS])


def excludes(results: Results, truth: float) -> tuple[bool, bool]:
    """Return whether our interval excludes the truth, and whether that of a z-test does."""
    (one,) = results.campaigns
    if one.difference is None:
        return False, False
    customers = one.treatment.customers + one.control.customers
    error = (one.difference.high - one.difference.mean) / errors_wide(customers)
    off = abs(one.difference.mean - truth)
    return off > one.difference.high - one.difference.mean, off > Z * error


def measure(runs: int) -> dict[str, float]:
    """Return every figure."""
    people = households()
    ours = theirs = covered = 0
    for run in range(runs):
        seen = [excludes(results, 0) for results in looks_at(world(run, people))]
        ours += any(one for one, _ in seen)
        theirs += any(other for _, other in seen)
        covered += not excludes(compare(world(10_000 + run, people, effect=200)), 200)[0]
    histories = {
        f"noise taken away, {days} days": statistics.median(
            compare(world(20_000 + seed, people, days * DAY)).campaigns[0].own_history for seed in range(5)
        )
        for days in (14, 28, 56)
    }
    return {
        "false alarms": ours / runs,
        "false alarms of a z-test": theirs / runs,
        "covered": covered / runs,
    } | histories


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=200, help="random assignments of the same households")
    parser.add_argument("--write", action="store_true", help="keep the result under bench/results")
    given = parser.parse_args()

    found = measure(given.runs)
    bars = {"false alarms": f"at most {MOST_ALARMS:.0%}", "covered": f"at least {LEAST_COVERED:.0%}"}
    rows = [(name, f"{value:.1%}", bars.get(name, "")) for name, value in found.items()]
    said = table(("what", "measured", "bar"), rows)
    print(said)
    if given.write:
        facts = machine(runs=f"{given.runs}, {LOOKS} looks each, windows of {WINDOW // DAY} days")
        title = "# Can the figures be believed?\n\n`python -m bench.measurement --write`, on Complete Journey."
        write("measurement", {"about": facts, "found": found}, f"{title}\n\n{about(facts)}\n{said}")
    if found["false alarms"] > MOST_ALARMS or found["covered"] < LEAST_COVERED:
        raise SystemExit("missed")


if __name__ == "__main__":
    main()
