"""The whole product here: a broker, a year of real purchases, workers, a report and an audit; all of it ends."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from orchestrator.audit import AuditReport
from orchestrator.demo.live_view import LiveView, Progress
from orchestrator.demo.replay_process import SETTLES, Replayed, ReplayProcess
from orchestrator.demo.workers import Snapshot, WorkerProcess
from orchestrator.demo.world import DAYS, OPENS_AT
from orchestrator.events import DAY
from orchestrator.report.data import NO_RECORD, SEVERAL, ReportData
from orchestrator.report.document import render
from orchestrator.report.summary import summary
from orchestrator.runtime.auditor import audit_topics
from orchestrator.runtime.compose import require_learning, topics_of
from orchestrator.runtime.connection import connect
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.policy_log import read_versions
from orchestrator.runtime.record_reader import RecordReader
from orchestrator.runtime.settings import load as load_settings
from orchestrator.runtime.state_store import StateStore
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_admin import apply

STALLED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What a demo run is asked for; `households` and `days` None mean all there are."""

    out: Path
    definitions: Path
    seed: int = 1
    households: int | None = None
    days: int | None = None
    partitions: int = 4
    engines: int = 1
    bootstrap_servers: str | None = None
    learn_every: str | None = None


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demo run showed: the audit, figures by name, planted carts without exactly one record, and the report."""

    audit: AuditReport
    figures: Mapping[str, float]
    unaccounted_carts: int
    report: Path

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return self.audit.clean and self.unaccounted_carts == 0


AfterRun = Callable[[Mapping[str, str], RecordReader, Topics, ReportData], None]
"""Gets the environment, a reader, the topics and the report's data while the broker still runs."""


def run_demo(config: DemoConfig, console: Console, after: AfterRun) -> DemoResult:
    """Run the demo from an empty broker to the report, call `after`, and return what it all showed."""
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-demo-")))
        servers = config.bootstrap_servers
        if servers is None:
            servers = stack.enter_context(EmbeddedBroker()).bootstrap
            console.print(f"embedded broker on {servers}", highlight=False)
        environment = _environment(config, servers, folder)
        settings = load_settings(environment)
        topics = topics_of(settings)
        if config.learn_every is not None:
            require_learning(config.definitions, topics)
        apply(connect(settings), topics)
        reader = RecordReader.open(settings)
        if any(len(span) for span in reader.spans(topics.decisions).values()):
            raise OperatorError(
                f"{topics.decisions.name} at {servers} already holds decisions: delete the demo's topics, "
                "or choose others with ORCHESTRATOR_TOPIC_PREFIX"
            )

        replay = ReplayProcess(settings, config.seed, config.households, config.days)
        stack.callback(replay.stop)
        engines = [
            stack.enter_context(
                WorkerProcess("engine", {**environment, "ORCHESTRATOR_ORDINAL": str(n)}, folder / f"engine-{n}.log")
            )
            for n in range(config.engines)
        ]
        until = OPENS_AT + (config.days or DAYS) * DAY + SETTLES
        replayed, snapshots = _watch(config, console, replay, engines, until)
        for engine in engines:
            if (code := engine.stop()) != 0:
                raise OperatorError(f"an engine ended with exit code {code}", details=engine.last_words)
        console.print("reading what was decided ...", highlight=False)
        figures = _figures(snapshots, replayed, time.monotonic() - started, folder)
        if config.learn_every is not None:
            figures["policy_snapshots"] = len(read_versions(settings, topics))
        report = audit_topics(reader, topics)
        data = ReportData.fold(
            (record for record, _ in reader.read(topics.decisions)),
            (record for record, _ in reader.read(topics.triggers)),
            (record for record, _ in reader.read(topics.outcomes)),
            summary=_said(figures, report),
            planted=None if replayed.truth is None else replayed.truth.carts,
        )
        path = _write(config.out, data, figures, report)
        console.print(summary(data))
        after(environment, reader, topics, data)
        missing = sum(
            carts.fates.get(NO_RECORD, 0) + carts.fates.get(SEVERAL, 0)
            for carts in data.carts
            if carts.kind == "abandoned"
        )
        return DemoResult(report, figures, missing, path)


def _environment(config: DemoConfig, servers: str, folder: Path) -> dict[str, str]:
    return {
        "ORCHESTRATOR_BOOTSTRAP_SERVERS": servers,
        "ORCHESTRATOR_TOPIC_PREFIX": "demo-",
        "ORCHESTRATOR_GROUP": "demo",
        "ORCHESTRATOR_PARTITIONS": str(config.partitions),
        "ORCHESTRATOR_REPLICATION": "1",
        "ORCHESTRATOR_BARRIERS": "replay",
        "ORCHESTRATOR_DEFINITIONS": str(config.definitions),
        "ORCHESTRATOR_STATE_DIR": str(folder / "state"),
        "ORCHESTRATOR_SESSION_TIMEOUT": "6s",  # the embedded broker lets a group start after half of it
        "ORCHESTRATOR_LOG_LEVEL": "warning",
        "ORCHESTRATOR_LEARN_EVERY": config.learn_every or "never",
    }


