"""Where the engine's time goes over the backlog: `python -m bench.harness.profiling [--definitions NAME]`.

py-spy samples the engine's thread from outside, so shares are true. The text goes to bench/results/profiles: functions
by all that they call, functions by their own time, and lines.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from bench.harness import inputs
from bench.harness.backlog import EVENTS_PER_CUSTOMER
from bench.harness.machine import RESULTS, ROOT, about, machine
from bench.peers.__main__ import Bench

SHOWN = 45
RATE = 200
"""Samples a second."""


def main() -> None:
    """Run the worker under py-spy and write what it saw."""
    parser = argparse.ArgumentParser(prog="python -m bench.harness.profiling", description=__doc__)
    parser.add_argument("--definitions", default="twenty_moments", choices=("one_moment", "twenty_moments"))
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--name", help="of the file, the definitions' otherwise")
    options = parser.parse_args()
    spy = shutil.which("py-spy") or str(ROOT / ".cache" / "bench-venv" / "bin" / "py-spy")
    if not Path(spy).exists():
        print("skipped: py-spy was not found; install it with pip into .cache/bench-venv")
        return
    facts = machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-profile-")))
        node = stack.enter_context(inputs.broker())
        bench = Bench(node, folder, round(options.events / EVENTS_PER_CUSTOMER))
        stacks = folder / "stacks.txt"

        def attach(pid: int) -> None:
            record = ["record", "--rate", str(RATE), "--threads", "--full-filenames", "--format", "raw"]
            command = [spy, *record, "--output", str(stacks), "--pid", str(pid), "--duration", "unlimited"]
            time.sleep(1)  # until there is an interpreter to look into
            watching.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

        watching: list[subprocess.Popen[bytes]] = []
        found, _ = bench.ours(options.definitions, attach)
        watching[0].wait(60)  # it ends with the worker
        text = rendered(stacks.read_text().splitlines())
    facts |= {"events": f"{found.events:,}", "definitions": options.definitions, "samples a second": str(RATE)}
    target = RESULTS / "profiles"
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{options.name or options.definitions}.txt"
    path.write_text(f"{about(facts)}\n{text}")
    print(text)
    print(f"written to {path.relative_to(ROOT)}")


def rendered(lines: list[str]) -> str:
    """Return functions and lines of code by their own samples, and functions by those of all they call."""
    own: Counter[str] = Counter()
    own_lines: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        thread, *calls = stack.split(";")
        frames = [_frame(call) for call in calls]
        if not thread.endswith(": engine") or not frames:
            continue  # another thread than the engine's
        samples = int(count)
        total += samples
        own[frames[-1][0]] += samples
        own_lines[" ".join(frames[-1])] += samples
        for function in {function for function, _ in frames}:
            whole[function] += samples
    parts = []
    for title, counted in (
        ("All that a function calls", whole),
        ("A function's own", own),
        ("A line's own", own_lines),
    ):
        shown = [f"{count / total:7.1%}  {name}" for name, count in counted.most_common(SHOWN)]
        parts.append("\n".join([f"{title}, of {total:,} samples of the engine's thread:", *shown]))
    return "\n\n".join(parts) + "\n"


def _frame(text: str) -> tuple[str, str]:
    """Return a frame as function with file, and its line."""
    function, _, rest = text.rpartition(" (")
    if not function:
        return text, ""
    place, _, line = rest.rstrip(")").rpartition(":")
    return f"{function} ({'/'.join(Path(place).parts[-2:])})", line


if __name__ == "__main__":
    main()
