"""Killed at any instant, and started again, a worker writes byte for byte what it would have written undisturbed."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from orchestrator.audit import AuditReport, Promise
from orchestrator.demo.replayer import Arrival
from orchestrator.demo.world import World
from orchestrator.events import DAY, MINUTE
from tests.kafka.broker import KafkaBroker
from tests.kafka.workers import Outputs, Run, Worker, differences, wait_for
from tests.measured import MEASURED

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

HOUSEHOLDS, DAYS = 100, 60
SMALL = {"SMALL_BATCHES": "100"}
TINY = {"SMALL_BATCHES": "10"}
TINIEST = {"SMALL_BATCHES": "2"}

POINTS = ("consumed", "applied", "changelog_sent", "flushed", "offsets_sent", "committed", "settling")
"""Where the worker kills itself: before, within and after a transaction, and between two stores."""

PASSES = (2, 9, 4, 16, 7)
"""At which pass of the point each of the five lives ends."""

RESTORING_PASSES = (2, 4, 1, 5, 3)

RANDOM_KILLS = 20


class Stage:
    """One stream in the input topics, what a fault-free run makes of it, and what was counted in all others."""

    def __init__(self, kafka: KafkaBroker, folder: Path) -> None:
        self.kafka = kafka
        self.folder = folder
        self.kills: Counter[str] = Counter()
        self.audits: list[AuditReport] = []
        self.identical = 0
        self.runs: list[Run] = []
        self.records = 0
        self.expected: Outputs = {}

    def prepare(self) -> None:
        """Replay the stream, and let one undisturbed worker decide it."""
        undisturbed = self.run("undisturbed")
        world = World(7, households=HOUSEHOLDS, days=DAYS)
        self.records = undisturbed.replay(altered(world.stream()), world.ends_at, barrier_every=15 * MINUTE)
        undisturbed.finish(crash=SMALL)
        self.expected = undisturbed.outputs()
        self.audits.append(undisturbed.audit())

    def close(self) -> None:
        """Leave no process behind."""
        for run in self.runs:
            run.close()

    def run(self, name: str, **more: str) -> Run:
        """Return a run with outputs of its own over the same inputs."""
        run = Run(name, self.kafka.bootstrap, self.folder, "crashes-", {"COMMIT_INTERVAL": "1ms", **more})
        self.runs.append(run)
        return run

    def check(self, run: Run) -> None:
        """Compare a run that has finished with the undisturbed one, and audit it."""
        assert differences(run.outputs(), self.expected) == ""
        self.identical += 1
        report = run.audit()
        self.audits.append(report)
        assert report.violations == ()

    def __str__(self) -> str:
        broken = Counter(one.kind for report in self.audits for one in report.violations)
        named = sum(self.kills[point] for point in (*POINTS, "restoring", "revoking"))
        return (
            f"kill -9 on Apache Kafka: {named} at named points, {self.kills['random']} at random instants; "
            f"{self.identical} runs over {self.records:,} records, "
            f"{sum(map(len, self.expected.values())):,} records out of each, byte-identical to the undisturbed run; "
            f"overlapping windows {broken[Promise.NO_OVERLAP]}, "
            f"duplicate trigger ids {broken[Promise.UNIQUE_TRIGGER]}, "
            f"missing decisions {broken[Promise.TRIGGER_HAS_DECISION]}"
        )


@pytest.fixture(scope="module")
def stage(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Replay the stream once, let one undisturbed worker decide it, and tell at the end what was counted."""
    stage = Stage(kafka, tmp_path_factory.mktemp("crashes"))
    try:
        stage.prepare()
        yield stage
    finally:
        stage.close()
    print(f"{MEASURED}{stage}")


