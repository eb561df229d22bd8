"""Customers who were here before the definitions: schedules begin to count for them, and who is in a segment comes in.

Done once for everybody when definitions are published, customer by customer in the order of their keys: so it gives the
same, whoever does it and however often it is begun again.
"""

from __future__ import annotations

from orchestrator.customer import Customer
from orchestrator.events import HOUR
from orchestrator.moments.lifecycle import schedule
from orchestrator.moments.rules import Membership, Moment
from orchestrator.moments.watch import include
from orchestrator.program import Program
from orchestrator.reference import Reference
from orchestrator.sharing import refile
from orchestrator.step import Step


class Adoption:
    """One pass over all customers of a partition; `partitions` share what may come in per hour."""

    def __init__(self, program: Program, reference: Reference, partitions: int) -> None:
        self._program = program
        self._reference = reference
        self._partitions = partitions
        self._included: dict[str, int] = {}

    def adopt(self, customer_id: str, customer: Customer, clock: int) -> bool:
        """Let new definitions count for a customer, as of the partition's clock; return whether their state changed."""
        if customer.profile is None and not customer.has_facts:
            return False  # of whom nothing is known, perhaps any more, is in no segment
        program = self._program
        if customer.filed_by is not program.filed:
            refile(customer, program.filed)
        step = Step(program, self._reference, customer_id, customer, clock, clock=clock)
        changed = False
        for moment in program.schedules:
            if customer.profile is not None and moment.name not in customer.fires:
                schedule(step, moment, clock)
                changed = True
        for moment in program.inclusive:
            count = self._included.get(moment.name, 0)
            new = include(step, moment, clock, clock + (count + 1) * self._pause(moment))
            if new is not None:
                self._included[moment.name] = count + 1
                changed = changed or new
        return changed

    def _pause(self, moment: Moment) -> int:
        """Return how long this partition waits between two customers that come in."""
        assert isinstance(moment.shape, Membership)
        return HOUR * self._partitions // moment.shape.include_per_hour