def _watch(
    config: DemoConfig, console: Console, replay: ReplayProcess, engines: list[WorkerProcess], until: int
) -> tuple[Replayed, list[Snapshot]]:
    """Show the run until every partition's clock has come to the end; return the last word of replay and engines."""
    latest: dict[int, Snapshot] = {}
    moved_at, events = time.monotonic(), -1
    with LiveView(console, OPENS_AT, until) as view:
        while True:
            replayed = replay.poll()
            for number, engine in enumerate(engines):
                engine.check()
                if (snapshot := engine.scrape()) is not None:
                    latest[number] = snapshot
            progress = _progress(list(latest.values()), replayed)
            view.show(progress)
            clocks = [at for snapshot in latest.values() for at in snapshot.by_label("journey_clock_seconds").values()]
            if replayed.truth is not None and len(clocks) == config.partitions and min(clocks) * 1000 >= until:
                return replayed, list(latest.values())
            if progress.events + replayed.records != events:
                moved_at, events = time.monotonic(), progress.events + replayed.records
            elif time.monotonic() - moved_at > STALLED_SECONDS:
                raise OperatorError(
                    f"nothing has moved for {STALLED_SECONDS:.0f} s; the engine's last words:",
                    details=engines[0].last_words,
                )
            time.sleep(0.25)


def _progress(snapshots: list[Snapshot], replayed: Replayed) -> Progress:
    clocks = [at for snapshot in snapshots for at in snapshot.by_label("journey_clock_seconds").values()]
    return Progress(
        instant=int(min(clocks, default=0) * 1000) or OPENS_AT,
        replayed=replayed.records,
        events=int(_sum(snapshots, "journey_events_total")),
        decisions=_sum_by_label(snapshots, "journey_decisions_total"),
        triggers=_sum_by_label(snapshots, "journey_triggers_total"),
        moments=_sum_by_label(snapshots, "journey_moments_total"),
        dead_letters=sum(_sum_by_label(snapshots, "journey_dead_letters_total").values()),
        cpu_seconds=_sum(snapshots, "process_cpu_seconds_total"),
    )


def _sum(snapshots: list[Snapshot], name: str) -> float:
    return sum(snapshot.value(name) for snapshot in snapshots)


def _sum_by_label(snapshots: list[Snapshot], name: str) -> dict[str, float]:
    total: dict[str, float] = {}
    for snapshot in snapshots:
        for label, value in snapshot.by_label(name).items():
            total[label] = total.get(label, 0) + value
    return total


def _figures(snapshots: list[Snapshot], replayed: Replayed, seconds: float, folder: Path) -> dict[str, float]:
    """Return the run's figures; events are what the engine read from the inputs, profiles included."""
    events = _sum(snapshots, "journey_events_total")
    cpu = _sum(snapshots, "process_cpu_seconds_total")
    sizes = _state_sizes(folder / "state" / "demo")
    return {
        "events": events,
        "irrelevant_events": _sum(snapshots, "journey_irrelevant_total"),
        "replayed_records": replayed.records,
        "seconds": round(seconds, 1),
        "events_per_second": round(events / seconds),
        "engine_cpu_seconds": round(cpu, 1),
        "cpu_us_per_event": round(cpu / max(events, 1) * 1e6, 1),
        "engine_memory_mib": round(_sum(snapshots, "process_resident_memory_bytes") / 2**20),
        "customers": len(sizes),
        "state_bytes_median": sizes[len(sizes) // 2] if sizes else 0,
        "state_bytes_p99": sizes[len(sizes) * 99 // 100] if sizes else 0,
        "dead_letters": sum(_sum_by_label(snapshots, "journey_dead_letters_total").values()),
        "planted_bad_records": replayed.planted_bad,
    }


def _state_sizes(folder: Path) -> list[int]:
    sizes = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        store = StateStore(path)
        sizes += [len(stored.state) for _, stored in store.customers()]
        store.close()
    return sorted(sizes)


def _said(figures: Mapping[str, float], report: AuditReport) -> dict[str, str]:
    """Return the figures in words, for the summary and the report."""
    return {
        "events decided": f"{figures['events']:,.0f} in {figures['seconds']:.0f} s, "
        f"{figures['events_per_second']:,.0f} a second with everything on one machine",
        "engine": f"{figures['cpu_us_per_event']:.1f} CPU-µs per event, {figures['engine_memory_mib']:.0f} MiB; "
        f"{figures['irrelevant_events']:,.0f} of the events are of no interest to these definitions",
        "state per customer": f"median {figures['state_bytes_median']:,.0f} bytes, "
        f"99th percentile {figures['state_bytes_p99']:,.0f}",
        "dead letters": f"{figures['dead_letters']:.0f}, and {figures['planted_bad_records']:.0f} bad records planted",
        "audit": "clean: no overlap, no duplicate, nothing missing"
        if report.clean
        else f"{len(report.violations):,} violations",
    }


def _write(out: Path, data: ReportData, figures: Mapping[str, float], report: AuditReport) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "report.html"
    path.write_text(render(data), encoding="utf-8")
    carts = {one.kind: {"planted": one.planted, "fates": dict(one.fates)} for one in data.carts}
    found = {
        "figures": dict(figures),
        "carts": carts,
        "audit": {
            "clean": report.clean,
            "decisions": report.decisions,
            "triggers": report.triggers,
            "intervals": report.intervals,
            "violations": len(report.violations),
        },
    }
    (out / "figures.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return path
