"""Schedules over a segment, and who is in a segment when a moment is published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from orchestrator.civil import find_zone as zone
from orchestrator.civil import next_run, to_local
from orchestrator.customer import Customer, customer_from_bytes
from orchestrator.definitions.load import load
from orchestrator.events import DAY, FOREVER, HOUR, MINUTE
from orchestrator.moments.rules import Schedule
from orchestrator.program import Program
from orchestrator.prospects import prospects
from orchestrator.recall import hand_over, recall
from orchestrator.runtime.state_store import Stored, pack
from orchestrator.simulation import Simulation
from tests.builders import REFERENCE, TOPICS, ends, event, instant, order, profile
from tests.runtime.messages import Bench

SEGMENTS = """
features: { orders: { count: order.placed } }
segments: { buyers: { say: "Bought something", is: "orders >= 1" } }
moments:
"""
LETTER = """
  - moment: letter
    say: "Thursday morning"
    schedule: { every: thursday, at: "10:00", segment: buyers, spread: 4h }
    lasts: 6h
"""
CURRENT = """
  - moment: buys
    say: "Is a buyer"
    entered: buyers
    lasts: 2d
    include_current: { max_per_hour: 4 }
"""
OTHER = """
  - moment: other
    say: "Emptied a cart"
    starts_on: { event: cart.emptied }
    unless: { event: order.placed, within: 1h }
    lasts: 1h
