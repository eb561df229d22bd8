"""Products that go together: by who bought both, whatever the order in which it is heard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from orchestrator.learning.similar import LEAST_BUYERS, SHRINK, Together

SKUS = ("A", "B", "C", "D")


def bought(*baskets: tuple[str, tuple[str, ...]]) -> Together:
    """Return the counts after these orders."""
    together = Together(SKUS)
    for customer, skus in baskets:
        together.put(customer, skus)
    return together


def test_cosine_of_the_buyers_shrunk_where_few_bought_both() -> None:
    """Forty bought both, ten more each of them: 40 / 50, and of that 40 / 60."""
    together = bought(
        *((f"both{number}", ("A", "B")) for number in range(40)),
        *((f"a{number}", ("A",)) for number in range(10)),
        *((f"b{number}", ("B",)) for number in range(10)),
    )

    [[a, b]] = [together.closeness()[:2, 1]]
    assert (a, b) == (pytest.approx(40 / 50 * 40 / (40 + SHRINK)), 0)
    [of_a, of_b] = together.snapshots(7)
    assert (of_a.sku, of_a.effective_from, of_a.buyers, of_a.similar[0].sku) == ("A", 7, 50, "B")
    assert of_a.similar[0].closeness_bp == of_b.similar[0].closeness_bp == 5_333


def test_nothing_is_said_of_what_few_bought() -> None:
    """A cosine of a handful of people is chance."""
    together = bought(*((f"c{number}", ("A", "B")) for number in range(LEAST_BUYERS - 1)))

    assert together.snapshots(0) == []


@given(some.lists(some.tuples(some.sampled_from("xyz"), some.lists(some.sampled_from(SKUS), max_size=4)), max_size=12))
def test_counts_grow_with_every_order_to_what_all_of_them_say(orders: list[tuple[str, list[str]]]) -> None:
    """Order by order, in whichever order, twice or at once: how many customers bought each two."""
    baskets = [(customer, tuple(skus)) for customer, skus in orders]
    sets = {customer: {sku for one, skus in baskets for sku in skus if one == customer} for customer in "xyz"}
    expected = [[sum(a in one and b in one for one in sets.values()) for b in SKUS] for a in SKUS]

    for counted in (bought(*baskets), bought(*reversed(baskets), *baskets)):
        assert np.array_equal(counted._both, expected)
