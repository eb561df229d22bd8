"""`facts_of`: the values that a message asks for, from what is known of the customer and from reference data.

It is computed only when a trigger is emitted. What is not known is None, or an empty list: a sender leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orchestrator.facts.due import due_of
from orchestrator.facts.similar import close_to
from orchestrator.features import BOUGHT_OFTEN, CART_LINES, Bought, bought_of
from orchestrator.moments.rules import Launch
from orchestrator.records import CartLine, Facts, NamedProduct, ReorderWindow, Subscription
from orchestrator.rhythm import COVERAGE_BP
from orchestrator.view import CustomerView

MOST = 5
"""Products that a list names at most."""

REPEATS = 3
"""Regular repeats, less the irregular ones, from which a subscription is proposed."""

_DAY_MINUTES = 1440 * 60_000


def facts_of(view: CustomerView, names: Iterable[str]) -> Facts | None:
    """Return what a message is to say, None where nothing is asked for."""
    asked = {name: _FILL[name](view) for name in names}
    return Facts(**asked) if asked else None


def _cart(view: CustomerView) -> Mapping[str, list[Any]]:
    kept = _kept(view, CART_LINES) if _is_about(view, "cart_id") else None
    return (kept or {}).get(view.key) or {}


def _cart_lines(view: CustomerView) -> tuple[CartLine, ...]:
    lines = _cart(view)
    found = ((sku, units, price, _product(view, sku)) for sku, (units, price) in lines.items())
    return tuple(
        CartLine(sku, units, one.price if price is None else price, one.name) for sku, units, price, one in found
    )


def _moments_product(view: CustomerView) -> NamedProduct | None:
    return _product(view, view.key) if _is_about(view, "sku") and view.key else None


def _bought(view: CustomerView) -> Bought | None:
    due = due_of(view)
    return None if due is None else due.bought


def _due_product(view: CustomerView) -> NamedProduct | None:
    bought = _bought(view)
    return None if bought is None else _product(view, bought.sku)


def _next_quantity(view: CustomerView) -> int | None:
    bought = _bought(view)
    return None if bought is None else bought.units + 1


def _reorder_window(view: CustomerView) -> ReorderWindow | None:
    due = due_of(view)
    if due is None or due.spread is None:
        return None
    earliest, latest = due.window
    return ReorderWindow(earliest, due.last + due.gap, latest, COVERAGE_BP)


def _subscription(view: CustomerView) -> Subscription | None:
    due = due_of(view)
    if due is None or due.bought is None or due.bought.regular < REPEATS:
        return None
    bought, units = due.bought, max(due.bought.units, 1)
    price = _product(view, bought.sku).price
    days = max(round(due.own_gap / _DAY_MINUTES), 1)
    return Subscription(bought.sku, days, units, None if price is None else price * units)


def _new_collection(view: CustomerView) -> tuple[NamedProduct, ...]:
    if view.moment is None or not isinstance(view.moment.shape, Launch):
        return ()
    launch = view.reference.next_launch(view.key, view.now - view.moment.shape.end, view.now)
    if launch is None:
        return ()
    together = view.reference.launched_together(view.key, launch, view.now)
    return tuple(NamedProduct(one.sku, one.name, one.price) for one in together[:MOST])


def _recommended(view: CustomerView) -> tuple[NamedProduct, ...]:
    about: list[str] = list(_cart(view))
    if not about:
        one = _moments_product(view) or _due_product(view)
        about = [] if one is None else [one.sku]
    return _named(view, close_to(view, dict.fromkeys(about, 1), MOST))


def _liked_by_similar(view: CustomerView) -> tuple[NamedProduct, ...]:
    return _named(view, close_to(view, _usual(view), MOST))


def _usual(view: CustomerView) -> Mapping[str, int]:
    """Return what a customer usually buys, and how much each weighs."""
    often: Mapping[str, int] | None = _kept(view, BOUGHT_OFTEN)
    if often:
        return often
    predictions = (one for one in view.program.features.values() if one.kind == "next_order_date")
    leaders: dict[str, int] = {}
    for name in sorted({one.name for one in predictions}):
        for state in (view.customer.fact(name) or {}).values():
            bought = bought_of(state)
            if bought is not None and bought.votes:
                leaders[bought.sku] = bought.votes
    return leaders


_FILL: Mapping[str, Callable[[CustomerView], Any]] = {
    "cart_lines": _cart_lines,
    "product": _moments_product,
    "due_product": _due_product,
    "next_quantity": _next_quantity,
    "reorder_window": _reorder_window,
    "subscription": _subscription,
    "new_collection": _new_collection,
    "recommended": _recommended,
    "liked_by_similar": _liked_by_similar,
}


def _is_about(view: CustomerView, key: str) -> bool:
    return view.moment is not None and view.moment.key == key


def _kept(view: CustomerView, name: str) -> Any:
    """Return the state of a feature that nobody wrote, None in definitions without it."""
    feature = view.program.features.get(name)
    return None if feature is None else view.customer.fact(feature.name)


def _product(view: CustomerView, sku: str) -> NamedProduct:
    known = view.reference.product(sku, view.now)
    return NamedProduct(sku) if known is None else NamedProduct(sku, known.name, known.price)


def _named(view: CustomerView, skus: Iterable[str]) -> tuple[NamedProduct, ...]:
    return tuple(_product(view, sku) for sku in skus)
