"""A customer's bytes: they come back whole, what nobody touched is copied, and old ones stay readable."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.customer import (
    OPEN,
    STATE_VERSION,
    WAITING,
    Answered,
    Context,
    Customer,
    Instance,
    Profile,
    Window,
    customer_from_bytes,
)
from orchestrator.events import FOREVER
from orchestrator.migrations import UnknownStateVersionError


def everything(version: int = STATE_VERSION) -> Customer:
    """Return a customer of whom everything is known that a state of a version can hold."""
    customer = Customer(
        now=1_488_362_400_000,
        decide_at=1_488_400_000_000,
        window=Window("d1", "cart_rescue", False, "abandoned_cart", 10, 20, 1, "v1", orders={"o1": (1_000, 400)}),
        profile=Profile(5, "1980-07-04", "Europe/Madrid", "ES", "Madrid", {"tier": "gold"}),
        consents={"email/marketing": (True, 5)},
        sent=[(7, "email")],
        seen={2**62: 9},
        over={"abandoned_cart/c1": 8},
        years={"birthday_week": 2_017},
        picked={"replenishment_window": 6},
        recorded=2**63 - 1,
        answered=[Answered("abandoned_cart", "c1", 1, 2, 3, "d1", 4, "cart_rescue", "email", "rescue", "t1")],
        fires={"": 20, "abandoned_cart": 30},
    )
    customer.set_fact("orders_lifetime", 3)
    customer.set_fact("cart_value", {"c1": [5_000, 1_488_358_800]})
    customer.instances("abandoned_cart")["c2"] = Instance(OPEN, 1, 2, 3, "slot_held", "cart_rescue")
    customer.instances("lapsed")[""] = Instance(WAITING, 1, 2, FOREVER)
    customer.closed.append(Window("d0", "winback", True, "lapsed", 1, 2, 0, "v0", revision=1, void=True))
    if version >= 2:
        window = customer.closed[0]
        window.triggers, window.clicked, window.objective = ["t0"], True, "new_category"
        window.offer, window.cost_bp, window.categories = "pct_10", 1_000, {"o0": ["care"]}
    if version >= 3:
        customer.earned, customer.closed[0].earned_before = [2_460, 400, 0, 300], 1_200
    if version >= 4:
        customer.set_fact("reorder_due", {"hair": [1, 2_995_732, 1_488_358_800, 400, 1_486_630_800]})
    if version >= 5:
        customer.closed[0].context = Context(
            "value_tier=high",
            "welcome",
            "email",
            0.75,
            0.125,
            1_500,
            ["winback+pct_10@email"],
            9,
            "explore",
            "s1",
            True,
        )
    return customer


def contents(customer: Customer) -> object:
    """Return everything a state holds, decoded."""
    facts = {name: customer.fact(name) for name in customer.raw_facts}
    instances = {name: customer.instances(name) for name in customer.raw_instances}
    plain = {name: getattr(customer, name) for name in Customer.__struct_fields__ if not name.startswith("raw_")}
    return plain, facts, instances, customer.closed


def test_bytes_round_trip() -> None:
    """What was known is known again."""
    customer = everything()
    data = customer.to_bytes()
    back = customer_from_bytes(data)

    assert contents(back) == contents(customer)
    assert back.to_bytes() == data


def test_untouched_sections_are_copied_as_they_came() -> None:
    """A section that nobody asked for is not decoded, and written back byte for byte."""
    customer = everything()
    odd = b"\x83\xa1a\x01\xa1b\x02\xa1c\xcd\x00\x03"  # three as two bytes: nobody's encoder writes that
    customer.to_bytes()
    customer.raw_facts["odd"] = msgspec.Raw(odd)
    data = customer.to_bytes()

    back = customer_from_bytes(data)
    back.set_fact("orders_lifetime", 4)
    assert odd in back.to_bytes()

    assert back.fact("odd") == {"a": 1, "b": 2, "c": 3}
    assert odd in back.to_bytes()  # looking is not touching


def test_a_section_that_became_empty_is_gone() -> None:
    """Nothing is kept of what is over."""
    customer = customer_from_bytes(everything().to_bytes())
    customer.instances("abandoned_cart").clear()
    customer.set_fact("cart_value", None)
    back = customer_from_bytes(customer.to_bytes())

    assert list(back.raw_instances) == ["lapsed"]
    assert list(back.raw_facts) == ["orders_lifetime", "reorder_due"]


def test_a_customer_in_memory_may_be_written_again_and_again() -> None:
    """Changes after one writing are in the next, whether the section was decoded before or after."""
    customer = everything()
    for number in range(3):
        customer.set_fact("orders_lifetime", number)
        customer.instances("lapsed")[""].due = number
        back = customer_from_bytes(customer.to_bytes())

        assert back.fact("orders_lifetime") == number
        assert back.instances("lapsed")[""].due == number


def test_next_due_is_the_earliest() -> None:
    """Of the next decision and all timers."""
    assert Customer().next_due == FOREVER
    assert everything().next_due == 20
    assert Customer(decide_at=7, fires={"a": 9}).next_due == 7


def test_nobody_costs_little() -> None:
    """A customer of whom nothing is known takes a few bytes."""
    assert len(Customer().to_bytes()) < 60


def test_newer_version_refused() -> None:
    """A state of a program to come is not guessed at; the message says what to do and names nobody."""
    data = bytes([STATE_VERSION + 1]) + everything().to_bytes()[1:]

    with pytest.raises(UnknownStateVersionError, match="run the newer program"):
        customer_from_bytes(data)
