"""The learner of the control role on Apache Kafka: what it counts, publishes and lets go of, and who learns."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from confluent_kafka import KafkaException, Producer

from orchestrator.cli import main
from orchestrator.demo.workers import WorkerProcess as EngineProcess
from orchestrator.events import DAY, HOUR, MINUTE
from orchestrator.identity import identify
from orchestrator.runtime import compose
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.compose import codec_of, topics_of
from orchestrator.runtime.connection import connect
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.learner import TRANSACTION_SECONDS, Learned, Learner, Waiting
from orchestrator.runtime.partitioner import murmur2_partition
from orchestrator.runtime.policy_log import policy_topic, read_versions
from orchestrator.runtime.settings import load
from orchestrator.runtime.topic_admin import apply
from tests.kafka.broker import KafkaBroker
from tests.kafka.test_control_worker import Worker
from tests.kafka.workers import wait_for
from tests.measured import MEASURED

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PARTITIONS = 2
START = 20_000 * DAY
DEFINITIONS = """
moments:
  - moment: left_lying
    say: "Put it in the cart and did not buy within 20 minutes"
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 20m }
    lasts: 12h
campaigns:
  - campaign: rescue
    when: left_lying
    send: { channel: email, template: rescue }
    measure: { objective: margin, for: 7d }
    control: 20%
choose: { method: expected_value }
"""
Record = dict[str, Any]


def outcome(number: int, known_at: int, revision: int = 0, margin: int = 500) -> Record:
    """Return the outcome of a window of a week, one in five of control."""
    return {
        "outcome_id": identify("outcome", number),
        "revision": revision,
        "decision_id": identify("outcome", number),
        "customer_id": f"c{number}",
        "campaign": "rescue",
        "arm": "control" if number % 5 == 0 else "treatment",
        "moment": "left_lying",
        "window_from": known_at - 7 * DAY,
        "window_until": known_at,
        "orders": number % 2,
        "revenue": 3 * margin,
        "margin": margin,
        "cost": 0,
        "unsubscribed": False,
        "contaminated": False,
        "void": False,
        "definitions_version": "1",
        "channel": "email",
        "responded": number % 2 == 1,
        "eligible": ["rescue@email"],
        "control_bp": 2_000,
        "known_at": known_at,
    }


class Stage:
    """Topics of their own, an engine that writes outcomes and barriers in transactions, and control workers."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        unique = uuid.uuid4().hex[:8]
        pack = folder / "pack"
        pack.mkdir()
        (pack / "all.yaml").write_text(DEFINITIONS)
        self.folder = folder
        self.environment = {
            "ORCHESTRATOR_BOOTSTRAP_SERVERS": bootstrap,
            "ORCHESTRATOR_GROUP": f"group-{unique}",
            "ORCHESTRATOR_TOPIC_PREFIX": f"test-{unique}-",
            "ORCHESTRATOR_PARTITIONS": str(PARTITIONS),
            "ORCHESTRATOR_REPLICATION": "1",
            "ORCHESTRATOR_STATE_DIR": str(folder / "state"),
            "ORCHESTRATOR_SESSION_TIMEOUT": "6s",
            "ORCHESTRATOR_DEFINITIONS": str(pack),
            "ORCHESTRATOR_LEARN_EVERY": "1h",
            "ORCHESTRATOR_POLICY_RETENTION": "3h",
        }
        self.settings = load(self.environment)
        self.topics = topics_of(self.settings)
        apply(connect(self.settings), self.topics)
        codec = codec_of(self.settings)
        self._outcome, self._barrier = codec.encoder(self.topics.outcomes), codec.encoder(self.topics.clock)
        self._engine = Producer(
            {"bootstrap.servers": bootstrap, "transactional.id": f"engine-{unique}", "log_level": 0}
        )
        self._engine.init_transactions(30)

    def decide(
        self, at: int, outcomes: list[Record] | None = None, erased: tuple[str, ...] = (), *, commit: bool = True
    ) -> None:
        """Let all partitions come to an instant, in a transaction with these outcomes and tombstones."""
        self._engine.begin_transaction()
        for record in outcomes or []:
            number = murmur2_partition(record["customer_id"].encode(), PARTITIONS)
            value = self._outcome(record)
            self._engine.produce(self.topics.outcomes.name, value, record["outcome_id"].encode(), number)
        for outcome_id in erased:
            for number in range(PARTITIONS):
                self._engine.produce(self.topics.outcomes.name, None, outcome_id.encode(), number)
        for number in range(PARTITIONS):
            value = self._barrier({"time": at, "ends": {}, "horizon": None})
            self._engine.produce(self.topics.clock.name, value, str(number).encode(), number)
        self._engine.flush(30)
        if commit:
            self._engine.commit_transaction(30)
        else:
            self._engine.abort_transaction(30)

    def control(self, name: str = "control") -> Worker:
        """Return a control worker of its own."""
        return Worker(self.environment, self.folder / name)

    def versions(self) -> list[dict[str, Record]]:
        """Return the records of the snapshots that are there, in order."""
        return read_versions(self.settings, self.topics)

    def as_of(self) -> list[int]:
        """Return up to when each of the snapshots that are there counts outcomes."""
        return [next(iter(records.values()))["as_of"] for records in self.versions()]

    def until(self, what: Callable[[], bool], name: str) -> None:
        """Wait until something is so."""
        wait_for(what, name, 60)

    def run(self, *arguments: str) -> Any:
        """Return what a command answered."""
        return CliRunner().invoke(main, arguments, env=self.environment)


