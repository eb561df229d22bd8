"""The learner against clients whose answers are given: what it publishes in time, undoes, and counts as a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from orchestrator.events import DAY, HOUR, MINUTE
from orchestrator.runtime import learner as module
from orchestrator.runtime.compose import codec_of, topics_of
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.learner import FixedDefinitions, Learned, Learner, LearnerConfig, TakenOverError
from orchestrator.runtime.policy_log import policy_topic
from orchestrator.runtime.settings import load
from tests.kafka.test_learning import DEFINITIONS, START, outcome

SETTINGS = load({})
TOPICS = topics_of(SETTINGS)
CODEC = codec_of(SETTINGS)
FENCED = KafkaException(KafkaError(KafkaError.INVALID_PRODUCER_EPOCH, "epoch"))


class Record:
    """A message as consumers give it."""

    def __init__(self, topic: str, key: bytes, value: bytes | None) -> None:
        self._said = topic, key, value

    def topic(self) -> str:
        """Return where it is."""
        return self._said[0]

    def key(self) -> bytes:
        """Return whose it is."""
        return self._said[1]

    def value(self) -> bytes | None:
        """Return what it says."""
        return self._said[2]


class Stage:
    """A learner with outcomes to learn from; `during` is done while records are flushed."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, pack: Path, records: Mapping[str, Sequence[Record]] | None = None
    ) -> None:
        self.now = START + HOUR
        self.during: Callable[[], None] = lambda: None
        self.answer: KafkaException | None = None
        self.records: dict[str, list[Record]] = {name: [*given] for name, given in (records or {}).items()}
        self.records.setdefault(TOPICS.outcomes.name, []).extend(
            put(TOPICS.outcomes, outcome(number, START)["outcome_id"], outcome(number, START)) for number in range(60)
        )
        self.done: list[str] = []
        self.committed: list[int] = []
        self._sent: list[bytes] = []
        self.learned = Learned()
        stage = self

        class Follower:
            """Gives everything once."""

            def __init__(self, _: Any, topics: dict[str, int]) -> None:
                self._left = [record for topic in topics for record in stage.records.get(topic, [])]

            def poll(self, _: float) -> Iterator[Record]:
                """Return what is left."""
                left, self._left = self._left, []
                yield from left

            def catch_up(self) -> Iterator[Record]:
                """Return what is left."""
                yield from self.poll(0)

        class Decided:
            """Everything up to the first instant."""

            reached = START + 1

            def __init__(self, *_: Any) -> None:
                pass

            def poll(self) -> None:
                """Know it already."""

        monkeypatch.setattr(module, "Producer", lambda _: self)
        monkeypatch.setattr(module, "Follower", Follower)
        monkeypatch.setattr(module, "Decided", Decided)
        config = LearnerConfig("g.learner", HOUR, DAY)
        definitions = FixedDefinitions(load_folder(pack, TOPICS.catalogue))
        self.learner = Learner(config, {}, TOPICS, CODEC, definitions, self.learned, lambda: self.now, lambda: 0)

    def produce(self, topic: str, value: bytes | None, *_: Any) -> None:
        """Keep what is sent until its transaction ends."""
        assert topic == policy_topic(TOPICS).name
        assert value is not None
        self._sent.append(value)

    def flush(self, _: float) -> int:
        """Take the time that it takes."""
        during, self.during = self.during, lambda: None
        during()
        return 0

    def commit_transaction(self, _: float) -> None:
        """Let everybody see what was sent, or fail as told."""
        if self.answer is not None:
            raise self.answer
        self.done.append("commit")
        decode = CODEC.decoder(policy_topic(TOPICS))
        self.committed += [decode(value)["effective_from"] for value in self._sent]

    def abort_transaction(self, _: float) -> None:
        """Let nobody see it."""
        self.done.append("abort")
        self._sent = []

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None

    def stopped(self, milliseconds: int) -> Callable[[], None]:
        """Return what lets the process stand still for so long."""

        def stand() -> None:
            self.now += milliseconds

        return stand


def put(topic: Any, key: str, record: dict[str, Any]) -> Record:
    """Return a record as its topic has it."""
    return Record(topic.name, key.encode(), CODEC.encoder(topic)(record))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    """Return a learner that has not read anything yet."""
    (tmp_path / "all.yaml").write_text(DEFINITIONS)
    return Stage(monkeypatch, tmp_path)


def test_a_snapshot_that_was_held_up_until_it_would_have_counted_is_undone_and_made_again(stage: Stage) -> None:
    """Engines would change over apart: those that came to its instant before it was there have decided without it."""
    stage.during = stage.stopped(5 * MINUTE)

    stage.learner.turn(0)

    assert stage.done == ["abort", "commit"]
    assert min(stage.committed) > stage.now
    assert (stage.learned.snapshots, stage.learned.late) == (1, 1)


def test_a_snapshot_in_time_is_published_once(stage: Stage) -> None:
    """Whatever flushing takes within what was left for it."""
    stage.during = stage.stopped(10_000)

    stage.learner.turn(0)

    assert stage.done == ["commit"]
    assert (stage.learned.snapshots, stage.learned.late) == (1, 0)


def test_a_transaction_that_brokers_ended_for_its_age_is_a_failure_with_a_reason(stage: Stage) -> None:
    """In Kafka it looks as if another had taken over: nobody would count it, and engines stand still at each try."""
    stage.during, stage.answer = stage.stopped(15_000), FENCED

    with pytest.raises(OperatorError, match=r"open for 15 s, and brokers end one after 15 s.*too little CPU") as raised:
        stage.learner.turn(0)

    assert not isinstance(raised.value, TakenOverError)


def test_an_instance_that_was_shut_out_in_time_was_taken_over_from(stage: Stage) -> None:
    """That is no failure, whoever took over learns."""
    stage.during, stage.answer = stage.stopped(14_000), FENCED

    with pytest.raises(TakenOverError):
        stage.learner.turn(0)


@pytest.mark.parametrize("topic", [TOPICS.outcomes.name, policy_topic(TOPICS).name])
def test_a_key_that_is_no_text_does_not_stop_the_learner(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, topic: str
) -> None:
    """Compaction keeps it: the learner would fail at it after every start."""
    (tmp_path / "all.yaml").write_text(DEFINITIONS)
    stage = Stage(monkeypatch, tmp_path, {topic: [Record(topic, b"\xff", None)]})

    stage.learner.turn(0)

    assert stage.done == ["commit"]
