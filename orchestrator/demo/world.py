"""The demo's input: real purchases with an invented year around them, in the order in which records arrive."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from operator import itemgetter

from orchestrator.demo.catalogue import read_catalogue
from orchestrator.demo.feed import PRODUCTS, Arrival
from orchestrator.demo.people import read_survey
from orchestrator.demo.purchases import customer_id
from orchestrator.demo.shopper import DAY, WEEK, Shopper
from orchestrator.demo.truth import PlantedCart, Truth

OPENS_AT = 1_483_228_800_000
"""2017-01-01T00:00Z: products and first profiles arrive at this instant, everything else after it."""

DAYS = 366
"""The last purchase is of 1 January 2018."""

_ARRIVAL = itemgetter(0)


class World:
    """One world: `stream` yields it, and `truth` tells what was planted in it.

    The same seed gives the same records on every machine. A world of fewer households is part of a larger one with the
    same seed: nothing about a customer depends on the others.
    """

    def __init__(self, seed: int, households: int | None = None, days: int | None = None) -> None:
        self.seed = seed
        self.opens_at = OPENS_AT
        self.ends_at = OPENS_AT + (DAYS if days is None else days) * DAY
        self.truth = Truth()
        self._catalogue = read_catalogue()
        self._households = self._catalogue.purchases.households[:households]

    @property
    def customers(self) -> list[str]:
        """Return the ids of all customers."""
        return [customer_id(household) for household in self._households]

    def stream(self) -> Iterator[Arrival]:
        """Yield every record as (arrival in milliseconds, topic, key, record), in arrival order, before `ends_at`.

        `truth` starts anew with each stream and is complete when the stream is exhausted. Only about a week is in
        memory at a time. A record that arrives twice is one object: leave it as it is.
        """
        carts: list[PlantedCart] = []
        self.truth = Truth(carts)
        yield from self._products()
        shoppers = [
            Shopper(self.seed, position, self._catalogue, read_survey(), self.opens_at, self.ends_at, carts)
            for position in range(len(self._households))
        ]
        arrived: list[Arrival] = []
        for shopper in shoppers:
            shopper.join(arrived)
        for start in range(self.opens_at, self.ends_at, WEEK):
            for shopper in shoppers:
                shopper.week(start, arrived)
            # Stable, and by time alone: records of one customer at the same instant keep the order they were made in.
            arrived.sort(key=_ARRIVAL)
            ready = bisect_left(arrived, min(start + WEEK, self.ends_at), key=_ARRIVAL)
            yield from arrived[:ready]
            del arrived[:ready]

    def _products(self) -> Iterator[Arrival]:
        purchases = self._catalogue.purchases
        lines = int(purchases.line_from[purchases.basket_from[len(self._households)]])
        sold = set(purchases.line_sku[:lines].tolist()).union(self._catalogue.best_sellers)
        for record in self._catalogue.records(sorted(sold), self.opens_at):
            yield self.opens_at, PRODUCTS, record["sku"], record
