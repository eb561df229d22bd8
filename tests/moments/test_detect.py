"""How events move instances: what ends, what starts, what restarts, and within which bounds."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.customer import OPEN, WAITING, Instance
from orchestrator.events import FOREVER
from orchestrator.moments.detect import MAX_INSTANCES, end_instances, look_at, start_instance
from tests.builders import ABANDONED_CART, REPLENISHMENT


def waiting(started: int = 100, due: int = 200, until: int = 900) -> Instance:
    """Return an instance that waits from 100 to 200 and is stale at 900."""
    return Instance(WAITING, started, due, until)


def opened(started: int = 100, due: int = 200, until: int = 900) -> Instance:
    """Return an instance that opened at 200."""
    return Instance(OPEN, started, due, until)


def test_what_ends_while_it_waits_leaves_no_trace() -> None:
    """Nothing was ever due, from the start to the due instant, both included."""
    for time in (100, 150, 200):
        instances = {"c1": waiting()}

        assert end_instances(ABANDONED_CART, instances, ["c1"], time, "order.placed") == []
        assert instances == {}


def test_an_event_from_before_the_start_ends_nothing() -> None:
    """A purchase is no answer to what began later."""
    instances = {"c1": waiting(), "c2": opened()}

    assert end_instances(ABANDONED_CART, instances, ["c1", "c2"], 99, "order.placed") == []
    assert list(instances) == ["c1", "c2"]


def test_what_had_opened_is_recorded() -> None:
    """Open, or past its due instant while the clock stood still: it opened, and it ended."""
    for instance, time in ((opened(), 150), (opened(), 300), (waiting(), 201)):
        [over] = end_instances(ABANDONED_CART, {"c1": instance}, ["c1"], time, "order.placed")

        assert (over.state, over.by, over.started_at, over.opened_at) == ("cancelled", "order.placed", 100, 200)


def test_what_was_never_picked_leaves_no_trace() -> None:
    """An instance of a `pick_one` moment that is due has not opened before it is picked."""
    assert end_instances(REPLENISHMENT, {"hair": waiting()}, ["hair"], 300, "order.placed") == []


def test_the_latest_event_restarts() -> None:
    """Older events than the one that started the wait change nothing, newer ones start it anew."""
    instances = {"c1": waiting()}
    for new, expected in ((waiting(99, 199), 100), (waiting(100, 200), 100), (waiting(150, 250), 150)):
        assert start_instance(ABANDONED_CART, instances, "c1", new, restarts=True, by="e") == []
        assert instances["c1"].started == expected


def test_where_nothing_restarts_the_earliest_event_counts() -> None:
    """Whatever the order in which two events arrive, the wait is counted from the first of them."""
    instances = {"c1": waiting()}
    for new, expected in ((waiting(150, 250), 100), (waiting(90, 190), 90)):
        assert start_instance(ABANDONED_CART, instances, "c1", new, restarts=False, by="e") == []
        assert instances["c1"].started == expected


def test_coming_back_ends_what_is_open() -> None:
    """The same key left again is another instance."""
    for there in (opened(), waiting()):
        instances = {"c1": there}
        [over] = start_instance(ABANDONED_CART, instances, "c1", waiting(300, 400), restarts=True, by="e")

        assert (over.opened_at, over.state) == (200, "cancelled")
        assert instances["c1"].started == 300


def test_instances_are_bounded() -> None:
    """Of too many that wait the one that started first is let go, never one that is open."""
    instances = {"open": opened(0)}
    for number in range(2 * MAX_INSTANCES):
        start_instance(ABANDONED_CART, instances, f"c{number}", waiting(number, number + 100), restarts=True, by="e")

    assert len(instances) == MAX_INSTANCES
    assert "open" in instances
    assert f"c{2 * MAX_INSTANCES - 1}" in instances


def test_look_at_the_earliest() -> None:
    """Time moves what waits when stragglers are in, and what is open when it is stale."""
    assert look_at(ABANDONED_CART, {}, 10, -FOREVER) == FOREVER
    assert look_at(ABANDONED_CART, {"c1": waiting(), "c2": opened(until=500)}, 10, -FOREVER) == 210
    assert look_at(ABANDONED_CART, {"c2": opened(until=500)}, 10, -FOREVER) == 500


def test_look_at_a_pick_when_there_may_be_one() -> None:
    """What is due waits for its turn, and is let go when its window ends before that."""
    assert look_at(REPLENISHMENT, {"hair": waiting()}, 10, 400) == 400
    assert look_at(REPLENISHMENT, {"hair": waiting()}, 10, FOREVER) == 900
    assert look_at(replace(REPLENISHMENT, pick_one=None), {"hair": waiting()}, 10, FOREVER) == 210
