"""Reference data as the engine sees it: products by sku, each version from its instant on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec


class Product(msgspec.Struct, frozen=True, gc=False):
    """One version of one product; money in minor units, rates in basis points."""

    sku: str
    effective_from: int = 0
    category: str | None = None
    family: str | None = None
    price: int | None = None
    margin_rate_bp: int | None = None
    stock: int | None = None
    typical_days_of_supply: float | None = None
    launch_at: int | None = None


class Reference:
    """Read-only view of the products and of snapshots: `product(sku, at)` is the newest version effective then."""

    __slots__ = ("_cut_points", "_families", "_versions")

    def __init__(self, products: Iterable[Product] = ()) -> None:
        self._versions: dict[str, tuple[Product, ...]] = {}
        self._families: dict[str, float] = {}
        self._cut_points: dict[str, list[tuple[int, Mapping[str, int]]]] = {}
        for product in products:
            self.put(product)

    def put(self, product: Product) -> None:
        """Add one version; the same sku and instant replaces."""
        versions = [v for v in self._versions.get(product.sku, ()) if v.effective_from != product.effective_from]
        self._versions[product.sku] = tuple(sorted([*versions, product], key=lambda v: -v.effective_from))
        if product.family is not None and product.typical_days_of_supply is not None:
            self._families[product.family] = product.typical_days_of_supply

    def product(self, sku: str, at: int) -> Product | None:
        """Return the version of a product effective at an instant, or None."""
        for version in self._versions.get(sku, ()):
            if version.effective_from <= at:
                return version
        return None

    def days_of_supply(self, family: str) -> float | None:
        """Return the typical days until a family runs out, or None where it is not consumed."""
        return self._families.get(family)

    def put_cut_points(self, feature: str, effective_from: int, least: Mapping[str, int]) -> None:
        """Add one snapshot of where the bands of a quantile begin, over all customers."""
        others = [pair for pair in self._cut_points.get(feature, ()) if pair[0] != effective_from]
        self._cut_points[feature] = sorted([*others, (effective_from, least)], key=lambda pair: -pair[0])

    def cut_points(self, feature: str, at: int) -> Mapping[str, int] | None:
        """Return the least value of each band as of an instant, or None before the first snapshot."""
        if not self._cut_points:
            return None
        return next((least for since, least in self._cut_points.get(feature, ()) if since <= at), None)

    def __len__(self) -> int:
        return len(self._versions)


def product_of(record: Mapping[str, Any]) -> Product:
    """Return the product that a record of the `products` topic describes."""
    return msgspec.convert(dict(record), Product)
