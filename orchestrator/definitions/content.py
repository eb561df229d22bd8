"""What a campaign may ask to be put into a message with `with`: each name with the Avro type of its value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from orchestrator.arbitration.campaign import Campaign
from orchestrator.features import BOUGHT_OFTEN, CART_EVENTS, CART_LINES, MAX_CARTS, Feature
from orchestrator.moments.rules import Moment

_PRODUCT = "record NamedProduct { sku: string, name: string?, price: long? }"

CONTENT: Mapping[str, tuple[str, str]] = {
    "cart_lines": (
        "array of record CartLine { sku: string, quantity: int, price: long?, name: string? }",
        "What lies in the cart that the moment is about (`key: cart_id`): the last 20 products put in, as the price of "
        "one unit was told then, else the list price.",
    ),
    "product": (_PRODUCT, "The product that the moment is about (`key: sku`)."),
    "due_product": (
        _PRODUCT,
        "What the customer usually buys of what is due: the product that leads the lines of their orders. This and the "
        "next three need a feature with `predict: next_order_date` per what the moment is about.",
    ),
    "next_quantity": ("int", "How many to propose: one more than they bought of what is due on their last trip."),
    "reorder_window": (
        "record ReorderWindow { earliest: long, expected: long, latest: long, coverage_bp: int }",
        "When the next order of what is due comes, instants: four of five come inside. From the second order on.",
    ),
    "subscription": (
        "record Subscription { sku: string, every_days: int, quantity: int, price: long? }",
        "A subscription to `due_product`: their own usual gap, the units of the last trip, and what these cost at the "
        "list price. Known once three more repeats came at half to twice the expected gap than did not.",
    ),
    "new_collection": (
        "array of record NamedProduct",
        "What goes on sale next in the category that the moment is about (`around: { date: product.launch_at }`), all "
        "that comes at the same instant, at most 5.",
    ),
    "recommended": (
        "array of record NamedProduct",
        "At most 5 products close to those in the cart, to the product, or to what is due. Like the next one it needs "
        "`orchestrator snapshots similar`, and names nothing that is sold out or not yet on sale.",
    ),
    "liked_by_similar": (
        "array of record NamedProduct",
        "At most 5 products close to what this customer buys: to what leads in everything that is predicted, or, where "
        "nothing is, to the 10 bought most often.",
    ),
}
"""What ends in `?` may be null. Amounts of money are in minor units of the program's currency, as everywhere."""

_OF_WHAT_WAS_BOUGHT = frozenset({"due_product", "next_quantity", "subscription", "recommended", "liked_by_similar"})


def asked_by_content(
    features: Mapping[str, Feature], moments: Mapping[str, Moment], campaigns: Iterable[Campaign]
) -> Iterator[Feature]:
    """Yield the features that nobody wrote and that what is asked for needs, and those that have to keep more for it.

    Nothing is kept that no campaign asks for: states stay small.
    """
    asked = [(name, campaign) for campaign in campaigns for send in campaign.sends for name in send.content]
    names = {name for name, _ in asked}
    keys = {moments[when].key for name, one in asked if name in _OF_A_CART for when in one.when if when in moments}
    if "cart_id" in keys:
        yield Feature(CART_LINES, "cart", CART_EVENTS, key="cart_id", max_keys=MAX_CARTS)
    predictions = [one for one in features.values() if one.kind == "next_order_date"]
    if names & _OF_WHAT_WAS_BOUGHT:
        yield from (replace(one, keeps_bought=True) for one in predictions)
    if "liked_by_similar" in names and not predictions:
        yield Feature(BOUGHT_OFTEN, "often", ("order.placed",))


_OF_A_CART = frozenset({"cart_lines", "recommended"})
