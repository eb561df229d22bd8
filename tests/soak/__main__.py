"""``python -m tests.soak --minutes 20``: faults on three nodes of Apache Kafka, and what they changed: nothing."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness.machine import machine
from orchestrator.runtime.record_reader import RecordReader
from tests.kafka.broker import cluster, kafka_jars, kafka_unavailable
from tests.kafka.workers import Run, differences
from tests.soak.faults import CLASSES, WORKERS, Fault, Faults
from tests.soak.fleet import Fleet
from tests.soak.nodes import Nodes
from tests.soak.oracle import Comparison, compare, expected
from tests.soak.report import Result
from tests.soak.stream import Stream

ROUND_SECONDS = 120.0
"""About how long one fault of every class takes."""

ENDING_SECONDS = 20.0
FINISH_SECONDS = 900.0


def main() -> int:
    """Run the soak; return 0 when every bar is met."""
    options = _options()
    reason = kafka_unavailable()
    if reason is not None:
        print(reason)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-soak-"))
    print(f"seed {options.seed}, {options.faults} faults of each class, logs in {folder}", flush=True)
    facts = machine(**{"Apache Kafka": kafka_jars().name, "seed": str(options.seed)})
    properties = {"log.retention.check.interval.ms": "3600000"}
    with cluster(3, properties) as started:
        nodes = Nodes(started)
        try:
            result = _soak(options, nodes, folder, facts)
        except BaseException:
            nodes.keep_logs(folder)
            raise
    good = result.judge(options.faults)
    print(result.markdown())
    if options.result is not None:
        result.write(options.result)
    if good:
        shutil.rmtree(folder)
    return 0 if good else 1


def _soak(options: argparse.Namespace, nodes: Nodes, folder: Path, facts: dict[str, str]) -> Result:
    begun = time.monotonic()
    more = {"REPLICATION": "3", "COMMIT_INTERVAL": "100ms", "TRANSACTION_TIMEOUT": "10s"}
    run = Run("faulty", nodes.bootstrap, folder, f"soak-{options.seed}-", more)
    fleet = Fleet(run)
    stream = Stream(run, options.seed, options.households, options.days)
    try:
        faults = _do_faults(options, fleet, nodes, stream)
        print("all faults done; the rest of the stream", flush=True)
        stream.finish()
        barriers = run.barriers()
        fleet.until(lambda: sum(fleet.positions().values()) >= barriers, "the end of the stream", FINISH_SECONDS)
        for ordinal in sorted(fleet.lives):
            assert fleet.remove(ordinal) == 0
    finally:
        fleet.close()
    facts["took"] = f"{(time.monotonic() - begun) / 60:.1f} min, without the fault-free run"

    print("the fault-free run", flush=True)
    undisturbed = Run(
        "undisturbed", nodes.bootstrap, folder, f"soak-{options.seed}-", {**more, "COMMIT_INTERVAL": "1s"}
    )
    try:
        worker = undisturbed.start()
        undisturbed.wait_until_finished(worker, patience=FINISH_SECONDS)
        assert worker.stop() == 0
    finally:
        undisturbed.close()

    print("comparing", flush=True)
    found, wanted = run.outputs(), undisturbed.outputs()
    decisions, reference = run.records("decisions"), undisturbed.records("decisions")
    triggers = Counter((one["trigger_id"], one["action"]) for one in run.records("triggers"))
    there = {one["decision_id"] for one in decisions}
    return Result(
        facts=facts,
        command=f"make soak MINUTES={options.minutes:g} ARGS='--seed {options.seed}'",
        faults=faults.done,
        exits=dict(fleet.exits),
        fenced=faults.fenced,
        records=stream.records,
        barriers=barriers,
        miscounted=stream.replayer.miscounted(run),
        differences=differences(found, wanted),
        outputs={role: len(records) for role, records in found.items()},
        lost_decisions=sum(one["decision_id"] not in there for one in reference),
        duplicate_triggers=sum(count - 1 for count in triggers.values()),
        audit=run.audit(),
        oracle=_brute_force(run, decisions, stream.until),
    )


def _do_faults(options: argparse.Namespace, fleet: Fleet, nodes: Nodes, stream: Stream) -> Faults:
    for ordinal in WORKERS:
        fleet.start(ordinal)
    stream.start()
    fleet.until(lambda: all(life.board.commits > 5 for life in fleet.lives.values()), "the first commits")
    fleet.until(nodes.whole, "all replicas in sync")
    faults = Faults(fleet, nodes, stream, options.seed)
    order = _order(options.classes, options.faults, random.Random(options.seed))
    begun, is_static = time.monotonic(), False
    for number, kind in enumerate(order):
        if kind == "rolling" and not is_static:
            faults.to_static()
            is_static = True
        if stream.failure is not None:
            raise stream.failure
        # Slow enough that there is work until the last fault, however long they take here.
        per_fault = (time.monotonic() - begun) / number if number else ROUND_SECONDS / len(CLASSES)
        stream.rate = stream.left / 1_000 / ((len(order) - number + 1) * max(1.0, per_fault))
        _tell(faults.do(kind), number + 1, len(order), stream)
    return faults


def _order(classes: Sequence[str], count: int, chance: random.Random) -> list[str]:
    """Return every class as often as asked for, shuffled within each round; static members come last."""
    order: list[str] = []
    for _ in range(count):
        of_round = [kind for kind in classes if kind != "rolling"]
        chance.shuffle(of_round)
        order += of_round
    return order + ["rolling"] * (count if "rolling" in classes else 0)


def _tell(fault: Fault, number: int, total: int, stream: Stream) -> None:
    figures = "".join(f"; {name} {value:.1f}" for name, value in fault.figures.items())
    share = 1 - stream.left / stream.span
    print(
        f"{number}/{total} at {fault.at:.0f} s ({share:.0%} of the year) {fault.kind}: {fault.what}; "
        f"after {', '.join(fault.phases)}; recovered {fault.recovered:.1f} s{figures}",
        flush=True,
    )


def _brute_force(run: Run, decisions: list[dict[str, Any]], until: int) -> Comparison:
    reader = RecordReader(run.client, run.codec)
    inputs = {run.topics.plain_name(topic.name): topic for topic in (*run.topics.inputs, run.topics.profiles)}
    names = ("clickstream", "purchases", "email-engagement", "customer-profiles")
    clicks, orders, messages, profiles = (reader.read(inputs[name]) for name in names)
    return compare(expected(clicks, orders, messages, profiles, until), decisions, until)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long the faults take, about")
    parser.add_argument("--seed", type=int, default=1, help="of the world and of the faults")
    parser.add_argument("--classes", default=",".join(CLASSES), help="comma-separated, of: " + ", ".join(CLASSES))
    parser.add_argument("--faults", type=int, help="of each class, instead of as many as the minutes allow")
    parser.add_argument("--households", type=int, default=100)
    parser.add_argument("--days", type=int, help="of the world; a year when left out")
    parser.add_argument("--result", type=Path, help="a folder for soak.md and soak.json")
    options = parser.parse_args()
    options.classes = [kind.strip() for kind in options.classes.split(",")]
    if unknown := set(options.classes) - set(CLASSES):
        parser.error(f"unknown classes: {', '.join(sorted(unknown))}")
    if options.faults is None:
        options.faults = max(1, round((options.minutes * 60 - ENDING_SECONDS) / ROUND_SECONDS))
    return options


if __name__ == "__main__":
    sys.exit(main())
