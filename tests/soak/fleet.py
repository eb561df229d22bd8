"""The workers of a soak: kept running as Kubernetes would, and looked at from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.kafka.workers import ROOT, Run
from tests.soak.board import Board

PATIENCE = 180.0
_ANSWER = 5.0
_TICK = 0.05
_CRASH_LOOP = 2.0
_PARTITION = re.compile(r"/\d+(?=\s)")

FAST = {"STATIC_MEMBERSHIP": "false", "SESSION_TIMEOUT": "6s"}
STATIC = {"STATIC_MEMBERSHIP": "true", "SESSION_TIMEOUT": "60s"}

Positions = dict[int, int]
"""By partition, which barrier comes next: what the group has committed of the clock topic."""


class Life:
    """One process of one worker."""

    def __init__(self, variables: dict[str, str], board: Path, log: Path) -> None:
        self.board = Board(board)
        self.started_at = time.monotonic()
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.worker"],
                cwd=ROOT,
                env={**kept, **variables, "SOAK_BOARD": str(board)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def running(self) -> bool:
        """Whether the process is there, frozen or not."""
        return self.process.poll() is None

    @property
    def frozen(self) -> bool:
        """Whether it was stopped by a signal."""
        try:
            return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except (FileNotFoundError, ProcessLookupError):
            return False

    @property
    def last_words(self) -> str:
        """The line for the operator with which it ended, or the end of what it printed."""
        with self._log.open("rb") as printed:
            printed.seek(self._log_start)
            lines = printed.read().decode(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.startswith("orchestrator: ")), "; ".join(lines[-3:]))

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


class Fleet:
    """Workers by ordinal; `tend`, which every waiting calls, starts again whichever has ended by itself."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.lives: dict[int, Life] = {}
        self.exits: Counter[str] = Counter()
        self.ghosts: list[Life] = []
        self._down: set[int] = set()
        self._started = 0
        self._state: dict[int, str] = {}
        self._profile = FAST
        # Not the admin client's questions about groups: while coordinators move, librdkafka may abort the process on an
        # assertion in them (rd_kafka_enq_once_del_source_return).
        self._asking = Consumer({**run.client, "group.id": run.settings.group, "isolation.level": "read_uncommitted"})
        self._admin = AdminClient(run.client)
        self._clock = [TopicPartition(run.topics.clock.name, number) for number in range(run.topics.partitions)]

    def use(self, profile: dict[str, str]) -> None:
        """Start workers with these settings from now on."""
        self._profile = profile

    def start(self, ordinal: int, *, order: tuple[signal.Signals, str] | None = None, elsewhere: bool = False) -> Life:
        """Start a worker, `elsewhere` with a disk of its own, as when its node is thought dead."""
        self._started += 1
        if elsewhere:
            self._state[ordinal] = str(self.run.folder / f"state-of-{self._started}")
        more = {"STATE_DIR": self._state[ordinal]} if ordinal in self._state else {}
        board = self.run.folder / f"board-{self._started}"
        ahead = Board(board)
        if order is not None:
            ahead.order(*order)
        variables = self.run.environment(ordinal, **self._profile, **more)
        life = Life(variables, board, self.run.folder / f"worker-{ordinal}.log")
        self.lives[ordinal] = life
        self._down.discard(ordinal)
        return life

    def end(self, ordinal: int, number: signal.Signals, patience: float = 60.0) -> int:
        """Send a worker the signal that ends it, and keep it down; return its exit code."""
        self._down.add(ordinal)
        life = self.lives[ordinal]
        life.send(number)
        try:
            return life.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"worker {ordinal} did not end in {patience:.0f} s: {life.last_words}") from None

    def keep_down(self, ordinal: int) -> None:
        """Do not start a worker again when it has ended."""
        self._down.add(ordinal)

    def keep_up(self, ordinal: int) -> None:
        """Start a worker again when it has ended."""
        self._down.discard(ordinal)

    def remove(self, ordinal: int) -> int:
        """Ask a worker to leave for good, and return its exit code."""
        code = self.end(ordinal, signal.SIGTERM)
        del self.lives[ordinal]
        return code

    def close(self) -> None:
        """Leave no process behind, whatever has failed."""
        for life in (*self.lives.values(), *self.ghosts):
            if life.running:
                life.process.kill()
                life.process.wait()

    def tend(self) -> None:
        """Start again every worker that has ended by itself."""
        for ordinal, life in list(self.lives.items()):
            if ordinal in self._down or life.running:
                continue
            if time.monotonic() - life.started_at < _CRASH_LOOP:
                continue  # as Kubernetes backs off
            self.exits[f"{life.process.returncode}: {_PARTITION.sub('/n', life.last_words)}"] += 1
            self.start(ordinal)

    def until(self, what: Callable[[], bool], name: str, patience: float = PATIENCE) -> float:
        """Tend until something is so, and return how many seconds it took."""
        begun = time.monotonic()
        while not what():
            self.tend()
            if time.monotonic() - begun > patience:
                for life in self.lives.values():
                    if life.running:
                        life.send(signal.SIGUSR1)
                time.sleep(1)
                told = {ordinal: (life.board.point, life.last_words) for ordinal, life in self.lives.items()}
                raise AssertionError(f"waited {patience:.0f} s in vain for {name}; {self.positions()}; {told}")
            time.sleep(_TICK)
        return time.monotonic() - begun

    def pause(self, seconds: float) -> None:
        """Tend for a while."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, "the time", seconds + PATIENCE)

    def phases(self) -> dict[int, str]:
        """Return the point of the loop that each worker has passed last."""
        return {ordinal: life.board.point for ordinal, life in sorted(self.lives.items())}

    def positions(self) -> Positions:
        """Return the group's place in the clock topic, nothing while nobody answers."""
        try:
            answer = self._asking.committed(self._clock, timeout=_ANSWER)
        except KafkaException:
            return {}
        if any(where.error is not None for where in answer):
            return {}
        return {where.partition: max(0, where.offset) for where in answer}

    def has_passed(self, mark: Positions) -> bool:
        """Return whether every partition was decided beyond a mark."""
        now = self.positions()
        return len(now) == len(self._clock) and all(now[number] > mark.get(number, 0) for number in now)

    def mark(self) -> Positions:
        """Return the group's place, from a broker that answers."""
        found: Positions = {}

        def answered() -> bool:
            found.update(self.positions())
            return len(found) == len(self._clock)

        self.until(answered, "an answer about the group")
        return found

    def owners(self) -> dict[str, set[int]]:
        """Return the partitions of each member by its client id, nothing while nobody answers."""
        group = self.run.settings.group
        try:
            described = [one for one in self._admin.list_groups(group, timeout=_ANSWER) if one.id == group]
        except KafkaException:
            return {}
        clock = self.run.topics.clock.name
        return {
            str(member.client_id): _assigned(member.assignment or b"", clock)
            for one in described
            if one.error is None and one.state == "Stable"
            for member in one.members
        }

    def name(self, ordinal: int) -> str:
        """Return the client id of a worker."""
        return f"{self.run.settings.group}-{ordinal}"


def _assigned(assignment: bytes, topic: str) -> set[int]:
    """Return the partitions of one topic in a member's assignment, as the consumer protocol writes it."""
    found: set[int] = set()
    at = 6
    for _ in range(int.from_bytes(assignment[2:at], "big")):
        length = int.from_bytes(assignment[at : at + 2], "big")
        name = assignment[at + 2 : at + 2 + length].decode()
        at += 2 + length
        count = int.from_bytes(assignment[at : at + 4], "big")
        numbers = [int.from_bytes(assignment[at + 4 * n : at + 4 * n + 4], "big") for n in range(1, count + 1)]
        at += 4 + 4 * count
        if name == topic:
            found.update(numbers)
    return found
