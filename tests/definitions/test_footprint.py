"""What lint says that definitions cost is what the engine's states weigh."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner

from orchestrator.cli.lint import lint
from orchestrator.definitions.footprint import footprint
from orchestrator.events import DAY, HOUR, MINUTE, Event
from orchestrator.program import Program
from orchestrator.reference import Product, Reference
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.simulation import Simulation
from tests.builders import ANA, TOPICS, cart_add, event, instant, line, message, order, profile

PACKS = [Path("deploy/definitions/retail"), Path("deploy/definitions/retail_plus"),
         Path("bench/definitions/twenty_moments")]  # fmt: skip
FACTOR = 2
"""How far the estimate of a usual customer may be from one."""

SKUS = [f"SKU-{number:05}" for number in range(60)]
PRODUCTS = Reference(
    Product(sku, category=f"c{place % 6}", family=f"family-{place % 12}", typical_days_of_supply=30, stock=9)
    for place, sku in enumerate(SKUS)
)


def a_year(begin: int) -> list[Event]:
    """Return what somebody does who comes every week: looks around, fills carts, orders, opens what they are sent."""
    found: list[Event] = [profile(begin, born="1980-03-04")]
    for week in range(52):
        at = begin + week * 7 * DAY + week % 5 * HOUR
        bought = [SKUS[(week * 3 + place) % len(SKUS)] for place in range(3)]
        number = f"{week:06}"
        found += [event("site.visited", at), event("product.searched", at + 1, sku=bought[0])]
        found += [event("product.viewed", at + place * MINUTE, sku=sku) for place, sku in enumerate(bought)]
        found += [cart_add(at + HOUR, cart=f"c-{number}"), event("checkout.started", at + HOUR + 1)]
        found += [order(at + HOUR + MINUTE, f"o-{number}", [line(sku, 3_000) for sku in bought])]
        found += [event("order.delivered", at + 2 * DAY, order_id=f"o-{number}")]
        found += [cart_add(at + 3 * DAY, cart=f"d-{number}"), message(at + 4 * DAY)]
        found += [event("message.opened", at + 4 * DAY + 1, channel="email")]
    return sorted(found, key=lambda one: one.time)


def a_flood(begin: int) -> list[Event]:
    """Return what a machine does under one customer's id, every time with keys as long as a UUID."""
    found: list[Event] = [profile(begin, born="1980-03-04")]
    names = itertools.cycle(("product.viewed", "product.searched", "cart.item_added", "order.placed", "message.sent",
                             "order.delivered"))  # fmt: skip
    for number, name in zip(range(2_400), names, strict=False):
        key, sku = str(UUID(int=number)), SKUS[number % len(SKUS)]
        found.append(event(name, begin + number * 3 * HOUR, cart_id=key, order_id=key, sku=sku, cart_total=10**9,
                           total=10**9, channel="email", lines=[line(sku, 10**9)]))  # fmt: skip
    return found


def state_of(pack: Path, events: list[Event], begin: int) -> bytes:
    """Return the state that events leave of a customer."""
    simulated = Simulation(Program(load_folder(pack), TOPICS), PRODUCTS, start=begin, round_trip=True)
    simulated.run(events, to=begin + 53 * 7 * DAY, every=6 * HOUR)
    return simulated.customers[ANA].to_bytes()


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.name)
def test_a_usual_customer_costs_what_lint_says(pack: Path) -> None:
    """Within a factor of two, in total."""
    begin = instant("00:00")
    real = len(state_of(pack, a_year(begin), begin))
    said = sum(cost.usual for cost in footprint(load_folder(pack)))
    print(f"\n{pack.name}: {real} bytes, lint says {said}")

    assert said / FACTOR <= real <= said * FACTOR


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.name)
def test_nobody_costs_more_than_lint_says_at_most(pack: Path) -> None:
    """Not even a machine."""
    begin = instant("00:00")

    assert len(state_of(pack, a_flood(begin), begin)) <= sum(cost.at_most for cost in footprint(load_folder(pack)))


def test_what_learning_asks_for_is_counted_with_every_window() -> None:
    """Only where anybody learns."""
    definitions = load_folder(PACKS[0])
    learns = replace(definitions, policy=replace(definitions.policy, method="expected_value"))
    before, after = (next(c for c in footprint(one) if c.what == "customer") for one in (definitions, learns))

    assert 4 * 100 < after.usual - before.usual < 4 * 250  # the running window and three closed ones


def test_every_definition_is_named_with_what_it_needs_and_the_largest_comes_first() -> None:
    """What nobody wrote is part of what somebody wrote."""
    costs = footprint(load_folder(PACKS[0]))

    assert [cost.usual for cost in costs] == sorted((cost.usual for cost in costs), reverse=True)
    assert {cost.name for cost in costs if "." in cost.name} == set()
    assert {"cart_value", "abandoned_cart", "tenure"} <= {cost.name for cost in costs if cost.usual}


def test_lint_tells_what_the_definitions_cost() -> None:
    """For people the largest, for programs all of them."""
    shown = CliRunner().invoke(lint, [str(PACKS[0])])
    told = json.loads(CliRunner().invoke(lint, [str(PACKS[0]), "--json"]).stdout)["state"]

    assert "feature cart_value" in shown.stdout
    assert f"{told['usual']:,}" in shown.stdout
    assert told["usual"] == sum(one["usual"] for one in told["definitions"])