@pytest.fixture
def stage(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Stage]:
    """Return topics with nothing in them."""
    yield Stage(kafka.bootstrap, tmp_path)


def test_what_is_learned_follows_from_committed_outcomes_alone(stage: Stage) -> None:
    """Aborted ones are not seen, nothing is published when nothing changed, a kill loses and doubles nothing."""
    stage.decide(START + 1, [outcome(number, START - DAY) for number in range(200)])
    stage.decide(START + 2, [outcome(number, START - DAY) for number in range(900, 950)], commit=False)
    with stage.control() as worker:
        stage.until(lambda: stage.as_of() == [START], "the first snapshot")
        (first,) = stage.versions()
        # Nothing new, then an amendment that is known only as of the hour after.
        stage.decide(START + 1 * HOUR + 1)
        stage.decide(START + 2 * HOUR + 1, [outcome(7, START + 2 * HOUR + 1, revision=1, margin=9_000)])
        time.sleep(2)
        unchanged = stage.as_of()
        verified = stage.run("policy", "verify", "--json")
        worker.kill()
    stage.decide(START + 3 * HOUR, [outcome(300, START + 2 * HOUR + 5)], erased=(identify("outcome", 8),))
    with stage.control() as worker:
        stage.until(lambda: stage.as_of() == [START, START + 3 * HOUR], "the snapshot that counts the amendment")
        again = stage.run("policy", "verify")
        shown = stage.run("policy", "show", "--json", "--newest")
        metrics = worker.ask("/metrics")[1]
        worker.kill()
    with stage.control() as worker:
        worker.wait(lambda said: bool(said))
        time.sleep(2)
        assert len(stage.versions()) == 2
        assert worker.stop() == 0

    (leaf,) = first.values()
    assert leaf["outcomes"] == 200
    assert unchanged == [START]
    assert json.loads(verified.stdout)["same"], verified.output
    assert again.exit_code == 0, again.output
    told = json.loads(shown.stdout)
    assert told["outcomes"] == 200  # one more, one erased
    assert [arm["arm"] for arm in told["leaves"][0]["arms"]] == ["rescue@email"]
    assert "journey_learner_snapshots_total 1.0" in metrics
    assert "journey_learner_failures_total 0.0" in metrics
    assert "journey_policy_age_seconds" in metrics
    assert stage.run("policy", "show", "--newest", "--leaf", "unknown=1").exit_code == 2
    assert "in force yet" in stage.run("policy", "show").output


@pytest.mark.parametrize(("begin", "kept"), [(START, 4), (2 * START, 2)])
def test_old_snapshots_go_once_no_partition_asks_for_them(stage: Stage, begin: int, kept: int) -> None:
    """Those that others have followed for longer than the retention, by the clock of the last partition.

    Snapshots count from the wall clock's instants on: partitions that are behind it keep all, those ahead the newest
    two, the one in force and the one that was published just now.
    """
    expected = [begin + hour * HOUR for hour in range(1, 5)]
    with stage.control() as worker:
        for number, at in enumerate(expected):
            stage.decide(at, [outcome(number, at)])
            stage.until(lambda at=at: stage.as_of()[-1:] == [at], "the next snapshot")  # type: ignore[misc]
        assert worker.stop() == 0

    assert stage.as_of() == expected[-kept:]


def test_one_of_two_instances_learns_and_the_other_takes_over(stage: Stage) -> None:
    """When the one that learns is killed, the other goes on, and no snapshot is there twice."""
    stage.decide(START, [outcome(number, START) for number in range(50)])
    with stage.control("a") as first, stage.control("b") as second:
        for worker in (first, second):
            worker.wait(lambda said: bool(said))
        stage.until(lambda: stage.as_of() == [START], "the first snapshot")
        stage.until(lambda: sum(map(learns, (first, second))) == 1, "one that learns")
        active, spare = (first, second) if learns(first) else (second, first)
        active.kill()
        killed = time.monotonic()
        stage.decide(START + HOUR, [outcome(60, START + HOUR)])
        stage.until(lambda: stage.as_of() == [START, START + HOUR], "the snapshot of the other")
        took = time.monotonic() - killed
        assert learns(spare)
        assert spare.stop() == 0

    print(f"{MEASURED}another instance had learned {took:.1f} s after the kill, with sessions of 6 s")


