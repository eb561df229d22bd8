"""How far it goes, on paper: `python -m bench.scale [--measure]` computes docs/scale.md's tables from measured costs.

With `--measure` the demo's year runs first, on the embedded broker, and tells what an event, a customer and a decision
cost in CPU and bytes. The other costs are those of bench/results: peers, goals (restore) and memory.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.harness.machine import RESULTS, ROOT, machine, table
from orchestrator.demo.run import DemoConfig, run_demo
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_reader import read_topic
from orchestrator.runtime.topics import load

COSTS = RESULTS / "scale.json"
PAGE = ROOT / "docs" / "scale.md"
MARKS = re.compile(r"(<!-- computed: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

BUSY = 0.5
"""How much of its core an engine should need at the peak: the rest is for catching up and for a lost neighbour."""
PEAK = 8.0
"""How many times the day's average the busiest minutes have."""
REPLICAS = 3
COMPACTION = 2.0
"""How large a compacted log may grow before it is cleaned, against what it holds: `min.cleanable.dirty.ratio` 0.5."""
ROOM = 2.0
"""Space for RocksDB to compact, against what it holds."""
BROKER_PARTITIONS = 4_000
"""Replicas that one broker is commonly trusted with."""
BROKER_WRITES = 100e6
"""Bytes a second that one broker writes beside everything else it does."""
RETENTION_DAYS = 180
"""Of decisions, in topics.yaml."""
NETWORK = 100e6
"""Bytes a second that one restoring engine gets from the brokers."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured; CPU in microseconds of one core of that machine, sizes in bytes."""

    event_us: float  # the retail pack over the demo's year
    heavy_event_us: float  # twenty moments, 1.5 KB of state
    state_bytes: float
    relevant: float  # share of the events that some definition looks at
    changelog_bytes: float
    decisions_per_event: float
    decision_bytes: float
    events_per_customer_day: float
    restored_per_second: float  # customers, by one core
    control_us: float  # a record read into a table by Faust, which the control role is made of
    engine_mib: float  # with a million customers, at its peak


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for: customers, and events a second at the peak."""

    name: str
    customers: float
    events: float


@dataclass(frozen=True, slots=True)
class Needs:
    """What a load needs."""

    pods: int
    control: int
    partitions: int
    customers_per_pod: float
    state_per_pod: float
    topic_replicas: int
    changelog: float
    changelog_rate: float
    decisions: float
    restore_one: float
    restore_partition: float


def needs(costs: Costs, load_: Load, co_partitioned: int) -> Needs:
    """Return what a load needs: pods by CPU, partitions to share out evenly and to grow, bytes, and times."""
    pods = max(3, math.ceil(load_.events * costs.heavy_event_us / 1e6 / BUSY))
    partitions = max(48, 2 ** math.ceil(math.log2(4 * pods)))
    per_pod = load_.customers / pods
    per_second = min(costs.restored_per_second, NETWORK / costs.state_bytes)
    average = load_.events / PEAK
    return Needs(
        pods=pods,
        control=math.ceil(load_.events * costs.decisions_per_event * costs.control_us / 1e6 / BUSY),
        partitions=partitions,
        customers_per_pod=per_pod,
        state_per_pod=per_pod * costs.state_bytes * ROOM,
        topic_replicas=partitions * co_partitioned * REPLICAS,
        changelog=load_.customers * costs.state_bytes * COMPACTION * REPLICAS,
        changelog_rate=load_.events * costs.relevant * costs.changelog_bytes,
        decisions=average * costs.decisions_per_event * costs.decision_bytes * 86_400 * RETENTION_DAYS * REPLICAS,
        restore_one=per_pod / per_second,
        restore_partition=load_.customers / partitions / per_second,
    )


def loads(costs: Costs) -> list[Load]:
    """Return the loads of the page; the first two have as many events as the demo's customers make."""
    made = costs.events_per_customer_day / 86_400 * PEAK
    return [
        Load("10 million customers", 10e6, 10e6 * made),
        Load("500 million customers", 500e6, 500e6 * made),
        Load("500 million, 1 million events/s", 500e6, 1e6),
    ]


def measured_by_demo() -> dict[str, float]:
    """Run the demo's year on an embedded broker, and return what it costs."""
    sizes: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker() as broker:
        config = DemoConfig(
            Path(folder), ROOT / "deploy" / "definitions" / "retail", bootstrap_servers=broker.bootstrap
        )
        run_demo(
            config, Console(quiet=True), lambda environment, _, topics, __: sizes.update(_read(environment, topics))
        )
        figures = json.loads((Path(folder) / "figures.json").read_text())["figures"]
    events = figures["events"]
    return {
        "event_us": figures["cpu_us_per_event"],
        "state_bytes": figures["state_bytes_median"],
        "relevant": 1 - figures["irrelevant_events"] / events,
        "changelog_bytes": sizes["changelog_bytes"] / sizes["changelog"],
        "decisions_per_event": sizes["decisions"] / events,
        "decision_bytes": sizes["decisions_bytes"] / sizes["decisions"],
        "events_per_customer_day": events / figures["customers"] / 365,
    }


