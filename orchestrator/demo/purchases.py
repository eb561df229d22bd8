"""The real purchases: every basket of every household, in columns, turned into orders when asked for.

The table's timestamps carry no zone. They are UTC: the hour at which the shops are quiet moves from 8 to 9 o'clock when
American summer time ends and back when it begins, and subtracting New York's offset gives the same shopping day all
year, from 6 in the morning. Read as local time, people would shop most at 10 in the evening.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.demo.products import Label, read_labels
from orchestrator.demo.source import read_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Column = npt.NDArray[np.int64]

Record = dict[str, Any]

_COLUMNS = ["household_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp"]


class Basket(NamedTuple):
    """One order of one household; its lines are those from `first_line` up to, without, `end_line`."""

    order_id: str
    placed_at: int
    total: int
    first_line: int
    end_line: int


@dataclass(frozen=True, slots=True, eq=False)
class Purchases:
    """All baskets, sorted by household, instant and basket; lines in the same order, products as positions in `skus`.

    `basket_from` gives the first basket of each household and, at its end, the number of baskets; `line_from` does the
    same for the lines of each basket.
    """

    households: list[int]
    skus: list[str]
    labels: list[Label]
    basket_from: list[int]
    line_from: Column
    basket_ids: Column
    placed_at: Column
    totals: Column
    line_sku: Column
    line_quantity: Column
    line_price: Column
    line_margin: Column

    def baskets(self, position: int) -> list[Basket]:
        """Return the baskets of the household at this position of `households`, oldest first."""
        first, end = self.basket_from[position], self.basket_from[position + 1]
        lines = self.line_from[first : end + 1].tolist()
        return [
            Basket(f"o-{basket}", placed_at, total, first_line, end_line)
            for basket, placed_at, total, first_line, end_line in zip(
                self.basket_ids[first:end].tolist(),
                self.placed_at[first:end].tolist(),
                self.totals[first:end].tolist(),
                lines[:-1],
                lines[1:],
                strict=True,
            )
        ]

    def lines(self, basket: Basket) -> list[Record]:
        """Return the basket's order lines as the wire has them, money in cents."""
        skus, span = self.skus, slice(basket.first_line, basket.end_line)
        return [
            {"sku": skus[sku], "quantity": quantity, "price": price, "margin": margin}
            for sku, quantity, price, margin in zip(
                self.line_sku[span].tolist(),
                self.line_quantity[span].tolist(),
                self.line_price[span].tolist(),
                self.line_margin[span].tolist(),
                strict=True,
            )
        ]

    def order_placed(self, customer: str, basket: Basket, channel: str = "store", cart_id: str | None = None) -> Record:
        """Return the basket as an `order.placed` event."""
        return {
            "event_id": basket.order_id,
            "customer_id": customer,
            "event": "order.placed",
            "event_time": basket.placed_at,
            "order_id": basket.order_id,
            "cart_id": cart_id,
            "channel": channel,
            "lines": self.lines(basket),
            "total": basket.total,
        }


def customer_id(household: int) -> str:
    """Return the customer id of a household."""
    return f"hh-{household}"


@cache
def read_purchases() -> Purchases:
    """Return all purchases, read once in a process; OperatorError when the `demo` extra is not installed."""
    table = read_table("transactions", _COLUMNS)
    import numpy as np

    households = table["household_id"].to_numpy()
    baskets = table["basket_id"].to_numpy()
    placed_at = table["transaction_timestamp"].to_numpy().astype("datetime64[ms]").astype(np.int64)
    order = np.lexsort((baskets, placed_at, households))
    households, baskets, placed_at = households[order], baskets[order], placed_at[order]

    line_from = np.flatnonzero(np.diff(baskets, prepend=-1))
    basket_household = households[line_from]
    basket_from = np.flatnonzero(np.diff(basket_household, prepend=-1))

    products, line_sku = np.unique(table["product_id"].to_numpy()[order], return_inverse=True)
    labels = read_labels(products.tolist())
    price = np.rint(table["sales_value"].to_numpy()[order] * 100).astype(np.int64)
    rate = np.array([label.margin_rate_bp for label in labels], dtype=np.int64)

    return Purchases(
        households=basket_household[basket_from].tolist(),
        skus=[str(product) for product in products.tolist()],
        labels=labels,
        basket_from=[*basket_from.tolist(), len(line_from)],
        line_from=np.append(line_from, len(baskets)),
        basket_ids=baskets[line_from],
        placed_at=placed_at[line_from],
        totals=np.add.reduceat(price, line_from),
        line_sku=line_sku,
        line_quantity=table["quantity"].to_numpy()[order],
        line_price=price,
        line_margin=price * rate[line_sku] // 10_000,
    )
