"""Barriers: when a partition's clock may advance, because everything up to an instant has been read.

Live, the instant is the wall clock's and the ends are the brokers' answer after it; in a replay both are read from the
clock topic. Whichever source is used, what was used is kept, so that every run can be reproduced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import msgspec
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # it ships without types


class Barrier(msgspec.Struct, frozen=True, gc=False):
    """The clock may advance to `time` once each topic was read up to its end in `ends`; see barrier.avsc."""

    time: int
    ends: Mapping[str, int]
    horizon: int | None = None

    @property
    def newest(self) -> int:
        """The newest instant an event may have, before skew."""
        return self.time if self.horizon is None else self.horizon


class BarrierSource(Protocol):
    """Where live barriers come from."""

    def take(self, partitions: Sequence[int]) -> dict[int, Barrier]:
        """Return the barriers that became known since the last call, one per partition; never waits."""


class LiveBarriers:
    """Barriers from the wall clock and the brokers' ends, about one per `interval_ms`.

    Ends are asked for after the instant was taken and with read_uncommitted: under read_committed the end would be the
    last stable offset, which hides what an upstream transaction is about to commit.
    """

    def __init__(
        self,
        admin: AdminClient,
        topics: Sequence[str],
        references: Sequence[str],
        now: Callable[[], int],
        interval_ms: int,
    ) -> None:
        self._admin = admin
        self._topics = topics
        self._references = references
        self._now = now
        self._interval = interval_ms
        self._asked_at = 0
        self._time = 0
        self._answers: dict[TopicPartition, Future[Any]] = {}

    def take(self, partitions: Sequence[int]) -> dict[int, Barrier]:
        """Return the barriers that became known since the last call, one per partition; never waits."""
        now = self._now()
        if not self._answers:
            # The wall clock may jump back; a barrier would then wait for hours, so any distance counts.
            if partitions and abs(now - self._asked_at) >= self._interval:
                self._ask(partitions, now)
            return {}
        if not all(answer.done() for answer in self._answers.values()):
            return {}
        answers, self._answers = self._answers, {}
        ends: dict[tuple[str, int], int] = {}
        for where, answer in answers.items():
            if answer.exception() is not None:
                return {}  # asked again at the next interval; time stands still meanwhile, and the lag shows it
            ends[where.topic, where.partition] = answer.result().offset
        shared = {topic: ends[topic, 0] for topic in self._references}
        numbers = sorted({partition for topic, partition in ends if topic not in shared})
        return {
            number: Barrier(self._time, {topic: ends[topic, number] for topic in self._topics} | shared)
            for number in numbers
        }

    def _ask(self, partitions: Sequence[int], now: int) -> None:
        self._asked_at = self._time = now
        wanted = [TopicPartition(topic, number) for topic in self._topics for number in partitions]
        wanted += [TopicPartition(topic, 0) for topic in self._references]
        self._answers = self._admin.list_offsets(
            dict.fromkeys(wanted, _LATEST),
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=10,
        )


class NoBarriers:
    """The source of a replay: all barriers come with the clock topic."""

    def take(self, partitions: Sequence[int]) -> dict[int, Barrier]:  # noqa: ARG002 - the protocol's shape
        """Return nothing."""
        return {}
