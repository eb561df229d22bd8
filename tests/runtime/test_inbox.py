"""Where steps are cut: at barriers, and while catching up without moving time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from orchestrator.runtime.barriers import Barrier
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.inbox import Inbox, Step
from tests.runtime.messages import message

A, B = "clickstream", "purchases"


def inbox(*, live: bool = True, step_records: int = 4, start: int = 0) -> Inbox:
    """Return an empty inbox over two topics."""
    return Inbox({A: start, B: start}, step_records=step_records, may_cut=live)


def fill(box: Inbox, topic: str, *offsets: int) -> None:
    """Add records at these offsets."""
    for offset in offsets:
        box.add(topic, message(b"x", topic=topic, offset=offset))


def cut(box: Inbox, clock: int = 0) -> Step | None:
    """Return the next step of an inbox whose reference data is always there."""
    return box.next_step(clock, lambda _: True)


def offsets(step: Step | None) -> dict[str, list[int | None]]:
    """Return what a step holds, by topic."""
    assert step is not None
    return {topic: [record.offset() for record in records] for topic, records in step.messages}


def test_a_step_is_everything_up_to_its_barrier() -> None:
    """What was read beyond it belongs to a later step."""
    box = inbox()
    fill(box, A, 0, 1, 2)
    fill(box, B, 0)
    box.add_barrier(Barrier(1_000, {A: 2, B: 1}))

    step = cut(box)

    assert offsets(step) == {A: [0, 1], B: [0]}
    assert step is not None
    assert (step.barrier.time, step.positions, step.advances) == (1_000, {A: 2, B: 1}, True)
    assert box.records == 1
    assert cut(box) is None


def test_time_waits_until_every_topic_was_read_up_to_its_end() -> None:
    """One slow topic holds the clock: what it brings could cancel what is due."""
    box = inbox()
    fill(box, A, 0)
    box.add_barrier(Barrier(1_000, {A: 1, B: 1}))

    assert cut(box) is None
    fill(box, B, 0)
    assert offsets(cut(box)) == {A: [0], B: [0]}


def test_control_markers_take_offsets_that_no_record_shows() -> None:
    """The end of a transaction is reached, not read."""
    box = inbox()
    fill(box, A, 0)
    box.add_barrier(Barrier(1_000, {A: 2, B: 5}))
    box.reach(A, 2)
    box.reach(B, 5)

    step = cut(box)

    assert offsets(step) == {A: [0]}
    assert step is not None
    assert step.positions == {A: 2, B: 5}


def test_an_end_that_was_passed_already_is_reached() -> None:
    """Ends are asked for while reading goes on; positions never go back."""
    box = inbox(start=10)
    box.add_barrier(Barrier(1_000, {A: 4}))

    step = cut(box)

    assert step is not None
    assert step.positions == {A: 10, B: 10}


def test_idle_topics_do_not_stop_time() -> None:
    """A barrier without records is a step without records."""
    box = inbox()
    box.add_barrier(Barrier(1_000, {A: 0, B: 0}))

    step = cut(box)

    assert offsets(step) == {}
    assert step is not None
    assert step.barrier.time == 1_000


def test_records_fetched_before_a_seek_are_not_taken_twice() -> None:
    """Their offsets are known already."""
    box = inbox(start=5)
    fill(box, A, 3, 4, 5, 5, 6)
    box.add_barrier(Barrier(1_000, {A: 7, B: 5}))

    assert offsets(cut(box)) == {A: [5, 6]}


def test_time_never_goes_back() -> None:
    """A wall clock that was set back makes a step at the partition's own clock."""
    box = inbox()
    box.add_barrier(Barrier(1_000, {}))

    step = cut(box, clock=5_000)

    assert step is not None
    assert step.barrier.time == 5_000


