"""Drives the real engine through a world's year: events in, decisions out, responses drawn from what is true.

Chance is a hash of customer, campaign and instant, so that two policies which do the same see the same happen. What a
policy is worth is counted in what is true of its decisions, not in what happened to come of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from math import exp
from statistics import NormalDist
from struct import unpack
from typing import Any

import numpy as np

from orchestrator.events import CLICKED, DAY, HOUR, ORDERED, PROFILE, UNSUBSCRIBED, Event
from orchestrator.learning.outcomes import Array, Outcomes
from orchestrator.program import Definitions, Program
from orchestrator.records import Decision, to_record
from orchestrator.reference import Reference
from orchestrator.simulate.pack import BELONGS, catalogue_of, signal_of
from orchestrator.simulate.world import START, People, World
from orchestrator.simulation import Simulation
from orchestrator.valuation import PolicySnapshot

PLAN_EVERY = 7
"""Days between two plans."""

Planner = Callable[[Outcomes, int], PolicySnapshot | None]
"""From the outcomes so far and an instant to the snapshot that is in force from then on."""

_CLICKSTREAM, _PURCHASES, _ENGAGEMENT, _PROFILES = range(4)
_NORMAL = NormalDist()


@dataclass
class Year:
    """What a policy did in a year: true value per day, what was earned, and how often each campaign won."""

    value: Array
    earned: int = 0
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held_back: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    worth: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    truths: dict[str, float] = field(default_factory=dict)
    """The true value of each decision in treatment, by its id."""
    outcomes: list[Mapping[str, Any]] = field(default_factory=list)
    snapshots: list[PolicySnapshot] = field(default_factory=list)

    def quarters(self) -> list[float]:
        """Return the true value of each quarter."""
        return [float(part.sum()) for part in np.array_split(self.value, 4)]


def live(
    world: World,
    people: People,
    seed: int,
    definitions: Definitions,
    *,
    snapshot: PolicySnapshot | None = None,
    planner: Planner | None = None,
    by_persona: bool = False,
    keep: bool = False,
) -> Year:
    """Return a policy's year: a fixed snapshot, a planner that learns, or priorities alone; `keep` keeps outcomes."""
    reference = Reference()
    if snapshot is not None:
        reference.put_policy(snapshot)
    program = Program(definitions, catalogue_of(world).topic_by_event)
    market = _Market(world, people, seed, by_persona=by_persona)
    simulation = Simulation(program, reference, start=START - world.history * DAY)
    outcomes = Outcomes()
    for day in range(-world.history, world.days):
        clock = START + day * DAY
        if planner is not None and day > 0 and day % PLAN_EVERY == 0:
            found = planner(outcomes, clock)
            if found is not None:
                reference.put_policy(found)
                reference.forget(clock)
                market.year.snapshots.append(found)
        simulation.feed(*market.events(day))
        simulation.advance(clock + DAY)
        for decision in simulation.decisions:
            if decision.campaign is not None and decision.kind == "choice":
                market.answer(decision, clock + DAY)
        for outcome in simulation.outcomes:
            record = to_record(outcome)
            if planner is not None:
                outcomes.put(record)
            if keep:
                market.year.outcomes.append(record)
        for emitted in (simulation.decisions, simulation.triggers, simulation.outcomes):
            emitted.clear()
    return market.year


