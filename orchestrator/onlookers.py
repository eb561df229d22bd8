"""Who waits for which product's stock: an index from sku to customers, derived from their states and never stored.

One per partition. It costs about 200 bytes for each customer and product that somebody looked at lately.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Generic, TypeVar

from orchestrator.events import STOCK, Event
from orchestrator.reference import Reference

K = TypeVar("K", bound=str | bytes)

MAX_REACHED = 1_000
"""Customers of one partition that one change of a product reaches: those who looked last."""

SWEEP_AT = 10_000
"""Entries at which those who wait no more are swept out for the first time, and then whenever there are twice as many
as were left."""


class Onlookers(Generic[K]):
    """Customers by sku, each with the instant until which they wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[K, int]] = {}
        self._skus: dict[K, tuple[str, ...]] = {}
        self._entries = 0
        self._sweep_at = SWEEP_AT

    def __len__(self) -> int:
        return self._entries

    def note(self, customer: K, awaited: Mapping[str, int]) -> None:
        """Let these be all the products that a customer waits for, each until an instant."""
        for sku in self._skus.pop(customer, ()):
            waiting = self._waiting[sku]
            del waiting[customer]
            self._entries -= 1
            if not waiting:
                del self._waiting[sku]
        if awaited:
            self._skus[customer] = tuple(awaited)
            for sku, until in awaited.items():
                self._waiting.setdefault(sku, {})[customer] = until
            self._entries += len(awaited)

    def of(self, sku: str, at: int) -> list[K]:
        """Return the customers that a change at an instant reaches, those who wait longest first."""
        waiting = [pair for pair in self._waiting.get(sku, {}).items() if pair[1] >= at]
        waiting.sort(key=itemgetter(0))
        waiting.sort(key=itemgetter(1), reverse=True)
        return [customer for customer, _ in waiting[:MAX_REACHED]]

    def sweep(self, now: int) -> None:
        """Let go of those who wait no more, once there are so many entries that it pays."""
        if self._entries < self._sweep_at:
            return
        for customer, skus in list(self._skus.items()):
            left = {sku: until for sku in skus if (until := self._waiting[sku][customer]) >= now}
            if len(left) < len(skus):
                self.note(customer, left)
        self._sweep_at = max(SWEEP_AT, 2 * self._entries)

    def tell(self, reference: Reference, after: int, until: int, arrived: dict[K, list[Event]]) -> None:
        """Add a time's changes of products as events to what arrived: for those who wait, or look just now."""
        count = reference.count_changes(after, until)
        if count == 0:
            return
        looks = _looks(arrived)
        asked = self._waiting.keys() | looks.keys()
        if len(asked) < count:  # as in a back-test, where each customer goes alone
            found = ((v.effective_from, sku) for sku in asked for v in reference.versions(sku, after + 1, until))
            changes = sorted(found)
        else:
            changes = reference.changes(after, until)
        for at, sku in changes:
            reached = [*self.of(sku, at), *looks.get(sku, ())]
            for customer in dict.fromkeys(reached):
                name = customer if isinstance(customer, str) else customer.decode()
                arrived.setdefault(customer, []).append(stock_changed(name, sku, at))


def _looks(arrived: Mapping[K, list[Event]]) -> dict[str, list[K]]:
    """Return the customers by the products that their events are about."""
    looks: dict[str, list[K]] = {}
    for customer, events in arrived.items():
        for event in events:
            for line in event.data.get("lines") or (event.data,):
                sku = line.get("sku")
                if sku is not None:
                    looks.setdefault(sku, []).append(customer)
    return looks


def stock_changed(customer: str, sku: str, at: int) -> Event:
    """Return the event that a change of a product is to one customer; before everything else of its instant."""
    return Event(STOCK, customer, at, topic=-1, data={"sku": sku})
