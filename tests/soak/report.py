"""What a soak has found, for people and for machines."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness.machine import about, table
from orchestrator.audit import AuditReport, Promise
from tests.soak.faults import CLASSES, Fault
from tests.soak.oracle import Comparison

BACK_WITHIN = 8.0
"""Seconds to the next commit of a worker that was killed and started again, in the fast profile."""

_NUMBER = re.compile(r"\d+(?:\.\d+)*")


@dataclass(slots=True)
class Result:
    """Everything that was done and found."""

    facts: Mapping[str, str]
    command: str
    faults: Sequence[Fault]
    exits: Mapping[str, int]
    fenced: int
    records: int
    barriers: int
    miscounted: Sequence[str]
    differences: str
    outputs: Mapping[str, int]
    lost_decisions: int
    duplicate_triggers: int
    audit: AuditReport
    oracle: Comparison
    bars: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def judge(self, at_least: int) -> bool:
        """Hold everything against its bar; return whether all are met."""
        per_class = Counter(fault.kind for fault in self.faults)
        overlaps = sum(one.kind is Promise.NO_OVERLAP for one in self.audit.violations)
        back = self._figures("same ordinal back, to its next commit")
        rolling = self._figures("generations")
        oracle = self.oracle
        fewest = min(per_class.values(), default=0)
        self.bars = {
            f"faults of each class, at least {at_least}": (str(fewest), fewest >= at_least),
            "lost decisions": (str(self.lost_decisions), self.lost_decisions == 0),
            "duplicate trigger ids": (str(self.duplicate_triggers), self.duplicate_triggers == 0),
            "overlaps": (str(overlaps), overlaps == 0),
            "broken promises of the audit": (str(len(self.audit.violations)), self.audit.clean),
            "early, lost, surplus, misjudged timers": (
                f"{len(oracle.early)}, {len(oracle.lost)}, {len(oracle.extra)}, {len(oracle.misjudged)}",
                oracle.clean and all(oracle.compared.values()),
            ),
            "bytes that differ from the fault-free run": (self.differences or "0", not self.differences),
            "input offsets shifted by a fault": (str(len(self.miscounted)), not self.miscounted),
        }
        if back:
            told = f"median {median(back):.1f} s, slowest {max(back):.1f} s of {len(back)}"
            self.bars[f"same ordinal back after kill -9, to its next commit, at most {BACK_WITHIN:.0f} s"] = (
                told,
                max(back) <= BACK_WITHIN,
            )
        if rolling:
            told = f"{sum(rolling):.0f} in {len(rolling)} rolling restarts"
            self.bars["generations changed by a rolling restart of static members"] = (told, not any(rolling))
        return all(met for _, met in self.bars.values())

    def write(self, folder: Path) -> None:
        """Write it as JSON and as Markdown."""
        folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, Any] = asdict(self)
        (folder / "soak.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (folder / "soak.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """Return it for people."""
        parts = [
            "# Soak: faults on three nodes of Apache Kafka\n",
            f"The latest result of `{self.command}`; every fault is in [soak.json](soak.json). Replication factor "
            "3, min ISR 2, two to four workers; each fault hit a stream of real purchases that was being decided, and "
            "the next came only when all partitions were decided again.\n",
            about(self.facts),
            "## Bars\n",
            table(
                ("what", "found", "met"),
                [(what, found, "yes" if met else "**no**") for what, (found, met) in self.bars.items()],
                left=3,
            ),
            "## Faults, and the point of the loop that was passed last\n",
            self._faults_table(),
            "Seconds are to the first commit of every partition after the fault, the fault's own duration included: "
            "how long a worker was frozen, a node away, a topic held back.\n",
            "## Figures\n",
            self._figures_table(),
            "## What was compared\n",
            self._compared(),
            "## Workers that ended by themselves and were started again\n",
            "By the last message of each, with *n* for its numbers; the last lines of every one are in "
            "[soak.json](soak.json), under `exits`.\n",
            self._exits_table(),
        ]
        return "\n".join(parts)

    def _faults_table(self) -> str:
        rows = []
        for kind in CLASSES:
            of_kind = [fault for fault in self.faults if fault.kind == kind]
            if of_kind:
                seconds = [fault.recovered for fault in of_kind]
                phases = Counter(phase for fault in of_kind for phase in fault.phases)
                told = ", ".join(f"{phase} {count}" for phase, count in phases.most_common())
                rows.append((kind, told, str(len(of_kind)), f"{median(seconds):.1f}", f"{max(seconds):.1f}"))
        return table(("class", "workers hit after", "faults", "median s", "slowest s"), rows, left=2)

    def _figures_table(self) -> str:
        rows = []
        for kind in CLASSES:
            for name in dict.fromkeys(name for fault in self.faults if fault.kind == kind for name in fault.figures):
                found = [fault.figures[name] for fault in self.faults if fault.kind == kind and name in fault.figures]
                cells = (str(len(found)), f"{min(found):.1f}", f"{median(found):.1f}", f"{max(found):.1f}")
                rows.append((f"{kind}: {name}", *cells))
        return table(("figure", "n", "least", "median", "most"), rows)

    def _exits_table(self) -> str:
        times: Counter[str] = Counter()
        for ended, count in self.exits.items():
            times[reason_of(ended)] += count
        rows = [(what, str(count)) for what, count in times.most_common()]
        return table(("exit code and last message", "times"), rows or [("none", "0")])

    def _compared(self) -> str:
        report = self.audit
        records = ", ".join(f"{count:,} {role.replace('_', ' ')}" for role, count in self.outputs.items())
        moments = ", ".join(f"{count:,} {moment}" for moment, count in self.oracle.compared.items())
        return (
            f"- Input: {self.records:,} records and {self.barriers:,} barriers.\n"
            f"- Against the fault-free run of one worker under the same barriers, byte for byte (key, value, headers, "
            f"partition): {records}.\n"
            f"- Audit of the read_committed output: {report.decisions:,} decisions, {report.triggers:,} triggers, "
            f"{report.intervals:,} intervals of {report.customers:,} customers.\n"
            f"- By brute force from the committed input, without the engine's code (tests/soak/oracle.py): who fell "
            f"due, which cart or year, at which instant, and whether the condition held: {moments}.\n"
            f"- Frozen workers whose place a double had taken, which woke, were fenced and said so: {self.fenced}.\n"
        )

    def _figures(self, name: str) -> list[float]:
        # A worker that is killed again as it restores is back only after two deaths; the second counts from its own.
        return [fault.figures[name] for fault in self.faults if name in fault.figures]


def reason_of(ended: str) -> str:
    """Return an exit's code and its last message, with n for the numbers, so that equal reasons read the same."""
    code, _, words = ended.partition(": ")
    try:
        last = json.loads(words[words.rindex('{"ts"') :])["message"]
    except ValueError:  # not a line of the log, or the first half of one
        last = words
    return f"{code}: {_NUMBER.sub('*n*', last).replace('|', '/')}"
