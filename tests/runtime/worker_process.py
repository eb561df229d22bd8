"""`orchestrator worker --role engine` as a process: what it said, where its pages are, how it ended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
COMMAND = ("-m", "orchestrator", "worker", "--role", "engine")

_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) orchestrator\S*: .*")


class EngineProcess:
    """One engine; used with `with`, it is killed at the end if it still runs."""

    def __init__(self, environment: Mapping[str, str], command: Sequence[str] = COMMAND) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, *command],
            env=clean | {"ORCHESTRATOR_LOG_FORMAT": "text"} | dict(environment),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def said(self) -> str:
        """Everything it wrote so far."""
        return "\n".join(self.lines)

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.send_signal(signal.SIGTERM)

    def ended(self, seconds: float = 30.0) -> int:
        """Return the exit code once it has ended; fails when that takes longer."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs after {seconds:g} s, and said:\n{self.said}") from None
        self._reader.join()
        return code

    def failure(self, seconds: float = 30.0) -> tuple[int, str, list[str]]:
        """Return the exit code, the one line that says what failed, and its details; fails when it said more."""
        code = self.ended(seconds)
        assert "Traceback" not in self.said, self.said
        rest = [line for line in self.lines if not _LOG_LINE.fullmatch(line)]
        assert rest, f"it ended with {code} and said nothing but:\n{self.said}"
        assert rest[0].startswith("orchestrator: "), self.said
        assert all(line.startswith("  ") for line in rest[1:]), self.said
        return code, rest[0], [line.strip() for line in rest[1:]]

    def wait_for(self, done: Callable[[], bool], seconds: float = 40.0) -> None:
        """Return once something is so; fails when it takes longer or the process ends before."""
        deadline = time.monotonic() + seconds
        while not done():
            assert self._process.poll() is None, f"it ended with {self._process.returncode}:\n{self.said}"
            assert time.monotonic() < deadline, f"not within {seconds:g} s; it said:\n{self.said}"
            time.sleep(0.05)

    def wait_until_said(self, words: str, seconds: float = 40.0) -> None:
        """Return once it has written these words."""
        self.wait_for(lambda: words in self.said, seconds)

    def wait_until_ready(self) -> None:
        """Return once all its partitions are restored."""
        self.wait_for(lambda: self.get("readyz")[0] == 200)

    def get(self, page: str) -> tuple[int, str]:
        """Return a page's status and text; status 0 while nobody answers."""
        found = re.search(r"its pages are on (http://[^\s\"]+)", self.said)
        if found is None:
            return 0, ""
        try:
            with urllib.request.urlopen(f"{found[1]}/{page}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def json(self, page: str) -> dict[str, Any]:
        """Return a page's JSON."""
        content: dict[str, Any] = json.loads(self.get(page)[1])
        return content
