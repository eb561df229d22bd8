"""What a product is called and what it earns: category, family, margin rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from orchestrator.demo.source import read_table

LOWEST_MARGIN_BP, HIGHEST_MARGIN_BP = 1500, 4500


class Label(NamedTuple):
    """Category (the department), family (the product category) and margin rate; both names may be unknown."""

    category: str | None
    family: str | None
    margin_rate_bp: int


def read_labels(product_ids: Sequence[int]) -> list[Label]:
    """Return one label per product id, in the same order; a product that nobody described has no names."""
    table = read_table("products", ["product_id", "department", "product_category"])
    names = dict(
        zip(
            table["product_id"].to_pylist(),
            zip(table["department"].to_pylist(), table["product_category"].to_pylist(), strict=True),
            strict=True,
        )
    )
    rates: dict[str, int] = {}
    labels = []
    for product in product_ids:
        category, family = names.get(product, (None, None))
        stem = family or category or ""
        rate = rates.get(stem)
        if rate is None:
            rate = rates[stem] = margin_rate_bp(stem)
        labels.append(Label(category, family, rate))
    return labels


def margin_rate_bp(family: str) -> int:
    """Return the family's margin in basis points: 15 to 45 %, invented, since the data has none, by a stable hash."""
    return LOWEST_MARGIN_BP + crc32(family.encode()) % (HIGHEST_MARGIN_BP - LOWEST_MARGIN_BP + 1)
