"""Barriers: when a partition's clock may advance, because everything up to an instant has been read.

Live, the instant is the wall clock's and the ends are the brokers' answer after it; in a replay both are read from the
clock topic. Whichever source is used, what was used is kept, so that every run can be reproduced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import msgspec
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

log = logging.getLogger("orchestrator.barriers")

LEEWAY = 5_000
"""How much further than the steady clock the wall clock may go from one barrier to the next, milliseconds."""

CATCHING_UP = 2
"""How many times faster than the steady clock time then goes on, until it has come to the wall clock."""

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
        steady: Callable[[], int] | None = None,
    ) -> None:
        """Take instants from `now`; `steady` are milliseconds that never jump, by which jumps of it are noticed."""
        self._admin = admin
        self._topics = topics
        self._references = references
        self._now = now
        self._interval = interval_ms
        self._steady = steady
        self._furthest = self._furthest_at = 0
        self._asked_at = 0
        self._time = 0
        self._horizon: int | None = None
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
            end = answer.result().offset
            if end < 0:
                return {}  # no leader answered in time, which librdkafka calls a success: nobody knows what is unread
            ends[where.topic, where.partition] = end
        shared = {topic: ends[topic, 0] for topic in self._references}
        numbers = sorted({partition for topic, partition in ends if topic not in shared})
        return {
            number: Barrier(self._time, {topic: ends[topic, number] for topic in self._topics} | shared, self._horizon)
            for number in numbers
        }

    def _ask(self, partitions: Sequence[int], now: int) -> None:
        self._asked_at = now
        self._time = self._unhurried(now)
        # Records of today are not ahead of their time where it is time that lags behind.
        self._horizon = None if self._time >= now else now
        wanted = [TopicPartition(topic, number) for topic in self._topics for number in partitions]
        wanted += [TopicPartition(topic, 0) for topic in self._references]
        self._answers = self._admin.list_offsets(
            dict.fromkeys(wanted, _LATEST),
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=10,
        )

    def _unhurried(self, now: int) -> int:
        """Return the instant to decide up to: the wall clock's, unless it has jumped ahead.

        A clock that is hours ahead would make an absence of everything that is still to come. So time follows a jump
        only so fast that a clock that is put right again within minutes has done no more than minutes of harm. A clock
        that jumps back needs no such care: time stands still until the clock has come to it again.
        """
        if self._steady is None:
            return now
        steady = self._steady()
        known = self._furthest > 0  # at a start there is no telling an outage from a wrong clock
        time, allowed = now, self._furthest + CATCHING_UP * (steady - self._furthest_at)
        if known and now > allowed + LEEWAY:
            if self._horizon is None:
                log.warning("the wall clock jumped ahead by %d s; is it right?", (now - self._furthest) // 1_000)
            time = allowed
        if time > self._furthest:
            self._furthest, self._furthest_at = time, steady
        return time


class NoBarriers:
    """The source of a replay: all barriers come with the clock topic."""

    def take(self, partitions: Sequence[int]) -> dict[int, Barrier]:  # noqa: ARG002 - the protocol's shape
        """Return nothing."""
        return {}