def test_catching_up_steps_are_cut_while_time_stands_still() -> None:
    """A backlog is applied in bounded pieces, and events as new as the barrier are not from the future."""
    box = inbox()
    box.add_barrier(Barrier(9_000, {A: 100, B: 0}))
    fill(box, A, 0, 1, 2)
    assert cut(box, clock=2_000) is None
    fill(box, A, 3)

    step = cut(box, clock=2_000)

    assert offsets(step) == {A: [0, 1, 2, 3]}
    assert step is not None
    assert (step.barrier.time, step.barrier.newest, step.advances) == (2_000, 9_000, False)
    assert step.positions == {A: 4, B: 0}
    assert step.barrier.ends == {A: 4, B: 0}
    assert cut(box, clock=2_000) is None


def test_a_cut_holds_what_was_read_of_every_topic() -> None:
    """Its ends are where the reading stands, so that the cut can be repeated from the clock topic."""
    box = inbox()
    box.add_barrier(Barrier(9_000, {A: 100, B: 7}))
    fill(box, A, 0, 1, 2)
    fill(box, B, 0)
    box.reach(B, 3)

    step = cut(box)

    assert offsets(step) == {A: [0, 1, 2], B: [0]}
    assert step is not None
    assert step.barrier.ends == {A: 3, B: 3}


def test_without_a_barrier_nothing_is_cut() -> None:
    """There would be no instant by which an event could be too far ahead."""
    box = inbox()
    fill(box, A, *range(10))

    assert cut(box) is None


def test_live_the_barrier_first_asked_for_is_kept() -> None:
    """Else a backlog that grows would never be caught up."""
    box = inbox()
    box.add_barrier(Barrier(1_000, {A: 1}))
    box.add_barrier(Barrier(2_000, {A: 2}))
    fill(box, A, 0, 1)

    step = cut(box)

    assert box.waiting_barriers == 0
    assert step is not None
    assert step.barrier.time == 1_000


def test_in_a_replay_every_barrier_makes_its_step() -> None:
    """In order, and never cut between two."""
    box = inbox(live=False)
    for number in range(1, 4):
        box.add_barrier(Barrier(number * 1_000, {A: number * 6, B: 0}))
    fill(box, A, *range(17))

    first, second, third = cut(box), cut(box, 1_000), cut(box, 2_000)

    assert offsets(first) == {A: [0, 1, 2, 3, 4, 5]}
    assert offsets(second) == {A: [6, 7, 8, 9, 10, 11]}
    assert third is None
    assert box.records == 5


def test_time_waits_for_reference_data() -> None:
    """It does not pass an end of the reference topics that this process has not read."""
    box = inbox()
    box.add_barrier(Barrier(1_000, {A: 0, "products": 3}))
    read = 2

    def reached(ends: Mapping[str, int]) -> bool:
        return read >= ends.get("products", 0)

    assert box.next_step(0, reached) is None
    read = 3
    assert box.next_step(0, reached) is not None


def test_reading_on_stops_when_nothing_waits_for_it() -> None:
    """Only the topic that is far ahead is paused, and it goes on once a barrier needs more of it."""
    box = inbox()
    fill(box, A, *range(4))

    assert (box.is_full(A), box.is_full(B)) == (True, False)
    box.add_barrier(Barrier(1_000, {A: 6}))
    assert not box.is_full(A)
    fill(box, A, 4, 5)
    assert box.is_full(A)
    cut(box)
    assert not box.is_full(A)


def test_live_a_topic_that_is_needed_is_bounded_by_cuts() -> None:
    """While one topic is far behind, the others are decided as they come."""
    box = inbox()
    box.add_barrier(Barrier(1_000, {A: 1_000_000, B: 1}))
    for start in range(0, 1_000, 4):
        fill(box, A, *range(start, start + 4))
        while cut(box) is not None:
            pass

        assert box.records < 4


def test_barriers_too_far_apart_in_a_replay_are_refused() -> None:
    """A step cannot be cut there, so the operator is told how to replay."""
    box = inbox(live=False)
    box.add_barrier(Barrier(1_000, {A: 1_000_000}))
    fill(box, A, *range(80))
    assert not box.is_full(A)
    fill(box, A, 80)

    with pytest.raises(OperatorError, match=r"more than 80 records of clickstream .* --barrier-every"):
        box.is_full(A)
