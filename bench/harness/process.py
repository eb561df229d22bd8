"""A process whose cost is read from the kernel: CPU of all its threads and children, wall clock, peak memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orchestrator.runtime.embedded_broker import die_with_parent, stop_watcher

_TICK = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process has cost in all: user and system CPU-seconds, children included, and its peak resident set."""

    cpu_seconds: float
    peak_mib: float


class EndedError(RuntimeError):
    """A measured process ended by itself; the message carries the end of its log."""


class Measured:
    """One process in a session of its own, with its output in a file."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        given = {name: text for name, text in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                env={**given, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started = time.monotonic()
        self._watcher = die_with_parent(self._process.pid)
        self._cost: Cost | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Return the CPU-seconds so far, of its threads and of children it has waited for."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return sum(map(int, fields[11:15])) / _TICK

    def peak_mib(self) -> float:
        """Return the peak of its resident set so far; of the program alone, not of the process it was forked from."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def must_run(self) -> None:
        """Raise an EndedError if it has ended."""
        # Looked at without waiting for it: its cost is collected by `stop`.
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()[0]
        if state == "Z":
            self.stop()
            raise EndedError(f"it ended by itself; its last words:\n{self.tail()}")

    def tail(self, lines: int = 25) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> Cost:
        """Ask it to end, wait, and return what it has cost in all."""
        if self._cost is not None:
            return self._cost
        peak = self.peak_mib()
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                deadline = float("inf")
            time.sleep(0.01)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        stop_watcher(self._watcher)
        self._cost = Cost(usage.ru_utime + usage.ru_stime, peak)
        return self._cost
