"""Which products go together: the cosine of their sets of buyers, from counts that grow with every purchase."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from orchestrator.reference import SimilarProduct, SimilarProducts

SHRINK = 20
"""Common buyers that halve nothing any more: with so many a cosine counts half, with few of them next to nothing."""

LEAST_BUYERS = 20
"""Customers who must have bought a product before anything is said of it."""

MOST_PRODUCTS = 4_000
"""Products that are compared, those with the most buyers: the counts of all pairs take four bytes each."""

CLOSEST = 10

_BP = 10_000


class Pairs(NamedTuple):
    """Counts of pairs by their places in a square of products."""

    places: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int32]


class Together:
    """How many customers bought each of two products, for the products named; a second purchase changes nothing."""

    def __init__(self, skus: Iterable[str]) -> None:
        self.skus = sorted(skus)
        self._place = {sku: place for place, sku in enumerate(self.skus)}
        self._both = np.zeros((len(self.skus), len(self.skus)), dtype=np.int32)
        self._bought: dict[str, list[int]] = {}

    def put(self, customer: str, skus: Iterable[str]) -> None:
        """Count what a customer bought, in one order or in many."""
        before = self._bought.setdefault(customer, [])
        known = set(before)
        new = sorted({place for sku in skus if (place := self._place.get(sku)) is not None} - known)
        if new:
            self._both[np.ix_(new, before + new)] += 1
            self._both[np.ix_(before, new)] += 1
            before += new

    def pairs(self) -> Pairs:
        """Return the counts that are not nought, for another to add: each customer may be counted by one only."""
        places = np.flatnonzero(self._both)
        return Pairs(places, self._both.ravel()[places])

    def add(self, pairs: Pairs) -> None:
        """Add the counts of customers who are not counted here."""
        self._both.ravel()[pairs.places] += pairs.counts

    @property
    def buyers(self) -> npt.NDArray[np.int64]:
        """How many customers bought each product, in order of the skus."""
        return self._both.diagonal().astype(np.int64)

    def closeness(self) -> npt.NDArray[np.float64]:
        """Return the shrunk cosine of every pair, 0 of a product with itself and of those with too few buyers."""
        buyers, both = self.buyers, self._both.astype(np.float64)
        enough = buyers >= LEAST_BUYERS
        norm = np.sqrt(np.maximum(buyers, 1).astype(np.float64))
        found = both / norm[:, None] / norm[None, :] * (both / (both + SHRINK))
        found[~enough] = 0
        found[:, ~enough] = 0
        np.fill_diagonal(found, 0)
        return found

    def snapshots(self, effective_from: int) -> list[SimilarProducts]:
        """Return the closest products of each product that has any, in order of skus."""
        basis_points = np.rint(self.closeness() * _BP).astype(np.int64)
        buyers = self.buyers
        found = []
        for place, sku in enumerate(self.skus):
            ranked = np.argsort(-basis_points[place], kind="stable")[:CLOSEST]
            closest = tuple(
                SimilarProduct(self.skus[other], int(basis_points[place, other]))
                for other in ranked.tolist()
                if basis_points[place, other] > 0
            )
            if closest:
                found.append(SimilarProducts(sku, effective_from, closest, int(buyers[place])))
        return found
