"""When the next order is due and how likely it is due by now, from a customer's own gaps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from orchestrator.events import DAY
from orchestrator.features import Bought, Feature, bought_of
from orchestrator.moments.worth import expected_margin
from orchestrator.rhythm import GAP_CLASSES, SPREAD, due_bp, gap_window, spread_of
from tests.builders import REFERENCE, REPLENISHMENT, instant, line, order, program, simulation

HAIR, SOAP = line("SHAMPOO", 1_000, 400), line("SOAP", 300, 390)
KEEPING = Feature("due", "next_order_date", ("order.placed",), key="product_family", keeps_bought=True)
PLAIN = Feature("due", "next_order_date", ("order.placed",), key="product_family")


def test_a_tenth_comes_before_the_window_and_a_tenth_after() -> None:
    """The probability that it is due is what the window's ends say."""
    spread = spread_of(5, None)
    assert spread is not None

    least, most = gap_window(30 * DAY, spread)

    assert due_bp(least, 30 * DAY, spread) == pytest.approx(1_000, abs=5)
    assert due_bp(most, 30 * DAY, spread) == pytest.approx(9_000, abs=5)


def test_the_spread_that_is_shipped_narrows_with_what_is_known() -> None:
    """Every class has its own, and the more own gaps, the earlier the window ends."""
    ends = [SPREAD[f"high_{known}"] for known in GAP_CLASSES]

    assert ends == sorted(ends, reverse=True)
    assert all(SPREAD[f"low_{known}"] < 0 < SPREAD[f"high_{known}"] for known in GAP_CLASSES)
    assert spread_of(0, None) is None
    assert spread_of(13, None) == (SPREAD["low_9"], SPREAD["high_9"])
    assert spread_of(10_000, None) == (SPREAD["low_21"], SPREAD["high_21"])


@given(some.integers(-(2**63), 2**63), some.integers(-(2**63), 2**63), some.integers(0, 2**40))
def test_no_published_spread_breaks_the_engine(low: int, high: int, silent: int) -> None:
    """Whatever a snapshot says, there is a window with its begin first, and a probability."""
    spread = spread_of(1, {"low_1": low, "high_1": high})
    assert spread is not None

    least, most = gap_window(30 * DAY, spread)

    assert 0 <= least <= most < 2**62
    assert 0 <= due_bp(silent, 30 * DAY, spread) <= 10_000


@given(some.lists(some.integers(0, 400 * 24), min_size=1, max_size=12))
def test_what_is_kept_of_gaps_does_not_depend_on_what_else_is_kept(hours: list[int]) -> None:
    """With what was bought behind them, the gaps are the same, in whichever order they are heard of."""
    plain, keeping = None, None
    for hour in hours:
        one = order(instant("00:00") + hour * DAY // 24, lines=[HAIR])
        plain = PLAIN.fold(plain, one, REFERENCE, 3_000)
        keeping = KEEPING.fold(keeping, one, REFERENCE, 3_000)

    assert plain is not None
    assert keeping is not None
    assert keeping["hair"][: len(plain["hair"])] == plain["hair"]
    assert (bought_of(plain["hair"]), bought_of(keeping["hair"])) == (None, Bought(*keeping["hair"][5:]))


def test_worth_is_margin_times_the_chance_that_it_is_due() -> None:
    """The same margin is worth more the longer ago the last order was."""
    shop = simulation(program(moments=[REPLENISHMENT], campaigns=[]))
    shop.feed(order("0d 09:00", lines=[HAIR]), order("12d 09:00", lines=[SOAP]))
    shop.advance(instant("13d 00:00"))
    customer = shop.customers["ana"]
    [moment] = shop.program.moments.values()

    def worth(at: str, key: str) -> int:
        return expected_margin(shop.program, REFERENCE, customer, instant(at), moment, key)

    assert worth("26d 00:00", "hair") > worth("26d 00:00", "soap")  # 400 after 26 of 30 days, 390 after 14
    assert 0 < worth("20d 00:00", "hair") < worth("30d 00:00", "hair") < worth("300d 00:00", "hair") <= 400
    assert worth("26d 00:00", "books") == 0


def test_probabilities_grow() -> None:
    """Never back, from nothing to certain."""
    spread = spread_of(3, None)
    assert spread is not None
    found = [due_bp(int(math.exp(power)), DAY, spread) for power in range(5, 30)]

    assert found == sorted(found)
    assert (due_bp(0, DAY, spread), found[-1]) == (0, 10_000)
