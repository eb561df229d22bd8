"""The real worker, which notes on its board every point of the loop that it passes."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from pathlib import Path

from orchestrator.runtime.hosting import run_engine
from orchestrator.runtime.settings import load
from tests.soak.board import Board


def main() -> int:
    """Run until a signal comes; SIGUSR1 has it print where all its threads are."""
    faulthandler.register(signal.SIGUSR1)
    return run_engine(load(), probe=Board(Path(os.environ["SOAK_BOARD"])).passed)


if __name__ == "__main__":
    sys.exit(main())
