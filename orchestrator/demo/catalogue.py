"""What the shop sells: reference data derived from the purchases, a fixed table until there is a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from orchestrator.demo.purchases import Purchases, Record, read_purchases

if TYPE_CHECKING:
    from orchestrator.demo.purchases import Column

ENOUGH_GAPS = 4
"""A household tells something about a family after so many gaps between its purchases."""

ENOUGH_HOUSEHOLDS = 150
"""A family is judged when so many households tell something about it."""

REGULAR_SPREAD = 0.92
"""A family is reordered regularly when log gaps spread no more than this; for purchases at random it would be 1.28."""

BEST_SELLERS = 1000

_DAY = 86_400_000
_EASTERN = 5 * 3_600_000


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """List prices by position of the product, days of supply by family, and the positions of the best sellers."""

    purchases: Purchases
    prices: list[int]
    days_of_supply: dict[str, float]
    best_sellers: list[int]

    def records(self, products: Iterable[int], effective_from: int) -> Iterator[Record]:
        """Yield the `product` records of these positions."""
        for product in products:
            label = self.purchases.labels[product]
            yield {
                "sku": self.purchases.skus[product],
                "effective_from": effective_from,
                "category": label.category,
                "family": label.family,
                "price": self.prices[product],
                "margin_rate_bp": label.margin_rate_bp,
                "stock": None,
                "typical_days_of_supply": self.days_of_supply.get(label.family) if label.family else None,
                "launch_at": None,
                "name": label.name,
            }


@cache
def read_catalogue() -> Catalogue:
    """Return the catalogue of everything that was ever bought, whoever takes part, so that no customer changes it."""
    import numpy as np

    purchases = read_purchases()
    units = np.maximum(purchases.line_quantity, 1)
    unit_price = purchases.line_price // units
    by_product = np.lexsort((unit_price, purchases.line_sku))
    sold = np.bincount(purchases.line_sku, minlength=len(purchases.skus))
    middle = np.cumsum(sold) - sold + (sold - 1) // 2
    prices = unit_price[by_product][middle].tolist()

    popular = np.argsort(-sold, kind="stable").tolist()
    return Catalogue(
        purchases=purchases,
        prices=prices,
        days_of_supply=_days_of_supply(purchases),
        best_sellers=[product for product in popular if prices[product] > 0 and purchases.labels[product].family][
            :BEST_SELLERS
        ],
    )


def shopping_days(purchases: Purchases) -> tuple[list[str], Column, Column, int]:
    """Return all families, and the days on which households bought of them, in order; and of how many days.

    A pair is a household and a family, household x families + family; the same days on New York's calendar for all.
    """
    import numpy as np

    families = sorted({label.family for label in purchases.labels if label.family})
    number = {family: position for position, family in enumerate(families)}
    family = np.array([number.get(label.family or "", -1) for label in purchases.labels])[purchases.line_sku]
    lines = np.diff(purchases.line_from)
    household = np.repeat(np.repeat(np.arange(len(purchases.households)), np.diff(purchases.basket_from)), lines)
    day = (np.repeat(purchases.placed_at, lines) - _EASTERN) // _DAY
    day -= day.min()
    days = int(day.max()) + 1
    bought = np.unique(((household * len(families) + family) * days + day)[family >= 0])
    return families, bought // days, bought % days, days


def _days_of_supply(purchases: Purchases) -> dict[str, float]:
    """Return the typical gap of the families that households reorder regularly.

    A gap is the number of days between two shopping days of one household on which it bought the family. A household
    with enough of them has a typical gap, exp of the mean log; the family's is the same mean over its households, so
    that a daily buyer counts no more than a monthly one.
    """
    import numpy as np

    families, pair, day, _ = shopping_days(purchases)
    again = pair[1:] == pair[:-1]
    log_gap = np.log(np.diff(day)[again])

    pairs, of_pair, gaps = np.unique(pair[1:][again], return_inverse=True, return_counts=True)
    mean = np.bincount(of_pair, log_gap) / gaps
    spread = np.sqrt(np.bincount(of_pair, (log_gap - mean[of_pair]) ** 2) / np.maximum(gaps - 1, 1))
    enough = gaps >= ENOUGH_GAPS
    of_family = (pairs % len(families))[enough]
    counted = np.bincount(of_family, minlength=len(families))
    divisor = np.maximum(counted, 1)
    typical = np.exp(np.bincount(of_family, mean[enough], len(families)) / divisor)
    typical_spread = np.bincount(of_family, spread[enough], len(families)) / divisor
    regular = np.flatnonzero((counted >= ENOUGH_HOUSEHOLDS) & (typical_spread <= REGULAR_SPREAD))
    return {families[position]: round(float(typical[position]), 2) for position in regular.tolist()}