"""
PEOPLE = [f"c{number:03}" for number in range(60)]
THURSDAY = instant("1d 00:00")  # the first day is a Wednesday


def compiled(moments: str) -> Program:
    """Return a program of these moments."""
    definitions, problems = load({"x": SEGMENTS + moments})
    assert definitions is not None, problems
    return Program(definitions, TOPICS)


def shop(moments: str, *, buyers: int = len(PEOPLE)) -> Simulation:
    """Return a shop on its first day in which all are known, and the first of them have bought something."""
    world = Simulation(compiled(moments), REFERENCE, start=instant("00:00"), round_trip=True)
    world.feed(*(profile("00:00", customer=name) for name in PEOPLE))
    world.feed(*(order("08:00", customer=name) for name in PEOPLE[:buyers]))
    world.advance(instant("09:00"))
    return world


def openings(world: Simulation, moment: str) -> list[int]:
    """Return when a moment opened for somebody, in order."""
    return sorted(over.opened_at for over in ends(world) if over.moment == moment)


@pytest.mark.parametrize(
    ("after", "expected"),
    [("09:59", "10:00"), ("10:00", "1d 10:00"), ("23:00", "1d 10:00")],
)
def test_every_day_at_its_time(after: str, expected: str) -> None:
    """The next one begins after the instant, never at it."""
    utc = zone("UTC")
    assert utc is not None

    assert next_run(Schedule("s", None, 600, 0), utc, instant(after)) == instant(expected)


def test_a_week_is_a_week_on_the_local_clock() -> None:
    """Ten is ten on both sides of a clock change."""
    madrid = zone("Europe/Madrid")
    assert madrid is not None
    rule, at = Schedule("s", 6, 600, 0), instant("2017-03-17T00:00")
    seen = []
    for _ in range(3):
        at = next_run(rule, madrid, at)
        seen.append(to_local(at, madrid).strftime("%a %d %H:%M"))

    assert seen == ["Sun 19 10:00", "Sun 26 10:00", "Sun 02 10:00"]


def test_everybody_has_their_own_place_in_the_time_it_is_spread_over() -> None:
    """All within the four hours, none of the hours empty, and the same place every week."""
    world = shop(LETTER)
    world.advance(THURSDAY + 10 * DAY)
    first = [at for at in openings(world, "letter") if at < THURSDAY + DAY]
    second = [at - 7 * DAY for at in openings(world, "letter") if at > THURSDAY + DAY]

    assert len(first) == len(PEOPLE)
    assert first == second
    assert all(THURSDAY + 10 * HOUR <= at < THURSDAY + 14 * HOUR for at in first)
    by_hour = Counter((at - THURSDAY) // HOUR for at in first)
    assert set(by_hour) == {10, 11, 12, 13}


def test_only_those_in_the_segment_then() -> None:
    """Who is not in it leaves no trace."""
    world = shop(LETTER, buyers=10)
    world.advance(THURSDAY + DAY)

    assert len(openings(world, "letter")) == 10


def test_why_says_when_it_comes_and_what_it_needs() -> None:
    """To somebody who is not in the segment."""
    world = shop(LETTER, buyers=0)
    found = list(prospects(world.program, world.reference, PEOPLE[0], world.customers[PEOPLE[0]], world.clock))

    assert [(one.moment, [change.kind for change in one.changes][:2]) for one in found] == [
        ("letter", ["time", "value"])
    ]


def test_barriers_change_nothing() -> None:
    """One in ten days, or many."""
    rarely, often = shop(LETTER + CURRENT), shop(LETTER + CURRENT)
    rarely.advance(instant("10d 00:00"))
    often.run([], to=instant("10d 00:00"), every=37 * MINUTE)

    assert sorted(map(repr, ends(often))) == sorted(map(repr, ends(rarely)))


def test_a_schedule_that_is_published_counts_for_all_who_are_known() -> None:
    """Nobody has to do anything first."""
    world = shop(OTHER)
    world.publish(compiled(OTHER + LETTER))
    world.advance(THURSDAY + DAY)

    assert len(openings(world, "letter")) == len(PEOPLE)


def test_after_a_loss_of_all_state_it_goes_on() -> None:
    """The next one comes at the same place."""
    world = shop(LETTER)
    events = [profile("00:00", customer=PEOPLE[0]), order("08:00", customer=PEOPLE[0])]
    customer = Customer()
    recall(world.program, world.reference, PEOPLE[0], customer, events, [])
    hand_over(world.program, world.reference, PEOPLE[0], customer, instant("09:00"), {})

    assert customer.next_due == world.customers[PEOPLE[0]].next_due < FOREVER


def test_who_is_in_a_segment_already_comes_in_so_many_per_hour() -> None:
    """In the order of their keys, a quarter of an hour apart, each once."""
    world = shop(OTHER, buyers=10)
    world.publish(compiled(OTHER + CURRENT))
    world.publish(compiled(OTHER + CURRENT))  # begun again after half of it, say
    world.advance(instant("5d 00:00"))
    world.publish(compiled(OTHER + CURRENT))
    world.advance(instant("9d 00:00"))

    assert openings(world, "buys") == [instant("09:00") + (number + 1) * 15 * MINUTE for number in range(10)]


def test_without_the_word_nobody_comes_in() -> None:
    """Publishing opens nothing for what was true before."""
    world = shop(OTHER, buyers=10)
    world.publish(compiled(OTHER + CURRENT.replace("    include_current: { max_per_hour: 4 }\n", "")))
    world.feed(*(event("site.visited", "10:00", customer=name) for name in PEOPLE))
    world.advance(instant("5d 00:00"))

    assert openings(world, "buys") == []


def test_a_worker_lets_stored_customers_in_before_it_decides(tmp_path: Path) -> None:
    """With new definitions, in portions, and as one would: each partition takes its share; then it is done for good."""
    before, after = compiled(OTHER), compiled(OTHER + LETTER + CURRENT)
    world = shop(OTHER, buyers=10)
    bench = Bench(tmp_path / "0", running=before)
    bench.step("09:00", [])
    bench.commit()
    batch = bench.store.batch()
    for name in PEOPLE:
        customer = world.customers[name]
        batch.put(name.encode(), pack(Stored(customer.next_due, customer.to_bytes())), customer.next_due, FOREVER)
    bench.store.write(batch)

    bench.restart(after)
    assert bench.partition.is_adopting
    bench.partition.adopt()
    assert not bench.partition.is_adopting
    bench.partition.stage(after.version)
    bench.partition.settle(0)
    world.publish(after)

    stored = {key.decode(): customer_from_bytes(one.state) for key, one in bench.store.customers()}
    assert {name: stored[name].fires for name in PEOPLE} == {name: world.customers[name].fires for name in PEOPLE}
    meta = bench.store.meta()
    assert meta is not None
    assert meta.definitions == after.version
    bench.restart(after)
    assert not bench.partition.is_adopting
    bench.partition.close()