def _read(environment: Mapping[str, str], topics: Topics) -> dict[str, float]:
    client = {"bootstrap.servers": environment["ORCHESTRATOR_BOOTSTRAP_SERVERS"], "group.id": "none"}
    found: dict[str, float] = {}
    for role in ("changelog", "decisions"):
        (topic,) = topics.by_role(role)
        found[role] = found[f"{role}_bytes"] = 0
        for one in read_topic(client, topic.name):
            found[role] += 1
            found[f"{role}_bytes"] += len(one.key or b"") + len(one.value or b"")
    return found


def measured_before() -> dict[str, float]:
    """Return the costs that other benchmarks have written down."""

    def read(name: str) -> Any:
        return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))

    each = {
        row["name"]: statistics.median(run["cpu_seconds"] / run["events"] * 1e6 for run in row["runs"])
        for row in read("peers")["rows"]
    }
    return {
        "heavy_event_us": each["ours20"],
        "control_us": each["faust"],
        "restored_per_second": float(read("goals")["restore"]["figures"][0]["figure"].split()[0].replace(",", "")),
        "engine_mib": read("memory")["figures"]["peak_mib"],
    }


def co_partitioned() -> int:
    """Return how many topics have a partition for each of an engine's."""
    return sum(topic.co_partitioned for topic in load(ROOT / "topics.yaml", ROOT / "schemas"))


def tables(costs: Costs) -> dict[str, str]:
    """Return the page's tables as Markdown, by name."""
    found = [(one, needs(costs, one, co_partitioned())) for one in loads(costs)]

    def row(name: str, *values: str) -> list[str]:
        return [name, *values]

    rows = [
        row("events a second at the peak", *(f"{one.events:,.0f}" for one, _ in found)),
        row("engines, one core each", *(f"{need.pods:,}" for _, need in found)),
        row("control workers, one core each", *(f"{need.control:,}" for _, need in found)),
        row("partitions", *(f"{need.partitions:,}" for _, need in found)),
        row("customers per engine", *(f"{need.customers_per_pod:,.0f}" for _, need in found)),
        row("volume per engine", *(_size(need.state_per_pod) for _, need in found)),
        row("memory per engine", *(f"{math.ceil(costs.engine_mib * 2 / 512) / 2:.1f} GiB" for _ in found)),
        row("changelog on the brokers", *(_size(need.changelog) for _, need in found)),
        row("written to the changelog at the peak", *(f"{_size(need.changelog_rate)}/s" for _, need in found)),
        row("decisions on the brokers", *(_size(need.decisions) for _, need in found)),
        row("partition replicas, all topics", *(f"{need.topic_replicas:,}" for _, need in found)),
        row("brokers, by these replicas", *(_brokers(need.topic_replicas / BROKER_PARTITIONS) for _, need in found)),
        row(
            "brokers, by the changelog",
            *(_brokers(need.changelog_rate * REPLICAS / BROKER_WRITES) for _, need in found),
        ),
        row("restore of an engine without its volume", *(_time(need.restore_one) for _, need in found)),
        row("restore of one partition", *(_time(need.restore_partition) for _, need in found)),
    ]
    told = [
        ["an event, retail pack", f"{costs.event_us:.0f} CPU-µs"],
        ["an event, 20 moments over 1.5 KB of state", f"{costs.heavy_event_us:.0f} CPU-µs"],
        ["state of a customer after a year, median", f"{costs.state_bytes:,.0f} B"],
        ["events that some definition looks at", f"{costs.relevant:.0%}"],
        ["a record of the changelog", f"{costs.changelog_bytes:,.0f} B"],
        ["decisions per event", f"{costs.decisions_per_event:.3f} of {costs.decision_bytes:,.0f} B"],
        ["events of a customer a day", f"{costs.events_per_customer_day:.2f}"],
        ["customers restored a second, by one core", f"{costs.restored_per_second:,.0f}"],
        ["a record that Faust reads into a table", f"{costs.control_us:,.0f} CPU-µs"],
        ["memory of an engine with a million customers, at its peak", f"{costs.engine_mib:,.0f} MiB"],
    ]
    return {"costs": table(["cost", "measured"], told), "needs": table(["", *(one.name for one, _ in found)], rows)}


def _brokers(count: float) -> str:
    return f"{max(REPLICAS, math.ceil(count)):,}"


def _size(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1_000:
            return f"{size:,.0f} {unit}"
        size /= 1_000
    return f"{size:,.1f} PB"


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def renewed(text: str, costs: Costs) -> str:
    """Return the page with its tables made anew."""
    made = tables(costs)
    return MARKS.sub(lambda part: f"{part[1]}{made[part[2]]}{part[3]}", text)


def kept() -> Costs:
    """Return the costs that were written down last."""
    return Costs(**json.loads(COSTS.read_text(encoding="utf-8"))["costs"])


def main() -> None:
    """Renew the page, after measuring if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--measure", action="store_true", help="run the demo's year, and take what the others have found"
    )
    if parser.parse_args().measure:
        facts = machine()
        costs = Costs(**measured_by_demo(), **measured_before())
        told = {name: getattr(costs, name) for name in Costs.__dataclass_fields__}
        COSTS.write_text(json.dumps({"facts": facts, "costs": told}, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), kept()), encoding="utf-8")
    print("".join(tables(kept()).values()))


if __name__ == "__main__":
    main()
