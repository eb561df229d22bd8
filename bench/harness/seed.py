"""Customers as they are before a measurement begins, decided by the engine itself and written to a worker's stores."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.customer import Customer
from orchestrator.definitions.catalogue import CATALOGUE
from orchestrator.engine import advance
from orchestrator.events import DAY, FOREVER, HOUR, PROFILE, Event
from orchestrator.program import Program
from orchestrator.reference import Reference, product_of
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.partitioner import murmur2_partition
from orchestrator.runtime.state_store import Meta, StateStore, Stored, pack

PRODUCTS, FAMILIES = 60, 20
HISTORY = 300 * DAY

Past = Callable[[str, int, random.Random], list[Event]]
"""Makes the events of a customer before an instant."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """What was written: customers, and their states' sizes in bytes."""

    customers: int
    median: int
    p99: int


TEMPLATES = 1_000
"""Histories that are decided; more customers than that share their states, which hold no customer's name."""


def products() -> list[dict[str, Any]]:
    """Return the products that orders are made of, as records of the `products` topic."""
    return [
        {
            "sku": f"SKU-{number:03}",
            "effective_from": 0,
            "category": "GROCERY",
            "family": f"family-{number % FAMILIES:02}",
            "price": 999,
            "margin_rate_bp": 3_000,
            "stock": None,
            "typical_days_of_supply": 30.0,
            "launch_at": None,
        }
        for number in range(PRODUCTS)
    ]


def profile_only(customer: str, until: int, chance: random.Random) -> list[Event]:
    """Return a profile that has agreed to e-mail, and nothing else."""
    del chance
    return [Event(PROFILE, customer, until - HISTORY, data=profile(customer, until - HISTORY))]


def profile(customer: str, at: int) -> dict[str, Any]:
    """Return the profile of somebody who agreed to e-mail, as the record that says so."""
    return {
        "customer_id": customer,
        "updated_at": at,
        "birth_date": "1987-08-14",
        "time_zone": "America/Chicago",
        "country": "US",
        "city": "Springfield",
        "consents": [{"channel": "email", "purpose": "marketing", "granted": True, "at": at}],
        "attributes": {},
    }


def with_orders(count: int) -> Past:
    """Return a past of about so many orders of three lines each, with the items that went into the carts."""

    def past(customer: str, until: int, chance: random.Random) -> list[Event]:
        events = profile_only(customer, until, chance)
        for _ in range(max(1, round(chance.gauss(count, count / 4)))):
            at = until - HISTORY + HOUR + chance.randrange(HISTORY - 3 * DAY)
            cart = f"k{chance.getrandbits(40):010x}"
            skus = [f"SKU-{chance.randrange(PRODUCTS):03}" for _ in range(3)]
            item = {"cart_id": cart, "sku": skus[0], "cart_total": 4_500, "category": "GROCERY", "unit_price": 1_500}
            events.append(Event("cart.item_added", customer, at - HOUR // 2, f"{at}i", 1, 0, item))
            lines = [{"sku": sku, "quantity": 1, "price": 1_500, "margin": None} for sku in skus]
            order = {"order_id": f"o{at}", "cart_id": cart, "lines": lines, "total": 4_500, "channel": "web"}
            events.append(Event("order.placed", customer, at, f"{at}o", 2, 0, order))
        return sorted(events, key=Event.order)

    return past


def seed(folder: Path, definitions: Path, customers: Sequence[str], partitions: int, until: int, past: Past) -> Seeded:
    """Write a worker's stores as they would be at `until`, one directory per partition.

    The stores name no changelog offset: the worker that takes them up goes on with an empty changelog.
    """
    program = program_of(definitions)
    states = decided(program, min(TEMPLATES, len(customers)), until, past)
    write_stores(folder, program, customers, states, partitions, until)
    sizes = sorted(len(one.state) for one in states)
    return Seeded(len(customers), sizes[len(sizes) // 2], sizes[len(sizes) * 99 // 100])


def decided(program: Program, count: int, until: int, past: Past) -> list[Stored]:
    """Return so many states as the engine makes them, from different pasts."""
    reference = Reference(map(product_of, products()))
    states = []
    for place in range(count):
        customer = Customer()
        events = past("template", until, random.Random(place))
        # Judged late, as a live worker judges a history that is replayed into it: nothing old is acted on.
        advance(program, reference, "template", customer, events, until, not_before=until - 30_000)
        states.append(Stored(customer.next_due, customer.to_bytes()))
    return states


def write_stores(
    folder: Path, program: Program, customers: Sequence[str], states: Sequence[Stored], partitions: int, until: int
) -> None:
    """Write the customers to the stores of so many partitions; the states are given out in turn."""
    stores = [StateStore(folder / str(number)) for number in range(partitions)]
    packed = [(pack(one), one.due) for one in states]
    batches = [store.batch() for store in stores]
    for place, name in enumerate(customers):
        key = name.encode()
        data, due = packed[place % len(packed)]
        batches[murmur2_partition(key, partitions)].put(key, data, due, FOREVER)
        if place % 20_000 == 19_999:
            for store, batch in zip(stores, batches, strict=True):
                store.write(batch)
            batches = [store.batch() for store in stores]
    for store, batch in zip(stores, batches, strict=True):
        batch.put_meta(Meta(until, {}, program.version, 0))
        store.write(batch)
        store.close()


def program_of(definitions: Path) -> Program:
    """Return the program of a folder of definitions."""
    return Program(load_folder(definitions), CATALOGUE.topic_by_event)
