"""One metric: its name, labels and meaning, and how to read it when somebody asks; and tables of such metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.runtime.tally import Histogram

Source = TypeVar("Source")
Value = float | Histogram
Values = Iterable[tuple[tuple[str, ...], Value]]
"""The values of the labels, each with the value."""


@dataclass(frozen=True, slots=True)
class Described(Generic[Source]):
    """One metric: `kind` is counter, gauge or histogram; a counter's name goes without the `_total` of its sample."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    read: Callable[[Source], Values]

    @property
    def sample(self) -> str:
        """The name to ask for, of a histogram without `_bucket`, `_sum` and `_count`."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    def family(self, source: Source) -> Metric:
        """Return the metric with its values of now."""
        if self.kind == "histogram":
            histogram = HistogramMetricFamily(self.name, self.help, labels=self.labels)
            for labels, value in self.read(source):
                assert isinstance(value, Histogram)
                histogram.add_metric(labels, list(value.buckets()), value.sum)
            return histogram
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self.name, self.help, labels=self.labels)
        for labels, value in self.read(source):
            assert not isinstance(value, Histogram)
            family.add_metric(labels, value)
        return family


def registry_with(collector: Collector) -> CollectorRegistry:
    """Return a registry with a collector's metrics and the process's own."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def reference(metrics: Sequence[Described[Source]]) -> str:
    """Return a table of metrics as Markdown."""
    rows = [f"| `{metric.sample}` | {metric.kind} | {', '.join(metric.labels)} | {metric.help} |" for metric in metrics]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows]) + "\n"
