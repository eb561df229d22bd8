"""The events that definitions may name: their properties with types, and the topic each comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.features import PER_LINE_KEYS

TYPES = ("number", "money", "text", "truth", "instant", "lines")
"""The types a property can have; `lines` are the products of an order and cannot be compared."""


@dataclass(frozen=True, slots=True)
class EventType:
    """One kind of event: where it comes from and what it tells, by property."""

    name: str
    topic: str
    properties: Mapping[str, str]

    def carries(self, key: str) -> bool:
        """Return whether such an event can say which key it is about, directly or through its products."""
        if key in self.properties:
            return self.properties[key] != "lines"
        return key in PER_LINE_KEYS and ("sku" in self.properties or "lines" in self.properties)

    @property
    def keys(self) -> tuple[str, ...]:
        """What something can be kept per, going by this event."""
        own = [name for name, kind in self.properties.items() if kind == "text"]
        return tuple(own + [key for key in PER_LINE_KEYS if key not in own and self.carries(key)])


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All events by name; `extended` returns a larger one."""

    events: Mapping[str, EventType]

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that events come from, in order of first mention, and the one that products come from."""
        return (*dict.fromkeys(event.topic for event in self.events.values()), "products")

    @property
    def topic_by_event(self) -> dict[str, str]:
        """Which topic each event comes from."""
        return {event.name: event.topic for event in self.events.values()}

    def extended(self, more: Iterable[EventType]) -> Catalogue:
        """Return this catalogue with further events, as declared in `topics.yaml`."""
        return Catalogue({**self.events, **{event.name: event for event in more}})


_BROWSED = {"sku": "text", "category": "text"}
_CART = {"cart_id": "text", "cart_total": "money"}
_CART_ITEM = {"cart_id": "text", "sku": "text", "quantity": "number", "unit_price": "money", "cart_total": "money"}
_ORDER = {"order_id": "text", "cart_id": "text", "channel": "text", "lines": "lines", "total": "money"}
_MESSAGE = {"channel": "text", "trigger_id": "text", "campaign": "text", "machine": "truth"}

_BUILT_IN: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "clickstream": {
        "site.visited": {},
        "product.viewed": _BROWSED,
        "product.searched": {**_BROWSED, "query": "text"},
        "cart.item_added": _CART_ITEM,
        "cart.item_removed": _CART_ITEM,
        "cart.emptied": _CART,
        "checkout.started": _CART,
    },
    "purchases": dict.fromkeys(("order.placed", "order.delivered", "order.cancelled", "order.returned"), _ORDER),
    "email-engagement": dict.fromkeys(
        (
            "message.sent", "message.delivered", "message.opened", "message.clicked", "message.bounced",
            "customer.unsubscribed",
        ),
        _MESSAGE,
    ),
}  # fmt: skip

CATALOGUE = Catalogue(
    {
        name: EventType(name, topic, properties)
        for topic, events in _BUILT_IN.items()
        for name, properties in events.items()
    }
)
"""The events every installation knows."""

PROFILE_TYPES: Mapping[str, str] = {"birth_date": "date", "time_zone": "text", "country": "text", "city": "text"}
"""What conditions may ask about a customer's profile."""

PRODUCT_TYPES: Mapping[str, str] = {
    "stock": "number",
    "price": "money",
    "category": "text",
    "family": "text",
    "typical_days_of_supply": "number",
    "launch_at": "instant",
}
"""What conditions may ask about the product that a moment is about."""
