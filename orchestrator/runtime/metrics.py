"""Prometheus metrics, read from the loop's tallies when somebody asks: the hot path counts plain integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.runtime.loop import Loop

COUNTERS: tuple[tuple[str, str], ...] = (
    ("events", "Records read from the inputs and decided, usable or not."),
    ("irrelevant", "Events that no definition looks at."),
    ("steps", "Steps decided: partitions between two barriers."),
    ("outcomes", "Measurement windows closed or amended."),
    ("loads", "Customers decoded from the store."),
    ("hits", "Customers found decoded in memory."),
)
"""Plain counts of the tally: name and help."""

LABELLED: tuple[tuple[str, str, str], ...] = (
    ("decisions", "reason", "Decisions by reason."),
    ("triggers", "campaign", "Triggers emitted by campaign, retractions included."),
    ("moments", "moment", "Moment instances that ended, answered or not."),
    ("dead_letters", "reason", "Records that could not be used."),
)
"""Counts of the tally by one label: name, label and help."""


class LoopCollector(Collector):
    """Turns one loop's tallies into metrics, at the time of the scrape."""

    def __init__(self, loop: Callable[[], Loop | None]) -> None:
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the engine."""
        loop = self._loop()
        if loop is None:
            return
        tally = loop.tally
        for name, text in COUNTERS:
            yield CounterMetricFamily(f"journey_{name}", text, value=getattr(tally, name))
        for name, label, text in LABELLED:
            family = CounterMetricFamily(f"journey_{name}", text, labels=[label])
            counts: Mapping[str, int] = getattr(tally, name)
            for value, count in list(counts.items()):
                family.add_metric([value], count)
            yield family
        yield CounterMetricFamily("journey_commits", "Transactions committed.", value=loop.commits)
        yield CounterMetricFamily("journey_commit_seconds", "Time spent committing.", value=loop.commit_ms / 1000)
        yield CounterMetricFamily("journey_aborts", "Transactions aborted.", value=loop.aborts)
        yield CounterMetricFamily("journey_rebalances", "Assignments of partitions.", value=loop.rebalances)
        yield GaugeMetricFamily("journey_restoring_records", "Changelog offsets left to restore.", value=loop.restoring)
        clock = GaugeMetricFamily(
            "journey_clock_seconds", "The instant a partition's clock stands at.", labels=["partition"]
        )
        waiting = GaugeMetricFamily("journey_waiting_records", "Records read, not yet decided.", labels=["partition"])
        cached = GaugeMetricFamily("journey_cached_customers", "Customers decoded in memory.", labels=["partition"])
        for number, partition in sorted(loop.partitions.items()):
            clock.add_metric([str(number)], max(0, partition.clock) / 1000)
            waiting.add_metric([str(number)], partition.inbox.records)
            cached.add_metric([str(number)], partition.cached_customers)
        yield from (clock, waiting, cached)


def registry_of(loop: Callable[[], Loop | None]) -> CollectorRegistry:
    """Return a registry with the engine's metrics and the process's own."""
    registry = CollectorRegistry()
    registry.register(LoopCollector(loop))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
