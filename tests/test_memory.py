"""Customers wait in the store, not in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CUSTOMERS = 50_000


def test_memory_is_bounded_by_the_cache_not_by_the_customers() -> None:
    """Fifty thousand with a timer each, in a process of their own; a million is `python -m bench.memory`."""
    measured = subprocess.run(
        [sys.executable, "-m", "bench.memory", "--customers", str(CUSTOMERS), "--cache-mib", "16", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(measured.stdout)
    print(f"\n{found}")

    assert found["timers"] == CUSTOMERS
    assert found["decided"] > CUSTOMERS // 20
    assert found["decoded_customers"] * 4_096 < 16 << 20
    # The cache, RocksDB's blocks and buffers, and what one step of five thousand customers takes.
    assert found["peak_mib"] - found["before_mib"] < 16 + 64 + 48 + 100
