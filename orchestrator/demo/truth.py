"""What was planted: every cart of a world and what became of it, known before anything has run."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Literal

CartKind = Literal["abandoned", "low_value", "emptied", "bought_in_time", "bought_late"]

LOW_VALUE = 2000
"""A cart worth less is planted as `low_value`, in cents."""


@dataclass(frozen=True, slots=True)
class PlantedCart:
    """One cart: until `last_item_at` items were added, then what its kind says happened to it, or nothing at all.

    `abandoned` and `low_value`: the customer placed no order, from this cart or any other, until 80 minutes later.
    `emptied`: the same, and the cart was emptied within the hour. `bought_in_time`: its order came within the hour.
    `bought_late`: its order came 75 minutes to 6 hours later, and no other in the first 75 minutes.
    """

    customer_id: str
    cart_id: str
    kind: CartKind
    first_item_at: int
    last_item_at: int
    value: int
    emptied_at: int | None = None
    bought_at: int | None = None
    order_id: str | None = None


@dataclass(slots=True)
class Truth:
    """Every planted cart of a world; complete once the world's stream is exhausted."""

    carts: list[PlantedCart] = field(default_factory=list)

    def counts(self) -> dict[CartKind, int]:
        """Return how many carts of each kind were planted."""
        return dict(sorted(Counter(cart.kind for cart in self.carts).items()))

    def of_kind(self, *kinds: CartKind) -> list[PlantedCart]:
        """Return the carts of these kinds."""
        return [cart for cart in self.carts if cart.kind in kinds]

    def to_json(self) -> str:
        """Return the truth as one JSON object: `counts`, and `carts` with every field of each."""
        return json.dumps({"counts": self.counts(), "carts": [asdict(cart) for cart in self.carts]})

    @classmethod
    def from_json(cls, text: str) -> Truth:
        """Return the truth that `to_json` wrote."""
        return cls([PlantedCart(**cart) for cart in json.loads(text)["carts"]])
