"""The faults: what each class does, which phase of the loop it hit, and how long it took to recover."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle

from tests.soak.fleet import STATIC, Fleet, Life
from tests.soak.nodes import Nodes
from tests.soak.stream import Stream

POINTS = ("consumed", "applied", "changelog_sent", "flushed", "offsets_sent", "committed", "settling", "settled")
SESSION, TRANSACTION = 6.0, 10.0
"""Seconds, as the fast profile has them in a soak."""

WORKERS = (0, 1, 2)
MOST_WORKERS = 4


@dataclass(slots=True)
class Fault:
    """One fault: `phases` are the points that the workers it hit had passed last; times in seconds."""

    kind: str
    what: str
    at: float
    phases: list[str]
    recovered: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)


class Faults:
    """Does one fault after another to workers and nodes, each time waiting until all partitions are decided again."""

    def __init__(self, fleet: Fleet, nodes: Nodes, stream: Stream, seed: int) -> None:
        self.done: list[Fault] = []
        self.fenced = 0
        self._fleet = fleet
        self._nodes = nodes
        self._stream = stream
        self._chance = random.Random(seed)
        self._begun = time.monotonic()
        self._turns = {kind: cycle(order) for kind, order in _TURNS.items()}
        self._topics = [topic.name for topic in (*fleet.run.topics.inputs, fleet.run.topics.profiles)]

    def do(self, kind: str) -> Fault:
        """Do one fault of a class."""
        fault = _CLASSES[kind](self)
        self.done.append(fault)
        return fault

    # --- workers ----------------------------------------------------------------------------------------------------

    def kill(self) -> Fault:
        """Kill -9 a worker at any point, and start it again at once; every third time again as it restores."""
        point = self._point()
        ordinal, phase, dead_at = self._hit(signal.SIGKILL, point)
        mark = self._fleet.mark()
        twice = next(self._turns["kill"]) == "twice"
        if twice:
            life = self._fleet.start(ordinal, order=(signal.SIGKILL, "restoring"))
            self._fleet.keep_down(ordinal)
            self._fleet.until(lambda: not life.running, "a worker that dies as it restores")
            dead_at = time.monotonic()
        self._fleet.start(ordinal)
        fault = self._fault("kill", f"worker {ordinal}", [phase, "restoring"] if twice else [phase])
        self._fleet.until(lambda: self._life(ordinal).board.commits > 0, "its next commit")
        fault.figures["same ordinal back, to its next commit"] = self._life(ordinal).board.first_commit_at - dead_at
        return self._recover(fault, mark, dead_at)

    def cut(self) -> Fault:
        """Kill -9 a worker between its offsets and the end of its transaction; it comes back, or another takes over."""
        ordinal, phase, dead_at = self._hit(signal.SIGKILL, "offsets_sent")
        name, owned = self._fleet.name(ordinal), self._fleet.owners()
        mark = self._fleet.mark()
        comes_back = next(self._turns["cut"]) == "comes back"
        fault = self._fault("cut", f"worker {ordinal}, {'comes back' if comes_back else 'another takes over'}", [phase])
        if comes_back:
            self._fleet.start(ordinal)
            self._fleet.until(lambda: self._life(ordinal).board.commits > 0, "its next commit")
            fault.figures["same ordinal back, to its next commit"] = self._life(ordinal).board.first_commit_at - dead_at
            return self._recover(fault, mark, dead_at)

        transactional_id = f"{self._fleet.run.settings.group}.{ordinal}"
        before = self._nodes.rolled_back(transactional_id)
        lost = {number: mark.get(number, 0) for number in owned.get(name, mark)}
        parts: dict[str, Callable[[], bool]] = {
            "session over": lambda: name not in (self._fleet.owners() or {name: set()}),
            "transaction ended by its timeout and the sweep": lambda: (
                self._nodes.rolled_back(transactional_id) > before
            ),
            "another worker commits": lambda: self._passed(lost),
        }

        def all_seen() -> bool:
            for part, seen in parts.items():
                if part not in fault.figures and seen():
                    fault.figures[part] = time.monotonic() - dead_at
            return "another worker commits" in fault.figures

        self._fleet.until(all_seen, "another worker to take over")
        fault = self._recover(fault, mark, dead_at)
        self._fleet.start(ordinal)
        self._settle()
        return fault

    def zombie(self) -> Fault:
        """Freeze a worker beyond its session, now and then beyond its transaction; a double may have its place then."""
        turn = next(self._turns["zombie"])
        ordinal, phase, frozen_at = self._hit(signal.SIGSTOP, self._point())
        zombie = self._life(ordinal)
        mark = self._fleet.mark()
        beyond = TRANSACTION + 3 if turn == "long" else SESSION + 2
        fault = self._fault("zombie", f"worker {ordinal}, {turn}, {beyond:.0f} s", [phase])
        if turn == "double":
            self._fleet.pause(beyond / 2)
            double = self._fleet.start(ordinal, elsewhere=True)
            self._fleet.ghosts.append(zombie)
            self._fleet.until(lambda: double.board.commits > 0, "the double's commit")
            self._fleet.pause(max(0.0, frozen_at + beyond - time.monotonic()))
        else:
            self._fleet.pause(beyond)
        took_over = self._fleet.has_passed(mark)
        zombie.send(signal.SIGCONT)
        self._fleet.keep_up(ordinal)
        fault.figures["others had taken over when it woke"] = float(took_over)
        fault = self._recover(fault, mark, frozen_at)
        if turn == "double":
            self._fleet.until(lambda: not zombie.running, "the zombie to leave")
            self.fenced += zombie.process.returncode == 75
        self._settle()
        return fault

    def join(self) -> Fault:
        """Add a worker."""
        free = next(number for number in range(MOST_WORKERS + 1) if number not in self._fleet.lives)
        phases = list(self._fleet.phases().values())
        mark, begun = self._fleet.mark(), time.monotonic()
        self._fleet.start(free)
        fault = self._fault("join", f"worker {free}, {len(self._fleet.lives)} now", phases)
        self._fleet.until(lambda: self._life(free).board.commits > 0, "the new worker's first commit")
        fault.figures["to its first commit"] = self._life(free).board.first_commit_at - begun
        return self._recover(fault, mark, begun)

    def leave(self) -> Fault:
        """Take a worker away in good order."""
        ordinal = self._chance.choice(sorted(self._fleet.lives))
        phases, begun = list(self._fleet.phases().values()), time.monotonic()
        code = self._fleet.remove(ordinal)
        assert code == 0, f"a worker that was asked to leave ended with {code}"
        fault = self._fault("leave", f"worker {ordinal}, {len(self._fleet.lives)} left", phases)
        fault.figures["to its exit"] = time.monotonic() - begun
        return self._recover(fault, self._fleet.mark(), begun)

    def rolling(self) -> Fault:
        """Restart static members one after the other: the group's generation stays."""
        group = self._fleet.run.settings.group
        before, begun = self._nodes.generation(group), time.monotonic()
        phases, slowest = [], 0.0
        for ordinal in sorted(self._fleet.lives):
            self._fleet.pause(self._chance.uniform(0, 0.4))
            phases.append(self._life(ordinal).board.point)
            asked_at = time.monotonic()
            code = self._fleet.end(ordinal, signal.SIGTERM)
            assert code == 0, f"a worker that was asked to stop ended with {code}"
            self._fleet.start(ordinal)
            self._fleet.until(lambda ordinal=ordinal: self._life(ordinal).board.commits > 0, "its next commit")  # type: ignore[misc]
            slowest = max(slowest, self._life(ordinal).board.first_commit_at - asked_at)
        mark = self._fleet.mark()
        fault = self._fault("rolling", f"{len(phases)} static workers", phases)
        fault.figures["generations"] = float(self._nodes.generation(group) - before)
        fault.figures["slowest worker, from SIGTERM to its next commit"] = slowest
        fault = self._recover(fault, mark, begun)
        assert fault.figures["generations"] == 0, "a rolling restart of static members changed the generation"
        return fault

    def to_static(self) -> None:
        """Let all workers leave, and start them as static members."""
        for ordinal in sorted(self._fleet.lives):
            self._fleet.remove(ordinal)
        self._fleet.use(STATIC)
        for ordinal in WORKERS:
            self._fleet.start(ordinal)
        self._fleet.until(lambda: [*map(bool, self._fleet.owners().values())] == [True] * 3, "three static members")
        self._settle()
        self._fleet.pause(2)

    # --- nodes and topics -------------------------------------------------------------------------------------------

    def bounce(self, role: str, *, hard: bool) -> Fault:
        """Stop the node that has a role, cleanly or hard, and start it again."""
        run, ordinals = self._fleet.run, sorted(self._fleet.lives)
        what, number = self._node(role, ordinals)
        roles = self._nodes.roles(number, run, ordinals)
        mark = self._fleet.mark()
        self._await_point(self._chance.choice(ordinals), self._point())
        phases, begun = list(self._fleet.phases().values()), time.monotonic()
        self._nodes.stop(number, hard=hard)
        kind = f"{role} {'hard' if hard else 'clean'}"
        fault = self._fault(kind, f"node {number}: {what}; also {', '.join(roles) or 'nothing else'}", phases)
        mark = self._fleet.mark()
        self._fleet.until(lambda: self._passed(mark), "work while a node is away")
        fault.figures["decided again, the node still away"] = time.monotonic() - begun
        self._nodes.start(number)
        self._fleet.until(self._nodes.whole, "all replicas in sync")
        return self._recover(fault, self._fleet.mark(), begun)

    def lag(self) -> Fault:
        """Hold one topic's records back while the barriers that count them are already there, then let them trickle."""
        inputs = [topic.name for topic in self._fleet.run.topics.inputs]
        topic, replayer = self._chance.choice(inputs), self._stream.replayer
        phases, begun = list(self._fleet.phases().values()), time.monotonic()
        replayer.hold(topic)
        self._fleet.pause(self._chance.uniform(2, 4))
        self._fleet.until(lambda: replayer.kept > 0, "a record to hold back")
        most = replayer.kept
        fault = self._fault("lag", f"{topic}, {most} records held back", phases)
        while left := replayer.release(max(1, most // 8)):
            self._fleet.pause(0.2)
            most = max(most, left)
        return self._recover(fault, self._fleet.mark(), begun)

    def _node(self, role: str, ordinals: list[int]) -> tuple[str, int]:
        run = self._fleet.run
        if role == "controller":
            return "the active controller", self._nodes.controller()
        if role == "leader":
            topic = self._chance.choice([*self._topics, run.topics.changelog.name, run.topics.decisions.name])
            partition = self._chance.randrange(run.topics.partitions)
            return f"leads {topic}/{partition}", self._nodes.leader(topic, partition)
        if next(self._turns["coordinator"]) == "group":
            return "coordinates the group", self._nodes.group_coordinator(run.settings.group)
        ordinal = self._chance.choice(ordinals)
        number = self._nodes.transaction_coordinator(f"{run.settings.group}.{ordinal}")
        return f"coordinates the transactions of worker {ordinal}", number

    # --- common -----------------------------------------------------------------------------------------------------

    def _point(self) -> str:
        return self._chance.choice((*POINTS, "any"))

    def _life(self, ordinal: int) -> Life:
        return self._fleet.lives[ordinal]

    def _hit(self, number: signal.Signals, point: str) -> tuple[int, str, float]:
        """Kill or freeze some worker at a point, else anywhere; return which, the point it had passed, and when."""
        ordinal = self._chance.choice(sorted(self._fleet.lives))
        self._fleet.keep_down(ordinal)
        life = self._life(ordinal)
        if point == "any":
            time.sleep(self._chance.uniform(0, 0.5))
        else:
            life.board.order(number, point)
        deadline = time.monotonic() + (0 if point == "any" else 5)
        while not self._is_hit(life):
            if time.monotonic() > deadline:
                life.board.cancel()
                life.send(number)
            time.sleep(0.002)
        return ordinal, life.board.point, time.monotonic()

    def _is_hit(self, life: Life) -> bool:
        return not life.running or life.frozen

    def _await_point(self, ordinal: int, point: str) -> None:
        """Wait a little for a worker to pass a point, so that a node's fault hits more than the waiting for records."""
        deadline = time.monotonic() + 1.0
        while self._life(ordinal).board.point != point and time.monotonic() < deadline:
            time.sleep(0.0005)

    def _fault(self, kind: str, what: str, phases: list[str]) -> Fault:
        return Fault(kind, what, time.monotonic() - self._begun, phases)

    def _recover(self, fault: Fault, mark: dict[int, int], since: float) -> Fault:
        self._fleet.until(lambda: self._passed(mark), f"recovery after {fault.kind}, {fault.what}")
        fault.recovered = time.monotonic() - since
        return fault

    def _passed(self, mark: dict[int, int]) -> bool:
        now = self._fleet.positions()
        return bool(now) and all(now.get(number, 0) > before for number, before in mark.items())

    def _settle(self) -> None:
        """Wait until every worker that should run has committed."""

        def all_commit() -> bool:
            return all(life.running and life.board.commits > 0 for life in self._fleet.lives.values())

        self._fleet.until(all_commit, "all workers")


_TURNS = {
    "kill": ("once", "once", "twice"),
    "cut": ("another takes over", "comes back"),
    "zombie": ("short", "double", "long"),
    "coordinator": ("group", "transactions"),
}

_CLASSES: dict[str, Callable[[Faults], Fault]] = {
    "kill": Faults.kill,
    "cut": Faults.cut,
    "zombie": Faults.zombie,
    "join": Faults.join,
    "leave": Faults.leave,
    "lag": Faults.lag,
    "leader clean": lambda faults: faults.bounce("leader", hard=False),
    "leader hard": lambda faults: faults.bounce("leader", hard=True),
    "controller clean": lambda faults: faults.bounce("controller", hard=False),
    "controller hard": lambda faults: faults.bounce("controller", hard=True),
    "coordinator clean": lambda faults: faults.bounce("coordinator", hard=False),
    "coordinator hard": lambda faults: faults.bounce("coordinator", hard=True),
    "rolling": Faults.rolling,
}

CLASSES = tuple(_CLASSES)
"""By name, in the order of the report; `rolling` comes last, with static members."""