class _Market:
    """Customers who do what they would do anyway, and answer what they get as their persona does."""

    def __init__(self, world: World, people: People, seed: int, *, by_persona: bool) -> None:
        self.world, self.people, self.seed, self.by_persona = world, people, seed, by_persona
        self.year = Year(np.zeros(world.days))
        self.names = [f"c{number}" for number in range(len(people))]
        self.places = list(world.campaigns)
        self.coming: defaultdict[int, list[Event]] = defaultdict(list)
        self.started: set[tuple[int, str]] = set()
        self.orders = self._by_day(people.order_time)
        self.signals = self._by_day(people.signal_time)
        self.number = 0

    def events(self, day: int) -> Iterator[Event]:
        """Yield what happens on a day."""
        if day == 0:
            yield from self._everybody()
        people, world = self.people, self.world
        for place in self.orders(day):
            yield self._order(
                int(people.order_by[place]), int(people.order_time[place]), int(people.order_margin[place])
            )
        for place in self.signals(day):
            who, campaign = int(people.signal_by[place]), self.places[people.signal_of[place]]
            after = world.campaigns[campaign].after
            # The wish for a next step comes to those who have taken the one before: nobody else could get it.
            if not after or (who, after) in self.started:
                yield self._event(signal_of(campaign), who, int(people.signal_time[place]), _CLICKSTREAM)
        yield from self.coming.pop(day, ())

    def answer(self, decision: Decision, now: int) -> None:
        """Let a customer answer what was decided for them, from an instant on."""
        campaign = str(decision.campaign)
        if decision.arm != "treatment":
            self.year.held_back[campaign] += 1
            return
        who = int(decision.customer_id[1:])
        world, truth, persona = self.world, self.world.campaigns[campaign], int(self.people.persona[who])
        day = (decision.decided_at - START) // DAY
        worth = world.uplift(campaign, persona, day)
        self.year.value[day] += worth
        self.year.sent[campaign] += 1
        self.year.worth[campaign] += worth
        self.year.truths[decision.decision_id] = worth
        self.year.earned -= truth.cost
        self.started.add((who, campaign))
        orders, clicks, leaves, when, size = self._chances(who, campaign, decision.decided_at)
        ends = decision.decided_at + truth.window
        if orders < truth.chance[persona] * world.season(day):
            spread = world.order_spread
            factor = exp(spread * _NORMAL.inv_cdf(min(max(size, 1e-9), 1 - 1e-9)) - spread**2 / 2)
            margin = max(round(truth.margin * factor), 1)
            self.year.earned += margin
            self._later(self._order(who, now + int(when * (ends - now)), margin))
        if clicks < truth.click[persona]:
            said = {"channel": "email", "campaign": campaign, "trigger_id": decision.trigger_id}
            self._later(self._event(CLICKED, who, min(now + HOUR, ends - 1), _ENGAGEMENT, said))
        if leaves < truth.unsubscribes:
            self.year.earned -= world.unsubscribe_costs
            self._later(
                self._event(UNSUBSCRIBED, who, min(now + 2 * HOUR, ends - 1), _ENGAGEMENT, {"channel": "email"})
            )

    def _chances(self, who: int, campaign: str, at: int) -> tuple[float, ...]:
        """Return five numbers from 0 to 1 that are the same for everybody who decides the same."""
        data = blake2b(f"{self.seed}/{who}/{campaign}/{at // DAY}".encode(), digest_size=40).digest()
        return tuple(number / 2**64 for number in unpack("<5Q", data))

    def _everybody(self) -> Iterator[Event]:
        consent = {"channel": "email", "purpose": "marketing", "granted": True, "at": START - DAY}
        for who, name in enumerate(self.names):
            born = datetime.fromtimestamp((START + int(self.people.birth[who]) * DAY) / 1000, UTC)
            yield Event(
                PROFILE, name, START, "", _PROFILES, 0,
                {"consents": [consent], "birth_date": f"1980-{born:%m-%d}", "time_zone": "UTC"},
            )  # fmt: skip
            group = f"p{self.people.persona[who]}" if self.by_persona else f"g{self.people.segment[who]:02}"
            yield self._event(BELONGS, who, START, _CLICKSTREAM, {"group": group})

    def _order(self, who: int, at: int, margin: int) -> Event:
        line = {"sku": "", "quantity": 1, "price": 2 * margin, "margin": margin}
        self.number += 1
        return self._event(
            ORDERED, who, at, _PURCHASES, {"order_id": f"o{self.number}", "lines": [line], "total": 2 * margin}
        )

    def _event(self, name: str, who: int, at: int, topic: int, data: dict[str, Any] | None = None) -> Event:
        return Event(name, self.names[who], at, "", topic, 0, data or {})

    def _later(self, event: Event) -> None:
        self.coming[(event.time - START) // DAY].append(event)

    def _by_day(self, time: Array) -> Callable[[int], range]:
        """Return what finds the places of a day's events."""
        days = np.arange(-self.world.history, self.world.days + 1)
        begins = np.searchsorted(time, START + days * DAY)
        first = -self.world.history

        def places(day: int) -> range:
            return range(int(begins[day - first]), int(begins[day - first + 1]))

        return places
