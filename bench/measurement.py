"""Whether the figures can be believed: `python -m bench.measurement [--seeds N] [--runs N] [--households N]`.

First on real purchases, where nobody was sent anything: windows at random instants of real households, half of them
"treated". So the truth is 0, or what we add to it, and the money is as uneven as money is. Prints how often an interval
that is looked at again and again excludes the truth, against an ordinary z-test; how often it covers a planted effect
at the end; and how much of the noise the customers' own history takes away.

Then on the same households as they react to campaigns that the real engine sends (`bench/reacting.py`): the bias of an
uplift with the slot and without it, and how often the report's intervals hold what truly happened. Each with the worst
of its seeds; the exit code says whether all bars were reached.
"""

from __future__ import annotations

import argparse
import random
import statistics
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from bench.harness.machine import about, machine, table, write
from bench.reacting import Households, semi_synthetic, slot
from orchestrator.demo.purchases import read_purchases
from orchestrator.learning.intervals import errors_wide
from orchestrator.learning.uplift import Results, compare

DAY = 86_400_000
HISTORY = 84 * DAY
WINDOW = 14 * DAY
LOOKS = 85
Z = 1.96
MOST_ALARMS, LEAST_COVERED = 0.05, 0.93

SAME, VISIBLE = 2.0, 4.0
"""Standard errors up to which a bias is none, and from which anybody sees it."""


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


@dataclass(frozen=True, slots=True)
class Gate:
    """One figure as it is shown, that of its worst seed, its bar, and whether it was reached."""

    name: str
    figure: str
    worst: str = ""
    bar: str = ""
    reached: bool = True


def purchases(seeds: int, runs: int) -> list[Gate]:
    """Return the figures on real purchases, so many random assignments for each seed."""
    people = households()
    alarms, theirs, covered = [], [], []
    for seed in range(seeds):
        ours = others = held = 0
        for run in range(seed * runs, (seed + 1) * runs):
            seen = [excludes(results, 0) for results in looks_at(world(run, people))]
            ours += any(one for one, _ in seen)
            others += any(other for _, other in seen)
            held += not excludes(compare(world(10_000 + run, people, effect=200)), 200)[0]
        alarms.append(ours / runs)
        theirs.append(others / runs)
        covered.append(held / runs)
    gates = [
        _share("A/A with peeking: false alarms", alarms, max, f"at most {MOST_ALARMS:.0%}", at_most=MOST_ALARMS),
        _share("the same, of a z-test", theirs, max),
        _share("planted effect: covered", covered, min, f"at least {LEAST_COVERED:.0%}", at_least=LEAST_COVERED),
    ]
    for days in (14, 28, 56):
        found = [compare(world(20_000 + seed, people, days * DAY)).campaigns[0].own_history for seed in range(seeds)]
        gates.append(_share(f"noise taken away by own history, {days} days", found, min))
    return gates


def reactions(seeds: int, households: int) -> list[Gate]:
    """Return the figures on households that react."""
    people = Households.of(households)
    gates = []
    for name, bias in slot(people, seeds).items():
        apart = abs(bias.mean) / bias.error
        clean = name == "with the slot"
        gates.append(
            Gate(
                f"bias of the uplift {name} (truth {bias.truth / 100:.2f})",
                f"{bias.mean / 100:+.2f} ± {bias.error / 100:.2f}",
                f"{bias.worst / 100:+.2f}",
                f"within {SAME:.0f} standard errors of 0" if clean else f"more than {VISIBLE:.0f} from 0, to be seen",
                apart <= SAME if clean else apart > VISIBLE,
            )
        )
    by_name, by_seed = semi_synthetic(people, seeds)
    bar = f"at least {LEAST_COVERED:.0%}"
    held, intervals = sum(one.held for one in by_seed), sum(one.intervals for one in by_seed)
    worst = min(by_seed, key=lambda one: one.share)
    gates.append(
        Gate(
            "customers who react: intervals that hold the truth at every month's end",
            f"{held} of {intervals}",
            f"{worst.held} of {worst.intervals}",
            bar,
            held / intervals >= LEAST_COVERED,
        )
    )
    for name, one in by_name.items():
        truth, width = one.truth / one.intervals / 100, one.widths / one.intervals / 100
        gates.append(
            Gate(f"– {name} (truth {truth:+.2f}, intervals {width:.2f} wide)", f"{one.held} of {one.intervals}")
        )
    return gates


def _share(
    name: str,
    by_seed: Sequence[float],
    worst: Callable[[Sequence[float]], float],
    bar: str = "",
    *,
    at_most: float = 1.0,
    at_least: float = 0.0,
) -> Gate:
    mean = statistics.fmean(by_seed)
    return Gate(name, f"{mean:.1%}", f"{worst(by_seed):.1%}", bar, at_least <= mean <= at_most)


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=8, help="draws of control groups and of reactions")
    parser.add_argument("--runs", type=int, default=25, help="random assignments of the same households for each seed")
    parser.add_argument("--households", type=int, default=500, help="how many of them react")
    parser.add_argument("--write", action="store_true", help="keep the result under bench/results")
    given = parser.parse_args()

    gates = [*purchases(given.seeds, given.runs), *reactions(given.seeds, given.households)]
    said = table(
        ("what", "measured", "worst seed", "bar"), [(one.name, one.figure, one.worst, one.bar) for one in gates]
    )
    print(said)
    if given.write:
        facts = machine(
            seeds=str(given.seeds),
            runs=f"{given.runs} for each seed, {LOOKS} looks each, windows of {WINDOW // DAY} days",
            households=f"{given.households} that react, over a year",
        )
        title = "# Can the figures be believed?\n\n`python -m bench.measurement --write`, on Complete Journey."
        found = {one.name: {"measured": one.figure, "worst": one.worst} for one in gates}
        write("measurement", {"about": facts, "found": found}, f"{title}\n\n{about(facts)}\n{said}")
    if not all(one.reached for one in gates):
        raise SystemExit(f"missed: {', '.join(one.name for one in gates if not one.reached)}")


if __name__ == "__main__":
    main()
