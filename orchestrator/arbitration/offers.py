"""Which offer goes with a message: the first of those listed that this customer may have, until one is learned.

`none` is an offer like the others, so a list says itself whether nothing, or the cheapest, comes first. What cannot be
told does not give anything away: an unknown condition refuses its offer.
"""

from __future__ import annotations

from orchestrator.arbitration.campaign import Offer
from orchestrator.conditions import View
from orchestrator.records import Check


def choose_offer(offer: Offer, view: View) -> tuple[str | None, tuple[Check, ...]]:
    """Return the offer that goes with a message, None when no one may have any, and what was seen of each."""
    checks = tuple(_examine(offer, choice, view) for choice in offer.choices)
    return next((check.check for check in checks if check.passed), None), checks


def _examine(offer: Offer, choice: str, view: View) -> Check:
    passed, seen = True, []
    for conditions, wanted in ((offer.only_if, True), (offer.never_if, False)):
        condition = conditions.get(choice)
        if condition is not None:
            passed = passed and condition.holds(view) is wanted
            seen.append(condition.saw(view))
    return Check(choice, passed, ", ".join(seen))
