"""What is over stays over: a late event starts nothing again, however much else was ended since."""

from __future__ import annotations

from orchestrator.events import HOUR, Event
from orchestrator.moments.lifecycle import OVER_BEFORE_PRUNING
from orchestrator.moments.rules import Absence, EventMatch, Moment
from orchestrator.simulation import Simulation
from tests.builders import (
    ANA,
    ITEM_ADDED,
    ORDER_PLACED,
    cart_add,
    cart_emptied,
    event,
    line,
    order,
    program,
    simulation,
)

ADDED, VIEWED = EventMatch((ITEM_ADDED,)), EventMatch(("product.viewed",))
LEFT = Moment("left", "", Absence(ADDED, ADDED, EventMatch(("cart.emptied",), "cart_id"), HOUR), "cart_id")
LOOKED = Moment("looked", "", Absence(VIEWED, VIEWED, EventMatch((ORDER_PLACED,), "sku"), HOUR), "sku")
MANY = OVER_BEFORE_PRUNING + 4


def shop() -> Simulation:
    """Return a shop with a moment per cart and one per product, neither of which anything answers."""
    return simulation(program(moments=[LEFT, LOOKED], campaigns=[]))


def large_order(at: str, first: int = 0) -> Event:
    """Return an order of more products than are remembered unless it is asked which of them may be forgotten."""
    return order(at, lines=[line(f"P{number}") for number in range(first, first + MANY)])


def test_a_large_order_lets_nothing_start_again() -> None:
    """Neither a cart that was emptied before, nor the first of its own products."""
    one = shop()
    one.feed(cart_emptied("10:00"), large_order("10:01"))
    one.advance(one.clock + 11 * HOUR)

    one.feed(cart_add("09:30"), event("product.viewed", "09:30", sku="P0"), event("product.viewed", "09:30", sku="NEW"))
    one.advance(one.clock + 1)

    assert not one.customers[ANA].peek("left")
    assert set(one.customers[ANA].peek("looked")) == {"NEW"}


def test_what_no_late_event_can_start_is_forgotten() -> None:
    """An order of other products every day leaves no more than the last one."""
    one = shop()
    for day in range(6):
        one.feed(large_order(f"{day}d 10:00", day * MANY))
        one.advance(one.clock + 24 * HOUR)

    assert len(one.customers[ANA].over) == MANY
