"""What arms may earn, as draws: in any currency, and as unsure as few arms and few outcomes leave it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from orchestrator.events import DAY
from orchestrator.identity import identify
from orchestrator.learning.evidence import Evidence, evidence_of, half_life_weights
from orchestrator.learning.outcomes import Array, Outcomes
from orchestrator.learning.posterior import Posterior, posterior_of
from tests.learning.test_plan import NOW, outcome, world


def known(records: Iterator[dict[str, Any]], names: list[str]) -> Evidence:
    """Return what outcomes say of campaigns by name."""
    columns = Outcomes(records).as_of(NOW, names, [f"{name}@email" for name in names])
    return evidence_of(columns, half_life_weights(columns, NOW, 180 * DAY), [0.2] * len(names))


def drawn(records: Iterator[dict[str, Any]], names: list[str], draws: int = 200) -> Posterior:
    """Return the posterior of campaigns by name."""
    return posterior_of(known(records, names), [f"{name}@email" for name in names], {}, draws, "seed")


def test_a_currency_that_counts_in_thousands_tells_the_same() -> None:
    """Money times so much is uplift times so much, where some arms met nobody in some leaves, too."""
    uplift = {("a", "g=1"): 300.0, ("a", "g=2"): -100.0, ("b", "g=1"): 0.0, ("c", "g=2"): 500.0}
    records = list(world(uplift, each=120))
    dear = [
        {**one, "margin": one["margin"] * 16_384, "earned_before": one["earned_before"] * 16_384} for one in records
    ]
    names = ["a", "b", "c"]

    plain, large = drawn(iter(records), names), drawn(iter(dear), names)

    assert large.leaves / 16_384 == pytest.approx(plain.leaves, rel=1e-3, abs=1.0)
    assert large.deviation / 16_384 == pytest.approx(plain.deviation, rel=1e-3)


def test_few_arms_tell_little_of_what_arms_usually_earn() -> None:
    """What three arms that earn the same have in common is as unknown as it is, over many worlds."""
    inside = total = 0
    errors, said = [], []
    for seed in range(60):
        truth = float(np.random.default_rng(1_000 + seed).normal(0, 500))
        names = ["a", "b", "c"]
        found = drawn(world({(name, "g=1"): truth for name in names}, each=300, seed=seed, spread=4_000), names)
        means = found.leaves[:, 1].mean(axis=1)
        inside += int((np.abs(means - truth) < 1.96 * found.leaves[:, 1].std(axis=1)).sum())
        total += len(names)
        errors.append(means.mean() - truth)
        said.append(found.leaves[:, 1].mean(axis=0).std())

    assert inside / total >= 0.92
    assert np.mean(said) > 0.75 * np.std(errors)


def test_noise_is_told_apart_by_campaign() -> None:
    """A campaign that is measured over four weeks varies more than one over three days, and both are known to."""
    chance = np.random.default_rng(3)
    spreads = {"long": 6_000.0, "short": 1_000.0}
    records = [
        outcome(
            number, name, outcome_id=identify(name, number), leaf=f"g={number % 8}", customer_id=f"{number}",
            arm="control" if number % 10 == 0 else "treatment", margin=int(chance.normal(0, spread)),
        )
        for name, spread in spreads.items()
        for number in range(4_000)
    ]  # fmt: skip

    found: Array = known(iter(records), list(spreads)).spread

    assert found == pytest.approx(np.array(list(spreads.values())), rel=0.12)
