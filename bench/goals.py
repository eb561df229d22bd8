"""Measures what performance was promised, each figure beside its goal: `python -m bench.goals [--only NAME ...]`.

Rows: cost, restore, state, latency, timers, copies, customers. A row that fails says so and the others go on. All but
`state` run on Apache Kafka, one node on this machine, whose own cost is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from bench.harness import inputs, ours, seed, watch
from bench.harness.backlog import EVENTS_PER_CUSTOMER, STARTS_AT, Backlog, customer_name
from bench.harness.machine import RESULTS, ROOT, about, machine, table, write
from bench.harness.process import Measured
from bench.harness.watch import Measurement
from orchestrator.events import HOUR, MINUTE, SECOND, Event
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.partitioner import murmur2_partition
from orchestrator.runtime.restore import Restorer
from orchestrator.runtime.state_store import META_KEY, Meta, StateStore, meta_to_bytes, pack
from orchestrator.runtime.topic_reader import read_topic, topic_spans
from tests.kafka.broker import KafkaBroker, kafka_unavailable

PARTITIONS = 4
COMMIT_MS = 500
DEFINITIONS = ROOT / "bench" / "definitions"
RETAIL = ROOT / "deploy" / "definitions" / "retail"
ORDERS = 4
"""Orders in the past that make 1.5 KB of state under the twenty moments."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    what: str
    figure: str
    goal: str
    moonshot: str
    remark: str


