"""The one-moment job as a stream of events, and the triggers that must come of it.

Customers fill a cart within minutes; most order, some within the hour, a few only after it or at its very instant, and
some come back to a cart they had left. Events are in the order of their time, each one in the bytes of our schemas.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from orchestrator.events import HOUR, MINUTE, SECOND

STARTS_AT = 1_767_571_200_000  # 2026-01-05, a Monday
WITHIN = HOUR
EVENTS_PER_CUSTOMER = 9.6
"""What a customer's sessions come to, near enough to choose the number of customers by it."""


class Happening(NamedTuple):
    """One event: when, who, the topic, the cart, and the record."""

    at: int
    customer: str
    topic: str
    cart: str
    record: dict[str, Any]


class Due(NamedTuple):
    """One trigger: whose cart, and the instant at which the hour without an order was over."""

    customer: str
    cart: str
    due: int


def customer_name(number: int) -> str:
    """Return a customer's id."""
    return f"c-{number:07}"


@dataclass(frozen=True)
class Backlog:
    """Everything that happens to so many customers within `span` milliseconds of event time."""

    customers: int
    seed: int = 1
    span: int = 12 * HOUR
    stride: int = 1
    """Only every so many-th customer does anything; the others are just there."""
    visits: int = 0
    """Visits to the site before each item, which concern no definition; peers are not given any."""

    @cached_property
    def happenings(self) -> list[Happening]:
        """Every event, in the order of event time."""
        found: list[Happening] = []
        for number in range(self.customers):
            found.extend(self._customer(number * self.stride))
        found.sort(key=lambda one: (one.at, one.customer, one.topic))
        return found

    @property
    def ends_at(self) -> int:
        """An instant after which nothing happens and nothing is due."""
        return self.happenings[-1].at + 2 * WITHIN

    @cached_property
    def expected(self) -> frozenset[Due]:
        """The triggers, found by the definition: an item, and no order of this customer from then until the hour ends.

        An order at the very instant of the end counts; another item for the same cart makes the hour count anew.
        """
        waiting: dict[str, dict[str, int]] = {}
        due: set[Due] = set()
        for at, customer, topic, cart, _ in self.happenings:
            carts = waiting.setdefault(customer, {})
            for name in [name for name, until in carts.items() if until < at]:
                due.add(Due(customer, name, carts.pop(name)))
            if topic == "purchases":
                carts.clear()
            else:
                carts[cart] = at + WITHIN
        due.update(Due(customer, name, until) for customer, carts in waiting.items() for name, until in carts.items())
        return frozenset(due)

    def _customer(self, number: int) -> Iterator[Happening]:
        chance = random.Random(self.seed * 1_000_003 + number)
        customer = customer_name(number)
        at = STARTS_AT + chance.randrange(self.span)
        for session in range(2 if chance.random() < 0.1 else 1):
            cart, total = f"k{number:07}-{session}", 0
            for _ in range(chance.randint(4, 12)):
                price = chance.randrange(199, 2_999)
                total += price
                for visit in range(self.visits):
                    yield self._visit(self._item(customer, at - visit - 1, cart, price, total, chance))
                yield self._item(customer, at, cart, price, total, chance)
                at += chance.randrange(5 * SECOND, 4 * MINUTE)
            if chance.random() < 0.03:  # comes back to a cart that was left
                at += WITHIN + chance.randrange(10 * MINUTE)
                price = chance.randrange(199, 2_999)
                total += price
                yield self._item(customer, at, cart, price, total, chance)
                last = at
                at += chance.randrange(5 * SECOND, 4 * MINUTE)
            else:
                last = at
            kind = chance.random()
            if kind < 0.66:  # buys in time
                yield self._order(customer, at + chance.randrange(20 * MINUTE), cart, total, chance)
            elif kind < 0.67:  # buys at the last instant that counts, or what is near it
                yield self._order(customer, last + WITHIN, cart, total, chance)
            elif kind < 0.71:  # buys too late
                yield self._order(customer, last + WITHIN + MINUTE + chance.randrange(HOUR), cart, total, chance)
            at += 4 * HOUR

    @staticmethod
    def _item(customer: str, at: int, cart: str, price: int, total: int, chance: random.Random) -> Happening:
        record = {
            "event_id": f"{chance.getrandbits(64):016x}",
            "customer_id": customer,
            "event": "cart.item_added",
            "event_time": at,
            "sku": f"SKU-{chance.randrange(60):03}",
            "category": "GROCERY",
            "query": None,
            "cart_id": cart,
            "quantity": 1,
            "unit_price": price,
            "cart_total": total,
        }
        return Happening(at, customer, "clickstream", cart, record)

    @staticmethod
    def _visit(item: Happening) -> Happening:
        nothing = dict.fromkeys(("sku", "category", "cart_id", "quantity", "unit_price", "cart_total"))
        return item._replace(cart="", record={**item.record, **nothing, "event": "site.visited"})

    @staticmethod
    def _order(customer: str, at: int, cart: str, total: int, chance: random.Random) -> Happening:
        lines = [
            {"sku": f"SKU-{chance.randrange(60):03}", "quantity": 1, "price": total // 3, "margin": None}
            for _ in range(3)
        ]
        record = {
            "event_id": f"{chance.getrandbits(64):016x}",
            "customer_id": customer,
            "event": "order.placed",
            "event_time": at,
            "order_id": f"o{chance.getrandbits(64):016x}",
            "cart_id": cart,
            "channel": "web",
            "lines": lines,
            "total": total,
        }
        return Happening(at, customer, "purchases", cart, record)
