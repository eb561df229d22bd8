"""Features and moments that come to mean something else, or go: what was kept for them neither counts nor stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.conditions import Compare, Condition, Literal, Read
from orchestrator.customer import Customer, customer_from_bytes
from orchestrator.events import DAY
from orchestrator.features import Feature
from orchestrator.moments.rules import EventMatch, Moment, Sequence, Stage
from orchestrator.simulation import Simulation
from tests.builders import ANA, ends, event, fact, instant, line, order, profile, program, simulation

LARGE = Condition("total > 1", Compare(">", Read("event", "total"), Literal(1)))
ORDERS = Feature("known", "count", ("order.placed",))


def after_publishing(first: Feature, *then: Feature) -> Simulation:
    """Return a shop in which Ana ordered twice, and other features were published after that."""
    shop = simulation(program(moments=(), campaigns=(), features=(first,)))
    shop.feed(order("08:00"), order("09:00"))
    shop.advance(instant("10:00"))
    shop.publish(program(moments=(), campaigns=(), features=then))
    shop.feed(order("11:00"))
    shop.advance(instant("12:00"))
    return shop


def read(shop: Simulation) -> object:
    """Return the value of the feature."""
    return shop.program.features["known"].read(fact(shop, "known"), None, shop.clock, shop.reference)


@pytest.mark.parametrize(
    "other",
    [
        Feature("known", "last_time", ("order.placed",), unit="instant"),
        Feature("known", "sum", ("order.placed",), field="total", unit="money"),
        Feature("known", "count", ("order.placed",), over=30 * DAY),
        Feature("known", "count", ("order.placed",), key="order_id"),
        Feature("known", "count", ("order.placed", "order.returned")),
        Feature("known", "count", ("order.placed",), where=LARGE),
        Feature("known", "median_gap", ("order.placed",), otherwise=DAY, unit="duration"),
    ],
    ids=lambda one: f"{one.kind}-{one.key}-{one.over}",
)  # fmt: skip
def test_a_feature_that_means_something_else_begins_anew(other: Feature) -> None:
    """What was kept before neither counts nor stays; only the order after it was published is known."""
    shop = after_publishing(ORDERS, other)
    anew = simulation(program(moments=(), campaigns=(), features=(other,)))
    anew.feed(order("11:00", lines=[line()]))
    anew.advance(instant("12:00"))

    assert len(shop.customers[ANA].raw_facts) == 1
    if other.key is None:
        assert type(read(shop)) is type(read(anew))
        assert read(shop) in (read(anew), 1_000)


def test_a_feature_that_is_read_otherwise_goes_on() -> None:
    """What stands in before there are enough samples, and how many these are, changes no fact."""
    gap = Feature("known", "median_gap", ("order.placed",), min_samples=9, otherwise=DAY, unit="duration")

    assert read(after_publishing(gap, replace(gap, min_samples=1, otherwise=None))) is not None


def test_a_feature_that_is_gone_leaves_nothing() -> None:
    """With the next thing that happens to a customer it is forgotten, and so is what its moment kept."""
    shop = after_publishing(ORDERS)
    shop.feed(profile("13:00"))
    shop.advance(instant("13:00"))

    assert dict(shop.customers[ANA].raw_facts) == {}


def test_facts_of_earlier_releases_are_found() -> None:
    """They were filed under the feature's name alone."""
    shop = simulation(program(moments=(), campaigns=(), features=(ORDERS,)))
    earlier = Customer()
    earlier.set_fact("known", 2)
    shop.customers[ANA] = customer_from_bytes(earlier.to_bytes())
    shop.feed(order("09:00"))
    shop.advance(instant("10:00"))

    assert read(shop) == 3
    assert len(shop.customers[ANA].raw_facts) == 1


def test_a_sequence_of_another_length_begins_anew() -> None:
    """What was under way cannot be continued."""
    steps = tuple(Stage(EventMatch((name,)), DAY) for name in ("order.placed", "order.delivered", "order.returned"))
    two = Moment("kept", "Kept", Sequence(steps[:2], ordered=True, wait=0, unless=None), lasts=DAY)
    three = replace(two, shape=Sequence(steps, ordered=True, wait=0, unless=None))
    shop = simulation(program(moments=(two,), campaigns=()))
    shop.feed(order("08:00"))
    shop.advance(instant("09:00"))
    shop.publish(program(moments=(three,), campaigns=()))
    shop.feed(order("09:30"), event("order.delivered", "10:00"), event("order.returned", "11:00"))
    shop.advance(instant("3d 00:00"))

    assert [(over.moment, over.opened_at) for over in ends(shop)] == [("kept", instant("11:00"))]
