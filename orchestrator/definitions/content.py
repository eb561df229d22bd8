"""What a campaign may ask its sender to put into a message with `with`: each name with the Avro type of its value."""

from __future__ import annotations

from collections.abc import Mapping

_PRODUCT = "record { sku: string, name: string, price: long }"

CONTENT: Mapping[str, tuple[str, str]] = {
    "cart_lines": (
        "array of record { sku: string, quantity: int, price: long }",
        "What lies in the cart that the moment is about; its `cart_id` is in the trigger's content.",
    ),
    "product": (_PRODUCT, "The product that the moment is about; its `sku` is in the trigger's content."),
    "due_product": (
        _PRODUCT,
        "What the customer usually buys of the family that is due; its `product_family` is in the trigger's content.",
    ),
    "next_quantity": ("int", "How many to propose: just above what they bought last time."),
    "subscription": (
        "record { every_days: int, price: long }",
        "A subscription to what is due, and what it would cost.",
    ),
    "new_collection": (
        f"array of {_PRODUCT}",
        "The products of the collection that the moment is about, or its first ones.",
    ),
    "recommended": (f"array of {_PRODUCT}", "Products that go with what the moment is about."),
    "liked_by_similar": (f"array of {_PRODUCT}", "Products that customers with a similar history like."),
}
"""Amounts of money are in minor units of the program's currency, as everywhere."""
