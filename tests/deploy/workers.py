"""Workers as Kubernetes runs them, over a little history of customers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

from orchestrator.demo.replayer import Arrival
from orchestrator.demo.world import World
from orchestrator.events import DAY
from orchestrator.runtime.embedded_broker import die_with_parent, stop_watcher
from tests.kafka.workers import ROOT, Run, wait_for


def history() -> tuple[Iterator[Arrival], int]:
    """Return two months of forty households and when they end; some of the clicks come from tomorrow or yesterday."""
    world = World(7, households=40, days=60)
    return with_strays(world), world.ends_at


def with_strays(world: World) -> Iterator[Arrival]:
    """Yield all that happens in a world, and for one click in a hundred another from tomorrow or yesterday."""
    for number, (at, topic, key, record) in enumerate(world.stream()):
        yield at, topic, key, record
        if topic == "clickstream" and number % 100 == 0:
            off = DAY if number % 200 else -DAY
            stray = {"event_id": f"stray-{number}", "event_time": record["event_time"] + off}
            yield at, topic, key, record | stray


class Worker:
    """A worker as Kubernetes runs it; `with` ends it in good order."""

    def __init__(self, role: str, variables: Mapping[str, str], log: Path) -> None:
        self._log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        command = [sys.executable, "-m", "orchestrator", "worker", "--role", role]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, env={**kept, **variables}, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
            )
        self._watcher = die_with_parent(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self.wait()
        stop_watcher(self._watcher)

    def wait(self) -> int:
        """Return its exit code once it has ended."""
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def until(self, what: Callable[[], bool], name: str, patience: float = 120) -> None:
        """Wait until something is so; that the worker ends before is an error."""

        def so() -> bool:
            assert self._process.poll() is None, self.log[-3000:]
            return what()

        wait_for(so, name, patience)


def engine(run: Run, settings: Mapping[str, str]) -> Worker:
    """Start an engine over a run's topics."""
    return Worker("engine", run.environment(0, **settings), run.folder / "engine.log")


def decisions_read(port: int) -> float:
    """Return how many decisions a control worker counts, 0 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except (OSError, urllib.error.HTTPError):
        return 0
    return sum(map(float, re.findall(r"^journey_control_decisions_total\{.*\} (\S+)$", text, re.MULTILINE)))
