"""The demo's processes: workers as Kubernetes would run them, and the replay beside them; all stop with the demo."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.runtime.embedded_broker import die_with_parent, free_ports, stop_watcher
from orchestrator.runtime.errors import OperatorError

STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a worker's metrics said at one instant: values by name, and by name and label."""

    values: Mapping[str, float]
    labelled: Mapping[str, Mapping[str, float]]

    def value(self, name: str) -> float:
        """Return a metric's value, 0 when it is not there."""
        return self.values.get(name, 0.0)

    def by_label(self, name: str) -> Mapping[str, float]:
        """Return a metric's values by its label."""
        return self.labelled.get(name, {})


class WorkerProcess:
    """One `orchestrator worker` in a process of its own, with its log in a file."""

    def __init__(self, role: str, environment: Mapping[str, str], log: Path) -> None:
        self.role = role
        self.log = log
        (self.port,) = free_ports(1)
        given = {name: text for name, text in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        given |= environment
        given |= {"ORCHESTRATOR_WEB_PORT": str(self.port), "ORCHESTRATOR_WEB_HOST": "127.0.0.1"}
        with log.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "orchestrator", "worker", "--role", role],
                env=given,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which stops its workers in order
            )
        self._watcher = die_with_parent(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    @property
    def last_words(self) -> list[str]:
        """The last lines of its log."""
        return self.log.read_text(errors="replace").splitlines()[-10:]

    def scrape(self) -> Snapshot | None:
        """Return what /metrics says now, None while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        values: dict[str, float] = {}
        labelled: dict[str, dict[str, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if len(sample.labels) == 1:
                    (label,) = sample.labels.values()
                    labelled.setdefault(sample.name, {})[label] = sample.value
                else:
                    values[sample.name] = sample.value
        return Snapshot(values, labelled)

    def stop(self) -> int:
        """Let the worker commit and leave; return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        stop_watcher(self._watcher)
        return self._process.returncode

    def check(self) -> None:
        """Raise an OperatorError with the last lines of the log if the worker is gone."""
        if self.exit_code is not None:
            message = f"the {self.role} worker stopped by itself with exit code {self.exit_code}; its last words:"
            raise OperatorError(message, details=self.last_words)
