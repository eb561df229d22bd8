"""A feature that is defined late: given its history it is as if kept from the beginning, and nothing opens by that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from orchestrator.backfill import fact_of, give_facts, unknown_features
from orchestrator.customer import Customer, customer_from_bytes
from orchestrator.events import DAY, Event
from orchestrator.features import Feature
from orchestrator.moments.rules import During, Membership, Moment
from orchestrator.program import Program, Segment
from orchestrator.recall import recall
from orchestrator.simulation import Simulation
from tests.builders import (
    ANA,
    FEATURES,
    REFERENCE,
    campaign,
    cart_add,
    compare,
    event,
    instant,
    line,
    message,
    order,
    policy,
    profile,
    program,
    simulation,
)

YEAR = [
    profile("-400d 00:00", born="1990-03-04"),
    *(order(instant(f"-{day}d 10:00"), lines=[line()]) for day in range(360, 0, -17)),
    *(cart_add(instant(f"-{day}d 08:00"), cart=f"c{day}") for day in range(350, 0, -23)),
    *(message(instant(f"-{day}d 09:00")) for day in range(300, 0, -40)),
    *(event("product.viewed", instant(f"-{day}d 07:00"), sku="SOAP") for day in range(200, 0, -19)),
]
LATER = (
    Feature("orders_now", "count", ("order.placed",), over=60 * DAY),
    Feature("first_order", "first_time", ("order.placed",), unit="instant"),
    Feature("own_gap", "median_gap", ("order.placed",), otherwise=DAY, unit="duration"),
    Feature("alive", "p_alive", ("order.placed",)),
    Feature("seen", "distinct", ("product.viewed",), key="sku"),
    Feature("next_soap", "next_order_date", ("order.placed",), key="sku", unit="instant"),
    Feature("messages", "count", ("message.sent",)),
    Feature("orders_twin", "count", ("order.placed",)),  # as one that is there: one fact for both
)
NEW = tuple(one.name for one in LATER[:-1])


def shop_of(compiled: Program, events: Iterable[Event] = YEAR) -> Simulation:
    """Return a shop after some events, each decided when it came."""
    shop = Simulation(compiled, REFERENCE, round_trip=True)
    for one in sorted(events, key=Event.order):
        shop.feed(one)
        shop.advance(one.time)
    return shop


def backfill(shop: Simulation, names: Iterable[str], events: Iterable[Event] = YEAR) -> bool:
    """Fold a shop's history into features, as the command does; return whether that changed anything."""
    compiled, history = shop.program, Customer()
    recall(compiled, REFERENCE, ANA, history, sorted(events, key=Event.order), shop.decisions)
    history = customer_from_bytes(history.to_bytes())
    facts = {fact_of(compiled, name) for name in names}
    customer = customer_from_bytes(shop.customers[ANA].to_bytes())
    changed = give_facts(compiled, REFERENCE, ANA, customer, history, facts, shop.clock)
    if changed:
        shop.customers[ANA] = customer_from_bytes(customer.to_bytes())
    return changed


def grown(shop: Simulation, *features: Feature) -> Simulation:
    """Let a shop go on with more features."""
    definitions = replace(shop.program.definitions, features={one.name: one for one in (*FEATURES, *features)})
    shop.publish(Program(definitions))
    return shop


def test_a_late_feature_is_as_if_kept_from_the_beginning() -> None:
    """Whatever its kind, also what only our decisions know; the rest of the state is, byte for byte, as it was."""
    kept = shop_of(program(features=(*FEATURES, *LATER)))
    late = grown(shop_of(program()), *LATER)
    said = (list(late.decisions), list(late.triggers), list(late.outcomes))
    untouched = customer_from_bytes(late.customers[ANA].to_bytes())
    compiled = late.program
    assert said[1]  # our own messages count as well

    assert unknown_features(compiled, untouched.raw_facts) == sorted(NEW)
    assert backfill(late, NEW)

    facts, wanted = late.customers[ANA].raw_facts, kept.customers[ANA].raw_facts
    assert {name: bytes(raw) for name, raw in facts.items()} == {name: bytes(raw) for name, raw in wanted.items()}
    assert unknown_features(compiled, facts) == []
    assert (late.decisions, late.triggers, late.outcomes) == said
    without = customer_from_bytes(late.customers[ANA].to_bytes())
    without.forget_facts([fact_of(compiled, name) for name in NEW])
    assert list(without.raw_facts) != list(facts)
    assert set(without.raw_facts) == {compiled.filed.facts_from.get(name, name) for name in untouched.raw_facts}
    without.raw_facts = untouched.raw_facts
    assert without.to_bytes() == untouched.to_bytes()


