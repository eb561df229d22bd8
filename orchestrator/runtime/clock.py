"""The only place that reads the time."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the wall clock's instant, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Return milliseconds that never jump, from an instant of their own."""
    return time.monotonic_ns() // 1_000_000
