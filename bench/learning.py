"""How long the control role takes to learn, and in how much memory: `python -m bench.learning [--write]`.

Outcomes of campaigns in leaves are written to Apache Kafka as engines write them. A control worker reads all of them,
publishes the first snapshot, then one more when an outcome was added: the first costs what a restart costs, the second
what every hour costs. Memory is that of the whole process, its audit of an empty stream included; an engine's is what
it holds for as long as a snapshot is in force.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from bench.harness.machine import about, machine, table, write
from orchestrator.demo.workers import WorkerProcess
from orchestrator.events import DAY, HOUR
from orchestrator.identity import fingerprint, identify
from orchestrator.records import CampaignOutcome
from orchestrator.reference import Reference
from orchestrator.runtime.compose import codec_of, topics_of
from orchestrator.runtime.connection import connect
from orchestrator.runtime.partitioner import partition_of
from orchestrator.runtime.policy_log import read_versions
from orchestrator.runtime.settings import Settings, load
from orchestrator.runtime.topic_admin import apply
from tests.kafka.broker import KafkaBroker

START = 20_000 * DAY
PER_COMMIT = 20_000
PATIENCE = 600.0
FIGURES = {
    "read and learned anew, s": "first",
    "planning alone, s": "planning",
    "snapshot once more, s": "again",
    "memory of the process, MiB": "memory",
    "snapshot, KiB": "snapshot",
    "held by an engine, KiB": "held",
}
GOALS = {"planning alone, s": "≤ 10", "snapshot, KiB": "≤ 20,480"}


def definitions(campaigns: int) -> str:
    """Return so many campaigns that are chosen by expected value."""
    moment = """
moments:
  - moment: left_lying
    say: "Put it in the cart and did not buy within 20 minutes"
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 20m }
    lasts: 12h
choose: { method: expected_value }
campaigns:
"""
    return moment + "".join(
        f"""  - campaign: c{number}
    when: left_lying
    send: {{ channel: email, template: t }}
    measure: {{ objective: margin, for: 7d }}
    control: {{ start: 20%, floor: 5% }}