def test_a_second_time_changes_nothing() -> None:
    """Not a byte."""
    late = grown(shop_of(program()), *LATER)
    assert backfill(late, NEW)
    first = late.customers[ANA].to_bytes()

    assert not backfill(late, NEW)
    assert late.customers[ANA].to_bytes() == first


def test_what_is_known_since_publication_is_completed() -> None:
    """A feature named although it has begun counts from the beginning; what history does not know is left alone."""
    late = grown(shop_of(program()), *LATER)
    late.feed(today := order("08:00"))
    late.advance(instant("09:00"))
    since = late.customers[ANA].raw_facts[fact_of(late.program, "first_order")]

    assert not backfill(late, ["first_order"], [])
    assert late.customers[ANA].raw_facts[fact_of(late.program, "first_order")] == since
    assert backfill(late, ["first_order"], [*YEAR, today])
    assert late.customers[ANA].fact(fact_of(late.program, "first_order")) == instant("-360d 10:00") // 1000


def test_a_quantile_or_stage_is_given_what_it_looks_at() -> None:
    """They keep nothing themselves."""
    tier = Feature("tier", "quantile", of="spent", bands=(("high", 10), ("low", None)), unit="text")
    spent = Feature("spent", "sum", ("order.placed",), field="total", unit="money")

    assert fact_of(program(features=(*FEATURES, spent, tier)), "tier").startswith("spent~")


JOINS = Moment("joins", "Joins", Membership("regulars", entered=True), lasts=30 * DAY)


@pytest.mark.parametrize("filled", [True, False])
def test_who_is_in_a_segment_by_it_has_not_entered(filled: bool) -> None:
    """Nor opens what waits for it during another moment; what happens from now on counts."""
    views = Feature("views", "count", ("product.viewed",), over=90 * DAY)
    regular = Segment("regulars", "Looks often", compare("views", ">=", 3))
    during = Moment("looks", "Looks", During("abandoned_cart"), only_if=compare("views", ">=", 3))
    cart = program().moments["abandoned_cart"]
    compiled = program(
        moments=(cart, JOINS, during),
        campaigns=[campaign("welcome", "joins"), campaign("looked", "looks")],
        features=(*FEATURES, views),
        segments=[regular],
        rules=policy(never_act_older_than=400 * DAY),
    )
    shop = simulation(compiled)
    shop.feed(profile(), cart_add("08:00"))
    shop.advance(instant("09:30"))  # the cart is abandoned, and nothing viewed so far as we know
    shop.feed(event("product.viewed", "09:40", sku="SOAP"))
    shop.advance(instant("09:45"))
    customer = shop.customers[ANA]
    assert (customer.fact("joins.in"), list(customer.peek("looks"))) == (False, ["c1"])
    past = [event("product.viewed", instant(f"-{day}d 07:00"), sku="SOAP") for day in range(1, 9)]
    if filled:
        assert backfill(shop, ["views"], [profile("-90d 00:00"), *past])
        customer = shop.customers[ANA]
        assert (customer.fact("joins.in"), list(customer.peek("looks"))) == (True, [])

    shop.feed(event("product.viewed", "10:00", sku="SOAP"), event("product.viewed", "10:01", sku="SOAP"))
    shop.advance(instant("+1d 12:00"))

    opened = {one.moment for decision in shop.decisions for one in decision.candidates} - {"abandoned_cart"}
    assert opened == (set() if filled else {"joins", "looks"})
