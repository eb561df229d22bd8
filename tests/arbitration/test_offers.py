"""What goes with a message: the first offer that this customer may have, what it costs, and where it is recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.arbitration.campaign import Offer
from orchestrator.records import Check
from orchestrator.simulation import Simulation
from tests.builders import (
    ABANDONED_CART,
    CART_RESCUE,
    cart_add,
    compare,
    event,
    instant,
    last_candidates,
    line,
    order,
    program,
    reasons,
    simulation,
)

REGULAR = compare("orders_lifetime", ">=", 1)
OFTEN = compare("orders_lifetime", ">=", 2)
UNKNOWN = compare("order_gap", "<", 1)
COSTS = {"free_shipping": (490, 0), "pct_10": (0, 1_000)}


def shop_with(offer: Offer, *, orders: int = 0, control_bp: int = 0) -> Simulation:
    """Return a shop in which Ana has ordered some times and left a cart, with a campaign that costs one cent."""
    rescue = replace(CART_RESCUE, offer=offer, control_bp=control_bp)
    shop = simulation(program(moments=[ABANDONED_CART], campaigns=[rescue]))
    shop.feed(*(order(f"0{hour}:00") for hour in range(1, 1 + orders)), cart_add("09:00"))
    shop.advance(instant("10:00"))
    return shop


@pytest.mark.parametrize(
    ("choices", "orders", "given"),
    [
        (("none", "pct_10"), 0, "none"),
        (("pct_10", "none"), 0, "none"),
        (("pct_10", "none"), 1, "pct_10"),
        (("pct_10", "free_shipping", "none"), 2, "free_shipping"),
    ],
)
def test_the_first_that_this_customer_may_have(choices: tuple[str, ...], orders: int, given: str) -> None:
    """In the order in which they are listed, whatever they cost."""
    offer = Offer(choices, {"pct_10": REGULAR}, {"pct_10": OFTEN}, COSTS)
    shop = shop_with(offer, orders=orders)

    assert last_candidates(shop)["cart_rescue"].offer == given
    assert (shop.decisions[-1].offer, shop.triggers[-1].offer) == (given, given)


def test_every_offer_is_recorded_with_what_was_seen() -> None:
    """Also those that came after the one that was given."""
    offer = Offer(("pct_10", "none", "free_shipping"), {"pct_10": REGULAR}, {"pct_10": OFTEN}, COSTS)

    assert last_candidates(shop_with(offer, orders=2))["cart_rescue"].offers == (
        Check("pct_10", passed=False, saw="orders_lifetime = 2, orders_lifetime = 2"),
        Check("none", passed=True, saw=""),
        Check("free_shipping", passed=True, saw=""),
    )


@pytest.mark.parametrize("conditions", [({"pct_10": UNKNOWN}, {}), ({}, {"pct_10": UNKNOWN})])
def test_the_unknown_gives_nothing_away(conditions: tuple[dict[str, object], dict[str, object]]) -> None:
    """Neither where it must hold nor where it must not."""
    gap = replace(program().definitions.features["order_gap"], otherwise=None)
    features = [gap, *(f for name, f in program().definitions.features.items() if name != "order_gap")]
    rescue = replace(CART_RESCUE, offer=Offer(("pct_10", "none"), *conditions))  # type: ignore[arg-type]  # both kinds
    shop = simulation(program(moments=[ABANDONED_CART], campaigns=[rescue], features=features))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))

    assert shop.decisions[-1].offer == "none"


def test_without_any_offer_it_is_not_for_them() -> None:
    """Unless nothing is among the choices."""
    shop = shop_with(Offer(("pct_10",), {"pct_10": REGULAR}))

    assert reasons(shop) == ["not_eligible"]
    assert last_candidates(shop)["cart_rescue"].saw == "no offer fits: orders_lifetime = 0"


def test_a_fixed_cost_and_a_share_of_what_is_ordered() -> None:
    """In the decision, the trigger and the outcome, which a return amends."""
    shop = shop_with(Offer(("pct_10",), costs={"pct_10": (20, 1_000)}))
    decision, trigger = shop.decisions[-1], shop.triggers[-1]
    assert (decision.cost, decision.cost_bp) == (trigger.cost, trigger.cost_bp) == (1 + 20, 1_000)

    shop.feed(order("11:00", "o1", [line("BOOK", 2_000), line("SOAP", 305)]))
    shop.advance(instant("3d 10:00"))
    shop.feed(event("order.returned", "4d 10:00", order_id="o1", lines=[line("BOOK", 2_000)]))
    shop.advance(instant("4d 10:00"))

    assert [(outcome.offer, outcome.cost) for outcome in shop.outcomes] == [("pct_10", 21 + 230), ("pct_10", 21 + 30)]


def test_control_costs_nothing_and_would_have_had_the_same() -> None:
    """Else the arms could not be compared by offer."""
    shop = shop_with(Offer(("pct_10",), costs=COSTS), control_bp=10_000)
    shop.feed(order("11:00"))
    shop.advance(instant("4d 00:00"))

    decision, [outcome] = shop.decisions[0], shop.outcomes
    assert (decision.arm, decision.offer, decision.cost, decision.cost_bp) == ("control", "pct_10", 0, 0)
    assert (outcome.offer, outcome.cost) == ("pct_10", 0)
