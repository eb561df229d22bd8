"""The real worker, which kills itself with SIGKILL at the n-th pass of a named point of the loop.

``CRASH_POINT`` and ``CRASH_PASS`` say where; without them it is an ordinary worker. ``SMALL_BATCHES`` makes it consume
and restore few records at a time, so that a small stream takes many transactions.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count

from orchestrator.runtime import loop
from orchestrator.runtime.hosting import run_engine
from orchestrator.runtime.settings import load


def main() -> int:
    """Run until a signal comes or the point is reached."""
    point, fatal_pass = os.environ.get("CRASH_POINT"), int(os.environ.get("CRASH_PASS", "0"))
    passes = count(1)
    if small := os.environ.get("SMALL_BATCHES"):
        loop.BATCH_RECORDS = loop.RESTORE_RECORDS = int(small)

    def probe(passed: str) -> None:
        if passed == point and next(passes) == fatal_pass:
            os.kill(os.getpid(), signal.SIGKILL)

    return run_engine(load(), probe=probe)


if __name__ == "__main__":
    sys.exit(main())
