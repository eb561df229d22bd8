"""Watches a consumer group from outside: when its member got its partitions, and when it has committed everything."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from bench.harness.process import Measured

_JOINING_SECONDS = 60.0
_STALLED_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run cost, from the instant its member had partitions to its last commit, and in all."""

    events: int
    seconds: float
    cpu_seconds: float
    start_cpu_seconds: float
    all_cpu_seconds: float
    peak_mib: float

    @property
    def cpu_us_per_event(self) -> float:
        """CPU-microseconds per event, or CPU-seconds per million; the start of the process is not in it."""
        return self.cpu_seconds / self.events * 1e6

    @property
    def all_cpu_us_per_event(self) -> float:
        """The same with everything from the process's first instant to its last."""
        return self.all_cpu_seconds / self.events * 1e6

    @property
    def events_per_second(self) -> float:
        """Events per second of wall clock, from the first partition to the last commit."""
        return self.events / self.seconds


def measure(
    process: Measured, admin: AdminClient, group: str, ends: Mapping[tuple[str, int], int], events: int
) -> Measurement:
    """Wait until a group has committed up to these ends, stop its process and return what it cost."""
    wait_for_partitions(process, admin, group)
    joined, start_cpu = time.monotonic(), process.cpu_seconds()
    wait_for_commits(process, admin, group, ends)
    seconds, cpu = time.monotonic() - joined, process.cpu_seconds() - start_cpu
    cost = process.stop()
    return Measurement(events, seconds, cpu, start_cpu, cost.cpu_seconds, cost.peak_mib)


def wait_for_partitions(process: Measured, admin: AdminClient, group: str) -> None:
    """Wait until the group's member has partitions."""
    deadline = time.monotonic() + _JOINING_SECONDS
    while not _has_partitions(admin, group):
        process.must_run()
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"it got no partitions within {_JOINING_SECONDS:.0f} s; its last words:\n{process.tail()}"
            )
        time.sleep(0.05)


def wait_for_commits(process: Measured, admin: AdminClient, group: str, ends: Mapping[tuple[str, int], int]) -> None:
    """Wait until the group has committed up to these ends; a group that stands still is an error."""
    left, moved_at = -1, time.monotonic()
    while (now := behind(admin, group, ends)) != 0:
        process.must_run()
        if now != left:
            left, moved_at = now, time.monotonic()
        elif time.monotonic() - moved_at > _STALLED_SECONDS:
            raise TimeoutError(f"it stands still, {left:,} offsets before its end; its last words:\n{process.tail()}")
        time.sleep(0.1)


def behind(admin: AdminClient, group: str, ends: Mapping[tuple[str, int], int]) -> int:
    """Return how many offsets a group has not committed yet before these ends, -1 when that is not told."""
    wanted = [TopicPartition(topic, number) for topic, number in ends]
    try:
        asked = ConsumerGroupTopicPartitions(group, wanted)
        (answer,) = admin.list_consumer_group_offsets([asked], require_stable=False).values()
        offsets = answer.result(10).topic_partitions
    except KafkaException:
        return -1
    return sum(max(0, ends[where.topic, where.partition] - max(0, where.offset)) for where in offsets)


def _has_partitions(admin: AdminClient, group: str) -> bool:
    try:
        (answer,) = admin.describe_consumer_groups([group]).values()
        found = answer.result(10)
    except KafkaException:
        return False
    return found.state == ConsumerGroupState.STABLE and any(
        member.assignment is not None and member.assignment.topic_partitions for member in found.members
    )
