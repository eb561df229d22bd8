"""Runs many schedules and tells what was struck and what was violated; a seed reproduces its run exactly.

python -m tests.simulator --schedules 10000
python -m tests.simulator --seed 1127 --mode replay
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.simulator.run import Result, Run
from tests.simulator.scenarios import SCENARIOS
from tests.simulator.schedule import LIVE, REPLAY, schedule
from tests.simulator.shrink import describe, shrink
from tests.simulator.world import ROOT

SHOWN = 5
"""How many failing schedules are shrunk and shown."""


class Report:
    """What many runs came to."""

    def __init__(self) -> None:
        self.schedules: Counter[str] = Counter()
        self.faults: Counter[tuple[str, str]] = Counter()
        self.counts: Counter[str] = Counter()
        self.failed: list[tuple[str, int, tuple[str, ...]]] = []
        self.seconds = 0.0

    def add(self, mode: str, seed: int, result: Result) -> None:
        """Count one run."""
        self.schedules[mode] += 1
        self.faults += result.faults
        self.counts += result.counts
        if result.violations:
            self.failed.append((mode, seed, result.violations))

    def lines(self) -> list[str]:
        """Return the report as lines."""
        total = sum(self.schedules.values())
        each = ", ".join(f"{count:,} {mode}" for mode, count in self.schedules.items())
        counts = self.counts
        lines = [
            f"{total:,} schedules ({each}) in {self.seconds:.0f} s of CPU: {60 * total / self.seconds:,.0f} a minute",
            f"{counts['records']:,} input records, {counts['commits']:,} commits, {counts['aborts']:,} aborts, "
            f"{counts['decisions']:,} decisions, {counts['triggers']:,} triggers",
            f"{counts['processes']:,} processes, {counts['generations']:,} generations, {counts['fenced']:,} fenced, "
            f"{counts['restarts']:,} ended by themselves after a fault",
            f"{counts['slots left']:,} erased customers whose slot is held, {counts['inherited']:,} came back to one",
            f"{counts['erasures']:,} erasures remembered, {counts['erased events']:,} older events came after them",
            f"{sum(self.faults.values()):,} faults:",
        ]
        by_kind: dict[str, Counter[str]] = {}
        for (kind, where), count in self.faults.items():
            by_kind.setdefault(kind, Counter())[where] += count
        for kind in sorted(by_kind):
            places = by_kind[kind]
            told = "" if len(places) == 1 else f" at {len(places)} points"
            lines.append(f"  {kind:28} {places.total():7,}{told}")
        lines.append(f"violations: {len(self.failed)}")
        return lines

    def table(self) -> list[str]:
        """Return the faults as a table of Markdown: class, point, how often."""
        lines = ["| fault | where | times |", "|---|---|---|"]
        lines += [f"| {kind} | {where} | {count:,} |" for (kind, where), count in sorted(self.faults.items())]
        return lines


def simulate(seeds: Iterable[int], modes: Sequence[str], *, progress: bool = False) -> Report:
    """Run one schedule per seed, the modes by turns."""
    report = Report()
    started = time.process_time()
    for place, seed in enumerate(seeds):
        mode = modes[place % len(modes)]
        report.add(mode, seed, Run(schedule(seed, mode)).run())
        report.seconds = time.process_time() - started
        if progress and place % 500 == 499:
            print(f"{place + 1:,} schedules, {len(report.failed)} violations", file=sys.stderr, flush=True)
    return report


def write(path: Path, report: Report, first: int) -> None:
    """Write the proof."""
    total = sum(report.schedules.values())
    lines = [
        "# The simulator: schedules of faults",
        "",
        f"Written by `python -m tests.simulator --schedules {total} --seed {first} --write` on "
        f"{time.strftime('%Y-%m-%d')}: {platform.machine()}, {os.cpu_count()} cores of which one was used, "
        f"Python {platform.python_version()}, {platform.system()}.",
        "",
        "Each schedule runs the real loop and engine, in one to four processes, over fake brokers and a virtual clock,",
        "with up to six faults. Afterwards the audit must be clean, every output must be byte for byte what the engine",
        "makes of the committed inputs under the barriers that were used, the changelog must be that state and the",
        "stores must be the changelog, no offset may have gone back, every record must be decided, no timer lost or",
        "early, and no barrier may have left out a record that was there. The fake gives the same answers as Apache",
        f"Kafka in {len(SCENARIOS)} scenarios (`tests/simulator/test_fake_against_kafka.py`); what the simulator",
        "notices is in [mutations.md](mutations.md).",
        "",
        "```",
        *report.lines(),
        "```",
        "",
        "## Where the faults struck",
        "",
        *report.table(),
        "",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def main() -> int:
    """Run what the command line asks for; the exit code is 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--mode", choices=(LIVE, REPLAY), help="both by turns, when not given")
    parser.add_argument("--write", action="store_true", help="renew docs/proofs/simulator.md")
    parser.add_argument("--table", action="store_true", help="also print every fault with its place")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # of stores that are restored from scratch
    modes = (arguments.mode,) if arguments.mode else (LIVE, REPLAY)
    report = simulate(range(arguments.seed, arguments.seed + arguments.schedules), modes, progress=True)
    print("\n".join(report.lines()))
    if arguments.table:
        print("\n".join(report.table()))
    if arguments.write:
        write(ROOT / "docs" / "proofs" / "simulator.md", report, arguments.seed)
    for mode, seed, violations in report.failed[:SHOWN]:
        print(f"\n{violations[0]}\n{describe(shrink(schedule(seed, mode)))}")
        print(f"reproduce: python -m tests.simulator --mode {mode} --seed {seed}")
    if len(report.failed) > SHOWN:
        print("\nfurther seeds: " + ", ".join(f"{mode} {seed}" for mode, seed, _ in report.failed[SHOWN:]))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
