"""Measures the one-moment job in ours and in its peers, alternating: `python -m bench.peers [--events N] [--rounds R]`.

`--only compiled --only quix` chooses rows; `ours` is always measured, because everything is compared with it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from bench.harness import inputs, ours, seed, watch
from bench.harness.backlog import EVENTS_PER_CUSTOMER, STARTS_AT, WITHIN, Backlog, Due, customer_name
from bench.harness.compiled import compiled, no_compiler
from bench.harness.machine import ROOT, about, machine, table, write
from bench.harness.process import EndedError, Measured
from bench.harness.watch import Measurement
from bench.peers import jvm, quix_venv
from bench.peers.jvm import UnavailableError
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_reader import read_topic, topic_spans
from tests.kafka.broker import KafkaBroker, kafka_unavailable

PARTITIONS = 4
COMMIT_MS = 500
DEFINITIONS = ROOT / "bench" / "definitions"
SLOWER = 5
"""Faust gets a backlog smaller by this, so that its run takes no longer than the others'."""

HISTORY_ORDERS = 4
"""Orders in the past of the customers of the twenty moments: they come to 1.5 KB of state."""


@dataclass(slots=True)
class Row:
    """One way to do the job, and what its runs showed."""

    name: str
    title: str
    remark: str
    runs: list[Measurement] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    triggers: str = "not run"
    skipped: str = ""


ROWS = (
    ("ours", "ours, one moment", "exactly-once, replay barriers; decides, explains and measures too"),
    ("ours20", "ours, 20 moments, 1.5 KB states", "exactly-once, replay barriers; another job: not compared"),
    ("compiled", "ours, one moment, compiled", "the same with the optional compiled build"),
    ("compiled20", "ours, 20 moments, compiled", "the other job with it"),
    ("faust", "Faust agents and table", "at-least-once; timers in a heap in memory"),
    ("quix", "Quix Streams", "exactly-once; timers in memory, lost at a restart"),
    ("streams", "Kafka Streams", "exactly_once_v2; timers in a second store, scanned by a punctuator"),
    (
        "bare",
        "bare librdkafka",
        "exactly-once; decodes nothing, keeps nothing: the limit; so quick that its whole life tells more",
    ),
)


OURS = dict.fromkeys(("ours", "compiled"), "one_moment") | dict.fromkeys(("ours20", "compiled20"), "twenty_moments")
"""Our rows, and their definitions."""


