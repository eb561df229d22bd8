"""Whether the figures are right where the truth is known: real baskets, put in and taken out as customers react.

The real engine decides, with and without the slot, and the report's own figures are held against what truly happened.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, NamedTuple

from bench.engine import DEFINITIONS
from bench.harness.machine import ROOT
from orchestrator.definitions.catalogue import CATALOGUE
from orchestrator.demo.injected import Arrived, Change, Reacted, Reaction, by_customer, react, read
from orchestrator.demo.world import World
from orchestrator.events import DAY
from orchestrator.learning.intervals import Interval
from orchestrator.learning.program import Ledger, fill, whole_program
from orchestrator.learning.uplift import compare, segments, whole
from orchestrator.program import Definitions, Program
from orchestrator.records import to_record
from orchestrator.reference import Reference
from orchestrator.runtime.definitions_folder import load_folder

MONTH = 30 * DAY

TWO = ROOT / "bench" / "definitions" / "two_at_once"

RETAIL: Mapping[str, Reaction] = {
    "cart_rescue": Reaction(brings_bp=2_000),
    "winback_recommendations": Reaction(brings_bp=3_000, thins_bp=500),
    "reorder_reminder": Reaction(brings_bp=800, thins_bp=400, clicks_bp=1_500),
    "subscribe_and_save": Reaction(brings_bp=1_000),
    "birthday_offer": Reaction(thins_bp=2_500),
}
"""Some work, one does harm, and one moves as much away as it brings."""

CHAIN: Mapping[str, Reaction] = {
    "cart_rescue": Reaction(brings_bp=2_000, clicks_bp=8_000),
    "come_back": Reaction(brings_bp=6_000),
}
"""Whoever is reminded of the cart often clicks, and a click is what the other campaign waits for."""


@dataclass(frozen=True)
class Households:
    """Real households with a year around them."""

    reference: Reference
    lives: Mapping[str, Sequence[Arrived]]
    until: int

    @classmethod
    def of(cls, households: int) -> Households:
        """Return the first so many."""
        world = World(1, households)
        reference, arrivals = read(world)
        return cls(reference, by_customer(arrivals), world.ends_at)

    def react(self, definitions: Sequence[Definitions], reactions: Mapping[str, Reaction], salt: str) -> Reacted:
        """Let them live through the year and react, under one draw of everything."""
        programs = [Program(one, CATALOGUE.topic_by_event) for one in definitions]
        return react(self.lives, programs, self.reference, reactions, self.until, salt)


@dataclass(frozen=True)
class Bias:
    """How far estimates are from the truth, minor units per window: one error per seed."""

    truth: float
    errors: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The bias."""
        return statistics.fmean(self.errors)

    @property
    def error(self) -> float:
        """Its standard error."""
        return statistics.stdev(self.errors) / sqrt(len(self.errors))

    @property
    def worst(self) -> float:
        """The error of the seed that is furthest off."""
        return max(self.errors, key=abs)


def slot(people: Households, seeds: int) -> dict[str, Bias]:
    """Return the bias of the first of two campaigns, with the slot, and where neither knows of the other."""
    both = load_folder(TWO)
    alone = [replace(both, campaigns={name: campaign}) for name, campaign in both.campaigns.items()]
    return {
        name: _bias([people.react(definitions, CHAIN, f"{seed}") for seed in range(seeds)])
        for name, definitions in (("with the slot", [both]), ("without it", alone))
    }


def _bias(reacted: Sequence[Reacted]) -> Bias:
    truths, errors = [], []
    for one in reacted:
        outcomes = _outcomes(one)
        found = next(each for each in compare(outcomes).campaigns if each.campaign == "cart_rescue")
        truths.append(one.truth(outcomes)["cart_rescue", ""])
        assert found.difference is not None, "too few households"
        errors.append(found.difference.mean - truths[-1])
    return Bias(statistics.fmean(truths), tuple(errors))


class Look(NamedTuple):
    """What was known of something at one time, and what was true of it then."""

    interval: Interval
    truth: float

    @property
    def held(self) -> bool:
        """Whether the interval holds the truth."""
        return self.interval.low <= self.truth <= self.interval.high


@dataclass
class Coverage:
    """How many intervals there were, and how many held the truth whenever somebody looked."""

    intervals: int = 0
    held: int = 0
    truth: float = 0.0
    widths: float = 0.0

    def add(self, last: Look, held: bool) -> None:
        """Count an interval by how it came to be at last, and whether it held the truth at every look."""
        self.intervals += 1
        self.held += held
        self.truth += last.truth
        self.widths += last.interval.high - last.interval.low

    @property
    def share(self) -> float:
        """How many of them held it."""
        return self.held / self.intervals


def semi_synthetic(people: Households, seeds: int) -> tuple[dict[str, Coverage], list[Coverage]]:
    """Return how often the shipped pack's intervals hold the truth at the end of every month: by name, and by seed.

    There is one per campaign, per segment of one, and for the program as a whole at the end of the year.
    """
    retail = load_folder(DEFINITIONS)
    definitions = replace(retail, policy=replace(retail.policy, by=("value_tier",)))
    by_name: defaultdict[str, Coverage] = defaultdict(Coverage)
    by_seed = []
    for seed in range(seeds):
        by_seed.append(Coverage())
        reacted = people.react([definitions], RETAIL, f"{seed}")
        looks: defaultdict[str, list[Look]] = defaultdict(list)
        for name, look in _looks(definitions, people, reacted, f"{seed}"):
            looks[name].append(look)
        for name, found in looks.items():
            held = all(look.held for look in found)
            by_name[name].add(found[-1], held)
            by_seed[-1].add(found[-1], held)
    return dict(sorted(by_name.items())), by_seed


def _looks(definitions: Definitions, people: Households, reacted: Reacted, salt: str) -> Iterator[tuple[str, Look]]:
    outcomes = _outcomes(reacted)
    began = min(outcome["window_from"] for outcome in outcomes)
    for until in range(began + MONTH, people.until + MONTH, MONTH):
        known = [outcome for outcome in outcomes if outcome["window_until"] <= until]
        for groups in (whole, segments):
            truths = reacted.truth(known, groups)
            for one in compare(known, groups=groups).campaigns:
                if one.difference is not None:
                    name = f"{one.campaign}, {one.group}" if one.group else one.campaign
                    yield name, Look(one.difference, truths[one.campaign, one.group])
    customers = [f"{salt}/{customer}" for customer in people.lives]
    earned, changed = (
        whole_program(_ledger(customers, of, outcomes), definitions.policy, began, people.until).against_none
        for of in (reacted.orders, reacted.changes)
    )
    if earned is not None and earned.difference is not None:
        assert changed is not None and changed.treatment.interval is not None
        yield "all against the hold-out", Look(earned.difference, changed.treatment.interval.mean)


def _ledger(customers: Sequence[str], money: Sequence[Change], outcomes: Sequence[dict[str, Any]]) -> Ledger:
    ledger = Ledger(known=set(customers))
    for number, (customer, at, margin) in enumerate(money):
        ledger.book(str(number), customer, at, margin)
    fill(ledger, outcomes, net=False)
    return ledger


def _outcomes(reacted: Reacted) -> list[dict[str, Any]]:
    return [to_record(outcome) for outcomes in reacted.outcomes for outcome in outcomes]
