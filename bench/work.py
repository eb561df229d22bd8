"""Counts what the engine does for an event: `python -m bench.work [--store]`.

Bytecodes are the same on a busy machine and on an idle one, so a test holds them against what is stored in
bench/results/work.json, and fails where one workload does a fifth more. What C code does (decoding, encoding, the
store) is not in them; the bytes that are written stand for that. `--store` keeps what is counted now as the measure.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from bench.goals import copy_pack
from bench.harness import seed
from bench.harness.backlog import Backlog
from bench.harness.machine import RESULTS, ROOT, table
from bench.harness.stream import seeded

CUSTOMERS = 40
"""Some 400 events: enough for every kind of decision, few enough to count in seconds."""

STORED = RESULTS / "work.json"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Workload:
    """Definitions, how often the retail pack is in them, and how many visits that nobody asks for precede an event."""

    definitions: str
    copies: int = 0
    visits: int = 0


WORKLOADS = {
    "one moment": Workload("bench/definitions/one_moment"),
    "one moment, two in three events of no interest": Workload("bench/definitions/one_moment", visits=2),
    "20 moments": Workload("bench/definitions/twenty_moments"),
    "the retail pack": Workload("deploy/definitions/retail"),
    "50 copies of the retail pack": Workload("deploy/definitions/retail", copies=50),
}


def counted(workload: Workload) -> dict[str, float]:
    """Return what one event of a workload costs: bytecodes, and bytes written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        definitions = ROOT / workload.definitions
        if workload.copies:
            definitions = folder / "pack"
            copy_pack(ROOT / workload.definitions, definitions, workload.copies)
        past = seed.profile_only if workload.definitions.endswith("one_moment") else seed.with_orders(4)
        ready = seeded(folder, definitions, Backlog(CUSTOMERS, visits=workload.visits), past=past)
        bytecodes = _bytecodes(ready.decide)
        written = ready.bench.sent_bytes + ready.bench.staged_bytes
        return {"bytecodes": round(bytecodes / ready.events), "bytes": round(written / ready.events)}


def _bytecodes(run: Callable[[], None]) -> int:
    """Return how many bytecodes a function runs, with all that it calls."""
    count = 0

    def follow(frame: FrameType, event: str, arg: Any) -> Any:
        del arg
        nonlocal count
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            count += 1
        return follow

    before = sys.gettrace()
    sys.settrace(follow)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def main() -> None:
    """Count every workload, print it beside what is stored, and store it where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.work", description=__doc__)
    parser.add_argument("--store", action="store_true", help="keep this as what later changes are held against")
    parser.add_argument("--json", action="store_true", help="print nothing but the counts")
    options = parser.parse_args()
    now = {name: counted(workload) for name, workload in WORKLOADS.items()}
    if options.json:
        print(json.dumps(now))
        return
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    before = stored.get(PYTHON, {})
    rows = [[name, *_beside(found, before.get(name, {}))] for name, found in now.items()]
    print(table(["for an event", "bytecodes", "of the stored", "bytes written", "of the stored"], rows))
    if options.store:
        STORED.write_text(json.dumps({**stored, PYTHON: now}, indent=2) + "\n")
        print(f"stored in {STORED.relative_to(ROOT)}")


def _beside(now: dict[str, float], before: dict[str, float]) -> list[str]:
    found = []
    for what, count in now.items():
        share = f"{count / before[what]:.0%}" if before.get(what) else ""
        found += [f"{count:,.0f}", share]
    return found


if __name__ == "__main__":
    main()
