"""One run of a schedule: workers, inputs and faults over virtual time, and what was violated in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import NamedTuple

from orchestrator.runtime import loop as loop_module
from orchestrator.runtime import partition as partition_module
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.intake import sources_of
from orchestrator.runtime.loop import FencedError
from tests.simulator import checks
from tests.simulator.clients import FakeConsumer
from tests.simulator.clock import VirtualClock
from tests.simulator.fake_kafka import FakeKafka
from tests.simulator.process import Killed, Process
from tests.simulator.schedule import (
    COMPACTION,
    JOIN,
    KILL,
    LEAVE,
    LIVE,
    SESSION,
    SLOW_CLOCK,
    SLOW_MARKERS,
    SLOW_TOPIC,
    STOP,
    STRANGER,
    TWIN,
    Fault,
    Schedule,
)
from tests.simulator.worker import DELETE_RETENTION, GROUP, Plan, Volume, Worker
from tests.simulator.world import LASTS, OPENS_AT, PARTITIONS, QUIET, codec, products, topics

SETTLES = 20_000
"""How long after the last event faults may still happen."""

PATIENCE = 400_000
"""How long a run may take in virtual time before it counts as stuck."""

MAX_TURNS = 6_000

_SAFE_EXIT = "could not be finished"
"""What a worker may say when it ends by itself after a fault, to be started again."""


class Result(NamedTuple):
    """What came of one run."""

    violations: tuple[str, ...]
    faults: Counter[tuple[str, str]]
    """What was struck, by kind and point."""

    counts: Counter[str]


class Run:
    """One run."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.mode = schedule.mode
        self.clock = VirtualClock(OPENS_AT)
        self.kafka = FakeKafka({topic.name: topic.partitions for topic in topics()}, self.clock)
        self.random = Random(f"run-{schedule.mode}-{schedule.seed}")
        self.workers: list[Worker] = []
        self.violations: list[str] = []
        self.faults: Counter[tuple[str, str]] = Counter()
        self.counts: Counter[str] = Counter()
        self.behind: dict[int, int] = {}
        self._plans: dict[int, Plan] = {}
        self._volumes: dict[int, Volume] = {}
        self._calm = False
        self._slow_markers = (0, 0)
        self.kafka.transactions.marker_delay = lambda _: self._marker_delay()

    # --- what workers ask -------------------------------------------------------------------------------------------

    def now(self, ordinal: int) -> int:
        """Return the instant on a worker's wall clock, which may be behind."""
        return self.clock.now - self.behind.get(ordinal, 0)

    def answer_delay(self) -> int:
        """Return how long the brokers take for an answer about ends."""
        return self.random.choice((0, 0, 50, 400))

    def transactional_id(self, worker: Worker) -> str:
        """Return what a worker commits under."""
        return f"{GROUP}.{worker.ordinal}"

    def _marker_delay(self) -> int:
        until, delay = self._slow_markers
        return self.random.randint(0, delay) if self.clock.now < until else 0

    # --- faults -----------------------------------------------------------------------------------------------------

    def count(self, fault: Fault) -> None:
        """Count a fault that happens."""
        kind = f"{fault.kind}: {fault.point}" if fault.kind == "reply" else fault.kind
        where = f"{'after' if fault.after else 'before'} {fault.point}" if fault.point else "any time"
        self.faults[kind, where] += 1

    def strike(self, worker: Worker, fault: Fault) -> None:
        """Let a fault happen to a worker that passes a point."""
        self.count(fault)
        if fault.kind == KILL:
            if "with its volume" in fault.detail:
                self._volumes[worker.ordinal] = Volume()
            self._kill(worker)
            if not worker.replaced:
                self._start_later(worker.ordinal, fault.amount)
            return
        if fault.kind == TWIN and not worker.replaced:
            worker.replaced = True
            self._volumes[worker.ordinal] = Volume()
            self._start_later(worker.ordinal, 300)
        worker.ready_at = self.clock.now + fault.amount
        if fault.kind in (STOP, TWIN):
            worker.asleep = True
            self.clock.after(SESSION, lambda: self._expire_if_asleep(worker, worker.ready_at))
        else:
            served_by = worker.consumer.consumed_at + worker.max_poll + 1
            self.clock.at(served_by, lambda: self._heartbeat(worker))
        worker.park()
        worker.asleep = False

    def _heartbeat(self, worker: Worker) -> None:
        if worker.alive and worker.strand is not None and not worker.asleep:
            worker.consumer.heartbeat()

    def _expire_if_asleep(self, worker: Worker, until: int) -> None:
        if worker.alive and worker.asleep and worker.ready_at == until:
            worker.consumer.expire()

    def _kill(self, worker: Worker) -> None:
        """Take a process away: its memory and unflushed writes are gone, its session runs out."""
        worker.alive = False
        for rows in worker.volume.partitions.values():
            if rows.holder is worker:
                rows.crash(self.random)
        self.clock.after(SESSION, worker.consumer.expire)

    def _start_later(self, ordinal: int, delay: int) -> None:
        self.clock.after(delay, lambda: self._start(ordinal))

    def _start(self, ordinal: int) -> None:
        if any(w.alive and w.ordinal == ordinal and not w.replaced for w in self.workers):
            return
        plan = self._plans.setdefault(ordinal, Plan([]))
        volume = self._volumes.setdefault(ordinal, Volume())
        self.workers.append(Worker(self, ordinal, plan, volume, self.schedule.shape))

    def _plan_faults(self) -> None:
        timed = [fault for fault in self.schedule.faults if not fault.point]
        for ordinal in range(4):
            faults = [fault for fault in self.schedule.faults if fault.point and fault.worker == ordinal]
            self._plans[ordinal] = Plan(faults)
        for fault in timed:
            self.clock.at(OPENS_AT + fault.nth, self._happening(fault))

    def _happening(self, fault: Fault) -> Callable[[], None]:
        def happen() -> None:
            if self._calm:
                return
            self.count(fault)
            if fault.kind == JOIN:
                self._start(fault.worker)
            elif fault.kind == LEAVE:
                self._leaving.add(fault.worker)
                self._start_later(fault.worker, fault.amount)
            elif fault.kind == STRANGER:
                self._let_in(fault)
            elif fault.kind == COMPACTION:
                for log in self.kafka.logs.values():
                    if log.place[0] == topics().changelog.name:
                        log.compact(self.clock.now - DELETE_RETENTION)
            elif fault.kind == SLOW_CLOCK:
                (behind,) = fault.detail
                assert isinstance(behind, int)
                self.behind[fault.worker] = behind
            elif fault.kind == SLOW_TOPIC:
                topic, number = fault.detail
                assert isinstance(topic, str)
                assert isinstance(number, int)
                self.kafka.logs[topic, number].slow_down(self.clock.now + fault.amount)
            elif fault.kind == SLOW_MARKERS:
                (delay,) = fault.detail
                assert isinstance(delay, int)
                self._slow_markers = (self.clock.now + fault.amount, delay)

        return happen

    def _let_in(self, fault: Fault) -> None:
        """Let a consumer that reads one input alone join the workers' group for a while."""
        (topic,) = fault.detail
        stranger = FakeConsumer(self.kafka, Process(), {"group.id": GROUP})
        stranger.subscribe([str(topic)], on_assign=_ignore, on_revoke=_ignore)
        until = self.clock.now + fault.amount

        def turn() -> None:
            if self.clock.now >= until:
                stranger.close()
            else:
                stranger.consume(100, 0)
                self.clock.after(500, turn)

        turn()

    _leaving: set[int]

    # --- inputs -----------------------------------------------------------------------------------------------------

    def _plan_inputs(self) -> None:
        for value in products():
            self.kafka.logs["products", 0].append(None, value, None, OPENS_AT)
        if self.mode == LIVE:
            self._plan_live()
        else:
            self._plan_replay()

    def _plan_live(self) -> None:
        owners: dict[tuple[str, int, int], int] = {}
        for arrival in self.schedule.arrivals:
            place = (arrival.topic, arrival.partition)
            owner = None
            if arrival.group is not None:
                of = (*place, arrival.group)
                if of not in owners:
                    # An upstream's transaction: it stays open for seconds, and one in five is aborted.
                    owners[of] = 1_000 + len(owners)
                    ends_at = arrival.at + self.random.randint(500, 9_000)
                    self.clock.at(ends_at, self._ending(place, owners[of], committed=self.random.random() < 0.8))
                    self._upstream_ends[owners[of]] = ends_at
                owner = owners[of] if arrival.at <= self._upstream_ends[owners[of]] else None
            self.clock.at(arrival.at, self._arriving(place, arrival.key, arrival.value, owner))

    def _arriving(
        self, place: tuple[str, int], key: bytes | None, value: bytes | None, owner: int | None
    ) -> Callable[[], None]:
        return lambda: void(self.kafka.logs[place].append(key, value, None, self.clock.now, owner))

    def _ending(self, place: tuple[str, int], owner: int, *, committed: bool) -> Callable[[], None]:
        return lambda: self.kafka.logs[place].mark(owner, self.clock.now, committed=committed)

    def _plan_replay(self) -> None:
        """Feed records and barriers at a third of their time, the barriers sometimes before their records are seen."""
        every = self.schedule.shape.barrier_every
        encode = codec().encoder(topics().clock)
        inputs = [topic.name for topic in sources_of(topics())]
        ends = {(topic, number): 0 for topic in inputs for number in range(PARTITIONS)}
        ends["products", 0] = len(products())
        barrier = OPENS_AT
        pending = list(self.schedule.arrivals)
        last = OPENS_AT + LASTS + QUIET
        while barrier <= last:
            barrier += every
            at = OPENS_AT + (barrier - OPENS_AT) // 4
            while pending and pending[0].at <= barrier:
                arrival = pending.pop(0)
                place = (arrival.topic, arrival.partition)
                ends[place] += 1
                self.clock.at(at, self._arriving(place, arrival.key, arrival.value, None))
            for number in range(PARTITIONS):
                shared = {topic: ends[topic, number] for topic in inputs} | {"products": ends["products", 0]}
                value = encode({"time": barrier, "ends": shared, "horizon": None})
                self.clock.at(at, self._arriving((topics().clock.name, number), str(number).encode(), value, None))

    # --- running ----------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        """Run to the end and check."""
        shape = self.schedule.shape
        self._leaving = set()
        self._upstream_ends: dict[int, int] = {}
        before = loop_module.MAX_CHANGED, partition_module.SCAN_ROWS
        loop_module.MAX_CHANGED, partition_module.SCAN_ROWS = shape.max_changed, shape.scan_rows
        try:
            self._plan_inputs()
            self._plan_faults()
            for ordinal in range(shape.workers):
                self._start(ordinal)
            self.clock.at(OPENS_AT + LASTS + SETTLES, self._calm_down)
            finished = self._take_turns()
            self._unwind()
        finally:
            loop_module.MAX_CHANGED, partition_module.SCAN_ROWS = before
        if not finished:
            self.violations.append("stuck: the end was not reached")
        if not self.violations:
            self.violations += checks.check(self)
        self.counts["commits"] = self.counts["commits"] + sum(worker.loop.commits for worker in self.workers)
        self.counts["aborts"] = sum(worker.loop.aborts for worker in self.workers)
        self.counts["processes"] = len(self.workers)
        self.counts["generations"] = self.kafka.group(GROUP).generation
        return Result(tuple(self.violations), self.faults, self.counts)

    def _take_turns(self) -> bool:
        """Give turns to whoever is ready first until everything is decided; return whether that came about."""
        for _ in range(MAX_TURNS):
            alive = [worker for worker in self.workers if worker.alive]
            worker = min(alive, key=lambda one: one.ready_at) if alive else None
            plan = self.clock.next_plan
            if worker is None or (plan is not None and plan <= worker.ready_at):
                if plan is None:
                    return False
                self.clock.pass_to(plan)
                continue
            self.clock.pass_to(worker.ready_at)
            if self.clock.now > OPENS_AT + PATIENCE:
                return False
            self._turn(worker)
            if self.violations:
                return True
            if self._calm and self._is_finished():
                return True
        return False

    def _turn(self, worker: Worker) -> None:
        if worker.ordinal in self._leaving and worker.strand is None and not worker.replaced:
            self._leaving.discard(worker.ordinal)
            self._attempt(worker, self._stop)
            return
        self._attempt(worker, self._take)

    def _take(self, worker: Worker) -> None:
        worked = worker.turn()
        if worker.strand is None:
            worker.ready_at = self.clock.now + (
                self.random.randint(30, 500) if worked else self.random.randint(300, 1_500)
            )

    def _stop(self, worker: Worker) -> None:
        worker.plan, kept = Plan([]), worker.plan
        try:
            worker.loop.stop()
        finally:
            worker.plan = kept
        self._gone(worker)

    def _attempt(self, worker: Worker, what: Callable[[Worker], None]) -> None:
        try:
            what(worker)
        except Killed:
            return
        except OperatorError as error:
            self._exited(worker, error)
        except Exception as error:
            self.violations.append(f"crash: {type(error).__name__}: {error}")

    def _exited(self, worker: Worker, error: OperatorError) -> None:
        """Let a process that failed leave as the service does, and come back."""
        fenced = isinstance(error, FencedError)
        self.counts["fenced" if fenced else "restarts"] += 1
        if not fenced and (_SAFE_EXIT not in error.message or "Unknown partition" in error.message):
            self.violations.append(f"refused: {error.message}")
        with suppress(Exception, Killed):
            worker.loop.close()
        if worker.alive:
            self._gone(worker)
            if not worker.replaced:
                self._start_later(worker.ordinal, 4_000 if fenced else 1_000)

    def _gone(self, worker: Worker) -> None:
        """Note that a process ended by itself; a store it could not close is as after a crash."""
        worker.alive = False
        for rows in worker.volume.partitions.values():
            if rows.holder is worker:
                rows.crash(self.random)
        if worker.consumer.is_member:
            self.clock.after(SESSION, worker.consumer.expire)

    def _calm_down(self) -> None:
        """Let no fault happen from here on, and everybody be there."""
        self._calm = True
        self.behind.clear()
        self._slow_markers = (0, 0)
        for plan in self._plans.values():
            plan.faults.clear()
        for log in self.kafka.logs.values():
            log.slow_until = 0
        for worker in self.workers:
            if worker.alive and worker.strand is not None:
                self._kill(worker)
        for ordinal in range(self.schedule.shape.workers):
            self._start_later(ordinal, 1_000)

    def _is_finished(self) -> bool:
        if self.mode == LIVE:
            return self.clock.now >= OPENS_AT + LASTS + SETTLES + QUIET
        offsets = self.kafka.group(GROUP).offsets
        clock = topics().clock.name
        return all(offsets.get((clock, n), 0) >= self.kafka.logs[clock, n].end for n in range(PARTITIONS))

    def _unwind(self) -> None:
        """Stop whoever is left in good order, and let threads of the dead end."""
        for worker in self.workers:
            if worker.strand is not None:
                worker.alive = False
                worker.end()
        for worker in self.workers:
            if worker.alive and not self.violations:
                self._attempt(worker, self._stop)


def _ignore(_: object, partitions: object) -> None:
    """Do nothing about an assignment."""


def void(_: object) -> None:
    """Return nothing."""
