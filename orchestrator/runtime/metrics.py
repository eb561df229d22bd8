"""The engine's metrics, one table: read from plain numbers when somebody asks, so that the hot path only counts."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import confluent_kafka
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from orchestrator import __version__
from orchestrator.events import FOREVER
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.loop import Loop
from orchestrator.runtime.metric import Described, Value, Values, registry_with
from orchestrator.runtime.partition import Partition


class Scrape(NamedTuple):
    """What a scrape reads from; without a loop, which is there once it has started, there is little to tell."""

    loop: Loop
    partitions: Mapping[int, Partition]
    definitions: str
    now: int
    fenced: bool = False


Read = Callable[[Scrape], Values]


def _one(read: Callable[[Scrape], Value]) -> Read:
    return lambda scrape: [((), read(scrape))]


def _tally(name: str) -> Read:
    return lambda scrape: [((), getattr(scrape.loop.tally, name))]


def _by(name: str) -> Read:
    """Read a count by labels; a copy, for the loop's thread adds to it meanwhile."""

    def read(scrape: Scrape) -> Iterator[tuple[tuple[str, ...], Value]]:
        counts: Mapping[str | tuple[str, ...], int] = dict(getattr(scrape.loop.tally, name))
        for key, count in counts.items():
            yield (key if isinstance(key, tuple) else (key,)), count

    return read


def _partitions(read: Callable[[Scrape, Partition], float | None]) -> Read:
    """Read a number of every partition, of those that have one."""

    def read_all(scrape: Scrape) -> Iterator[tuple[tuple[str, ...], Value]]:
        for number, partition in sorted(scrape.partitions.items()):
            value = read(scrape, partition)
            if value is not None:
                yield (str(number),), value

    return read_all


def _census(name: str) -> Read:
    return _partitions(lambda _, one: None if one.census.counting else getattr(one.census, name))


def _barrier_age(scrape: Scrape, partition: Partition) -> float | None:
    return None if partition.reached <= 0 else max(0, scrape.now - partition.reached) / 1000


def _overdue(scrape: Scrape, partition: Partition) -> float:
    due = partition.next_due
    return max(0, scrape.now - due) / 1000 if 0 < due < FOREVER else 0.0


def _lag_records(scrape: Scrape) -> Iterator[tuple[tuple[str, str], float]]:
    for number, partition in sorted(scrape.partitions.items()):
        for topic in scrape.loop.config.inputs:
            end = partition.ends.get(topic)
            if end is not None:
                yield (str(number), topic), max(0, end - partition.positions.get(topic, end))


def _lag_seconds(scrape: Scrape) -> Iterator[tuple[tuple[str, str], float]]:
    for (number, topic), records in _lag_records(scrape):
        time = scrape.partitions[int(number)].event_times.get(topic)
        if not records:
            yield (number, topic), 0.0
        elif time is not None:
            yield (number, topic), max(0, scrape.now - time) / 1000


def _build(_: Scrape) -> Iterator[tuple[tuple[str, ...], Value]]:
    versions = __version__, platform.python_version(), confluent_kafka.libversion()[0]
    yield versions, 1


