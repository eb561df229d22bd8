"""How events reach the topics: nearly all at once, a few late, a few twice."""

from __future__ import annotations

from orchestrator.demo.people import Chance
from orchestrator.demo.purchases import Record

Arrival = tuple[int, str, str, Record]
"""When a record arrives, milliseconds; its topic, its key, and the record."""

CLICKSTREAM, PURCHASES, ENGAGEMENT = "clickstream", "purchases", "email-engagement"
PROFILES, PRODUCTS = "customer-profiles", "products"

DISORDER = 20_000
"""No event arrives later than this after its time, and none twice with more than this between."""

LATE = 0.01
"""Share of the clickstream that arrives after its time; orders, messages and profiles are never late."""

DUPLICATE = 0.001
"""Share of the events that arrive twice, with the same event id."""


class Feed:
    """One customer's events on their way; they are appended to `out`, which is not sorted."""

    __slots__ = ("_chance", "_made", "customer", "out")

    def __init__(self, customer: str, chance: Chance) -> None:
        self.customer = customer
        self.out: list[Arrival] = []
        self._chance = chance
        self._made = 0

    def new_id(self, prefix: str) -> str:
        """Return an id that no other event or cart has."""
        self._made += 1
        return f"{prefix}-{self.customer}-{self._made}"

    def click(
        self,
        at: int,
        event: str,
        sku: str | None = None,
        category: str | None = None,
        query: str | None = None,
        cart_id: str | None = None,
        quantity: int | None = None,
        unit_price: int | None = None,
        cart_total: int | None = None,
    ) -> None:
        """Send one clickstream event."""
        self._made = made = self._made + 1
        customer = self.customer
        record = {
            "event_id": f"e-{customer}-{made}",
            "customer_id": customer,
            "event": event,
            "event_time": at,
            "sku": sku,
            "category": category,
            "query": query,
            "cart_id": cart_id,
            "quantity": quantity,
            "unit_price": unit_price,
            "cart_total": cart_total,
        }
        chance = self._chance()
        if chance < LATE:
            at += 1 + int(chance / LATE * DISORDER)
        elif chance > 1 - DUPLICATE:
            self.out.append((at, CLICKSTREAM, customer, record))
            at += 1 + int((1 - chance) / DUPLICATE * DISORDER)
        self.out.append((at, CLICKSTREAM, customer, record))

    def message(self, at: int, event: str, channel: str, campaign: str | None, machine: bool = False) -> None:
        """Send one engagement event of a message that is not ours."""
        record = {
            "event_id": self.new_id("m"),
            "customer_id": self.customer,
            "event": event,
            "event_time": at,
            "channel": channel,
            "trigger_id": None,
            "campaign": campaign,
            "machine": machine,
        }
        self._send(ENGAGEMENT, at, record)

    def order(self, record: Record) -> None:
        """Send one purchase event."""
        self._send(PURCHASES, record["event_time"], record)

    def profile(self, record: Record) -> None:
        """Send one profile record; the newest replaces the one before, so none is sent twice."""
        self.out.append((record["updated_at"], PROFILES, self.customer, record))

    def _send(self, topic: str, at: int, record: Record) -> None:
        self.out.append((at, topic, self.customer, record))
        chance = self._chance()
        if chance < DUPLICATE:
            self.out.append((at + 1 + int(chance / DUPLICATE * DISORDER), topic, self.customer, record))
