"""What a moment is expected to earn, where that is known: the last margin of the family it is about."""

from __future__ import annotations

from orchestrator.customer import Customer
from orchestrator.moments.rules import Around, Moment


def expected_margin(customer: Customer, moment: Moment, key: str) -> int:
    """Return what the last order of a moment's key earned, minor units; 0 where the moment is not about a product."""
    if not isinstance(moment.shape, Around):
        return 0
    states = customer.fact(moment.shape.date) or {}
    state = states.get(key)
    return state[3] if state else 0
