"""Prints what a customer's state costs, read whole or section by section: `python -m bench.state_layout`."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec

from orchestrator.customer import OPEN, WAITING, Customer, Instance, Profile, Window, customer_from_bytes
from orchestrator.events import DAY, HOUR

NOW = 1_488_362_400_000
_ROUNDS, _CALLS, _IN_MEMORY = 9, 5_000, 2_000


class Whole(msgspec.Struct, array_like=True):
    """The same state with every section decoded: what the engine would work on without lazy sections."""

    core: list[Any]
    facts: dict[str, Any]
    instances: dict[str, dict[str, Instance]]
    closed: list[Window]


def main() -> None:
    """Print bytes, microseconds and memory of each layout, for customers of three sizes."""
    print(f"{'layout':44}{'bytes':>7}{'µs decode + encode':>20}{'bytes in memory':>20}")
    for families in (4, 24, 72):
        compare(typical(families))
        print()


def compare(customer: Customer) -> None:
    """Print what one customer costs."""
    lazy = customer.to_bytes()
    core = [getattr(customer, name) for name in Customer.__struct_fields__ if not name.startswith("raw_")]
    facts = {name: customer.fact(name) for name in customer.raw_facts}
    instances = {name: customer.instances(name) for name in customer.raw_instances}
    encode = msgspec.msgpack.Encoder().encode
    whole = encode(Whole(core, facts, instances, customer.closed))
    decode_whole = msgspec.msgpack.Decoder(Whole).decode

    def touch_cart() -> bytes:
        """Do what an item in a cart does to a state: one feature and one moment change."""
        back = customer_from_bytes(lazy)
        back.set_fact("cart_value", back.fact("cart_value"))
        back.instances("abandoned_cart")
        return back.to_bytes()

    def touch_all() -> bytes:
        """Change every section, the worst case."""
        back = customer_from_bytes(lazy)
        for name in list(back.raw_facts):
            back.set_fact(name, back.fact(name))
        for name in list(back.raw_instances):
            back.instances(name)
        return back.to_bytes()

    held = memory(lambda: decode_whole(bytes(bytearray(whole))))
    print(
        f"{'whole, typed':44}{len(whole):>7,}{microseconds(lambda: encode(decode_whole(whole))):>20.1f}{held:>20,.0f}"
    )
    held = memory(lambda: customer_from_bytes(bytes(bytearray(lazy))))
    print(f"{'in sections, an item in a cart':44}{len(lazy):>7,}{microseconds(touch_cart):>20.1f}{held:>20,.0f}")
    print(f"{'in sections, every section changed':44}{len(lazy):>7,}{microseconds(touch_all):>20.1f}")
    print(f"{'in sections, decoded only':44}{len(lazy):>7,}{microseconds(lambda: customer_from_bytes(lazy)):>20.1f}")


def typical(families: int) -> Customer:
    """Return a customer of a year of shopping in some families, with a window that runs and two that are closed."""
    customer = Customer(
        now=NOW,
        decide_at=NOW + 9 * HOUR,
        window=window("cart_rescue", 0),
        profile=Profile(NOW, "1980-07-04", "Europe/Madrid", "ES", "Madrid", {"tier": "gold"}),
        consents={"email/marketing": (True, NOW), "sms/marketing": (False, NOW)},
        sent=[(NOW - day * DAY, "email") for day in range(3)],
        seen={2**62 + number: NOW for number in range(6)},
        over={"abandoned_cart/": NOW, "lapsed/": NOW},
        years={"birthday_week": 2_016},
        picked={"replenishment_window": NOW},
        recorded=2**62,
        fires={"": NOW + DAY, "abandoned_cart": NOW + HOUR, "lapsed": NOW + DAY, "replenishment_window": NOW + DAY},
    )
    seconds = NOW // 1000
    for name, state in {
        "orders_lifetime": 31,
        "tenure.of": seconds,
        "order_gap": [seconds - number * 600_000 for number in range(10)],
        "cart_value": {f"cart-{number}": [4_200, seconds] for number in range(4)},
        "messages_90d": [[number, 1] for number in range(5_700, 5_712)],
        "message_engaged_at": seconds,
        "reorder_due": {f"FAMILY NUMBER {number}": [3, 9_123_456, seconds, 321] for number in range(families)},
    }.items():
        customer.set_fact(name, state)
    customer.instances("abandoned_cart")["cart-3"] = Instance(WAITING, NOW, NOW + HOUR, NOW + 49 * HOUR)
    customer.instances("lapsed")[""] = Instance(WAITING, NOW, NOW + 60 * DAY, NOW + 90 * DAY)
    customer.instances("birthday_week")["2017"] = Instance(OPEN, NOW, NOW, NOW + DAY, "slot_held", "cart_rescue")
    for number in range(families // 2):
        key = f"FAMILY NUMBER {number}"
        customer.instances("replenishment_window")[key] = Instance(WAITING, NOW, NOW + DAY, NOW + 9 * DAY)
    customer.closed.extend(window("reorder_reminder", number) for number in range(1, 3))
    customer.to_bytes()
    return customer


def window(campaign: str, number: int) -> Window:
    """Return a measurement window in which one order was placed."""
    start = NOW - number * 7 * DAY
    name = f"{number:032x}"
    return Window(
        name, campaign, False, "moment", start, start + DAY, 1, "5f2c", 0, {f"order-{number}": (5_000, 1_500)}
    )


def microseconds(call: Callable[[], object]) -> float:
    """Return the cost of one call, in the best of several rounds: others share the machine."""
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for _ in range(_CALLS):
            call()
        best = min(best, time.perf_counter() - start)
    return best / _CALLS * 1e6


def memory(load: Callable[[], object]) -> float:
    """Return how many bytes one loaded state takes."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [load() for _ in range(_IN_MEMORY)]
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(kept) == _IN_MEMORY
    return held / _IN_MEMORY


if __name__ == "__main__":
    main()
