"""The work that an event costs: counted, so that load does not matter, and held against what is stored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.goals import RETAIL, copy_pack
from bench.work import PYTHON, STORED, WORKLOADS
from orchestrator import engine
from orchestrator.definitions.content import CONTENT
from orchestrator.runtime.definitions_folder import load_folder

MORE = 1.2
"""A fifth more than is stored is a regression, or needs a reason and `python -m bench.work --store`."""

FEWEST_EVENTS_OF_ONE_COPY = 0.5
"""Fifty copies of a pack decide at least so many events with the bytecodes that one copy takes for one."""


@pytest.fixture(scope="module")
def counts() -> dict[str, dict[str, float]]:
    """Count in a process of its own: nothing else may trace it."""
    if not engine.__file__.endswith(".py"):
        pytest.skip("what is compiled runs no bytecodes: counted in the pure build only (make pure)")
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


def test_every_definition_of_a_copy_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Nothing that one copy defines is used by another, so what they share is found by its content."""
    copy_pack(RETAIL, tmp_path / "pack", 3)
    one, three = load_folder(RETAIL), load_folder(tmp_path / "pack")

    for kind in ("features", "segments", "moments", "campaigns"):
        names = {name.partition(".")[0] for name in getattr(one, kind)} - CONTENT.keys()
        assert {name.partition(".")[0] for name in getattr(three, kind)} - CONTENT.keys() == {
            f"{name}_{copy}" for name in names for copy in range(3)
        }
