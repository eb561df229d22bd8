"""What reading definitions costs: `python -m bench.lint [--moments N] [--rounds N] [--json]`.

Prints the CPU-seconds of `orchestrator lint` over so many moments, process start included, and of the tests of the
retail pack. The moments are those of the retail pack under names of their own, each with numbers of its own, so that
no two are the same.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.goals import copy_pack

RETAIL = Path(__file__).resolve().parents[1] / "deploy" / "definitions" / "retail"
LINT_GOAL, TEST_GOAL = 2.0, 1.0


def write_pack(target: Path, moments: int) -> int:
    """Write a pack of at least so many moments, no two of them the same, and return how many there are."""
    each = len(re.findall(r"^  - moment: ", (RETAIL / "moments.yaml").read_text(encoding="utf-8"), re.MULTILINE))
    copies = -(-moments // each)
    copy_pack(RETAIL, target, copies)
    for path in target.glob("*_*.yaml"):
        number = int(path.stem.rpartition("_")[2])
        text = path.read_text(encoding="utf-8")
        for written, varied in (
            ("within: 1h", f"within: {60 + number}m"),
            ("times: 2.0", f"times: 2.{number:03}"),
            ("over: 365d", f"over: {365 + number}d"),
            ("from: -6d", f"from: -{6 + number % 170}d"),
            ("from: -5d", f"from: -{120 + number}h"),
        ):
            text = text.replace(written, varied)
        path.write_text(text, encoding="utf-8")
    return copies * each


def cpu_seconds(*arguments: str) -> tuple[float, str]:
    """Return the CPU-seconds that a command of ours took, process start included, and what it printed last."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, (done.stdout + done.stderr).strip().rpartition("\n")[2]


def main() -> int:
    """Print both figures, the best of the rounds; exit 1 if one misses its goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "pack"
        count = write_pack(target, options.moments)
        linted = [cpu_seconds("lint", str(target)) for _ in range(options.rounds)]
        tested = [cpu_seconds("test", str(RETAIL)) for _ in range(options.rounds)]
    (lint, said), (test, passed) = min(linted), min(tested)
    if options.json:
        print(json.dumps({"moments": count, "lint CPU-s": round(lint, 2), "test CPU-s": round(test, 2)}))
    else:
        print(f"lint of {count} moments    {lint:5.2f} CPU-s, goal {LINT_GOAL:.0f}    {said}")
        print(f"tests of the retail pack {test:5.2f} CPU-s, goal {TEST_GOAL:.0f}    {passed}")
    return 1 if lint > LINT_GOAL or test > TEST_GOAL else 0


if __name__ == "__main__":
    raise SystemExit(main())
