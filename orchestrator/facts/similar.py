"""Products that go with others: those close to all of them together, as a snapshot over all customers says."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.view import CustomerView


def close_to(view: CustomerView, liked: Mapping[str, int], most: int) -> list[str]:
    """Return the products closest to those liked, each weighed; not these themselves, and nothing that is sold out."""
    closeness: dict[str, int] = {}
    for sku, weight in liked.items():
        for other in view.reference.similar(sku, view.now):
            if other.sku not in liked:
                closeness[other.sku] = closeness.get(other.sku, 0) + weight * other.closeness_bp
    ranked = sorted(closeness, key=lambda sku: (-closeness[sku], sku))
    return [sku for sku in ranked if _is_sold(view, sku)][:most]


def _is_sold(view: CustomerView, sku: str) -> bool:
    product = view.reference.product(sku, view.now)
    if product is None:
        return True
    return product.stock != 0 and (product.launch_at is None or product.launch_at <= view.now)