METRICS: tuple[Described[Scrape], ...] = (
    # events
    Described("journey_events", "counter", (), "Records read from the inputs and decided, usable or not.",
              _tally("events")),
    Described("journey_irrelevant", "counter", (), "Events that no definition looks at.", _tally("irrelevant")),
    Described("journey_duplicates", "counter", (), "Events that were seen before and change nothing.",
              _tally("duplicates")),
    Described("journey_erased_events", "counter", (), "Events from before their customer's erasure, which are dropped.",
              _tally("erased_events")),
    Described("journey_late", "counter", ("topic", "outcome"),
              "Events from before the clock: `accepted` within `accept_late`, or `too_late`, which are facts only.",
              _by("late")),
    Described("journey_dead_letters", "counter", ("reason",), "Records that could not be used.", _by("dead_letters")),
    # time
    Described("journey_clock_seconds", "gauge", ("partition",), "The instant up to which a partition is decided.",
              _partitions(lambda _, one: max(0, one.reached) / 1000)),
    Described("journey_barrier_age_seconds", "gauge", ("partition",),
              "How far that instant is behind the wall clock; in a replay it is history.", _partitions(_barrier_age)),
    Described("journey_waiting_records", "gauge", ("partition",), "Records read, not yet decided.",
              _partitions(lambda _, one: one.inbox.records)),
    Described("journey_lag_records", "gauge", ("partition", "topic"),
              "Offsets of an input up to the newest barrier, not yet decided.", _lag_records),
    Described("journey_lag_seconds", "gauge", ("partition", "topic"),
              "Age of the last event decided, where more wait; 0 where none does.", _lag_seconds),
    # decisions
    Described("journey_steps", "counter", (), "Steps decided: partitions between two barriers.", _tally("steps")),
    Described("journey_step_records", "histogram", (), "Records of a step.", _tally("step_records")),
    Described("journey_decisions", "counter", ("reason",), "Decisions by reason.", _by("decisions")),
    Described("journey_triggers", "counter", ("campaign",), "Triggers emitted by campaign, retractions included.",
              _by("triggers")),
    Described("journey_moments", "counter", ("moment",), "Moments that ended, answered or not.", _by("moments")),
    Described("journey_moment_ends", "counter", ("moment", "state"),
              "The same by how: `unmet` at their opening; or opened and `acted` upon, `cancelled` or `expired`.",
              _by("moment_ends")),
    Described("journey_outcomes", "counter", (), "Measurement windows closed or amended.", _tally("outcomes")),
    Described("journey_slots_held", "gauge", ("partition",), "Customers with a running measurement window.",
              _census("slots")),
    # timers
    Described("journey_timers_pending", "gauge", ("partition",), "Customers with a timer.", _census("timers")),
    Described("journey_timer_overdue_seconds", "gauge", ("partition",),
              "How long the earliest timer of a partition has been due.", _partitions(_overdue)),
    Described("journey_timer_lateness_seconds", "histogram", (), "How long after its due instant a timer was done.",
              _tally("timer_lateness")),
    # state
    Described("journey_customers", "gauge", ("partition",), "Customers stored.", _census("customers")),
    Described("journey_state_bytes", "gauge", ("partition",), "Bytes of all customers, before compression.",
              _census("state_bytes")),
    Described("journey_hits", "counter", (), "Customers found decoded in memory.", _tally("hits")),
    Described("journey_loads", "counter", (), "Customers decoded from the store.", _tally("loads")),
    Described("journey_new_customers", "counter", (), "Customers of whom nothing was known.", _tally("strangers")),
    Described("journey_cached_customers", "gauge", ("partition",), "Customers decoded in memory.",
              _partitions(lambda _, one: one.cached_customers)),
    Described("journey_cached_bytes", "gauge", ("partition",),
              "Their bytes as they are stored; in memory they take about five times as much.",
              _partitions(lambda _, one: one.cached_bytes)),
    # transactions and the group
    Described("journey_commits", "counter", (), "Transactions committed.", _one(lambda s: s.loop.commits)),
    Described("journey_commit_seconds", "counter", (), "Time spent committing.",
              _one(lambda s: s.loop.tally.commit_seconds.sum)),
    Described("journey_commit_duration_seconds", "histogram", (), "Time that a commit took.", _tally("commit_seconds")),
    Described("journey_aborts", "counter", (), "Transactions aborted.", _one(lambda s: s.loop.aborts)),
    Described("journey_rebalances", "counter", (), "Assignments of partitions.", _one(lambda s: s.loop.rebalances)),
    Described("journey_fenced", "gauge", (), "1 while a worker that another has replaced waits for its end.",
              _one(lambda s: s.fenced)),
    Described("journey_restoring_records", "gauge", (), "Changelog offsets left to restore.",
              _one(lambda s: s.loop.restoring)),
    Described("journey_restored_records", "counter", (), "Changelog records restored.",
              _one(lambda s: s.loop.restored)),
    # what runs
    Described("journey_definitions_info", "gauge", ("version",), "1 for the version of the definitions in force.",
              lambda s: [((s.definitions,), 1)]),
    Described("journey_build_info", "gauge", ("version", "python", "librdkafka"), "1 for what this worker is made of.",
              _build),
)  # fmt: skip
"""Every metric of the engine; restarts are changes of Prometheus' own `process_start_time_seconds`."""


class LoopCollector(Collector):
    """Turns one loop's numbers into metrics, at the time of the scrape."""

    def __init__(self, loop: Callable[[], Loop | None], fenced: Callable[[], bool] = lambda: False) -> None:
        self._loop = loop
        self._fenced = fenced

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the engine."""
        loop = self._loop()
        if loop is None:
            return
        scrape = Scrape(loop, dict(loop.partitions), loop.definitions, now_ms(), self._fenced())
        for metric in METRICS:
            yield metric.family(scrape)


def registry_of(loop: Callable[[], Loop | None], fenced: Callable[[], bool] = lambda: False) -> CollectorRegistry:
    """Return a registry with the engine's metrics and the process's own."""
    return registry_with(LoopCollector(loop, fenced))