def altered(arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
    """Plant clicks that come from tomorrow, which are dead letters; leave out most products, which every life reads."""
    for number, (at, topic, key, record) in enumerate(arrivals):
        if topic == "products" and number % 10:
            continue
        yield at, topic, key, record
        if topic == "clickstream" and number % 200 == 0:
            tomorrow = record["event_time"] + DAY
            stray = {"event_id": f"stray-{number}", "event": "cart.item_added", "event_time": tomorrow}
            yield at, topic, key, {**record, **stray}


def test_the_undisturbed_run_has_everything_to_compare(stage: Stage) -> None:
    """Triggers, decisions, outcomes, slots and dead letters are all among what the other runs must repeat."""
    assert all(len(records) >= 20 for records in stage.expected.values()), Counter(
        {role: len(records) for role, records in stage.expected.items()}
    )
    assert stage.audits[0].clean


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point_five_times_it_writes_the_same(stage: Stage, point: str) -> None:
    """Whatever the point, the next life goes on from the last commit, with its store, half of it or none."""
    run = stage.run(f"at-{point}".replace("_", "-"))
    for life, fatal_pass in enumerate(PASSES):
        worker = run.start(crash={**SMALL, "CRASH_POINT": point, "CRASH_PASS": str(fatal_pass)})
        assert worker.wait() == -9
        stage.kills[point] += 1
        if life == 1:
            make_progress(run)  # its store is on disk for the next life
        if life == 3:
            shutil.rmtree(run.state())
    assert not run.finished
    run.finish(crash=SMALL)

    stage.check(run)


def test_killed_as_it_restores_five_times_it_writes_the_same(stage: Stage) -> None:
    """A store that was restored in part is not taken for a whole one."""
    run = stage.run("at-restoring")
    for fatal_pass in RESTORING_PASSES:
        make_progress(run)
        shutil.rmtree(run.state())
        worker = run.start(crash={"SMALL_BATCHES": "20", "CRASH_POINT": "restoring", "CRASH_PASS": str(fatal_pass)})
        assert worker.wait() == -9
        stage.kills["restoring"] += 1
    assert not run.finished
    run.finish(crash=SMALL)

    stage.check(run)


def test_killed_while_others_join_it_writes_the_same(stage: Stage) -> None:
    """A worker that dies as its partitions are asked back leaves nothing undone to the one that takes them."""
    run = stage.run("at-revoking", STATIC_MEMBERSHIP="false", SESSION_TIMEOUT="2s")
    fatal = {**TINIEST, "CRASH_POINT": "revoking", "CRASH_PASS": "1"}
    before = run.start(0, crash=fatal)
    for life in range(5):
        wait_for(partial(moved, run, before, run.decided()), "progress before the next worker joins")
        joining = run.start(1 - life % 2, crash=fatal)
        assert before.wait() == -9
        stage.kills["revoking"] += 1
        before = joining
    assert not run.finished
    before.kill()
    run.finish(crash=SMALL)

    stage.check(run)


def test_killed_at_twenty_random_instants_it_writes_the_same(stage: Stage) -> None:
    """While it starts, restores, decides or commits: no instant is special."""
    chance = random.Random(20)
    while stage.kills["random"] < RANDOM_KILLS:
        run = stage.run(f"at-random-{stage.kills['random']}")
        while stage.kills["random"] < RANDOM_KILLS and not run.finished:
            worker = run.start(crash=TINY)
            time.sleep(chance.uniform(0.5, 1.9))
            worker.must_run()
            worker.kill()
            stage.kills["random"] += 1
            if chance.random() < 0.2:
                shutil.rmtree(run.state(), ignore_errors=True)
        run.finish(crash=SMALL)

        stage.check(run)


def make_progress(run: Run) -> None:
    """Let a worker decide a little and stop in good order, so that its store is on disk."""
    goal = run.decided() + 500
    worker = run.start(crash=TINY)
    wait_for(lambda: moved(run, worker, goal), "progress")
    assert worker.stop() == 0


def moved(run: Run, worker: Worker, seen: int) -> bool:
    """Return whether the group has committed more than was seen before."""
    worker.must_run()
    return run.decided() > seen
