"""What is due: how long ago a customer bought of something, when the next order is expected, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from orchestrator.customer import Customer
from orchestrator.features import Bought, Feature, bought_of
from orchestrator.moments.rules import Around, Moment
from orchestrator.program import Program
from orchestrator.reference import Reference
from orchestrator.rhythm import due_bp, gap_window, spread_of
from orchestrator.view import CustomerView


@dataclass(frozen=True, slots=True)
class Due:
    """The next order of one key, milliseconds: `gap` after the `last` trip is expected, pooled with others' gaps.

    `own_gap` is what the customer's own gaps alone say; `spread` where the tenths of the gap begin, None before there
    is a gap; `earned` the margin of the last trip; `bought` what triggers say of it, where they do.
    """

    last: int
    gap: int
    own_gap: int
    spread: tuple[int, int] | None
    earned: int
    bought: Bought | None

    @property
    def window(self) -> tuple[int, int]:
        """The instants between which the next order comes with the coverage that windows have."""
        assert self.spread is not None
        least, most = gap_window(self.gap, self.spread)
        return self.last + least, self.last + most


def due_of(view: CustomerView) -> Due | None:
    """Return what is due of the key that a moment is about, None where no prediction is kept per such a key."""
    return (
        None
        if view.moment is None
        else due_in(view.program, view.reference, view.customer, view.now, view.moment, view.key)
    )


def due_in(
    program: Program, reference: Reference, customer: Customer, now: int, moment: Moment, key: str
) -> Due | None:
    """Return what is due of a moment's key, None where no prediction is kept per such a key or it has no trip."""
    feature = _prediction(program, moment)
    state = None if feature is None else (customer.fact(feature.name) or {}).get(key)
    if feature is None or state is None:
        return None
    gap = feature.gap_after(state, key, now, reference)
    if gap is None:
        return None
    gaps, sum_log_gap, last, earned = state[:4]
    own_gap = gap if gaps == 0 else round(math.exp(sum_log_gap / 1_000_000 / gaps) * 1440) * 60_000
    spread = spread_of(gaps, reference.cut_points(program.written_as(feature), now))
    return Due(last * 1000, gap, own_gap, spread, earned, bought_of(state))


def due_now_bp(due: Due, now: int) -> int:
    """Return the probability that it is due by now, basis points; before there is a gap, as after the first."""
    spread = spread_of(1, None) if due.spread is None else due.spread
    assert spread is not None
    return due_bp(now - due.last, due.gap, spread)


def _prediction(program: Program, moment: Moment) -> Feature | None:
    """Return the prediction that a moment goes by, or else the first that is kept per what it is about."""
    if isinstance(moment.shape, Around):
        found: Any = program.features.get(moment.shape.date)
        return found if found is not None and found.kind == "next_order_date" else None
    predictions = (one for _, one in sorted(program.features.items()) if one.kind == "next_order_date")
    return next((one for one in predictions if one.key == moment.key), None)
