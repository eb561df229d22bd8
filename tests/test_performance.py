"""The work that an event costs: counted, so that load does not matter, and held against what is stored."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.work import PYTHON, STORED, WORKLOADS

MORE = 1.2
"""A fifth more than is stored is a regression, or needs a reason and `python -m bench.work --store`."""

FEWEST_EVENTS_OF_ONE_COPY = 0.5
"""Fifty copies of a pack decide at least so many events with the bytecodes that one copy takes for one."""


@pytest.fixture(scope="module")
def counts() -> dict[str, dict[str, float]]:
    """Count in a process of its own: nothing else may trace it."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.work", "--json"], capture_output=True, text=True, check=True, timeout=300
    )
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("workload", sorted(WORKLOADS))
def test_no_event_costs_a_fifth_more_than_is_stored(counts: dict[str, dict[str, float]], workload: str) -> None:
    """Bytecodes that run, and bytes that are written to the changelog and the output topics."""
    stored = json.loads(STORED.read_text())
    if PYTHON not in stored:
        pytest.skip(f"no counts of Python {PYTHON} are stored: python -m bench.work --store")
    now, before = counts[workload], stored[PYTHON][workload]

    assert {what: count for what, count in now.items() if count > MORE * before[what]} == {}


def test_copies_of_a_pack_share_their_work(counts: dict[str, dict[str, float]]) -> None:
    """What fifty teams define alike is done once; what is left is one candidate each on the records."""
    one, fifty = counts["the retail pack"], counts["50 copies of the retail pack"]

    assert one["bytecodes"] / fifty["bytecodes"] > FEWEST_EVENTS_OF_ONE_COPY
