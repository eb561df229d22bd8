"""Moments that wait for a product's stock: whichever is told first, and however late within `disorder`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.customer import Customer
from orchestrator.definitions.load import load
from orchestrator.events import DAY, FOREVER, HOUR, MINUTE, SECOND, Event
from orchestrator.moments.stock import MAX_SKUS, awaited
from orchestrator.onlookers import MAX_REACHED, SWEEP_AT, Onlookers
from orchestrator.program import Program
from orchestrator.recall import hand_over, recall
from orchestrator.reference import Product, Reference
from orchestrator.simulation import Simulation
from tests.builders import ANA, TOPICS, ends, event, instant, line, order

TEXT = """
moments:
  - moment: nearly_gone
    say: "Looked at something that is nearly gone"
    key: sku
    either_order:
      of: [ { event: product.viewed }, { state: product.stock, between: [1, 10] } ]
      within: 24h
    unless: { event: order.placed, matching: sku, within: 30m }
    cancelled_by: { state: product.stock, equals: 0 }
    lasts: 12h
  - moment: fell_after
    say: "Looked, and then it fell"
    key: sku
    sequence:
      - { event: product.viewed }
      - { state: product.stock, between: [1, 10], within: 2h }
    lasts: 1h
one_at_a_time: { rest: 0d }
time: { disorder: { clickstream: 30s, purchases: 30s, products: 30s } }
"""
DISORDER = 30 * SECOND
START = instant("09:00")


def shop(*, round_trip: bool = True) -> Simulation:
    """Return a simulation with the moments above and no products."""
    definitions, problems = load({"x": TEXT})
    assert definitions is not None, problems
    return Simulation(Program(definitions, TOPICS), Reference(), start=START - HOUR, round_trip=round_trip)


def viewed(at: str | int, sku: str = "LAMP") -> Event:
    """Return a look at a product."""
    return event("product.viewed", at, sku=sku)


def stock(at: str | int, left: int, sku: str = "LAMP") -> Product:
    """Return what is left of a product from an instant on."""
    return Product(sku, at if isinstance(at, int) else instant(at), stock=left)


def lives(world: Simulation, moment: str = "nearly_gone") -> list[tuple[str, int, int]]:
    """Return key, opening and start of everything that opened, in order."""
    found = {(e.moment_key, e.opened_at, e.started_at) for e in ends(world) if e.moment == moment}
    customer = world.customers.get(ANA)
    if customer is not None:
        found |= {(key, one.due, one.started) for key, one in customer.instances(moment).items() if one.state == 1}
    return sorted(found)


class TestEitherOrder:
    """A look and a low stock, whichever comes first."""

    def test_a_look_and_then_the_stock_falls(self) -> None:
        """It opens half an hour after the stock fell, for who had looked."""
        world = shop()
        world.feed(viewed("09:00"))
        world.advance(instant("09:30"))
        world.reference.put(stock("10:00", 6))
        world.advance(instant("11:00"))

        assert lives(world) == [("LAMP", instant("10:30"), instant("09:00"))]

    def test_the_stock_is_low_and_then_a_look(self) -> None:
        """It opens half an hour after the look."""
        world = shop()
        world.reference.put(stock("09:00", 6))
        world.feed(viewed("10:00"))
        world.advance(instant("11:00"))

        assert lives(world) == [("LAMP", instant("10:30"), instant("10:00"))]

    def test_exactly_a_day_is_within_a_day(self) -> None:
        """The end of the time counts, a millisecond after it does not."""
        world = shop()
        world.feed(viewed("09:00"), viewed("09:00:01", "VASE"))
        world.advance(instant("10:00"))
        world.reference.put(stock(instant("1d 09:00"), 6))
        world.reference.put(stock(instant("1d 09:00:01") + 1, 6, "VASE"))
        world.advance(instant("1d 11:00"))

        assert lives(world) == [("LAMP", instant("1d 09:30"), instant("09:00"))]

    def test_an_order_after_the_look_ends_the_waiting(self) -> None:
        """Who has bought it is not told that it is nearly gone."""
        world = shop()
        world.feed(viewed("09:00"), order("09:30", lines=[line("LAMP")]))
        world.advance(instant("10:00"))
        world.reference.put(stock("10:30", 6))
        world.advance(instant("12:00"))

        assert lives(world) == []

    def test_sold_out_ends_what_waits_and_what_is_open(self) -> None:
        """What waited leaves no trace, what was open says why it ended."""
        world = shop()
        world.feed(viewed("09:00"), viewed("09:00", "VASE"))
        world.advance(instant("09:30"))
        world.reference.put(stock("10:00", 6))
        world.reference.put(stock("10:00", 6, "VASE"))
        world.reference.put(stock("10:20", 0))
        world.advance(instant("11:00"))
        world.reference.put(stock("11:00", 0, "VASE"))
        world.advance(instant("12:00"))

        assert [(e.moment_key, e.state, e.by) for e in ends(world) if e.moment == "nearly_gone"] == [
            ("VASE", "cancelled", "product.stock")
        ]

    def test_once_a_look_is_answered_another_change_says_nothing_new(self) -> None:
        """The stock goes on falling; the customer was told."""
        world = shop()
        world.feed(viewed("09:00"))
        world.advance(instant("09:30"))
        for left, at in ((9, "10:00"), (8, "10:10"), (7, "23:30")):
            world.reference.put(stock(at, left))
        world.advance(instant("23:59"))

        assert lives(world) == [("LAMP", instant("10:30"), instant("09:00"))]

    def test_after_a_loss_of_all_state_looks_still_wait(self) -> None:
        """Looks come back from the inputs, and the stock that fell meanwhile is looked up."""
        world = shop()
        look = viewed("09:00")
        recall(world.program, world.reference, ANA, customer := world.customers.setdefault(ANA, Customer()), [look], [])
        world.reference.put(stock("09:50", 6))
        hand_over(world.program, world.reference, ANA, customer, instant("10:00"), {})

        assert customer.instances("nearly_gone")["LAMP"].due == instant("10:20")
        assert customer.next_due == instant("10:20") + DISORDER


class TestSequence:
    """A look, and then a change that makes the stock low."""

    def test_a_stock_that_is_low_already_is_no_change(self) -> None:
        """Only what happens after the look counts, and within its time."""
        world = shop()
        world.reference.put(stock("08:00", 6))
        world.feed(viewed("09:00"))
        world.advance(instant("10:00"))
        world.reference.put(stock("10:30", 5))
        world.advance(instant("11:00"))

        assert lives(world, "fell_after") == [("LAMP", instant("10:30"), instant("09:00"))]


class TestBounds:
    """Nothing grows without bound."""

    def test_the_product_looked_at_longest_ago_is_let_go(self) -> None:
        """So many products per customer and moment."""
        world = shop()
        world.feed(*(viewed(START + number, f"s{number:02}") for number in range(MAX_SKUS + 5)))
        world.advance(START + HOUR)

        waits = awaited(world.program, world.customers[ANA])
        assert sorted(waits) == [f"s{number:02}" for number in range(5, MAX_SKUS + 5)]

    def test_a_change_reaches_those_who_looked_last(self) -> None:
        """So many customers of a partition, in the same order whoever was noted first."""
        onlookers = Onlookers[str]()
        for number in range(MAX_REACHED + 10):
            onlookers.note(f"c{number:05}", {"LAMP": number})

        reached = onlookers.of("LAMP", 0)
        assert reached == [f"c{number:05}" for number in range(MAX_REACHED + 9, 9, -1)]

    def test_who_waits_no_more_is_swept_out(self) -> None:
        """Those whose time is over are let go once they are many."""
        onlookers = Onlookers[str]()
        for number in range(SWEEP_AT):
            onlookers.note(f"c{number}", {"LAMP": number % 2})
        onlookers.sweep(1)

        assert len(onlookers) == SWEEP_AT // 2
        assert len(onlookers.of("LAMP", 0)) == MAX_REACHED

    def test_what_is_noted_replaces_what_was(self) -> None:
        """Who waits for nothing any more is in no list."""
        onlookers = Onlookers[str]()
        onlookers.note("ana", {"LAMP": 5, "VASE": 5})
        onlookers.note("ana", {"VASE": 9})

        assert (onlookers.of("LAMP", 0), onlookers.of("VASE", 9), onlookers.of("VASE", 10)) == ([], ["ana"], [])


def test_few_who_ask_and_few_changes_are_told_alike() -> None:
    """Whether one goes through what is asked for or through what has changed, in order of instants."""
    reference = Reference(
        [Product(f"s{sku}", START + (sku * 7 + at) % 10, stock=at) for sku in range(5) for at in range(3)]
    )
    told = []
    for others in (0, 40):  # with so many who ask for other products, it goes through the changes
        onlookers = Onlookers[str]()
        onlookers.note("ana", {"s1": FOREVER, "s3": FOREVER})
        for number in range(others):
            onlookers.note(f"c{number:02}", {f"other{number:02}": FOREVER})
        arrived = {"eve": [event("product.viewed", START, "eve", sku="s4")]}
        onlookers.tell(reference, START, START + 8, arrived)
        told.append({who: [(e.time, e.data["sku"]) for e in events] for who, events in arrived.items()})

    assert told[0] == told[1]
    assert told[0]["ana"] == [
        (START + 1, "s3"),
        (START + 2, "s3"),
        (START + 3, "s3"),
        (START + 7, "s1"),
        (START + 8, "s1"),
    ]
    assert [sku for _, sku in told[0]["eve"]] == ["s4"] * 2


# --- every history ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """A look, an order or a stock, at an instant, told later by some time within `disorder`."""

    at: int
    what: str
    left: int
    late: int


def histories() -> st.SearchStrategy[list[Told]]:
    """Return a few hours of one product."""
    told = st.builds(
        Told,
        at=st.integers(0, 600).map(lambda minutes: START + minutes * 3 * MINUTE),
        what=st.sampled_from(["look", "look", "stock", "stock", "order"]),
        left=st.sampled_from([0, 3, 50]),
        late=st.integers(0, DISORDER),
    )
    return st.lists(told, max_size=9, unique_by=lambda told: told.at)


def play(history: Sequence[Told], every: int, *, late: bool) -> Simulation:
    """Return what comes of a history with a barrier every so often, told in time or late within `disorder`."""
    world = shop()
    agenda = sorted((told.at + (told.late if late else 0), place) for place, told in enumerate(history))
    end = START + 3 * DAY
    clock = START
    while clock < end:
        clock = min(clock + every, end)
        while agenda and agenda[0][0] <= clock:
            number = agenda.pop(0)[1]
            told = history[number]
            if told.what == "stock":
                world.reference.put(stock(told.at, told.left))
            elif told.what == "look":
                world.feed(event("product.viewed", told.at, event_id=f"e{number}", sku="LAMP"))
            else:
                sold = {"sku": "LAMP", "quantity": 1, "price": 1, "margin": 1}
                world.feed(event("order.placed", told.at, event_id=f"e{number}", order_id=f"o{number}", lines=[sold]))
        world.advance(clock)
    return world


def expected(history: Sequence[Told]) -> list[int]:
    """Return when `nearly_gone` opens, found by going through every instant that matters, in order."""
    opened, looks = [], list[int]()
    due, left, busy_until = FOREVER, None, -FOREVER
    for told in [*sorted(history, key=lambda told: told.at), Told(FOREVER, "end", 0, 0)]:
        if due < told.at:
            opened.append(due)
            busy_until, due = due + 12 * HOUR, FOREVER
        open_now = told.at <= busy_until
        if -FOREVER < busy_until < told.at:
            looks = [look for look in looks if look > busy_until]
            busy_until = -FOREVER
        if told.what == "stock":
            left = told.left
            if left == 0:
                looks, due = [], FOREVER
                if open_now:
                    busy_until = -FOREVER
        elif told.what == "order":
            looks, due = [], FOREVER
            if open_now:
                busy_until = -FOREVER
        elif told.what == "look":
            looks.append(told.at)
        waits = any(told.at - look <= DAY for look in looks)
        if not open_now and due == FOREVER and left == 3 and waits and told.what != "end":
            due = told.at + 30 * MINUTE
    return opened


@settings(deadline=None, max_examples=150)
@given(histories(), st.sampled_from([MINUTE * 5, HOUR, DAY]))
def test_it_opens_when_going_through_it_by_hand_says(history: list[Told], every: int) -> None:
    """An independent account of the same rule, instant by instant."""
    world = play(history, every, late=False)

    assert [opened for _, opened, _ in lives(world)] == expected(history)


@settings(deadline=None, max_examples=100)
@given(histories(), st.sampled_from([10 * SECOND, 7 * MINUTE]))
def test_the_order_in_which_it_is_told_changes_nothing(history: list[Told], every: int) -> None:
    """Whatever is told late, within `disorder`, and however often barriers come: the same openings and ends."""
    in_order = play(history, HOUR, late=False)
    disordered = play(history, every if len(history) < 4 else 7 * MINUTE, late=True)

    assert lives(disordered) == lives(in_order)
    assert lives(disordered, "fell_after") == lives(in_order, "fell_after")


@pytest.mark.parametrize("told", [["stock", "look"], ["look", "stock"]])
def test_two_of_one_instant(told: list[str]) -> None:
    """A look at the very instant of a change sees the new stock, whichever is told first."""
    world = play([Told(START, what, 3, place) for place, what in enumerate(told)], MINUTE, late=True)

    assert [opened for _, opened, _ in lives(world)] == [START + 30 * MINUTE]