class Goals:
    """One broker, and a measurement for each row."""

    def __init__(self, node: KafkaBroker, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.bootstrap = node.bootstrap
        self.admin = AdminClient({"bootstrap.servers": node.bootstrap})
        self.options = options
        self._count = itertools.count(1)

    def worker(self, inputs_prefix: str, definitions: Path, **more: str) -> ours.Worker:
        """Declare one of our workers over the inputs of a prefix."""
        name = f"g{next(self._count)}"
        more = {"COMMIT_INTERVAL": f"{COMMIT_MS}ms", **more}
        return ours.worker(
            self.bootstrap,
            self.folder,
            name,
            inputs=inputs_prefix,
            definitions=definitions,
            partitions=PARTITIONS,
            **more,
        )

    def fill(self, prefix: str, backlog: Backlog) -> int:
        """Write a backlog into the inputs of a prefix; return how many events it has."""
        first = self.worker(prefix, DEFINITIONS / "one_moment")
        return inputs.write_ours(first.client, backlog, first.topics, first.codec)

    def replayed(self, prefix: str, definitions: Path, seeded: Path, events: int) -> Measurement:
        """Let one worker decide the backlog of a prefix."""
        worker = self.worker(prefix, definitions)
        worker.take_up(seeded)
        clock = worker.topics.clock.name
        ends = {(clock, number): one.end for number, one in topic_spans(worker.client, clock).items()}
        with Measured(worker.command, worker.environment, worker.settings.state_dir.with_suffix(".log")) as process:
            found = watch.measure(process, self.admin, worker.group, ends, events)
        shutil.rmtree(worker.state, ignore_errors=True)
        return found

    # --- the rows ---------------------------------------------------------------------------------------------------

    def cost(self) -> list[Figure]:
        """CPU per event with twenty moments and customers of 1.5 KB."""
        customers = round(self.options.events / EVENTS_PER_CUSTOMER)
        names = [customer_name(number) for number in range(customers)]
        past = seed.with_orders(ORDERS)
        definitions, where = DEFINITIONS / "twenty_moments", self.folder / "cost"
        states = seed.seed(where, definitions, names, PARTITIONS, STARTS_AT - 1, past)
        mixes = (("nearly every event concerns 9 moments or more", 0), ("two in three concern none, as visits do", 2))
        events = {visits: self.fill(f"cost{visits}-", Backlog(customers, visits=visits)) for _, visits in mixes}
        runs: dict[int, list[Measurement]] = {visits: [] for _, visits in mixes}
        for _ in range(self.options.rounds):
            for visits, found in runs.items():
                found.append(self.replayed(f"cost{visits}-", definitions, where, events[visits]))
        figures = []
        for mix, visits in mixes:
            each = [one.cpu_us_per_event for one in runs[visits]]
            rate = statistics.median(one.events_per_second for one in runs[visits])
            figures.append(
                Figure(
                    f"CPU-µs per event, 20 moments; {mix}",
                    f"{statistics.median(each):.1f} ({min(each):.1f} to {max(each):.1f})",
                    "≤ 40",
                    "≤ 20",
                    f"{events[visits]:,} events of {customers:,} customers with {states.median:,} bytes; "
                    f"{rate:,.0f} events/s, {max(one.peak_mib for one in runs[visits]):.0f} MiB",
                )
            )
        return figures

    def restore(self) -> list[Figure]:
        """Restore customers from a changelog, in this process."""
        customers = self.options.customers
        worker = self.worker("restore-", DEFINITIONS / "twenty_moments")
        program = seed.program_of(DEFINITIONS / "twenty_moments")
        states = seed.decided(program, seed.TEMPLATES, STARTS_AT - 1, seed.with_orders(ORDERS))
        topic = worker.topics.changelog.name
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "compression.type": "lz4"})
        for number in range(customers):
            key = customer_name(number).encode()
            _produce(producer, topic, pack(states[number % len(states)]), key, murmur2_partition(key, PARTITIONS))
        for number in range(PARTITIONS):
            meta = meta_to_bytes(Meta(STARTS_AT - 1, {}, program.version))
            _produce(producer, topic, meta, META_KEY, number)
        producer.flush(60)
        rates, seconds = [], []
        for _ in range(self.options.rounds):
            stores = [StateStore(self.folder / "restored" / str(number)) for number in range(PARTITIONS)]
            restorer = Restorer(worker.client, topic)
            cpu, wall = time.process_time(), time.monotonic()
            for number, store in enumerate(stores):
                restorer.begin(number, store)
            left = PARTITIONS
            while left:
                left -= len(restorer.advance(1_000, 0.01))
            rates.append(customers / (time.process_time() - cpu))
            seconds.append(time.monotonic() - wall)
            restorer.close()
            for store in stores:
                store.close()
            shutil.rmtree(self.folder / "restored")
        return [
            Figure(
                "customers restored per CPU-second",
                f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
                "≥ 80,000",
                "150,000",
                f"{customers:,} customers, {sum(len(one.state) for one in states) / len(states):,.0f} bytes each, "
                f"{statistics.median(seconds):.1f} s",
            )
        ]

    def state(self) -> list[Figure]:
        """Bytes per customer over the demo's year, from the figures that the demo wrote."""
        if self.options.figures is None:
            raise RuntimeError("no figures.json of a demo was named with --figures")
        found = json.loads(self.options.figures.read_text())["figures"]
        return [
            Figure(
                "state per customer over the demo's year",
                f"median {found['state_bytes_median']:,.0f} B, p99 {found['state_bytes_p99']:,.0f} B",
                "median ≤ 4 KB, p99 ≤ 8 KB",
                "half",
                f"{found['customers']:,.0f} customers, {found['events']:,.0f} events",
            )
        ]

    def latency(self) -> list[Figure]:
        """How late a trigger is in live use, at about half of what a worker can take."""
        worker = self.worker("live-", DEFINITIONS / "one_minute", BARRIERS="live")
        customers = [customer_name(number) for number in range(self.options.customers)]
        seeded = self.folder / "live"
        now = int(time.time() * 1000)
        seed.seed(seeded, DEFINITIONS / "one_minute", customers, PARTITIONS, now - HOUR, seed.profile_only)
        worker.take_up(seeded)
        with Measured(worker.command, worker.environment, self.folder / "live.log") as process:
            watch.wait_for_partitions(process, self.admin, worker.group)
            time.sleep(2)
            cpu = process.cpu_seconds()
            late, sent, seconds = _live(worker, customers, self.options.rate, self.options.seconds)
            share = (process.cpu_seconds() - cpu) / seconds
        after_barrier = _after_barrier(worker, late)
        every = sorted(seen - due for (_, due), seen in late.items())
        return [
            Figure(
                "trigger out, from the barrier that allowed it, p99",
                f"{_percentile(after_barrier, 99):.0f} ms (p50 {_percentile(after_barrier, 50):.0f} ms)",
                f"≤ {COMMIT_MS + 150} ms",
                "",
                f"live, {sent / seconds:,.0f} events/s for {seconds:.0f} s, the worker busy {share:.0%}, commit "
                f"interval {COMMIT_MS} ms, {len(late):,} triggers; from the due instant p50 "
                f"{_percentile(every, 50):.0f} ms, p99 {_percentile(every, 99):.0f} ms",
            )
        ]

    def timers(self) -> list[Figure]:
        """How late timers are with very many of them pending."""
        pending, rate = self.options.timers, self.options.due_rate
        worker = self.worker("timers-", DEFINITIONS / "one_minute", BARRIERS="live")
        folder = self.folder / "timers"
        program = seed.program_of(DEFINITIONS / "one_minute")
        seconds = min(self.options.seconds, pending // rate)
        first = int(time.time() * 1000) + round(20 * SECOND + pending * 0.025)  # when seeding will be over
        span = pending * SECOND // rate
        states = []
        count = min(pending, 20_000)
        for place in range(count):
            due = first + place * span // count

            def past(customer: str, until: int, chance: random.Random, due: int = due) -> list[Event]:
                item = {"cart_id": "k1", "cart_total": 1_000, "sku": "SKU-001"}
                added = Event("cart.item_added", customer, due - MINUTE, "i1", 1, 0, item)
                return [*seed.profile_only(customer, until, chance), added]

            states += seed.decided(program, 1, first - MINUTE - SECOND, past)
        names = [customer_name(number) for number in range(pending)]
        seed.write_stores(folder, program, names, states, PARTITIONS, first - MINUTE - SECOND)
        worker.take_up(folder)
        shutil.rmtree(folder)
        if (wait := first - 6 * SECOND - time.time() * 1000) < 0:
            raise RuntimeError("seeding took longer than was allowed for")
        time.sleep(wait / 1000)
        with Measured(worker.command, worker.environment, self.folder / "timers.log") as process:
            watch.wait_for_partitions(process, self.admin, worker.group)
            late = _collect(worker, until=time.time() + (first / 1000 - time.time()) + seconds)
            busy = process.cpu_seconds()
            peak = process.peak_mib()
        settled = {key: seen for key, seen in late.items() if key[1] >= first + 2 * SECOND}
        lateness = sorted(seen - due for (_, due), seen in settled.items())
        after_barrier = _after_barrier(worker, settled)
        due_then = (seconds - 2) * rate
        return [
            Figure(
                f"{pending:,} pending timers, {rate:,} due a second: lateness p99 from the barrier",
                f"{_percentile(after_barrier, 99) / 1000:.2f} s (p50 {_percentile(after_barrier, 50) / 1000:.2f} s)",
                "≤ 1 s",
                "",
                f"of {due_then:,} due in {seconds - 2} s, {len(settled):,} triggers had come at the end; from the due "
                f"instant p50 {_percentile(lateness, 50) / 1000:.2f} s, p99 {_percentile(lateness, 99) / 1000:.2f} s; "
                f"{busy:.0f} CPU-s, {peak:.0f} MiB",
            )
        ]

    def copies(self) -> list[Figure]:
        """Events per second with fifty copies of the retail pack, against one."""
        customers = min(self.options.customers, 5_000)
        events = self.fill("copies-", Backlog(customers))
        names = [customer_name(number) for number in range(customers)]
        rates: dict[int, list[float]] = {1: [], 50: []}
        sizes = {}
        for count in rates:
            definitions = self.folder / f"retail-{count}"
            copy_pack(RETAIL, definitions, count)
            past = seed.with_orders(ORDERS)
            sizes[count] = seed.seed(self.folder / f"pack-{count}", definitions, names, PARTITIONS, STARTS_AT - 1, past)
        for _ in range(self.options.rounds):
            for count, found in rates.items():
                run = self.replayed("copies-", self.folder / f"retail-{count}", self.folder / f"pack-{count}", events)
                found.append(run.events / run.cpu_seconds)
        ratios = [many / one for one, many in zip(rates[1], rates[50], strict=True)]
        return [
            Figure(
                "50 copies of the retail pack against one, events per CPU-second",
                f"{statistics.median(ratios):.3f}× ({min(ratios):.3f} to {max(ratios):.3f})",
                "≥ 0.5×",
                "",
                f"{events:,} events of {customers:,} customers; one copy {statistics.median(rates[1]):,.0f} events per "
                f"CPU-second with {sizes[1].median:,} bytes, fifty {statistics.median(rates[50]):,.0f} with "
                f"{sizes[50].median:,} bytes",
            )
        ]

    def customers(self) -> list[Figure]:
        """Cost per event with few customers and with very many, at the same events.

        Of very many customers more have something come due that no event brings. So each population is measured with
        a hundredth of the events, too: what the others cost beyond that is the events' own.
        """
        few, many = 10_000, self.options.many
        events: dict[tuple[int, int], int] = {}
        cost: dict[tuple[int, int], list[float]] = {}
        memory = {}
        for population in (few, many):
            names = [customer_name(number) for number in range(population)]
            where = self.folder / f"of-{population}"
            seed.seed(where, DEFINITIONS / "twenty_moments", names, PARTITIONS, STARTS_AT - 1, seed.with_orders(ORDERS))
            for active in (few, few // 100):
                # As many events in both, of all of the few and of one in so many of the many.
                backlog = Backlog(active, stride=population // active)
                events[population, active] = self.fill(f"of{population}-{active}-", backlog)
                cost[population, active] = []
        for _ in range(self.options.rounds):
            for (population, active), found in cost.items():
                where = self.folder / f"of-{population}"
                count = events[population, active]
                run = self.replayed(f"of{population}-{active}-", DEFINITIONS / "twenty_moments", where, count)
                found.append(run.cpu_us_per_event * count)
                if active == few:
                    memory[population] = run.peak_mib
        each = {
            population: [total / events[population, few] for total in cost[population, few]]
            for population in (few, many)
        }
        own = {
            population: [
                (total - rest) / (events[population, few] - events[population, few // 100])
                for total, rest in zip(cost[population, few], cost[population, few // 100], strict=True)
            ]
            for population in (few, many)
        }
        return [
            Figure(
                f"cost per event, {many:,} customers against {few:,}",
                _ratio(each[few], each[many]),
                "≤ 1.5×",
                "",
                f"{events[few, few]:,} events each, 1.5 KB states; {statistics.median(each[few]):.1f} and "
                f"{statistics.median(each[many]):.1f} CPU-µs, {memory[few]:.0f} and {memory[many]:.0f} MiB; the "
                "timers of all customers run as well",
            ),
            Figure(
                f"the same without what comes due for other customers, {many:,} against {few:,}",
                _ratio(own[few], own[many]),
                "≤ 1.5×",
                "",
                f"beyond what a hundredth of the events costs; {statistics.median(own[few]):.1f} and "
                f"{statistics.median(own[many]):.1f} CPU-µs",
            ),
        ]


def _ratio(low: Sequence[float], high: Sequence[float]) -> str:
    """Return the ratios of pairs as a table has them: the middle one, and between which they lie."""
    found = [above / below for below, above in zip(low, high, strict=True)]
    return f"{statistics.median(found):.2f}× ({min(found):.2f} to {max(found):.2f})"


def copy_pack(pack_folder: Path, target: Path, count: int) -> None:
    """Write so many copies of a pack, its features, segments, moments and campaigns all under names of their own."""
    target.mkdir(parents=True)
    shutil.copy(pack_folder / "policy.yaml", target)
    texts = {
        name: (pack_folder / f"{name}.yaml").read_text() for name in ("features", "segments", "moments", "campaigns")
    }
    pack = load_folder(pack_folder)
    names = "|".join([*pack.features, *pack.segments, *pack.moments, *pack.campaigns])
    # A stage has the name of a moment, perhaps, and a template that of its campaign: those are no names of ours.
    known = re.compile(rf"stage: \[.*?\]|template: \w+|(?<!= ')\b({names})\b")
    for copy in range(count):
        for name, text in texts.items():
            renamed = known.sub(lambda found, copy=copy: f"{found[1]}_{copy}" if found[1] else found[0], text)  # type: ignore[misc]
            (target / f"{name}_{copy}.yaml").write_text(renamed)


# --- live measurements ------------------------------------------------------------------------------------------------

Seen = dict[tuple[str, int], float]
"""Customer and due instant to when the trigger could be read, both in milliseconds."""


def _live(worker: ours.Worker, customers: Sequence[str], rate: int, seconds: int) -> tuple[Seen, int, float]:
    """Send events at a rate, one in twenty a cart that is due a moment later; return when its trigger came."""
    encode = {
        name: worker.codec.encoder(worker.topics.by_name(f"live-{name}")) for name in ("clickstream", "purchases")
    }
    happenings = Backlog(1).happenings
    item = dict(next(one.record for one in happenings if one.topic == "clickstream"))
    order = dict(next(one.record for one in Backlog(20).happenings if one.topic == "purchases"))
    producer = Producer({"bootstrap.servers": worker.settings.bootstrap_servers, "linger.ms": 5})
    reader = _Arrivals(worker)
    abandoning, buying = customers[::2], customers[1::2]
    started = time.time()
    sent = 0
    chance = random.Random(1)
    while (passed := time.time() - started) < seconds:
        while sent < passed * rate:
            now = int(time.time() * 1000)
            number = f"{sent}"
            if sent % 20 == 0:  # nobody orders: due between half a second and one and a half from now
                topic, customer = "clickstream", abandoning[sent // 20 % len(abandoning)]
                record = {**item, "cart_id": f"due{number}", "event_time": now - MINUTE + 500 + chance.randrange(1_000)}
            elif sent % 5 == 4:  # ends what the customer has waiting
                topic, customer = "purchases", buying[sent // 5 % len(buying)]
                record = {**order, "order_id": f"o{number}", "event_time": now}
            else:
                topic, customer = "clickstream", buying[sent // 5 % len(buying)]
                record = {**item, "cart_id": f"c{sent // 5}", "event_time": now}
            value = encode[topic]({**record, "customer_id": customer, "event_id": f"e{number}"})
            topic = f"live-{topic}"
            key = customer.encode()
            _produce(producer, topic, value, key, murmur2_partition(key, PARTITIONS))
            sent += 1
        producer.poll(0)
        reader.read(0.001)
    producer.flush(10)
    while time.time() - started < seconds + 5:
        reader.read(0.05)
    return reader.close(), sent, seconds


class _Arrivals:
    """Reads triggers as a sender would, and notes when each could be read."""

    def __init__(self, worker: ours.Worker) -> None:
        self._decode = worker.codec.decoder(worker.topics.triggers)
        self._found: list[tuple[float, bytes]] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": worker.settings.bootstrap_servers,
                "group.id": "arrivals",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10,
            }
        )
        topic = worker.topics.triggers.name
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])

    def read(self, timeout: float) -> None:
        """Take what is there."""
        messages = self._consumer.consume(5_000, timeout)
        now = time.time() * 1000
        self._found += [(now, message.value()) for message in messages if message.error() is None]  # type: ignore[misc]

    def close(self) -> Seen:
        """Return what was seen."""
        self._consumer.close()
        seen: Seen = {}
        for at, value in self._found:
            record = self._decode(value)
            if record["moment_key"].startswith(("due", "k")):
                seen[record["customer_id"], record["opened_at"]] = at
        return seen


def _collect(worker: ours.Worker, until: float) -> Seen:
    """Return the triggers that come until an instant."""
    reader = _Arrivals(worker)
    while time.time() < until:
        reader.read(0.02)
    return reader.close()


def _after_barrier(worker: ours.Worker, seen: Seen) -> list[float]:
    """Return how long after the first barrier that allowed it each trigger came, from the barriers that were kept."""
    decode = worker.codec.decoder(worker.topics.clock)
    barriers: dict[int, list[int]] = {number: [] for number in range(PARTITIONS)}
    for one in read_topic(worker.client, worker.topics.clock.name):
        assert one.value is not None
        barriers[one.partition].append(decode(one.value)["time"])
    found = []
    for (customer, due), at in seen.items():
        times = barriers[murmur2_partition(customer.encode(), PARTITIONS)]
        allowed = next((time for time in times if time >= due), None)
        if allowed is not None:
            found.append(at - allowed)
    return sorted(found)


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)] if values else float("nan")


def _produce(producer: Producer, topic: str, value: bytes, key: bytes, partition: int) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition)
            return
        except BufferError:
            producer.poll(0.1)


def main() -> None:
    """Measure the rows that are asked for, print the table and keep it; rows measured before stay as they were."""
    rows = ("cost", "restore", "state", "latency", "timers", "copies", "customers")
    parser = argparse.ArgumentParser(prog="python -m bench.goals", description=__doc__)
    parser.add_argument("--only", action="append", choices=rows)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=480_000)
    parser.add_argument("--customers", type=int, default=50_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=10_000, help="events a second for the latency")
    parser.add_argument("--seconds", type=int, default=40, help="how long live rows are watched")
    parser.add_argument("--timers", type=int, default=1_000_000)
    parser.add_argument("--due-rate", type=int, default=5_000)
    parser.add_argument("--figures", type=Path, help="figures.json of a demo, for the state per customer")
    parser.add_argument("--dry", action="store_true", help="print only, keep nothing")
    options = parser.parse_args()
    if (reason := kafka_unavailable()) is not None:
        print(f"skipped: {reason}")
        return
    kept = _kept()
    for row in options.only or rows:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-goals-")))
            node = stack.enter_context(inputs.broker())
            measure: Callable[[], list[Figure]] = getattr(Goals(node, folder, options), row)
            facts = machine()
            try:
                figures = measure()
            except Exception as error:  # one row must not take the others with it
                print(f"skipped: {row}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
        for one in figures:
            print(f"{one.what}: {one.figure}; goal {one.goal}. {one.remark}", flush=True)
        kept[row] = {"facts": facts, "figures": [asdict(one) for one in figures]}
        if not options.dry:
            write("goals", kept, _rendered({name: kept[name] for name in rows if name in kept}))


def _kept() -> dict[str, Any]:
    path = RESULTS / "goals.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _rendered(kept: dict[str, Any]) -> str:
    lines, facts = [], {}
    for found in kept.values():
        facts = found["facts"]
        for one in found["figures"]:
            when = f"{facts['date']}, {facts['commit']}, load {facts['load at the start']}"
            lines.append([one["what"], one["figure"], one["goal"], one["moonshot"], one["remark"], when])
    header = ["what", "figure", "goal", "moonshot", "measured with", "when"]
    same = {name: text for name, text in facts.items() if name not in ("date", "commit", "load at the start")}
    return f"# Goals and figures\n\n{table(header, lines, left=6)}\n{about(same)}"


if __name__ == "__main__":
    main()
