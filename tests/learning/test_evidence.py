"""What outcomes say, before anything is pooled: who buys much owes nothing of it to treatment, and varies much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from orchestrator.events import DAY
from orchestrator.identity import identify
from orchestrator.learning.evidence import Evidence, evidence_of, half_life_weights
from orchestrator.learning.outcomes import Outcomes
from tests.learning.test_plan import NOW, outcome

ARMS = ("a@email",)


def shop(each: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield outcomes that nobody owes to treatment, in a leaf that buys little and in one that buys much.

    Twelve weeks of a customer say little about the next four; what is known of control is little where much is bought.
    """
    chance = np.random.default_rng(seed)
    for leaf, mean, held_back in (("g=1", 300.0, 2), ("g=2", 1_500.0, 25)):
        for number in range(each):
            usual = chance.gamma(2.0, mean / 2)
            yield outcome(
                number, "a", outcome_id=identify(leaf, number, seed), leaf=leaf, customer_id=f"{leaf}-{number}",
                arm="treatment" if number % held_back else "control",
                margin=int(chance.gamma(0.5, 2 * usual)), earned_before=int(chance.gamma(1.5, 2 * usual)),
                start=NOW - 60 * DAY, window_until=NOW - 32 * DAY,
            )  # fmt: skip


def evidence(records: Iterator[dict[str, Any]], *, own_history: bool = True) -> Evidence:
    """Return the evidence by [arm, leaf] of what was seen until now; leaf 0 is everybody who is in none."""
    columns = Outcomes(records).as_of(NOW, ["a"], ARMS)
    return evidence_of(columns, half_life_weights(columns, NOW, 180 * DAY), [0.1], own_history=own_history)


def test_what_a_leaf_buys_anyway_is_explained_by_its_history() -> None:
    """Control of a leaf that buys five times as much comes near to control of the other once explained."""
    explained, plain = (evidence(shop(4_000, 1), own_history=own).mean[0][0] for own in (True, False))

    assert plain[2] - plain[1] > 1_000
    assert abs(explained[2] - explained[1]) < 250


def test_history_explains_no_uplift_away() -> None:
    """Treatment less control is what it was, over many worlds, in each leaf."""
    found = [evidence(shop(2_000, seed)) for seed in range(40)]
    uplifts = np.array([one.mean[1][0, 1:] - one.mean[0][0, 1:] for one in found])
    errors = uplifts.std(axis=0) / np.sqrt(len(uplifts))

    assert (np.abs(uplifts.mean(axis=0)) < 3 * errors).all()


def test_a_leaf_whose_customers_differ_much_is_known_less_well() -> None:
    """What is said to be unknown is what differs from world to world, where much is bought and where little is."""
    found = [evidence(shop(2_000, seed)) for seed in range(40)]
    uplifts = np.array([one.mean[1][0, 1:] - one.mean[0][0, 1:] for one in found])
    said = np.sqrt(np.mean([one.variance[0][0, 1:] + one.variance[1][0, 1:] for one in found], axis=0))

    assert said[1] > 5 * said[0]
    assert (np.abs(said / uplifts.std(axis=0) - 1) < 0.35).all()
