"""How fast a lost store is restored from its changelog: `python -m bench.restore [--customers N] [--profile]`.

Customers of about 1.5 KB, decided by the engine under twenty moments and written to a real changelog on Apache Kafka as
workers do, are restored into empty stores in this process. The broker's own cost is not counted; RocksDB's is.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import shutil
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.harness import seed
from bench.harness.machine import ROOT, machine
from orchestrator.runtime.loop import RESTORE_RECORDS, RESTORE_SECONDS
from orchestrator.runtime.partitioner import murmur2_partition
from orchestrator.runtime.restore import Restorer
from orchestrator.runtime.state_store import META_KEY, Meta, StateStore, Stored, meta_to_bytes, pack
from tests.kafka.broker import KafkaBroker

TOPIC = "changelog"
STARTS_AT = 1_700_000_000_000
ORDERS = 4
"""Orders in the past that make 1.5 KB of state under the twenty moments."""

COMMIT_CUSTOMERS = 2_000
BAR = 80_000


def fill(config: dict[str, Any], customers: int, partitions: int, states: list[Stored]) -> None:
    """Write a changelog as workers do: transactions of some customers, each with a meta record."""
    admin = AdminClient(config)
    admin.create_topics([NewTopic(TOPIC, partitions, 1)])[TOPIC].result(20)
    producer = Producer({**config, "transactional.id": "bench", "linger.ms": 5, "compression.type": "lz4"})
    producer.init_transactions(20)
    for first in range(0, customers, COMMIT_CUSTOMERS):
        producer.begin_transaction()
        for number in range(first, min(first + COMMIT_CUSTOMERS, customers)):
            key = b"c%07d" % number
            producer.produce(TOPIC, pack(states[number % len(states)]), key, murmur2_partition(key, partitions))
        producer.poll(0)
        for partition in range(partitions):
            producer.produce(TOPIC, meta_to_bytes(Meta(STARTS_AT, {"clickstream": first})), META_KEY, partition)
        producer.commit_transaction(60)


def restore(config: dict[str, Any], partitions: int, folder: Path) -> tuple[float, float, int]:
    """Restore every partition into an empty store; return CPU-seconds, seconds and how many customers there are."""
    stores = [StateStore(folder / str(number)) for number in range(partitions)]
    restorer = Restorer(config, TOPIC)
    cpu, started = time.process_time(), time.monotonic()
    for number, store in enumerate(stores):
        restorer.begin(number, store)
    left = partitions
    while left:
        left -= len(restorer.advance(RESTORE_RECORDS, RESTORE_SECONDS))
    cpu, seconds = time.process_time() - cpu, time.monotonic() - started
    restorer.close()
    found = sum(sum(1 for _ in store.customers()) for store in stores)
    for store in stores:
        store.close()
    return cpu, seconds, found


def main() -> None:
    """Print the figure beside its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="show where one more round spends its time")
    options = parser.parse_args()
    program = seed.program_of(ROOT / "bench" / "definitions" / "twenty_moments")
    states = seed.decided(program, seed.TEMPLATES, STARTS_AT - 1, seed.with_orders(ORDERS))
    size = statistics.mean(len(one.state) for one in states)
    with KafkaBroker() as kafka, tempfile.TemporaryDirectory() as folder:
        config = {"bootstrap.servers": kafka.bootstrap}
        fill(config, options.customers, options.partitions, states)
        rates = []
        for number in range(options.rounds + options.profile):
            profiled = options.profile and number == options.rounds
            with cProfile.Profile() if profiled else nullcontext() as profile:
                cpu, seconds, found = restore(config, options.partitions, Path(folder) / str(number))
            shutil.rmtree(Path(folder) / str(number))
            assert found == options.customers, (found, options.customers)
            if isinstance(profile, cProfile.Profile):
                pstats.Stats(profile).sort_stats("tottime").print_stats(15)
            else:
                rates.append(found / cpu)
                took = f"{cpu:.2f} CPU-s, {seconds:.2f} s"
                print(f"{found:,} customers of {size:,.0f} bytes in {took}: {rates[-1]:,.0f} per CPU-s")
    print(f"median {statistics.median(rates):,.0f} per CPU-second, at least {BAR:,} are wanted")
    print(", ".join(f"{name}: {text}" for name, text in machine().items()))


if __name__ == "__main__":
    main()
