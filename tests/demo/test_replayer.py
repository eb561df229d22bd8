"""What a replay waits for while others learn, against clients whose answers are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.demo import replayer as module
from orchestrator.demo.replayer import LEARNS_SECONDS, PolicyWatch
from orchestrator.events import DAY, HOUR
from orchestrator.runtime.compose import codec_of, topics_of
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.policy_log import policy_topic
from orchestrator.runtime.settings import load
from orchestrator.valuation import LeafValue, PolicySnapshot, records_of

TOPICS = topics_of(load({}))
CODEC = codec_of(load({}))


def published(as_of: int) -> list[bytes]:
    """Return a snapshot as its topic has it."""
    encode = CODEC.encoder(policy_topic(TOPICS))
    snapshot = PolicySnapshot(as_of + 1, as_of, "d", 1, 0, {"": LeafValue()})
    return [encode(record) for record in records_of(snapshot).values()]


class Stage:
    """A topic of snapshots and a group of engines; each look at the topic takes ten seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0
        self.values: list[bytes] = []
        self.committed: Callable[[], int] = lambda: 0
        stage = self

        class Follower:
            """Gives what is new."""

            def __init__(self, *_: Any) -> None:
                self._read = 0

            def poll(self, _: float) -> Iterator[Any]:
                """Return what has come."""
                stage.seconds += 10
                return self.catch_up()

            def catch_up(self) -> Iterator[Any]:
                """Return what is there."""
                while self._read < len(stage.values):
                    value, at = stage.values[self._read], self._read
                    self._read += 1
                    yield SimpleNamespace(value=lambda value=value: value, offset=lambda at=at: at)

        class Consumer:
            """Answers where the group is."""

            def __init__(self, _: Any) -> None:
                pass

            def committed(self, wanted: list[Any], **_: Any) -> list[Any]:
                """Return the offset of one partition, and none of the others."""
                return [SimpleNamespace(error=None, offset=stage.committed() if one is wanted[0] else -1001)
                        for one in wanted]  # fmt: skip

        monkeypatch.setattr(module, "Follower", Follower)
        monkeypatch.setattr(module, "Consumer", Consumer)
        monkeypatch.setattr(module, "steady_ms", lambda: self.seconds * 1000)
        self.watch = PolicyWatch({}, TOPICS, CODEC, DAY, "engines")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Return a topic without snapshots."""
    return Stage(monkeypatch)


def test_engines_that_get_on_have_as_long_as_a_span_takes_them(stage: Stage) -> None:
    """However many events lie between two snapshots."""

    def committed() -> int:
        if stage.seconds > 10 * LEARNS_SECONDS:
            stage.values = published(DAY)
        return stage.seconds // 100

    stage.committed = committed

    stage.watch.wait(DAY, None)

    assert stage.watch.as_of == DAY


def test_engines_that_stand_still_are_given_up(stage: Stage) -> None:
    """From the last that they did: who runs no engine need not wait for ever."""
    stage.committed = lambda: min(stage.seconds, 1_000)

    with pytest.raises(OperatorError, match="nothing moved for 300 s: do the engines run"):
        stage.watch.wait(DAY, None)

    assert 1_000 + LEARNS_SECONDS <= stage.seconds <= 1_050 + LEARNS_SECONDS


def test_what_is_no_snapshot_is_left_out_and_counted(stage: Stage) -> None:
    """The topic keeps it, and no replay could learn any more."""
    stage.values = [b"garbage", *published(DAY)]

    stage.watch.wait(DAY, None)

    assert (stage.watch.as_of, stage.watch.end, stage.watch.undecodable) == (DAY, 2, 1)


def test_what_is_learned_between_two_waits_ends_the_replay(stage: Stage) -> None:
    """Engines would come upon it by chance: by a control worker that learns every hour a replay would not be one."""
    stage.watch.begin = 0
    stage.values = [*published(DAY - HOUR), *published(DAY)]

    with pytest.raises(OperatorError, match=r"learns more often.*ORCHESTRATOR_LEARN_EVERY as the replay has it"):
        stage.watch.wait(DAY, None)


def test_recorded_snapshots_may_be_as_of_any_instant(stage: Stage) -> None:
    """They are there before the first barrier, and every replay has them."""
    stage.watch.begin = 1
    stage.values = [*published(HOUR), *published(DAY)]

    stage.watch.wait(DAY, None)
    stage.values += published(DAY + HOUR)

    with pytest.raises(OperatorError, match="learns more often"):
        stage.watch.check()
