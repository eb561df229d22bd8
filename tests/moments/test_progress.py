"""How far somebody has come in a sequence."""

from __future__ import annotations

from itertools import permutations

from orchestrator.events import DAY, HOUR
from orchestrator.moments.progress import MAX_KEYS, Progress, follow
from orchestrator.moments.rules import EventMatch, Sequence, Stage

SEQUENCE = Sequence(
    (Stage(EventMatch(("a",)), 0), Stage(EventMatch(("b",)), DAY), Stage(EventMatch(("c",)), DAY)), True, 0, None
)
EITHER = Sequence((Stage(EventMatch(("a",)), DAY), Stage(EventMatch(("b",)), 0)), False, 0, None)


def ends(shape: Sequence, *happened: tuple[int, int]) -> list[tuple[int, int]]:
    """Return what was completed by events, each a place and a time."""
    progress: Progress = {}
    found = [follow(shape, progress, "k", place, time) for place, time in happened]
    return [one for one in found if one is not None]


def test_it_is_complete_with_the_last_that_arrives_in_whichever_order() -> None:
    """Not the order of arrival counts, but that in which they happened."""
    for arrival in permutations([(0, 0), (1, DAY), (2, 2 * DAY)]):
        assert ends(SEQUENCE, *arrival) == [(0, 2 * DAY)]


def test_too_late_or_in_the_wrong_order_is_not_complete() -> None:
    """Each within its time after the one before, that instant included."""
    assert ends(SEQUENCE, (0, 0), (1, DAY + 1), (2, DAY + 2)) == []
    assert ends(SEQUENCE, (1, 0), (0, 1), (2, 2)) == []


def test_beginning_again_begins_again() -> None:
    """The newest event of each place counts."""
    assert ends(SEQUENCE, (0, 0), (0, 5 * DAY), (1, 5 * DAY + 1), (2, 5 * DAY + 2)) == [(5 * DAY, 5 * DAY + 2)]


def test_either_order_within_one_time() -> None:
    """Both ways, and that time included."""
    assert ends(EITHER, (0, 0), (1, DAY)) == ends(EITHER, (1, 0), (0, DAY)) == [(0, DAY)]
    assert ends(EITHER, (0, 0), (1, DAY + 1)) == []


def test_what_cannot_be_completed_any_more_is_forgotten() -> None:
    """By time and by number, the longest untouched first."""
    progress: Progress = {}
    follow(SEQUENCE, progress, "old", 0, 0)
    for number in range(MAX_KEYS + 1):
        follow(SEQUENCE, progress, str(number), 0, 2 * DAY + number * HOUR // HOUR + 1)

    assert list(progress) == [str(number) for number in range(1, MAX_KEYS + 1)]
