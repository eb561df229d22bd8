"""The worlds: valid definitions, people who are the same for a seed, and what is true of them by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.definitions.load import load
from orchestrator.events import DAY
from orchestrator.simulate.drive import live
from orchestrator.simulate.pack import catalogue_of, definitions_of, texts_of
from orchestrator.simulate.world import START, World, people_of, worlds

SHOP = worlds()["shop"]


@pytest.mark.parametrize("name", list(worlds()))
def test_a_world_is_a_pack_that_loads(name: str) -> None:
    """Written in YAML as a marketer there would write it, with nothing to complain about."""
    world = worlds()[name]

    definitions, problems = load(texts_of(world), catalogue_of(world))

    assert [str(problem) for problem in problems] == []
    assert definitions is not None
    assert set(definitions.campaigns) == set(world.campaigns)


@pytest.mark.parametrize("name", list(worlds()))
def test_a_world_is_complete(name: str) -> None:
    """Everybody is somebody, every campaign has a value for each persona, and lists name campaigns that there are."""
    world = worlds()[name]

    assert sum(world.shares) == pytest.approx(1)
    assert np.allclose(world.mixture().sum(axis=1), 1)
    assert set(world.hindsight) <= set(world.campaigns)
    assert min(map(len, world.seeds.values())) >= 8
    for truth in world.campaigns.values():
        assert len(truth.chance) == len(truth.click) == len(world.personas)
        assert {truth.after, truth.leads_to} <= {"", *world.campaigns}


def test_people_are_the_same_for_a_seed() -> None:
    """And others for another."""
    first, again, other = people_of(SHOP, 1, 50), people_of(SHOP, 1, 50), people_of(SHOP, 2, 50)

    assert np.array_equal(first.order_time, again.order_time)
    assert np.array_equal(first.persona, again.persona)
    assert not np.array_equal(first.order_time[:50], other.order_time[:50])


def test_people_are_who_the_world_says() -> None:
    """Shares of personas, how often they order, and in which segments they are."""
    people = people_of(SHOP, 1, 20_000)
    years = (SHOP.days + SHOP.history) / 365

    for persona in range(len(SHOP.personas)):
        those = people.persona == persona
        assert those.mean() == pytest.approx(SHOP.shares[persona], abs=0.01)
        orders = np.bincount(people.order_by, minlength=len(people))[those].mean() / years
        assert orders == pytest.approx(SHOP.orders[persona], rel=0.1)
        at_home = np.isin(people.segment[those], SHOP.homes(persona)).mean()
        assert at_home == pytest.approx(1 - SHOP.noise + SHOP.noise * 2 / SHOP.segments, abs=0.02)
    assert people.order_time.min() < START < people.order_time.max() < START + SHOP.days * DAY


def test_what_is_true_of_a_campaign_can_be_checked_by_hand() -> None:
    """`clearance` costs 5.00, sells to 60 % of the bargain hunters for 22.00, and 1.2 % leave, which costs 5.00."""
    bargain = SHOP.personas.index("bargain")
    still = replace(SHOP, swing=0.0)

    assert still.uplift("clearance", bargain, 10) == pytest.approx(0.60 * 2200 - 500 - 0.012 * 500)
    assert SHOP.uplift("clearance", bargain, SHOP.peak) == pytest.approx(1.25 * 0.60 * 2200 - 500 - 0.012 * 500)


def test_whoever_sends_nothing_earns_nothing() -> None:
    """What counts is what is earned beyond it."""
    short = shorter(SHOP, 20)
    nothing = replace(definitions_of(short, method="priority"), campaigns={})

    year = live(short, people_of(short, 1, 40), 1, nothing)

    assert not year.value.any()
    assert not year.sent


def test_a_year_is_the_same_when_it_is_lived_again() -> None:
    """And its value is what is true of the decisions that were made."""
    short = shorter(SHOP, 40)
    definitions = definitions_of(short, method="priority")
    people = people_of(short, 1, 60)

    first, again = (live(short, people, 1, definitions, keep=True) for _ in range(2))

    assert first.value.any()
    assert first.outcomes == again.outcomes
    assert np.array_equal(first.value, again.value)
    assert float(first.value.sum()) == pytest.approx(sum(first.truths.values()))
    assert sum(first.held_back.values()) == pytest.approx(0.2 * sum(first.sent.values()) / 0.8, rel=0.5)


def shorter(world: World, days: int) -> World:
    """Return a world whose year ends after some days."""
    return replace(world, days=days, history=28)