class Bench:
    """One broker with the backlog on it, and everything that is to be measured over it."""

    def __init__(self, node: KafkaBroker, folder: Path, customers: int) -> None:
        self.folder = folder
        self.bootstrap = node.bootstrap
        self.admin = AdminClient({"bootstrap.servers": node.bootstrap})
        self._runs = 0
        self._package: Path | None = None
        started = time.monotonic()
        first = self._worker("inputs", "one_moment")
        backlog = Backlog(customers)
        self.events = inputs.write_ours(first.client, backlog, first.topics, first.codec)
        self.merged = inputs.write_merged(self.bootstrap, "merged", PARTITIONS, backlog, first.topics, first.codec)
        fewer = Backlog(customers // SLOWER)
        self.fewer = inputs.write_merged(  # as it is, because aiokafka alone reads no lz4
            self.bootstrap, "merged-few", PARTITIONS, fewer, first.topics, first.codec, "none"
        )
        self.first = first
        clock = first.topics.clock.name
        self._barriers = {(clock, number): one.end for number, one in topic_spans(first.client, clock).items()}
        names = [customer_name(number) for number in range(customers)]
        self.seeded: dict[str, seed.Seeded] = {}
        pasts = (("one_moment", seed.profile_only), ("twenty_moments", seed.with_orders(HISTORY_ORDERS)))
        for definitions, past in pasts:
            where = folder / "seeded" / definitions
            self.seeded[definitions] = seed.seed(
                where, DEFINITIONS / definitions, names, PARTITIONS, STARTS_AT - 1, past
            )
        self._schemas = write_schemas(folder, first.topics, first.codec)
        print(
            f"{self.events:,} events of {customers:,} customers, {len(self.merged.expected):,} triggers; "
            f"prepared in {time.monotonic() - started:.0f} s",
            flush=True,
        )

    def _worker(self, name: str, definitions: str) -> ours.Worker:
        return ours.worker(
            self.bootstrap,
            self.folder,
            name,
            inputs="bench-",
            definitions=DEFINITIONS / definitions,
            partitions=PARTITIONS,
            COMMIT_INTERVAL=f"{COMMIT_MS}ms",
        )

    def ours(
        self, definitions: str, started: Callable[[int], object] = int, package: Path | None = None
    ) -> tuple[Measurement, str]:
        """Run our worker over the backlog, perhaps of a compiled package; `started` is told its process id."""
        worker = self._worker(self._next("ours"), definitions)
        if package is not None:
            worker = worker.compiled(package)
        worker.take_up(self.folder / "seeded" / definitions)
        log = self.folder / f"{worker.group}.log"
        with Measured(worker.command, worker.environment, log) as process:
            started(process.pid)
            found = watch.measure(process, self.admin, worker.group, self._barriers, self.events)
        if definitions != "one_moment":
            return found, "its own"
        controls = _controls(worker)
        triggers = inputs.triggers_of(worker.client, worker.topics.triggers.name, worker.codec, worker.topics)
        said = compared(triggers + controls, self.merged.expected)
        return found, f"{said}, {len(controls):,} of them the 1 % of control" if said == "the same set" else said

    def package(self) -> Path:
        """Return the compiled package, compiled for the first who asks."""
        if (reason := no_compiler()) is not None:
            raise UnavailableError(reason)
        if self._package is None:
            self._package = compiled(self.folder / "package")
        return self._package

    def peer(self, kind: str, command: Sequence[str]) -> tuple[Measurement, str]:
        """Run one peer over the merged topic."""
        merged = self.fewer if kind == "faust" else self.merged
        group = self._next(kind)
        out = f"{group}-triggers"
        inputs.create(self.admin, out, PARTITIONS)
        state = self.folder / group
        state.mkdir()
        environment = {
            "BENCH_BOOTSTRAP": self.bootstrap,
            "BENCH_GROUP": group,
            "BENCH_TOPIC": merged.topic,
            "BENCH_OUT": out,
            "BENCH_STATE": str(state),
            "BENCH_PARTITIONS": str(PARTITIONS),
            "BENCH_WITHIN": str(WITHIN),
            "BENCH_COMMIT_MS": str(COMMIT_MS),
            "BENCH_THREADS": "1",
            "BENCH_EVENTS_PER_TRIGGER": str(merged.events // max(1, len(merged.expected))),
            "PYTHONPATH": str(ROOT),
            **self._schemas,
        }
        ends = {(merged.topic, number): end for number, end in merged.ends.items()}
        with Measured(command, environment, self.folder / f"{group}.log") as process:
            found = watch.measure(process, self.admin, group, ends, merged.events)
        if kind == "bare":
            return found, "none: it does not do the job"
        triggers = inputs.triggers_of(self.first.client, out, self.first.codec, self.first.topics)
        shutil.rmtree(state, ignore_errors=True)
        return found, compared(triggers, merged.expected)

    def _next(self, kind: str) -> str:
        self._runs += 1
        return f"{kind}-{self._runs}"


def compared(found: Sequence[Due], expected: frozenset[Due]) -> str:
    """Say how what was found differs from what should have been."""
    there = set(found)
    twice, missing, extra = len(found) - len(there), len(expected - there), len(there - expected)
    if not (twice or missing or extra):
        return "the same set"
    return f"{missing:,} missing, {extra:,} too many, {twice:,} twice"


def _controls(worker: ours.Worker) -> list[Due]:
    """Return the carts that a decision answered for the control group: the job without the message."""
    decode = worker.codec.decoder(worker.topics.decisions)
    found = []
    for one in read_topic(worker.client, worker.topics.decisions.name):
        assert one.value is not None
        decision = decode(one.value)
        if decision["arm"] == "control":
            found += [
                Due(decision["customer_id"], ended["moment_key"], ended["opened_at"])
                for ended in decision["ended"]
                if ended["state"] == "acted"
            ]
    return found


def write_schemas(folder: Path, topics: Topics, codec: Codec) -> dict[str, str]:
    """Write the schemas where the peers read them: as JSON, and as lines for the JVM; return their environment."""
    del codec
    registry = FileRegistry(ROOT / "schemas")
    readers = {}
    for topic in (*topics.inputs, topics.triggers):
        assert topic.schema is not None
        frame = struct.pack(">bI", 0, registry.id_of(topic.schema, topic.name)).hex()
        readers[frame] = json.loads((ROOT / "schemas" / f"{topic.schema}.avsc").read_text())
        trigger = {"frame": frame, "schema": readers[frame]}  # the last one
    (folder / "schemas.json").write_text(json.dumps({"readers": readers, "trigger": trigger}))
    lines = [f"{frame}\t{json.dumps(schema)}" for frame, schema in readers.items()]
    lines.append(f"trigger:{trigger['frame']}\t{json.dumps(trigger['schema'])}")
    (folder / "schemas.tsv").write_text("\n".join(lines) + "\n")
    return {"BENCH_SCHEMAS": str(folder / "schemas.json"), "BENCH_SCHEMA_LINES": str(folder / "schemas.tsv")}


def commands() -> dict[str, Callable[[], list[str]]]:
    """Return how each peer is started; a call raises UnavailableError where it cannot be."""
    return {
        "faust": lambda: [sys.executable, "-m", "bench.peers.faust_app", "worker", "-l", "error", "--without-web"],
        "quix": lambda: [quix_venv.python(), "-m", "bench.peers.quix_app"],
        "streams": jvm.command,
        "bare": lambda: [sys.executable, "-m", "bench.peers.bare"],
    }


def run(bench: Bench, rows: Sequence[Row], rounds: int) -> None:
    """Measure every row once a round, one after the other."""
    starts = commands()
    for number in range(rounds):
        for row in rows:
            if row.skipped:
                continue
            try:
                if row.name in OURS:
                    package = bench.package() if row.name.startswith("compiled") else None
                    found, said = bench.ours(OURS[row.name], package=package)
                else:
                    found, said = bench.peer(row.name, starts[row.name]())
            except (UnavailableError, EndedError, TimeoutError) as error:
                row.skipped = str(error).splitlines()[0]
                print(f"skipped: {row.title}: {error}", flush=True)
                continue
            row.runs.append(found)
            row.rounds.append(number)
            row.triggers = said
            print(
                f"round {number + 1}: {row.title}: {found.cpu_us_per_event:.1f} CPU-s per million events, "
                f"{found.seconds:.1f} s, {found.events_per_second:,.0f} a second; triggers: {said}",
                flush=True,
            )


def ratios(row: Row, base: Row) -> list[float]:
    """Return how many times as much a row costs as ours, round by round."""
    ours_by_round = dict(zip(base.rounds, base.runs, strict=True))
    return [
        found.cpu_us_per_event / ours_by_round[number].cpu_us_per_event
        for number, found in zip(row.rounds, row.runs, strict=True)
        if number in ours_by_round
    ]


def spread(values: Sequence[float], digits: int) -> str:
    """Return least, middle and most of some values."""
    return " · ".join(f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))


def rendered(rows: Sequence[Row]) -> str:
    """Return the table; every figure is the median of its rounds."""
    base = rows[0]
    fast = next((row for row in rows if row.name == "compiled" and row.runs), None)
    lines = []
    for row in rows:
        if not row.runs:
            lines.append([row.title, f"skipped: {row.skipped}", *[""] * 8])
            continue
        another = "another job" if row.name in ("ours20", "compiled20") else ""

        def middle(attribute: str, runs: Sequence[Measurement] = tuple(row.runs)) -> float:
            return float(statistics.median(getattr(one, attribute) for one in runs))

        lines.append(
            [
                row.title,
                f"{middle('cpu_us_per_event'):.1f}",
                another or ("1" if row is base else spread(ratios(row, base), 2)),
                another or ("" if fast is None else "1" if row is fast else spread(ratios(row, fast), 2)),
                f"{middle('seconds'):.1f}",
                f"{middle('events_per_second'):,.0f}",
                f"{middle('peak_mib'):.0f}",
                f"{middle('all_cpu_us_per_event'):.1f}",
                f"{middle('start_cpu_seconds'):.1f}",
                row.triggers,
            ]
        )
    header = [
        "",
        "CPU-s per million events",
        "times ours: min · median · max",
        "times ours compiled",
        "wall s",
        "events/s",
        "peak MiB",
        "with start and stop",
        "CPU-s of start",
        "triggers",
    ]
    return table(header, lines)


def main() -> None:
    """Measure, print the table and keep it in bench/results."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--events", type=int, default=480_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=[name for name, _, _ in ROWS])
    parser.add_argument("--dry", action="store_true", help="print only, keep nothing")
    options = parser.parse_args()
    if (reason := kafka_unavailable()) is not None:
        print(f"skipped: {reason}")
        return
    rows = [Row(*one) for one in ROWS if options.only is None or one[0] in {*options.only, "ours"}]
    facts = machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-bench-")))
        node = stack.enter_context(inputs.broker())
        bench = Bench(node, folder, round(options.events / EVENTS_PER_CUSTOMER))
        run(bench, rows, options.rounds)
        facts |= conditions(bench, options.rounds, rows)
    found = rendered(rows)
    print(found)
    if options.dry:
        return
    keep: dict[str, Any] = {"facts": facts, "rows": [asdict(row) for row in rows]}
    write("peers", keep, page(rows, facts))


def page(rows: Sequence[Row], facts: dict[str, str]) -> str:
    """Return the whole page of results."""
    remarks = "\n".join(f"- {row.title}: {row.remark}" for row in rows) + "\n"
    table_of_rows = rendered(rows)
    title = "# The same job in ours and in its peers"
    return f"{title}\n\n{table_of_rows}\n{remarks}\n{_FAIRNESS}\n## Measured\n\n{about(facts)}"


def conditions(bench: Bench, rounds: int, rows: Sequence[Row]) -> dict[str, str]:
    """Return what the backlog was, and the versions of the peers."""
    states = bench.seeded["twenty_moments"]
    found = {
        "backlog": f"{bench.events:,} events, {len(bench.merged.expected):,} triggers, {PARTITIONS} partitions; "
        f"Faust: {bench.fewer.events:,} events",
        "rounds": f"{rounds}, alternating",
        "commit interval": f"{COMMIT_MS} ms; Faust its default of 2.8 s",
        "states of the 20 moments before": f"median {states.median:,} bytes, 99th percentile {states.p99:,}",
        "broker": "Apache Kafka, one KRaft node, -Xmx1g, on the same machine, not counted",
    }
    if any(row.name == "quix" and row.runs for row in rows):
        found["Quix Streams"] = quix_venv.versions()
    if any(row.name == "streams" and row.runs for row in rows):
        found["Kafka Streams"] = jvm.version()
    return found


_FAIRNESS = """\
## What is compared

`cart.item_added` starts an hour per customer and cart, or starts it anew; `order.placed` of that customer within it
ends it; where none came, one trigger goes out. All read the same Avro bytes in our framing, preloaded; each row's
triggers are compared with the set that the definition gives. CPU is of the whole process from the moment its group
gave it partitions to its last commit; "with start and stop" is its whole life.

In the peers' favour: they read one merged topic in the order of time, where ours reads three inputs and a clock and
aligns them by barriers. They write a trigger and their state, where ours also writes each decision with its reasons,
the customer's slot and the measurement's outcome, checks consent and draws a control group. Their timers are moved on
only when they come up. Faust's and Quix Streams' timers live in memory, which costs least and is not safe: Quix
Streams' are lost at a restart. Faust's records are not compressed, it has its optional fast paths switched on, commits
more rarely, and is at-least-once.

In our favour: a step has all of a customer's events of five minutes of event time, so a customer is decided once for
several events, as it happens with any backlog and not with a trickle; and our customers' profiles are there before the
measurement begins. Kafka Streams has a compiler that is still at work in a run this short.
"""


if __name__ == "__main__":
    main()
