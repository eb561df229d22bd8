"""Customers who react to campaigns, with the truth known: real lives, with real baskets put in or taken out by hash.

The demo's year cannot react to a message, so the true uplift of every campaign there is 0. Here the engine decides over
the same real baskets, and when a message goes out, another of the household's own baskets is put into its window, or
the next real one is taken out of it. Nothing else is invented: amounts are as uneven, weeks as seasonal and customers
as different as they are. What a window gained or lost by its message is written down, so a measured uplift can be held
against the truth.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from operator import itemgetter

import msgspec

from orchestrator.backtest.steps import BARRIER_EVERY, EvenSteps
from orchestrator.definitions.catalogue import CATALOGUE
from orchestrator.demo.feed import PRODUCTS
from orchestrator.demo.world import World
from orchestrator.events import CLICKED, HOUR, ORDERED, PROFILE, Event
from orchestrator.identity import draw, identify, pick
from orchestrator.learning.uplift import Groups, Outcome, measured, newest_of, whole
from orchestrator.program import Program
from orchestrator.records import CampaignOutcome, Trigger
from orchestrator.reference import Reference, product_of
from orchestrator.simulation import Simulation

Arrived = tuple[int, Event]
"""When an event arrives, milliseconds, and the event."""

Brings = Callable[[Trigger], Iterable[Event]]
"""Returns what a message makes its customer do, within the message's window."""

Change = tuple[str, int, int]
"""A customer, an instant, and the margin that came or went with an order."""

_WHOLE = 10_000


@dataclass(frozen=True, slots=True)
class Reaction:
    """How customers react to a campaign's messages: the shares, basis points, that order once more, that order once
    less, and that click.
    """

    brings_bp: int = 0
    thins_bp: int = 0
    clicks_bp: int = 0


NONE = Reaction()
"""How customers react to a campaign that nobody says anything of: not at all."""


@dataclass(slots=True)
class Reacted:
    """What the engine made of customers who react: outcomes by the place of their program, and what is true of them.

    `effects` has what each treated window gained by its messages, minor units of margin, by the id of its decision; a
    window without an entry gained nothing. `orders` are all that happened, `changes` what messages added to them and
    took away: customer, instant and margin.
    """

    outcomes: list[list[CampaignOutcome]] = field(default_factory=list)
    effects: dict[str, int] = field(default_factory=dict)
    orders: list[Change] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def truth(self, outcomes: Iterable[Outcome], groups: Groups = whole) -> dict[tuple[str, str], float]:
        """Return what each group of a campaign's windows truly gained per treated one, of those that are measured."""
        gained: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for outcome in measured(newest_of(outcomes)):
            if outcome["arm"] == "treatment":
                for group in groups(outcome):
                    gained[outcome["campaign"], group].append(self.effects.get(outcome["outcome_id"], 0))
        return {group: sum(found) / len(found) for group, found in sorted(gained.items())}


def read(world: World) -> tuple[Reference, list[Arrived]]:
    """Return a world's products and its events in the order in which they arrive."""
    reference, arrivals = Reference(), []
    places = {topic: place for place, topic in enumerate(CATALOGUE.topics)}
    for offset, (at, topic, key, record) in enumerate(world.stream()):
        if topic == PRODUCTS:
            reference.put(product_of(record))
            continue
        name = record.get("event", PROFILE)
        instant = record["updated_at"] if name == PROFILE else record["event_time"]
        event_id = record.get("event_id", "")
        arrivals.append((at, Event(name, key, instant, event_id, places.get(topic, len(places)), offset, record)))
    return reference, arrivals


def by_customer(arrivals: Iterable[Arrived]) -> dict[str, list[Arrived]]:
    """Return each customer's events, in the order in which they arrive."""
    found: defaultdict[str, list[Arrived]] = defaultdict(list)
    for at, event in arrivals:
        found[event.customer].append((at, event))
    return dict(found)


def react(
    lives: Mapping[str, Sequence[Arrived]],
    programs: Sequence[Program],
    reference: Reference,
    reactions: Mapping[str, Reaction],
    until: int,
    salt: str,
) -> Reacted:
    """Let every customer live through their events and react to messages, with engines side by side that all see it.

    Another salt is another draw of everything: of control groups, and of who reacts to what.
    """
    found = Reacted([[] for _ in programs])
    for customer, arrivals in sorted(lives.items()):
        name = f"{salt}/{customer}"
        own = [(at, msgspec.structs.replace(event, customer=name)) for at, event in arrivals]
        baskets = [event for _, event in own if event.name == ORDERED]
        one = Life(programs, reference, own, until)
        one.run(partial(_brings, baskets, reactions), partial(_thins, reactions))
        for place, engine in enumerate(one.engines):
            found.outcomes[place] += engine.outcomes
        found.effects.update(one.effects)
        found.orders += one.orders
        found.changes += one.changes
    return found


