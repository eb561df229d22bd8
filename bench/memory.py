"""What many customers cost in memory: `python -m bench.memory [--customers N] [--json] [--write]`.

Every customer fills a cart, so that every one has a timer; then half as many others come by at random, and a tenth of
the timers fire. The stores' caches are what a worker has. Prints the resident memory after each phase, and the peak.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.harness import machine
from bench.harness.one_partition import (
    BEGIN,
    CLICKS,
    PROFILES,
    OnePartition,
    click,
    peak_mib,
    profile,
    resident_mib,
)
from orchestrator.events import HOUR, MINUTE

STEP_CUSTOMERS = 5_000
START = BEGIN + 10 * HOUR
SPREAD = 30 * MINUTE
"""Within this all carts are filled, so that their timers are due one after the other."""


def run(customers: int, folder: Path, cache_mib: int) -> dict[str, float]:
    """Go through the phases, and return the figures."""
    gc.collect()
    found: dict[str, float] = {"customers": customers, "cache_mib": cache_mib, "before_mib": resident_mib()}
    one = OnePartition(folder, cache_bytes=cache_mib << 20)
    started = time.process_time()
    for first in range(0, customers, STEP_CUSTOMERS):
        numbers = range(first, min(first + STEP_CUSTOMERS, customers))
        one.step(_filled_at(numbers[-1], customers), {
            PROFILES: [(_name(n), profile(f"c{n:07}", BEGIN)) for n in numbers],
            CLICKS: [(_name(n), click(f"c{n:07}", _filled_at(n, customers), n)) for n in numbers],
        })  # fmt: skip
        one.commit()
    found["filled_mib"] = resident_mib()
    found["timers"] = _timers(one)
    chance = random.Random(1)
    for _ in range(0, customers // 2, STEP_CUSTOMERS):
        met = chance.sample(range(customers), min(STEP_CUSTOMERS, customers))
        records = [(_name(n), click(f"c{n:07}", _filled_at(n, customers), customers + n, "c2")) for n in met]
        one.step(START + SPREAD, {CLICKS: records})
        one.commit()
    found["visited_mib"] = resident_mib()
    for minute in range(4):  # a tenth of the thirty minutes, and the one that is waited for stragglers
        one.step(START + HOUR + minute * MINUTE, {})
        one.commit()
    found["fired_mib"] = resident_mib()
    found["decided"] = len(one.decided)
    found["decoded_customers"] = one.partition.cached_customers
    one.partition.close()
    found["peak_mib"] = peak_mib()
    found["bytes_per_customer"] = (found["peak_mib"] - found["before_mib"]) * 2**20 / customers
    found["cpu_seconds"] = time.process_time() - started
    found["disk_mib"] = sum(file.stat().st_size for file in _files(folder)) / 2**20
    return found


def _filled_at(number: int, customers: int) -> int:
    return START + number * SPREAD // customers


def _name(number: int) -> bytes:
    return b"c%07d" % number


def _timers(one: OnePartition) -> int:
    count, since = 0, 0
    while rows := one.store.due(since, limit=10_000):
        if rows[0][0] == rows[-1][0]:
            rows = one.store.due(since, rows[0][0])
        last = rows[-1][0]
        whole = [row for row in rows if row[0] < last] or rows
        count += len(whole)
        since = whole[-1][0] + 1
    return count


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--cache-mib", type=int, default=256, help="as ORCHESTRATOR_CACHE_BYTES")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="keep it in bench/results")
    options = parser.parse_args()
    about = machine.machine()
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.customers, Path(folder) / "0", options.cache_mib)
    if options.write:
        rows = [[name.replace("_", " "), f"{value:,.0f}"] for name, value in found.items()]
        text = "# Many customers in one partition\n\n`python -m bench.memory --write`\n\n"
        text += machine.table(["", "measured"], rows) + "\n" + machine.about(about)
        machine.write("memory", {"facts": about, "figures": found}, text)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name.replace('_', ' '):24} {value:14,.0f}")


if __name__ == "__main__":
    main()