def test_what_a_killed_learner_had_begun_to_publish_is_never_seen(stage: Stage) -> None:
    """Half of a snapshot is in the topic when its learner dies; the next one undoes it, and publishes it whole."""
    stage.decide(START, [outcome(number, START) for number in range(50)])
    killed = Producer(
        {
            "bootstrap.servers": stage.settings.bootstrap_servers,
            "transactional.id": f"{stage.settings.group}.learner",
            "log_level": 0,
        }
    )
    killed.init_transactions(30)
    killed.begin_transaction()
    topic = policy_topic(stage.topics)
    half = {
        "effective_from": 1, "leaf": "", "version": "half", "leaves": 2, "as_of": START, "definitions_version": "",
        "draws": 1, "explore_bp": 0, "outcomes": 1, "arms": [], "stages": [],
    }  # fmt: skip
    killed.produce(topic.name, codec_of(stage.settings).encoder(topic)(half), b"1/", 0)
    killed.flush(30)

    with stage.control() as worker:
        stage.until(lambda: stage.as_of() == [START], "the snapshot")
        metrics = worker.ask("/metrics")[1]
        assert worker.stop() == 0

    assert {record["version"] for records in stage.versions() for record in records.values()} != {"half"}
    assert "journey_learner_failures_total 0.0" in metrics
    with pytest.raises(KafkaException):
        killed.commit_transaction(30)
    assert stage.as_of() == [START]


def test_a_learner_that_was_held_up_publishes_nothing_after_another_took_over(stage: Stage) -> None:
    """It wakes up with an id that is no longer its own: every snapshot is there once."""
    stage.decide(START, [outcome(number, START) for number in range(50)])
    with stage.control("a") as first, stage.control("b") as second:
        stage.until(lambda: stage.as_of() == [START], "the first snapshot")
        stage.until(lambda: sum(map(learns, (first, second))) == 1, "one that learns")
        held, other = (first, second) if learns(first) else (second, first)
        with held.held():
            stage.decide(START + HOUR, [outcome(60, START + HOUR)])
            stage.until(lambda: stage.as_of() == [START, START + HOUR], "the snapshot of the other")
            assert learns(other)
        stage.decide(START + 2 * HOUR, [outcome(61, START + 2 * HOUR)])
        stage.until(lambda: len(stage.as_of()) == 3, "one more snapshot")
        time.sleep(2)
        for worker in (first, second):
            assert worker.stop() == 0

    assert stage.as_of() == [START, START + HOUR, START + 2 * HOUR]


@pytest.mark.parametrize(
    ("stands", "jumps"), [(0.0, 5 * MINUTE), (TRANSACTION_SECONDS + 5.0, 0)], ids=["until_too_late", "until_undone"]
)
def test_a_learner_that_stands_still_while_it_publishes_leaves_nothing_that_is_late(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, stands: float, jumps: int
) -> None:
    """The brokers let it abort and publish anew; or they have ended the transaction, and that is not a takeover."""
    stage.decide(START, [outcome(number, START) for number in range(50)])
    later = [0]
    monkeypatch.setattr(compose, "now_ms", lambda: now_ms() + later[0])
    learned = Learned()
    learner = compose.build_learner(stage.settings, learned)
    flush = learner._producer.flush

    class Standing:
        """The producer of a process that is stopped once, for a while, before it commits."""

        def flush(self, seconds: float) -> int:
            """Deliver, and stand still."""
            left = flush(seconds)
            if not later[0]:
                later[0] = jumps
                time.sleep(stands)
            return left

        def __getattr__(self, name: str) -> Any:
            return getattr(producer, name)

    producer, learner._producer = learner._producer, cast("Any", Standing())
    try:
        if stands:
            with pytest.raises(OperatorError, match="brokers end one after 15 s"):
                turned(learner, learned)
            assert stage.as_of() == []
        else:
            turned(learner, learned)
            (records,) = stage.versions()
            assert all(record["effective_from"] > now_ms() + jumps for record in records.values())
            assert learned.late == 1
    finally:
        learner.close()


def turned(learner: Learner, learned: Learned) -> None:
    """Let a learner take turns until it has published."""
    until = time.monotonic() + 60
    while not learned.snapshots and time.monotonic() < until:
        with suppress(Waiting):
            learner.turn(0.1)


def test_live_engines_that_have_nothing_to_do_tell_how_far_they_are(stage: Stage) -> None:
    """Or nothing would be learned while a partition is idle: the first snapshot comes before the first event."""
    environment = {**stage.environment, "ORCHESTRATOR_LEARN_EVERY": "2s"}
    before = now_ms()
    with (
        EngineProcess("engine", environment, stage.folder / "engine"),
        Worker(environment, stage.folder / "control") as control,
    ):
        stage.until(lambda: bool(stage.as_of()), "a snapshot")
        assert control.stop() == 0

    (as_of,) = stage.as_of()[:1]
    assert before - 2_000 <= as_of <= now_ms()
    assert as_of % 2_000 == 0


def learns(worker: Worker) -> bool:
    """Return whether a worker says that it learns."""
    return "journey_learner_active 1.0" in worker.ask("/metrics")[1]
