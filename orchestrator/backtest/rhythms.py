"""How far next orders spread around what was expected: over all customers of a history, of its last months."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from orchestrator.backtest.life import in_order
from orchestrator.backtest.pool import Partition
from orchestrator.backtest.spool import read_spool
from orchestrator.events import DAY, Event
from orchestrator.features import Feature, lines_by
from orchestrator.learning.survival import spread_by_class
from orchestrator.program import Definitions
from orchestrator.reference import Reference

OF_LATE = 120 * DAY
"""How long ago a gap began at most that says something of today: longer covers less well (docs/decisions.md)."""


class Gap(NamedTuple):
    """One gap that followed so many own ones: log(gap / expected), of so far where it is not over."""

    own: int
    residual: float
    over: bool


def predictions_of(definitions: Definitions) -> list[Feature]:
    """Return the features that predict the date of a next order from the gaps between orders, in order of names."""
    return [feature for _, feature in sorted(definitions.features.items()) if feature.kind == "next_order_date"]


def gaps_of(partition: Partition) -> Mapping[str, list[Gap]]:
    """Return the gaps of late of a partition's customers, for each prediction."""
    (program,), job = partition.programs, partition.job
    assumed, end = program.policy.assumed_margin_bp, partition.steps.until
    customers = read_spool(job.folder, partition.number)
    found: dict[str, list[Gap]] = {}
    for feature in predictions_of(program.definitions):
        gaps = found[feature.name] = []
        for customer in sorted(customers):
            events = [event for _, event in sorted(customers[customer], key=in_order) if event.name in feature.events]
            gaps += gaps_in(feature, events, job.reference, assumed, end)
    return found


def gaps_in(feature: Feature, events: Iterable[Event], reference: Reference, assumed: int, end: int) -> Iterator[Gap]:
    """Yield the gaps of one customer that began of late and after another, as they were expected when they began."""
    states: dict[str, list[Any]] = {}
    for event in events:
        keys = lines_by(event, feature.key or "", reference)
        before = {key: list(states[key]) for key in keys if key in states}
        states = feature.fold(states, event, reference, assumed) or {}
        for key, state in before.items():
            after = states.get(key)
            if after is not None and after[0] > state[0]:
                yield from _gap(feature, state, key, after[2] * 1000, end, reference, over=True)
    for key, state in states.items():
        yield from _gap(feature, state, key, end, end, reference, over=False)


def spread_of_gaps(gaps: Sequence[Gap]) -> dict[str, int]:
    """Return where the tenths of log(gap / expected) begin, in millionths, by how many own gaps were known."""
    own, residuals, over = zip(*gaps, strict=True)
    return dict(spread_by_class(np.array(residuals), np.array(over), np.array(own)))


def _gap(
    feature: Feature, state: list[Any], key: str, until: int, end: int, reference: Reference, *, over: bool
) -> Iterator[Gap]:
    own, began = state[0], state[2] * 1000
    if own == 0 or began < end - OF_LATE or until <= began:
        return
    expected = feature.gap_after(state, key, began, reference)
    if expected:
        yield Gap(own, math.log((until - began) / expected), over)
