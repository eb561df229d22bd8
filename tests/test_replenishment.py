"""The bench of the next order: its cases are the engine's own, and what is kept of it meets the bars."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench.harness.machine import RESULTS
from orchestrator.events import DAY
from orchestrator.features import pooled_gap
from orchestrator.rhythm import GAP_CLASSES, SPREAD


def test_the_result_that_is_kept_meets_the_bars() -> None:
    """At least 15 % better than the median gap, and windows that cover 78 to 82 % of all cases, in every set."""
    kept = json.loads((RESULTS / "replenishment.json").read_text(encoding="utf-8"))

    for one in kept["gaps"].values():
        assert one["mae"]["ours"] <= 0.85 * one["mae"]["median gap"]
        assert 0.78 <= one["covered"] <= 0.82


def test_the_table_that_is_shipped_is_the_one_that_was_fitted() -> None:
    """Two digits of it."""
    kept = json.loads((RESULTS / "replenishment.json").read_text(encoding="utf-8"))

    assert set(SPREAD) == {f"{end}_{known}" for end in ("low", "high") for known in GAP_CLASSES}
    assert {name: round(value, -4) for name, value in kept["spread"].items()} == SPREAD


def test_what_is_measured_is_what_the_engine_expects() -> None:
    """The same gap from the same orders, but for the rounding to minutes."""
    replenishment = pytest.importorskip("bench.replenishment")
    days = np.array([0, 10, 30, 44])
    gaps = np.diff(days)
    cases = replenishment.Cases(
        category=np.zeros(4, dtype=np.int64),
        day=days,
        first=np.zeros(4, dtype=np.int64),
        gaps=np.arange(4),
        sum_log=np.r_[0.0, np.cumsum(np.log(gaps))],
        until=np.r_[gaps, 5].astype(float),
        observed=np.array([True, True, True, False]),
        categories=["MILK"],
        end=49,
    )

    expected = np.exp(replenishment.expected_log(cases, np.array([np.log(20.0)])))

    sums = [round(float(total) * 1_000_000) for total in cases.sum_log]
    engine = [pooled_gap(known, total, 20.0) / DAY for known, total in zip(range(4), sums, strict=True)]
    assert expected == pytest.approx(engine, abs=0.001)
