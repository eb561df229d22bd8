"""What learning is worth in a market whose truth is known: the short version of `make simulate`."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from orchestrator.learning.outcomes import Outcomes
from orchestrator.learning.plan import plan
from orchestrator.simulate.drive import Year, live
from orchestrator.simulate.oracles import MYOPIC, SEGMENT, oracle
from orchestrator.simulate.pack import definitions_of
from orchestrator.simulate.world import People, World, people_of, worlds
from orchestrator.valuation import PolicySnapshot

SEED = 1
WORLD = replace(worlds()["shop"], days=300)


@pytest.fixture(scope="module")
def people() -> People:
    """Return few people, who are enough to see who is better."""
    return people_of(WORLD, SEED, 800)


@pytest.fixture(scope="module")
def best(people: People) -> Year:
    """Return what can be had with the truth by segment."""
    return with_truth(WORLD, people, SEGMENT)


@pytest.fixture(scope="module")
def ours(people: People) -> Year:
    """Return what is had by learning alone."""
    definitions = definitions_of(WORLD)

    def planner(outcomes: Outcomes, now: int) -> PolicySnapshot:
        return plan(outcomes, definitions, now, now)

    return live(WORLD, people, SEED, definitions, planner=planner)


@pytest.fixture(scope="module")
def manual(people: People) -> Year:
    """Return what a plausible list of priorities makes of it."""
    return live(WORLD, people, SEED, definitions_of(WORLD, method="priority", measured=False))


def with_truth(world: World, people: People, kind: str) -> Year:
    """Return the year of somebody who knows the truth."""
    return live(world, people, SEED, definitions_of(world, measured=False), snapshot=oracle(world, kind, 150))


def test_learning_earns_more_than_a_list_of_priorities(ours: Year, manual: Year) -> None:
    """With as few as eight hundred customers, within ten months, the control groups' cost counted."""
    assert ours.value.sum() > 1.5 * manual.value.sum()


def test_what_is_learned_gets_better(ours: Year, best: Year) -> None:
    """The last hundred days come nearer to what the truth would earn than the first."""
    share = [found / possible for found, possible in zip(thirds(ours), thirds(best), strict=True)]

    assert share[2] > share[0]
    assert share[2] > 0.4
    assert min(thirds(ours)[1:]) > 0, "never below sending nothing, after a beginning"


def test_nobody_beats_the_truth(ours: Year, best: Year, people: People) -> None:
    """Who knows what is true of a segment, and what follows, earns more than who does not look ahead, or learns."""
    myopic = with_truth(WORLD, people, MYOPIC)

    assert best.value.sum() > myopic.value.sum()
    assert best.value.sum() > ours.value.sum()


def test_control_stays_large_until_enough_is_known(ours: Year) -> None:
    """Above its floor by far while outcomes of control are few; and 5 % explore for sixty days."""
    assert len(ours.snapshots) > 30
    for snapshot in ours.snapshots[:8]:
        assert snapshot.explore_bp == 500
    shares = [arm.control_bp for one in ours.snapshots for leaf in one.leaves.values() for arm in leaf.arms.values()]
    assert min(shares) >= 300
    assert fmean(shares) >= 1_000


def thirds(year: Year) -> list[float]:
    """Return what each third of a year was worth."""
    return [float(part.sum()) for part in np.array_split(year.value, 3)]
