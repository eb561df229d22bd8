"""A replay that learns gives the same decisions, propensities and snapshots, byte for byte, whatever fails."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from orchestrator.backtest.topics import TopicRange
from orchestrator.demo.replayer import Arrival
from orchestrator.demo.workers import WorkerProcess
from orchestrator.demo.world import World
from orchestrator.events import DAY, HOUR
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.policy_log import policy_topic, read_versions
from orchestrator.runtime.topic_reader import read_topic
from tests.backtest.made import BEGIN, made, write
from tests.backtest.test_three_ways import back_tested, by_value, decided_by_a_worker
from tests.backtest.test_three_ways import run as told_by
from tests.deploy.workers import Worker as Control
from tests.kafka.broker import KafkaBroker
from tests.kafka.workers import RETAIL, Outputs, Run, differences
from tests.measured import MEASURED
from tests.runtime.streams import Stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

HOUSEHOLDS, DAYS = 360, 54
LEARN_EVERY = 2 * DAY
KILLS = 20
Snapshots = list[tuple[bytes, bytes]]


def pack(folder: Path) -> Path:
    """Return the retail pack with short windows and large control groups, so that there is much to learn soon."""
    shutil.copytree(RETAIL, folder, ignore=shutil.ignore_patterns("*.test.yaml"))
    for path in folder.glob("*.yaml"):
        text = re.sub(r"control: {.*?}", "control: { start: 35%, floor: 20% }", path.read_text())
        text = re.sub(r"measure: { objective: margin, for: \d+d", "measure: { objective: margin, for: 2d", text)
        text = text.replace("method: priority", "method: expected_value\n  by: [value_tier]")
        path.write_text(text.replace("share: 5%", "share: 0%"))
    return folder


class Stage:
    """One stream, to be replayed again and again into topics of its own each time."""

    def __init__(self, kafka: KafkaBroker, folder: Path) -> None:
        self.kafka = kafka
        self.folder = folder
        self.pack = pack(folder / "pack")
        world = World(11, households=HOUSEHOLDS, days=DAYS)
        self.arrivals: list[Arrival] = list(world.stream())
        self.until = world.ends_at
        self.runs: list[Run] = []

    def replayed(self, name: str, engines: int, kills: int = 0) -> tuple[Outputs, Snapshots, Run]:
        """Return what a replay wrote that learned all along, and how often control was killed meanwhile."""
        more = {"DEFINITIONS": str(self.pack), "COMMIT_INTERVAL": "1ms", "SESSION_TIMEOUT": "2s"}
        run = Run(name, self.kafka.bootstrap, self.folder, f"{name}-", {**more, "STATIC_MEMBERSHIP": "false"})
        self.runs.append(run)
        workers = [run.start(number) for number in range(engines)]
        started = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            replay = pool.submit(run.replay, self.arrivals, self.until, barrier_every=HOUR, learn_every=LEARN_EVERY)
            done = self._control(run, replay, kills)
        run.wait_until_finished(*workers)
        print(f"{MEASURED}{name}: {time.monotonic() - started:.0f} s, control killed {done} times")
        for worker in workers:
            assert worker.stop() == 0
        assert done == kills
        topic = policy_topic(run.topics).name
        return run.outputs(), sorted((one.key or b"", one.value or b"") for one in read_topic(run.client, topic)), run

    def _control(self, run: Run, replay: Future[int], kills: int) -> int:
        """Run control until the replay has ended, and kill it so often at instants that are drawn; return how often."""
        given = run.environment(9, LEARN_EVERY="2d", WEB_PORT="0", SESSION_TIMEOUT="6s")
        chance, done = Random(7), 0
        while True:
            with Control("control", given, run.folder / "control.log") as control:
                until = time.monotonic() + (chance.uniform(1.0, 5.0) if done < kills else 500)
                while time.monotonic() < until and not replay.done():
                    time.sleep(0.02)
                if replay.done():
                    replay.result()
                    return done
                control.kill()
                done += 1

    def close(self) -> None:
        """Leave no process behind."""
        for run in self.runs:
            run.close()


@pytest.fixture(scope="module")
def stage(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return a stream to replay."""
    stage = Stage(kafka, tmp_path_factory.mktemp("learning"))
    try:
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="module")
def once(stage: Stage) -> tuple[Outputs, Snapshots, Run]:
    """Return what one engine and one control worker wrote."""
    return stage.replayed("once", 1)


def test_what_was_learned_is_what_is_decided_by(once: tuple[Outputs, Snapshots, Run]) -> None:
    """Nothing is compared if nobody is chosen by value, explored or left alone because none is better."""
    _, snapshots, run = once
    decisions = run.records("decisions")
    outcomes = run.records("outcomes")

    by = Counter(one["chosen_by"] for one in outcomes)
    versions = {one["policy_version"] for one in outcomes}
    assert run.audit().violations == ()
    # In a replay nobody reacts, so what is proven is seldom believed to be better than nothing.
    assert by["priority"] and by["expected_value"], by
    assert by["explore"] >= 20
    assert sum(one["reason"] == "none_better" for one in decisions) >= 20
    assert len(versions) >= 10
    assert len({key for key, _ in snapshots}) == len(snapshots)
    assert {one["reason"] for one in decisions} >= {"chosen", "control"}
    assert all(0 < one["propensity"] <= 1 for one in outcomes if one["chosen_by"])


def test_three_engines_decide_and_learn_the_same(stage: Stage, once: tuple[Outputs, Snapshots, Run]) -> None:
    """Every decision with its propensities, every trigger, outcome and snapshot."""
    outputs, snapshots, _ = stage.replayed("three", 3)

    assert differences(outputs, once[0]) == ""
    assert snapshots == once[1]


def test_killing_control_changes_nothing(stage: Stage, once: tuple[Outputs, Snapshots, Run]) -> None:
    """With SIGKILL, at instants that are drawn: no snapshot is missing, none is there twice, none is another."""
    outputs, snapshots, _ = stage.replayed("killed", 1, kills=KILLS)

    assert differences(outputs, once[0]) == ""
    assert snapshots == once[1]


def test_a_replay_by_command_learns_and_back_tests_agree_with_it(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Files go into the topics while an engine decides; it waits for each snapshot, and every snapshot counts."""
    history, until = made(40, days=12), BEGIN + 13 * DAY
    folder = by_value(tmp_path / "pack", RETAIL)
    stream = Stream(kafka.bootstrap, tmp_path, partitions=2, DEFINITIONS=str(folder), SESSION_TIMEOUT="2s")
    written = write(history, tmp_path / "history", ".jsonl")
    with (written / "clickstream.jsonl").open("a") as file:
        file.write('{"event": "page.viewed"}\n')

    with WorkerProcess("engine", stream.environment, tmp_path / "first.log"):
        told = told_by(
            stream, "replay", "--events", str(written), "--to", "2017-03-13", "--learn-every", "2d", "--json"
        )
    worker = decided_by_a_worker(stream, tmp_path, until)
    from_topics = back_tested(stream, TopicRange.open(stream.settings), load_folder(folder), tmp_path / "topics")

    versions = read_versions(stream.settings, stream.topics)
    assert json.loads(told) == {"records": sum(map(len, history.values())), "left_out": 1, "until": until}
    assert len(versions) == 7
    assert {one["policy_version"] for one in stream.read(lambda topics: topics.outcomes)} >= {
        next(iter(records.values()))["version"] for records in versions[:4]
    }
    assert from_topics == worker
    assert "byte for byte" in told_by(stream, "policy", "verify", str(folder))
