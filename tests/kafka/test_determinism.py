"""Given the same barriers, output is the same byte for byte: however many workers, commits, losses and moves."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from orchestrator.demo.replayer import Arrival
from orchestrator.demo.world import World
from orchestrator.events import DAY, MINUTE
from tests.kafka.broker import KafkaBroker
from tests.kafka.workers import Outputs, Run, Worker, differences, wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

HOUSEHOLDS, DAYS = 90, 54
PARTS = 3
SMALL = {"SMALL_BATCHES": "40"}


class Stage:
    """One stream in parts, and the run of three workers that was there as they came."""

    def __init__(self, kafka: KafkaBroker, folder: Path) -> None:
        self.kafka = kafka
        self.folder = folder
        world = World(11, households=HOUSEHOLDS, days=DAYS)
        cuts = [world.opens_at + DAYS // PARTS * (part + 1) * DAY for part in range(PARTS)]
        kept = [one for number, one in enumerate(world.stream()) if one[1] != "products" or number % 10 == 0]
        starts = (world.opens_at, *cuts)
        self.parts: list[tuple[list[Arrival], int]] = [
            ([one for one in kept if start <= one[0] < cut], cut) for start, cut in zip(starts, cuts, strict=False)
        ]
        self.runs: list[Run] = []
        self.moving = self.run("three", STATIC_MEMBERSHIP="false", SESSION_TIMEOUT="2s")
        self.moves: list[set[str]] = []
        self.expected: Outputs = {}

    def run(self, name: str, **more: str) -> Run:
        """Return a run with outputs of its own over the same inputs."""
        run = Run(name, self.kafka.bootstrap, self.folder, "same-", {"COMMIT_INTERVAL": "1ms", **more})
        self.runs.append(run)
        return run

    def close(self) -> None:
        """Leave no process behind."""
        for run in self.runs:
            run.close()

    def prepare(self) -> None:
        """Let three workers decide: one is killed in the middle of a commit, a fourth comes, one leaves."""
        run = self.moving
        workers = {number: run.start(number, crash=SMALL) for number in (0, 1)}
        workers[2] = run.start(2, crash={**SMALL, "CRASH_POINT": "offsets_sent", "CRASH_PASS": "4"})

        def shared_by(*numbers: int) -> bool:
            members = run.members()
            here = {name for name, partitions in members.items() if partitions}
            if here != {f"{run.settings.group}-{number}" for number in numbers}:
                return False
            self.moves.append(here)
            return True

        wait_for(partial(shared_by, 0, 1, 2), "three workers with partitions")
        self._replay(run, 0)
        assert workers.pop(2).wait() == -9
        wait_for(partial(shared_by, 0, 1), "two workers with partitions")
        run.wait_until_finished(*workers.values())
        workers[3] = run.start(3, crash=SMALL)
        self._replay(run, 1)
        wait_for(partial(shared_by, 0, 1, 3), "the fourth worker with partitions")
        run.wait_until_finished(*workers.values())
        self._replay(run, 2)
        assert workers.pop(0).stop() == 0
        wait_for(partial(shared_by, 1, 3), "two workers with partitions")
        run.wait_until_finished(*workers.values())
        for worker in workers.values():
            assert worker.stop() == 0
        self.expected = run.outputs()

    def _replay(self, run: Run, part: int) -> None:
        arrivals, until = self.parts[part]
        run.replay(arrivals, until, barrier_every=15 * MINUTE)


@pytest.fixture(scope="module")
def stage(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Replay a stream in three parts to workers that come and go."""
    stage = Stage(kafka, tmp_path_factory.mktemp("same"))
    try:
        stage.prepare()
        yield stage
    finally:
        stage.close()


def test_workers_that_come_and_go_keep_every_promise(stage: Stage) -> None:
    """Three workers, one killed between its offsets and its commit, one more, one fewer: the audit is clean."""
    report = stage.moving.audit()

    assert report.violations == ()
    assert [len(here) for here in stage.moves] == [3, 2, 3, 2]
    assert all(len(stage.expected[role]) >= 20 for role in ("triggers", "decisions", "outcomes", "active"))


def test_one_worker_writes_the_same_twice_as_three(stage: Stage) -> None:
    """The number of workers shows nowhere, nor does anything else that differs between two runs."""
    first, second = stage.run("once"), stage.run("twice")
    first.finish(crash=SMALL)
    second.finish(crash=SMALL)

    assert differences(first.outputs(), stage.expected) == ""
    assert differences(second.outputs(), stage.expected) == ""


def test_another_commit_interval_writes_the_same(stage: Stage) -> None:
    """How many steps share a transaction shows nowhere."""
    run = stage.run("seldom", COMMIT_INTERVAL="700ms")
    run.finish()

    assert differences(run.outputs(), stage.expected) == ""


def test_state_lost_half_way_is_restored_and_the_rest_is_the_same(stage: Stage) -> None:
    """The changelog alone is enough to go on."""
    run = stage.run("lost")
    half = run.barriers() // 2
    worker = run.start(crash=SMALL)
    wait_for(lambda: reached(run, worker, half), "half of the stream")
    assert worker.stop() == 0
    assert not run.finished
    shutil.rmtree(run.state())
    run.finish(crash=SMALL)

    assert differences(run.outputs(), stage.expected) == ""


def reached(run: Run, worker: Worker, goal: int) -> bool:
    """Return whether the group has committed as much as that."""
    worker.must_run()
    time.sleep(0.01)
    return run.decided() >= goal
