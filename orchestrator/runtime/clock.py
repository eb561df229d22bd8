"""The only place that reads the time."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the wall clock's instant, milliseconds since 1970."""
    return time.time_ns() // 1_000_000