"""
        for number in range(campaigns)
    )


def outcomes(count: int, campaigns: int, leaves: int) -> Iterator[CampaignOutcome]:
    """Yield outcomes of half a year, one in five of control, with three campaigns that were eligible each time."""
    for number in range(count):
        chance = fingerprint(f"outcome/{number}")
        name, leaf = chance % campaigns, chance // 1_000 % leaves
        known_at = START - chance // 7 % (180 * DAY)
        id_ = identify("outcome", number)
        yield CampaignOutcome(
            outcome_id=id_,
            revision=0,
            decision_id=id_,
            customer_id=f"customer-{chance % (count // 4 + 1)}",
            campaign=f"c{name}",
            arm="control" if chance // 11 % 5 == 0 else "treatment",
            moment="left_lying",
            window_from=known_at - 7 * DAY,
            window_until=known_at,
            orders=chance % 3 // 2,
            revenue=chance // 13 % 9_000,
            margin=chance // 13 % 3_000 + 10 * name,
            cost=1,
            unsubscribed=chance % 400 == 0,
            contaminated=False,
            void=False,
            definitions_version="bench",
            earned_before=chance // 17 % 9_000,
            channel="email",
            responded=chance % 3 == 2,
            leaf=f"tier={leaf}",
            propensity=0.3,
            none_propensity=0.2,
            control_bp=2_000,
            eligible=tuple(
                f"c{other}@email" for other in sorted({name, *(chance // by % campaigns for by in (19, 23))})
            ),
            free_for=chance % (20 * DAY),
            chosen_by="expected_value",
            known_at=known_at,
        )


class Engine:
    """Writes outcomes and barriers in transactions."""

    def __init__(self, settings: Settings) -> None:
        topics, codec = topics_of(settings), codec_of(settings)
        self._topics = topics
        self._outcome = codec.value_encoder(topics.outcomes, CampaignOutcome)
        self._barrier = codec.encoder(topics.clock)
        self._producer = Producer(
            {
                "bootstrap.servers": settings.bootstrap_servers,
                "transactional.id": "bench",
                "linger.ms": 5,
                "compression.type": "lz4",
            }
        )
        self._producer.init_transactions(30)

    def write(self, records: Iterator[CampaignOutcome], at: int) -> None:
        """Write outcomes, and that every partition has come to an instant."""
        self._producer.begin_transaction()
        for place, record in enumerate(records, 1):
            number = partition_of(record.customer_id.encode(), self._topics.partitions)
            self._producer.produce(
                self._topics.outcomes.name, self._outcome(record), record.outcome_id.encode(), number
            )
            if place % 1_000 == 0:
                self._producer.poll(0)
            if place % PER_COMMIT == 0:
                self._producer.commit_transaction(60)
                self._producer.begin_transaction()
        for number in range(self._topics.partitions):
            value = self._barrier({"time": at, "ends": {}, "horizon": None})
            self._producer.produce(self._topics.clock.name, value, str(number).encode(), number)
        self._producer.commit_transaction(60)


def measured(bootstrap: str, count: int, campaigns: int, leaves: int) -> dict[str, float]:
    """Return the figures for so many outcomes."""
    name = f"bench-{count}-{campaigns}-{leaves}"
    with tempfile.TemporaryDirectory() as folder:
        pack = Path(folder) / "pack"
        pack.mkdir()
        (pack / "all.yaml").write_text(definitions(campaigns))
        environment = {
            "ORCHESTRATOR_BOOTSTRAP_SERVERS": bootstrap,
            "ORCHESTRATOR_GROUP": name,
            "ORCHESTRATOR_TOPIC_PREFIX": f"{name}-",
            "ORCHESTRATOR_PARTITIONS": "4",
            "ORCHESTRATOR_REPLICATION": "1",
            "ORCHESTRATOR_STATE_DIR": f"{folder}/state",
            "ORCHESTRATOR_DEFINITIONS": str(pack),
            "ORCHESTRATOR_LEARN_EVERY": "1h",
            "ORCHESTRATOR_SESSION_TIMEOUT": "6s",
        }
        settings = load(environment)
        topics = topics_of(settings)
        apply(connect(settings), topics)
        engine = Engine(settings)
        engine.write(outcomes(count, campaigns, leaves), START)
        started = time.monotonic()
        with WorkerProcess("control", environment, Path(folder) / "log") as worker:
            wait(worker, 1)
            first = time.monotonic() - started
            began = time.monotonic()
            engine.write(
                outcomes(1, campaigns, leaves), START + DAY + HOUR
            )  # at the latest a day after, there is one more
            wait(worker, 2)
            again = time.monotonic() - began
            scraped = worker.scrape()
            assert scraped is not None
            planning = scraped.value("journey_learner_planning_seconds")
            memory = peak(worker)
        newest = read_versions(settings, topics)[-1]
        topic = next(topic for topic in topics.references if topic.schema == "policy_leaf")
        codec = codec_of(settings)
        encoded = [codec.encoder(topic)(record) for record in newest.values()]
        size = sum(map(len, encoded)) / 1024
        holds = held(encoded, codec.decoder(topic))
    return {
        "first": first, "planning": planning, "again": again, "memory": memory, "snapshot": size, "held": holds
    }  # fmt: skip


def held(encoded: Iterable[bytes], decode: Callable[[bytes, None], Mapping[str, Any]]) -> float:
    """Return how much an engine's memory grows by when it takes a snapshot in, KiB."""
    tracemalloc.start()
    try:
        reference = Reference()
        for value in encoded:
            reference.take("policy_leaf", decode(value, None))
        return tracemalloc.get_traced_memory()[0] / 1024
    finally:
        tracemalloc.stop()


def wait(worker: WorkerProcess, snapshots: int) -> None:
    """Wait until so many snapshots were published."""
    deadline = time.monotonic() + PATIENCE
    while True:
        worker.check()
        found = worker.scrape()
        if found is not None and found.value("journey_learner_snapshots_total") >= snapshots:
            return
        if time.monotonic() > deadline:
            raise SystemExit("\n".join(worker.last_words))
        time.sleep(0.05)


def peak(worker: WorkerProcess) -> float:
    """Return the most memory that a worker's process has ever had, MiB."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


def main() -> None:
    """Print a table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outcomes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--campaigns", type=int, default=12)
    parser.add_argument("--leaves", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--write", action="store_true", help="also with 300 campaigns and 300 leaves, into bench/results"
    )
    options = parser.parse_args()
    sizes = [(count, options.campaigns, options.leaves) for count in options.outcomes]
    if options.write:
        sizes.append((max(options.outcomes), 300, 300))
    facts = machine()
    with KafkaBroker() as kafka:
        found = {size: measured(kafka.bootstrap, *size) for size in sizes}
    records = [
        {"outcomes": count, "campaigns": campaigns, "leaves": leaves, **figures}
        for (count, campaigns, leaves), figures in found.items()
    ]
    header = ["", *(f"{c} campaigns, {n} leaves: {count:,} outcomes" for count, c, n in found), "goal"]
    rows = [
        [name, *(f"{figures[key]:,.1f}" for figures in found.values()), GOALS.get(name, "")]
        for name, key in FIGURES.items()
    ]
    if options.json:
        print(json.dumps(records))
    else:
        print(table(header, rows))
    if options.write:
        text = (
            f"# What it takes to learn\n\n`python -m bench.learning --write`\n\n{table(header, rows)}\n{about(facts)}"
        )
        write("learning", {"machine": facts, "found": records}, text)


if __name__ == "__main__":
    main()
