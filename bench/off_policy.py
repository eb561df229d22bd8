"""Whether a policy can be judged by another one's log: `python -m bench.off_policy [--runs N] [--write]`.

In made worlds, where what every option earns is known, the log of a policy that chooses by what customers are like is
asked what a priority list would have earned. Prints how often the interval covers the truth, how far off the naive
figure is, and that it refuses where the list's choice was hardly ever taken.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from bench.harness.machine import about, machine, table, write
from orchestrator.learning.off_policy import LEAST_EFFECTIVE, Estimate, evaluate, listed_by

LEAST_COVERED = 0.93
OPTIONS = (("first", 90), ("second", 60), ("third", 30))
EARNS = ((200, 50, 100), (-100, 300, 100))
"""What each option earns beyond nothing with either kind of customer, minor units."""

LIKES = ((0.55, 0.15, 0.15), (0.15, 0.55, 0.15))
"""How likely the policy that is logged chooses each, the rest being nothing."""

_CUSTOMERS, _CONTROL, _USUALLY = 4_000, 0.15, 500


@dataclass(frozen=True, slots=True)
class World:
    """Records of one log, and what was really earned per opportunity: as logged, and by the priority list."""

    decisions: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    logged: float
    priority: float


def world(seed: int, *, least: float = 1.0) -> World:
    """Return a log of three opportunities per customer; `least` is how much of its chance the list's choice keeps."""
    chance = np.random.default_rng(seed)
    decisions: list[dict[str, Any]] = []
    outcomes: list[dict[str, Any]] = []
    logged = priority = 0.0
    for customer in range(_CUSTOMERS):
        kind = int(chance.integers(2))
        size = chance.lognormal(0, 0.7) * (1 + kind)
        for _ in range(3):
            eligible = [place for place in range(len(OPTIONS)) if chance.random() < 0.8] or [0]
            likes = np.array([LIKES[kind][place] * (least if place == eligible[0] else 1.0) for place in eligible])
            likes, nothing = likes / (likes.sum() + 0.15), 0.15 / (likes.sum() + 0.15)
            logged += float(likes @ [EARNS[kind][place] for place in eligible])
            priority += EARNS[kind][eligible[0]]
            drawn = int(np.searchsorted(np.cumsum(likes), chance.random()))
            if drawn == len(eligible):
                continue
            chosen, number = eligible[drawn], str(len(decisions))
            control = chance.random() < _CONTROL
            earned = chance.exponential(_USUALLY * size) + EARNS[kind][chosen] * (not control)
            decisions.append(
                {
                    "decision_id": number,
                    "kind": "choice",
                    "window_until": 1,
                    "candidates": [
                        {
                            "campaign": OPTIONS[place][0],
                            "offer": "",
                            "priority": OPTIONS[place][1],
                            "propensity": float(likes[rank]),
                            "reason": "chosen" if place == chosen else "outranked",
                        }
                        for rank, place in enumerate(eligible)
                    ],
                }
            )
            outcomes.append(
                {
                    "outcome_id": number,
                    "decision_id": number,
                    "revision": 0,
                    "void": False,
                    "customer_id": f"c{customer}",
                    "campaign": OPTIONS[chosen][0],
                    "offer": "",
                    "arm": "control" if control else "treatment",
                    "control_bp": int(_CONTROL * 10_000),
                    "propensity": float(likes[drawn]),
                    "none_propensity": nothing,
                    "margin": round(earned),
                    "cost": 0,
                    "earned_before": round(chance.gamma(6, _USUALLY * size)),
                }
            )
    return World(decisions, outcomes, logged / (3 * _CUSTOMERS), priority / (3 * _CUSTOMERS))


def naive(made: World) -> float:
    """Return what somebody would say who compares the windows of the list's choice with all others."""
    listed = listed_by(made.decisions)
    arms: tuple[list[int], list[int]] = ([], [])
    for one in made.outcomes:
        if one["arm"] == "treatment":
            arms[listed[one["decision_id"]].option[0] == one["campaign"]].append(one["margin"])
    return fmean(arms[0]) - fmean(arms[1])


def measure(runs: int) -> dict[str, float]:
    """Return every figure."""
    covered = {"as logged, against nothing": 0, "the list, against nothing": 0, "as logged, against the list": 0}
    off, misled, refused, error = 0.0, 0.0, 0, 0.0
    for run in range(runs):
        made = world(run)
        found = evaluate(made.outcomes, listed_by(made.decisions))
        assert found is not None
        truths = made.logged, made.priority, made.logged - made.priority
        for name, estimate, truth in zip(
            covered, (found.logged, found.priority, found.difference), truths, strict=True
        ):
            covered[name] += _covers(estimate, truth)
        assert found.difference.worth is not None
        off += found.difference.worth.mean - truths[2]
        error += (found.difference.worth.high - found.difference.worth.low) / 2
        misled += naive(made) - truths[2]
        thin = world(10_000 + run, least=0.002)
        scarce = evaluate(thin.outcomes, listed_by(thin.decisions))
        refused += scarce is not None and scarce.difference.worth is None
    return {
        **{f"covers the truth: {name}": count / runs for name, count in covered.items()},
        "refused where the list's choice is hardly ever taken": refused / runs,
        "bias, minor units per opportunity": off / runs,
        "bias of the naive figure": misled / runs,
        "half the interval's width": error / runs,
    }


def _covers(estimate: Estimate, truth: float) -> bool:
    return estimate.worth is not None and estimate.worth.low <= truth <= estimate.worth.high


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=200, help="worlds")
    parser.add_argument("--write", action="store_true", help="keep the result under bench/results")
    given = parser.parse_args()

    found = measure(given.runs)
    rows = []
    for name, value in found.items():
        bar = f"at least {LEAST_COVERED:.0%}" if name.startswith("covers") else "100%" if name[:7] == "refused" else ""
        rows.append((name, f"{value:.1%}" if bar else f"{value:+.1f}", bar))
    said = table(("what", "measured", "bar"), rows)
    print(said)
    if given.write:
        facts = machine(
            runs=f"{given.runs} worlds of {_CUSTOMERS:,} customers, three opportunities each, {_CONTROL:.0%} control",
            refuses=f"below {LEAST_EFFECTIVE} effective customers",
        )
        title = "# Can a policy be judged by another one's log?\n\n`python -m bench.off_policy --write`."
        write("off_policy", {"about": facts, "found": found}, f"{title}\n\n{about(facts)}\n{said}")
    if any(value < LEAST_COVERED for name, value in found.items() if name.startswith(("covers", "refused"))):
        raise SystemExit("missed")


if __name__ == "__main__":
    main()
