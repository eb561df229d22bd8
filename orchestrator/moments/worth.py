"""What a moment is expected to earn, where that is known: the margin of the last trip for the family it is about."""

from __future__ import annotations

from orchestrator.customer import Customer
from orchestrator.moments.rules import Around, Moment

_TRIP = 4
"""Entries at least in what a predicted order date keeps of a family; other dates know no margin."""


def expected_margin(customer: Customer, moment: Moment, key: str) -> int:
    """Return what the last trip for a moment's key earned, minor units; 0 where the moment is not about a product."""
    if not isinstance(moment.shape, Around):
        return 0
    states = customer.fact(moment.shape.date) or {}
    state = states.get(key) if isinstance(states, dict) else None
    return state[3] if isinstance(state, list) and len(state) >= _TRIP else 0
