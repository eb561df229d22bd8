"""What a moment is expected to earn now: the margin of the last trip for what it is about, if that is due by now."""

from __future__ import annotations

from orchestrator.customer import Customer
from orchestrator.facts.due import due_in, due_now_bp
from orchestrator.moments.rules import Around, Moment
from orchestrator.program import Program
from orchestrator.reference import Reference


def expected_margin(
    program: Program, reference: Reference, customer: Customer, now: int, moment: Moment, key: str
) -> int:
    """Return the margin of the last trip for a moment's key times the probability that it is due by now, minor units.

    It is 0 where the moment is not about what runs out, and where the date was told by others: those know no margin.
    """
    if not isinstance(moment.shape, Around):
        return 0
    due = due_in(program, reference, customer, now, moment, key)
    return 0 if due is None else due.earned * due_now_bp(due, now) // 10_000
