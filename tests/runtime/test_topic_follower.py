"""A topic is followed to the end that it had, however long that is, and given up when nothing more comes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Message

from orchestrator.runtime import topic_follower
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.topic_follower import CATCH_UP_SECONDS, Follower


class Scripted:
    """A consumer of two partitions with `ends`; `given` has what comes at each call, which takes `seconds`."""

    def __init__(self, ends: tuple[int, int], given: Callable[[int], list[tuple[int, int]]], seconds: float) -> None:
        self.now = 0.0
        self._ends, self._given, self._seconds, self._calls = ends, given, seconds, 0

    def __call__(self, _: Any) -> Scripted:
        return self

    def get_watermark_offsets(self, where: Any, **_: Any) -> tuple[int, int]:
        """Return where a partition begins and ends."""
        return 0, self._ends[where.partition]

    def consume(self, *_: Any) -> list[Message]:
        """Return what comes next."""
        self.now += self._seconds
        self._calls += 1
        return [Message(topic="t", partition=number, offset=at) for number, at in self._given(self._calls - 1)]

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


def follower(monkeypatch: pytest.MonkeyPatch, consumer: Scripted) -> Follower:
    """Return a follower of two partitions with this consumer, and its time."""
    monkeypatch.setattr(topic_follower, "Consumer", consumer)
    monkeypatch.setattr(topic_follower, "time", SimpleNamespace(monotonic=lambda: consumer.now))
    return Follower({}, {"t": 2})


def test_a_long_topic_is_read_for_as_long_as_records_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million outcomes take longer than an open transaction may: that is no reason to begin anew, for ever."""
    consumer = Scripted((100, 0), lambda call: [(0, call)], 0.1 * CATCH_UP_SECONDS)

    assert len(list(follower(monkeypatch, consumer).catch_up())) == 100


def test_a_partition_that_hangs_is_given_up_though_others_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the end of another is no step towards its own; the message names it."""
    consumer = Scripted((10, 10), lambda call: [(0, call)], 0.1 * CATCH_UP_SECONDS)

    with pytest.raises(OperatorError, match="nothing more came from t/1 for 180 s"):
        list(follower(monkeypatch, consumer).catch_up())

    assert consumer.now <= 2.2 * CATCH_UP_SECONDS
