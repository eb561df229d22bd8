"""How far a customer's journey has come: the last campaign with others to follow that they responded to.

Never stored, for their own closed windows tell it. Who is in the control group and orders anyway has advanced as well:
that is what a response has to beat.
"""

from __future__ import annotations

from orchestrator.arbitration.history import counts
from orchestrator.customer import Customer
from orchestrator.program import ADVANCED, Program
from orchestrator.valuation import START


def stage_of(program: Program, customer: Customer, now: int) -> str:
    """Return the campaign that the next one may follow on, or that nothing has begun."""
    if program.stages:
        for window in reversed(customer.closed):
            lasts = program.stages.get(window.campaign)
            if lasts is not None and window.start >= now - lasts and counts(window, ADVANCED, now):
                return window.campaign
    return START
