"""`World`: what is true in a simulated market, and `People`: its customers and what happens to them anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import cos, pi
from typing import Any

import numpy as np
import yaml

from orchestrator.events import DAY
from orchestrator.learning.outcomes import Array
from orchestrator.learning.posterior import generator

START = 1_488_326_400_000
"""The instant of the first day, 1 March 2017 in UTC, milliseconds."""

BIRTHDAY = "birthday"
"""The campaign whose moment is a date known to come; all others' come by chance."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a campaign: money in minor units, one value per persona where there is a list.

    An extra order comes with some `chance` in the window, a `click` without one; `after` names the campaign that must
    have been responded to.
    """

    name: str
    window: int
    lasts: int
    cost: int
    margin: int
    a_year: float
    unsubscribes: float
    priority: int
    chance: tuple[float, ...]
    click: tuple[float, ...]
    after: str = ""
    leads_to: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """One market: personas by their place, campaigns by name, and how time goes in it."""

    name: str
    days: int
    history: int
    swing: float
    peak: int
    unsubscribe_costs: int
    personas: tuple[str, ...]
    shares: tuple[float, ...]
    orders: tuple[float, ...]
    margins: tuple[float, ...]
    segments: int
    noise: float
    rate_shape: float
    value_spread: float
    order_spread: float
    campaigns: Mapping[str, Truth]
    hindsight: Sequence[str]
    """The best fixed list of priorities, found with the truth (`orchestrator simulate --find-list`)."""
    seeds: Mapping[str, Sequence[int]]

    def season(self, day: float) -> float:
        """Return how much more than usual is bought on a day."""
        return 1 + self.swing * cos(2 * pi * (day - self.peak) / 365)

    def uplift(self, campaign: str, persona: int, day: float) -> float:
        """Return what a campaign earns with a persona beyond nothing, net of what it costs, minor units."""
        truth = self.campaigns[campaign]
        lost = truth.unsubscribes * self.unsubscribe_costs
        return truth.chance[persona] * self.season(day) * truth.margin - truth.cost - lost

    def advances(self, campaign: str, persona: int) -> float:
        """Return the chance that somebody responds in the window: by an extra order, a click, or an order anyway."""
        truth = self.campaigns[campaign]
        usual = self.orders[persona] * truth.window / (365 * DAY)
        anyway = 1 - (1 + usual / self.rate_shape) ** -self.rate_shape
        return float(1 - (1 - truth.chance[persona]) * (1 - truth.click[persona]) * (1 - anyway))

    def mixture(self) -> Array:
        """Return how probable each persona is in each segment, [segment, persona]."""
        joint = np.full((self.segments, len(self.personas)), self.noise / self.segments)
        for persona in range(len(self.personas)):
            for segment in self.homes(persona):
                joint[segment, persona] += (1 - self.noise) / 2
        joint *= np.array(self.shares)
        mixture: Array = joint / joint.sum(axis=1, keepdims=True)
        return mixture

    def homes(self, persona: int) -> tuple[int, int]:
        """Return the two segments that most of a persona are in."""
        return 2 * persona % self.segments, (2 * persona + 1) % self.segments


@dataclass(frozen=True, slots=True)
class People:
    """Everybody in a world, and what happens to them whatever we do: sorted by time, instants in milliseconds.

    `birth` is the day of the year, from the world's first day; orders have a margin, signals the place of a campaign
    whose moment begins.
    """

    persona: Array
    segment: Array
    birth: Array
    order_time: Array
    order_by: Array
    order_margin: Array
    signal_time: Array
    signal_by: Array
    signal_of: Array

    def __len__(self) -> int:
        return len(self.persona)


def worlds() -> dict[str, World]:
    """Return the worlds that are pinned in `worlds.yaml`, by name."""
    text = files("orchestrator.simulate").joinpath("worlds.yaml").read_text()
    return {name: _world(name, one) for name, one in yaml.safe_load(text)["worlds"].items()}


def _world(name: str, record: Mapping[str, Any]) -> World:
    personas: Mapping[str, Mapping[str, float]] = record["personas"]
    people = record["people"]
    return World(
        name,
        record["days"],
        record["history"],
        record["season"]["swing"],
        record["season"]["peak"],
        _cents(record["unsubscribe_costs"]),
        tuple(personas),
        tuple(one["share"] for one in personas.values()),
        tuple(one["orders"] for one in personas.values()),
        tuple(one["margin"] * 100 for one in personas.values()),
        record["segments"]["count"],
        record["segments"]["noise"],
        people["rate_shape"],
        people["value_spread"],
        people["order_spread"],
        {campaign: _truth(campaign, one) for campaign, one in record["campaigns"].items()},
        record["hindsight"],
        record["seeds"],
    )


def _truth(name: str, record: Mapping[str, Any]) -> Truth:
    return Truth(
        name,
        record["window"] * DAY,
        record["lasts"] * DAY,
        _cents(record["cost"]),
        _cents(record["margin"]),
        record.get("a_year", 1.0),
        record["unsubscribes"],
        record["priority"],
        tuple(record["chance"]),
        tuple(record["click"]),
        record.get("after", ""),
        record.get("leads_to", ""),
    )


def _cents(amount: float) -> int:
    return round(amount * 100)


def people_of(world: World, seed: int, count: int) -> People:
    """Return the people of a world: the same for the same seed and count, whatever is done with them."""
    chance = generator("people", world.name, str(seed), str(count))
    personas = len(world.personas)
    persona = chance.choice(personas, count, p=np.array(world.shares) / sum(world.shares))
    homes = np.array([world.homes(one) for one in range(personas)])[persona, chance.integers(0, 2, count)]
    segment = np.where(chance.random(count) < world.noise, chance.integers(0, world.segments, count), homes)
    birth = chance.integers(0, 365, count)
    rate = np.array(world.orders)[persona] / 365 * chance.gamma(world.rate_shape, 1 / world.rate_shape, count)
    spread = world.value_spread
    value = np.array(world.margins)[persona] * np.exp(chance.normal(0, spread, count) - spread**2 / 2)

    days = world.history + world.days
    most = 1 + world.swing
    by, at = _happen(chance, np.tile(rate * most, 1), -world.history, days)
    kept = chance.random(len(by)) * most < 1 + world.swing * np.cos(2 * np.pi * (at - world.peak) / 365)
    by, at = by[kept], at[kept]
    spread = world.order_spread
    margin = value[by] * np.exp(chance.normal(0, spread, len(by)) - spread**2 / 2)
    order = np.lexsort((by, at))

    told = []
    for number, truth in enumerate(world.campaigns.values()):
        if truth.name != BIRTHDAY:
            who, when = _happen(chance, np.full(count, truth.a_year / 365), 0, world.days)
            told.append((when, who, np.full(len(who), number)))
    when, who, which = (np.concatenate(parts) for parts in zip(*told, strict=True))
    signal = np.lexsort((which, who, when))
    return People(
        persona, segment, birth, _instants(at[order]), by[order], np.maximum(np.rint(margin[order]), 1).astype(int),
        _instants(when[signal]), who[signal], which[signal],
    )  # fmt: skip


def _happen(chance: np.random.Generator, rate: Array, first: int, days: int) -> tuple[Array, Array]:
    """Return who something happens to and on which day, at a rate per day for each."""
    by = np.repeat(np.arange(len(rate)), chance.poisson(rate * days))
    return by, first + chance.random(len(by)) * days


def _instants(day: Array) -> Array:
    instants: Array = START + (day * DAY).astype(np.int64)
    return instants
