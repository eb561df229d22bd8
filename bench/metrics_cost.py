"""Prints what counting and telling cost: `python -m bench.metrics_cost [--events N]`.

The same records go through a partition as it is, and through one from whose code every statement that only counts was
taken out. Instructions are counted by `perf stat`, or CPU time is taken where there is no perf. Nothing is logged for a
record, so what logs cost is in what the two have in common: nothing.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

from confluent_kafka import Message
from prometheus_client import generate_latest

from bench.harness import machine, one_partition
from orchestrator.runtime import partition as counting
from orchestrator.runtime.loop import Loop
from orchestrator.runtime.metrics import registry_of

CUSTOMERS, STEP_RECORDS, ROUNDS = 1_000, 100, 3
LIMIT = 0.03

_NAMES = {"tally", "counted", "counted_to", "customers", "timers", "slots", "size", "held", "late"}
_ATTRIBUTES = {
    "_tally", "census", "event_times", "reached", "held_stored", "_note_progress", "_count", "_count_late",
}  # fmt: skip
"""What only counting has."""


class _Silencer(ast.NodeTransformer):
    """Takes out the statements that only count."""

    def __init__(self) -> None:
        self.removed = 0

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.If):
            self.generic_visit(node)
            return node if any(not isinstance(one, ast.Pass) for one in (*node.body, *node.orelse)) else ast.Pass()
        simple = isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr | ast.For)
        if simple and _counts(node) and not _also_works(node):
            self.removed += 1
            return ast.Pass()
        return self.generic_visit(node)


def _counts(node: ast.AST) -> bool:
    inside = list(ast.walk(node))
    return any(isinstance(one, ast.Name) and one.id in _NAMES for one in inside) or any(
        isinstance(one, ast.Attribute) and one.attr in _ATTRIBUTES for one in inside
    )


def _also_works(node: ast.AST) -> bool:
    """Return whether a statement does more than count: it assigns several names, or loops over what is done."""
    if isinstance(node, ast.For):
        return not (isinstance(node.iter, ast.Call) and ast.unparse(node.iter) == "due.values()")
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Tuple)
    return False


def silent() -> tuple[type[Any], int]:
    """Return a partition that counts nothing, and how many statements were taken out."""
    tree = ast.parse(inspect.getsource(counting))
    silencer = _Silencer()
    for one in tree.body:
        if isinstance(one, ast.ClassDef) and one.name == "Partition":
            for method in one.body:
                if isinstance(method, ast.FunctionDef) and method.name != "__init__" and "_count" not in method.name:
                    method.body = [silencer.visit(statement) for statement in method.body]
    namespace: dict[str, Any] = {"__name__": "bench.silent_partition"}
    sys.modules["bench.silent_partition"] = cast("Any", SimpleNamespace(__dict__=namespace))
    exec(compile(ast.fix_missing_locations(tree), "silent_partition", "exec"), namespace)
    return namespace["Partition"], silencer.removed


def steps(events: int) -> Iterator[tuple[int, dict[str, list[tuple[bytes, bytes]]]]]:
    """Yield steps of clicks and orders of some customers, one record in fifty twice."""
    add, order = one_partition.ENCODERS[one_partition.CLICKS], one_partition.ENCODERS[one_partition.PURCHASES]
    at = one_partition.BEGIN
    for first in range(0, events, STEP_RECORDS):
        at += 60_000
        clicks, orders = [], []
        for number in range(first, first + STEP_RECORDS):
            customer = f"customer-{number * 7_919 % CUSTOMERS}"
            base = {"customer_id": customer, "event_id": f"e{number}", "event_time": at - number % 1_000}
            if number % 10:
                record = {**base, "event": "cart.item_added", "cart_id": f"c{number % 3}", "cart_total": 5_000}
                clicks.append((customer.encode(), add(record)))
                if number % 50 == 1:
                    clicks.append(clicks[-1])
            else:
                lines = [{"sku": "1", "quantity": 1, "price": 1_000, "margin": None}]
                record = {**base, "event": "order.placed", "order_id": f"o{number}", "lines": lines, "total": 1_000}
                orders.append((customer.encode(), order(record)))
        yield at, {one_partition.CLICKS: clicks, one_partition.PURCHASES: orders}


def run(events: int, *, counts: bool) -> tuple[float, Any]:
    """Decide the events; return the CPU-seconds and the partition."""
    if not counts:
        one_partition.Partition, _ = silent()  # type: ignore[attr-defined]  # in place of the one that counts
    with tempfile.TemporaryDirectory() as folder:
        bench = one_partition.OnePartition(Path(folder) / "state")
        started = time.process_time()
        for number, (at, records) in enumerate(steps(events)):
            bench.step(at, records)
            if number % 10 == 9:
                bench.commit()
        spent = time.process_time() - started
        bench.commit()
        return spent, (scrape_cost(bench) if counts else None)


def scrape_cost(bench: Any) -> tuple[float, int]:
    """Return the milliseconds and the bytes of one scrape of a worker with 48 such partitions."""
    inputs = list(bench.offsets)
    bench.partition.ends = dict(bench.offsets)
    loop: Any = SimpleNamespace(
        tally=bench.tally, partitions=dict.fromkeys(range(48), bench.partition), config=SimpleNamespace(inputs=inputs),
        commits=0, aborts=0, rebalances=0, restoring=0, restored=0, definitions="bench",
    )  # fmt: skip
    registry = registry_of(lambda: cast("Loop", loop))
    times = []
    for _ in range(20):
        started = time.perf_counter()
        page = generate_latest(registry)
        times.append(time.perf_counter() - started)
    return median(times) * 1e3, len(page)


def measured(events: int, *, counts: bool) -> float:
    """Return the instructions, or else the CPU-nanoseconds, of a run in a process of its own."""
    command = [sys.executable, "-m", "bench.metrics_cost", "--events", str(events), "--run", "on" if counts else "off"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    if perf_works():
        command = ["perf", "stat", "-x", ",", "-e", "instructions:u", *command]
    ended = subprocess.run(command, cwd=machine.ROOT, env=environment, capture_output=True, text=True, check=True)
    if perf_works():
        (line,) = [line for line in ended.stderr.splitlines() if "instructions" in line]
        return float(line.split(",")[0])
    return float(ended.stdout) * 1e9


def perf_works() -> bool:
    """Return whether instructions can be counted here."""
    if shutil.which("perf") is None:
        return False
    tried = subprocess.run(
        ["perf", "stat", "-x", ",", "-e", "instructions:u", "true"], capture_output=True, check=False
    )
    return tried.returncode == 0 and b"not " not in tried.stderr


def header_costs() -> tuple[float, float]:
    """Return the nanoseconds of asking a record for its headers: of one without, and of one with two."""
    found = []
    given: list[tuple[str, str | bytes | None]] = [("traceparent", b"0" * 55), ("tracestate", b"a=b")]
    for headers in (None, given):
        times = []
        for _ in range(9):
            messages = [Message(topic="t", partition=0, offset=0, key=b"k", headers=headers) for _ in range(2_000)]
            started = time.perf_counter_ns()
            for message in messages:
                message.headers()
            times.append((time.perf_counter_ns() - started) / len(messages))
        found.append(median(times))
    return found[0], found[1]


def main() -> None:
    """Measure in pairs, print, and write the result down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument(
        "--run", choices=["on", "off"], help="decide once and print the CPU-seconds; for the measurement"
    )
    options = parser.parse_args()
    if options.run is not None:
        print(run(options.events, counts=options.run == "on")[0])
        return
    about = machine.machine()
    unit = "instructions" if perf_works() else "CPU-ns"
    shares, each = [], []
    for number in range(ROUNDS):
        found = {}
        for counts in (True, False) if number % 2 else (False, True):
            base = measured(STEP_RECORDS, counts=counts)  # what starting costs, to be taken off
            found[counts] = (measured(options.events, counts=counts) - base) / (options.events - STEP_RECORDS)
        shares.append(found[True] / found[False] - 1)
        each.append(found[True])
        print(f"{found[True]:,.0f} {unit} an event with counts, {found[False]:,.0f} without: {shares[-1]:+.2%}")
    _, removed = silent()
    _, (milliseconds, size) = run(10_000, counts=True)
    without, with_two = header_costs()
    share = median(shares)
    text = (
        "# What metrics and logs cost\n\n"
        f"`python -m bench.metrics_cost`, {options.events:,} events of {CUSTOMERS:,} customers through one partition: "
        f"decoding, engine, store and encoding, without Kafka.\n\n{machine.about(about)}\n"
        + machine.table(
            ["", unit],
            [
                ["an event, with all counts", f"{median(each):,.0f}"],
                [f"of it for counting ({removed} statements)", f"{share:+.2%}"],
                ["the rounds", ", ".join(f"{one:+.2%}" for one in shares)],
                ["the most it may be", f"{LIMIT:.0%}"],
            ],
        )
        + f"\nA scrape of a worker with 48 partitions takes {milliseconds:.1f} ms and has {size / 1024:.0f} KiB: "
        f"every 15 s that is {milliseconds / 15_000:.2%} of a core. Nothing is logged for a record.\n\n"
        f"With ORCHESTRATOR_TRACE_HEADERS every record is kept until its step is over, and only the records behind a "
        f"trigger are asked for headers: {without:.0f} ns for one without, {with_two:.0f} ns for one with two.\n"
    )
    print(text)
    machine.write("metrics_cost", {"about": about, "unit": unit, "shares": shares, "each": each, "limit": LIMIT}, text)
    if share > LIMIT:
        sys.exit(f"counting costs {share:.1%}, more than {LIMIT:.0%}")


if __name__ == "__main__":
    main()