def _brings(baskets: Sequence[Event], reactions: Mapping[str, Reaction], trigger: Trigger) -> Iterator[Event]:
    """Yield the click and the order that a message brings, the order as one of the household's own baskets."""
    reaction = reactions.get(trigger.campaign, NONE)
    if draw("clicks", trigger.trigger_id) < reaction.clicks_bp:
        click = identify("clicked", trigger.trigger_id)
        data = {"event_id": click, "campaign": trigger.campaign, "trigger_id": trigger.trigger_id, "machine": False}
        yield Event(CLICKED, trigger.customer_id, trigger.decided_at + HOUR, click, data=data)
    if not baskets or draw("brings", trigger.trigger_id) >= reaction.brings_bp:
        return
    basket = baskets[pick("basket", len(baskets), trigger.trigger_id)]
    order_id = identify("brought", trigger.trigger_id)
    # Mostly early in the window and never in its last hour, so that the whole order is of this window.
    late = draw("late", trigger.trigger_id) ** 2
    at = trigger.decided_at + HOUR + (trigger.window_until - trigger.decided_at - 2 * HOUR) * late // _WHOLE**2
    data = {**basket.data, "event_id": order_id, "event_time": at, "order_id": order_id, "cart_id": None}
    yield msgspec.structs.replace(basket, id=order_id, time=at, data=data)


def _thins(reactions: Mapping[str, Reaction], trigger: Trigger) -> bool:
    return draw("thins", trigger.trigger_id) < reactions.get(trigger.campaign, NONE).thins_bp


class Life:
    """One customer's events through engines that decide side by side, with what their messages bring about.

    More than one engine is what there would be without a slot: campaigns that do not know of each other.
    """

    def __init__(
        self, programs: Sequence[Program], reference: Reference, arrivals: Sequence[Arrived], until: int
    ) -> None:
        self.engines = [Simulation(program, reference) for program in programs]
        self.effects: defaultdict[str, int] = defaultdict(int)
        self.orders: list[Change] = []
        self.changes: list[Change] = []
        relevant = frozenset[str]().union(*(program.relevant for program in programs))
        self._arrivals = [one for one in arrivals if one[1].name in relevant]
        self._until = until
        self._brought: list[tuple[int, str, Event]] = []
        self._thinned: list[tuple[int, str]] = []
        self._sent = [0] * len(programs)

    def run(self, brings: Brings, thins: Callable[[Trigger], bool]) -> None:
        """Live until the end; `thins` says whether a message makes the next order of its window not happen."""
        steps, at = EvenSteps(BARRIER_EVERY), 0
        while True:
            due = min(engine.next_due for engine in self.engines)
            coming = min(
                [due, *(one[0] for one in self._arrivals[at : at + 1]), *(one[0] for one in self._brought[:1])]
            )
            if coming > self._until:
                break
            barrier = max(steps.at(coming), *(engine.clock for engine in self.engines))
            end = bisect_left(self._arrivals, barrier + 1, lo=at, key=itemgetter(0))
            self._feed([event for _, event in self._arrivals[at:end]], barrier)
            at = end
            for place, engine in enumerate(self.engines):
                engine.advance(barrier)
                for trigger in engine.triggers[self._sent[place] :]:
                    if trigger.action in ("send", "add"):
                        self._follow(trigger, engine, brings, thins(trigger))
                self._sent[place] = len(engine.triggers)
        for engine in self.engines:
            engine.advance(max(engine.clock, self._until))

    def _feed(self, events: Iterable[Event], barrier: int) -> None:
        """Let what has arrived arrive, without the orders that messages kept from happening."""
        kept = []
        for event in events:
            if event.name == ORDERED:
                self._thinned = [one for one in self._thinned if one[0] > event.time]
                if self._thinned:
                    _, decision_id = self._thinned.pop(0)
                    self.effects[decision_id] -= _margin(event)
                    self.changes.append((event.customer, event.time, -_margin(event)))
                    continue
            kept.append(event)
        while self._brought and self._brought[0][0] <= barrier:
            kept.append(heappop(self._brought)[2])
        self.orders += [(event.customer, event.time, _margin(event)) for event in kept if event.name == ORDERED]
        for engine in self.engines:
            engine.feed(*kept)

    def _follow(self, trigger: Trigger, engine: Simulation, brings: Brings, thins: bool) -> None:
        """Let a message have its effects, and write down what they are worth in the window it belongs to."""
        held = engine.active.get(trigger.customer_id)
        decision_id = trigger.decision_id if held is None else held.decision_id
        for event in brings(trigger):
            at = max(event.time, engine.clock + 1)
            if event.name == ORDERED and at < trigger.window_until:
                self.effects[decision_id] += _margin(event)
                self.changes.append((event.customer, at, _margin(event)))
            heappush(self._brought, (at, event.id, msgspec.structs.replace(event, time=at)))
        if thins:
            self._thinned.append((trigger.window_until, decision_id))


def _margin(order: Event) -> int:
    return sum(int(line["margin"]) for line in order.data["lines"])
