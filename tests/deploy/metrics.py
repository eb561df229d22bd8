"""Every metric that alerts and dashboard may use, with its labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from orchestrator.runtime.control_pages import METRICS as CONTROL_METRICS
from orchestrator.runtime.metric import Described
from orchestrator.runtime.metrics import METRICS

KUBERNETES: Mapping[str, frozenset[str]] = {
    "kube_pod_container_status_restarts_total": frozenset({"namespace", "pod", "container"}),
    "kubelet_volume_stats_available_bytes": frozenset({"namespace", "persistentvolumeclaim"}),
    "kubelet_volume_stats_capacity_bytes": frozenset({"namespace", "persistentvolumeclaim"}),
}
"""Of kube-state-metrics and the kubelet."""

TARGET = frozenset({"job", "instance", "namespace", "pod"})
"""Labels that Prometheus adds to what it scrapes."""

_NAME = re.compile(r"\b(?:journey|process|python|kube|kubelet)_\w+")


def ours() -> dict[str, frozenset[str]]:
    """Return the metrics of both roles, by name, with their own labels."""
    tables: tuple[Sequence[Described[Any]], ...] = (METRICS, CONTROL_METRICS)
    return {
        metric.sample: frozenset(metric.labels) | ({"le"} if metric.kind == "histogram" else set())
        for table in tables
        for metric in table
    }


def known() -> dict[str, frozenset[str]]:
    """Return every metric that may be asked for, with all labels it can have."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    standard = {sample.name for family in registry.collect() for sample in family.samples}
    found = {name: labels | TARGET for name, labels in ours().items()}
    found |= dict.fromkeys(standard, TARGET)
    return found | dict(KUBERNETES)


def used(expression: str) -> set[str]:
    """Return the metrics of an expression."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in _NAME.findall(_without_texts(expression))}


def grouped(expression: str) -> set[str]:
    """Return the labels that an expression groups by or selects."""
    labels = {label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in group.split(", ")}
    return labels | set(re.findall(r"(\w+)(?:=~|!=|=)\"", expression))


def _without_texts(expression: str) -> str:
    return re.sub(r'"[^"]*"', '""', expression)
