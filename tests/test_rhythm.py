"""What a customer's own rhythm says: stages, and the chance that more will come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.events import DAY, FOREVER
from orchestrator.rhythm import STAGES, count_time, p_alive, stage_changes, stage_of


def days(*numbers: int) -> list[int]:
    """Return the seconds of days."""
    return [number * DAY // 1000 for number in numbers]


@pytest.mark.parametrize(
    ("bought", "today", "stage"),
    [
        ((), 500, "new"),
        ((0,), 29, "new"),
        ((0,), 30, "active"),
        ((0,), 89, "active"),
        ((0,), 90, "at_risk"),  # nobody knows the rhythm of one order: 60 days are taken for it
        ((0,), 120, "lapsed"),
        ((0, 10), 20, "active"),
        ((0, 10, 20, 30), 63, "active"),  # twice ten days is less than the least, 45
        ((0, 10, 20, 30), 64, "at_risk"),
        ((0, 10, 20, 30), 75, "lapsed"),
        ((0, 100, 200, 300), 449, "active"),
        ((0, 100, 200, 300), 450, "at_risk"),
        ((0, 100, 200, 300), 500, "lapsed"),
        ((0, 10, 20, 30, 40, 50), 60, "hero"),
        ((0, 80, 160, 240, 320, 364), 365, "active"),
        ((0, 300, 600, 900), 1265, "lapsed"),  # a year of silence is enough for everybody
    ],
)
def test_the_stage_is_relative_to_the_customers_own_rhythm(bought: tuple[int, ...], today: int, stage: str) -> None:
    """The rule, boundary by boundary."""
    assert stage_of(days(*bought), today * DAY) == stage


@given(st.lists(st.integers(0, 400), max_size=10, unique=True).map(sorted), st.integers(0, 900), st.integers(0, 900))
def test_a_stage_changes_only_when_it_says(bought: list[int], today: int, later: int) -> None:
    """Between an instant and the next change that is told, the stage stays what it is."""
    now = today * DAY + 1
    known = days(*(day for day in bought if day <= today))
    until = min(stage_changes(known, now), now + later * DAY)

    assert stage_of(known, now) in STAGES
    assert stage_of(known, until - 1) == stage_of(known, now) or until == now
    assert stage_changes([], now) == FOREVER


def test_the_probability_is_that_of_the_published_formula() -> None:
    """As in the paper: 26 weeks with three repetitions, the last at week 20."""
    week = 7 * DAY // 1000

    state = [4, 0, 20 * week]
    odds = 0.793 / (2.426 + 3 - 1) * ((4.414 + 26) / (4.414 + 20)) ** (0.243 + 3)
    assert p_alive(state, 26 * week * 1000) == round(1 / (1 + odds), 3) == 0.732


def test_the_probability_falls_with_silence() -> None:
    """Unknown before the first, certain after it, and less with every week without another."""
    state = None
    for seconds in days(0, 7, 14, 21):
        state = count_time(state, seconds)
    chances = [p_alive(state, day * DAY) for day in range(21, 400, 7)]

    assert p_alive(None, 0) is None
    assert p_alive([1, 0, 0], 999 * DAY) == 1.0
    assert all(before is not None and after is not None and after <= before for before, after in pairwise(chances))
    assert chances[-1] is not None and chances[-1] < 0.05
    assert p_alive([9_999, 0, 1], 9_999 * DAY) == 0.0


def test_counted_times_do_not_depend_on_their_order() -> None:
    """How many, the first and the last, whatever came first."""
    assert count_time(count_time(count_time(None, 5), 9), 1) == [3, 1, 9]
    assert count_time([1, 5, 5], 5) == [1, 5, 5]
