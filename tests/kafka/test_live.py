"""Live barriers on Apache Kafka: absences in time, nothing false, and what stopping, dying and doubles do."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from orchestrator.events import HOUR
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.embedded_broker import free_ports
from orchestrator.runtime.loop import FENCED
from orchestrator.runtime.partitioner import partition_of
from orchestrator.runtime.state_store import StateStore
from orchestrator.runtime.topic_reader import topic_spans
from tests.kafka.broker import KafkaBroker
from tests.kafka.workers import Run, Worker, wait_for
from tests.measured import MEASURED

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

MINUTE = 60_000
SOON = 2_000
"""Events arrive so late that their cart is abandoned this many milliseconds after they arrived."""

DEFINITIONS = """
moments:
  - moment: abandoned_cart
    say: "Put things in the cart and did not buy within a minute"
    key: cart_id
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 1m }
    lasts: 2h
campaigns:
  - campaign: cart_rescue
    when: abandoned_cart
    priority: 80
    send: { channel: email, template: cart_rescue }
    cost: { send: 0.01 }
    measure: { objective: margin, for: 3d }
    control: { start: 1%, floor: 1% }
program: { currency: USD, metric: margin, assumed_margin: 30%, amend_for: 60d }
one_at_a_time: { holds_until: measure_ends, exempt: [transactional, legal], interrupt: never, rest: 0d }
choose: { method: priority }
contact: { consent: required, unknown: do_not_send }
time:
  disorder: { clickstream: 0s, purchases: 0s, email-engagement: 0s }
  accept_late: { clickstream: 10m, purchases: 6h, email-engagement: 24h }
  never_act_on_moments_older_than: 1h
"""

_numbers = count(1)


class Shop:
    """What customers do, as it reaches the topics."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._encoders = {run.topics.plain_name(t.name): run.codec.encoder(t) for t in run.topics if t.schema}
        self._producer = Producer({**run.client, "linger.ms": 0})

    def customers(self, partition: int, how_many: int) -> list[str]:
        """Return new customers of one partition who agreed to e-mail."""
        found: list[str] = []
        while len(found) < how_many:
            name = f"c{next(_numbers)}"
            if partition_of(name.encode(), self._run.topics.partitions) == partition:
                found.append(name)
        for name in found:
            self.agree(name)
        return found

    def agree(self, customer: str) -> None:
        """Let a customer's profile say that they agreed to e-mail."""
        since = now_ms() - 24 * HOUR
        consents = [{"channel": "email", "purpose": "marketing", "granted": True, "at": since}]
        self.send("customer-profiles", customer, {"customer_id": customer, "updated_at": since, "consents": consents})

    def fill_cart(self, customer: str, at: int) -> None:
        """Put something into a cart."""
        self.send("clickstream", customer, self._event(customer, "cart.item_added", at) | {"cart_id": f"of-{customer}"})

    def buy(self, customer: str, at: int, producer: Producer | None = None) -> None:
        """Place an order, through another producer if there is one."""
        order = {"order_id": f"o{next(_numbers)}", "lines": [], "total": 0}
        self.send("purchases", customer, self._event(customer, "order.placed", at) | order, producer)

    def send(self, topic: str, customer: str, record: dict[str, Any] | None, producer: Producer | None = None) -> None:
        """Produce one record, None for a tombstone, and wait until it is delivered."""
        to = producer or self._producer
        key = customer.encode()
        name = self._run.topics.by_name(self._run.topics.prefix + topic).name
        value = None if record is None else self._encoders[topic](record)
        to.produce(name, value, key, partition_of(key, self._run.topics.partitions))
        assert to.flush(20) == 0

    def _event(self, customer: str, event: str, at: int) -> dict[str, Any]:
        return {"event_id": f"e{next(_numbers)}", "customer_id": customer, "event": event, "event_time": at}


class Live:
    """One live worker, and what it decided."""

    def __init__(self, kafka: KafkaBroker, folder: Path) -> None:
        definitions = folder / "definitions"
        definitions.mkdir()
        (definitions / "all.yaml").write_text(DEFINITIONS)
        self._kafka = kafka
        self._folder = folder
        self._common = {"DEFINITIONS": str(definitions), "COMMIT_INTERVAL": "200ms", "MAX_LAG": "30s"}
        self._runs: list[Run] = []
        self.run = self.another("live", BARRIERS="live")
        self.shop = Shop(self.run)
        self.ancient = self.shop.customers(0, 2)
        for customer in self.ancient:
            self.shop.fill_cart(customer, now_ms() - 5 * HOUR)
        self.worker: Worker = self.run.start()

    def another(self, name: str, inputs: str = "live-", **more: str) -> Run:
        """Return a run with outputs of its own."""
        run = Run(name, self._kafka.bootstrap, self._folder, inputs, {**self._common, **more})
        self._runs.append(run)
        return run

    def close(self) -> None:
        """Leave no process behind."""
        for run in self._runs:
            run.close()

    def decisions(self, customer: str) -> list[dict[str, Any]]:
        """Return what was decided about a customer so far."""
        return [one for one in self.run.records("decisions") if one["customer_id"] == customer]

    def why(self, customer: str) -> list[str]:
        """Return the reasons of what was decided about a customer so far."""
        return [one["reason"] for one in self.decisions(customer)]

    def triggers(self, customer: str) -> list[dict[str, Any]]:
        """Return what was sent to a customer so far."""
        return [one for one in self.run.records("triggers") if one["customer_id"] == customer]

    def decided(self, *customers: str) -> bool:
        """Return whether something was decided about each of them."""
        self.worker.must_run()
        about = {one["customer_id"] for one in self.run.records("decisions")}
        return about.issuperset(customers)


@pytest.fixture(scope="module")
def live(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Start a live worker on topics in which hours old carts wait already."""
    live = Live(kafka, tmp_path_factory.mktemp("live"))
    try:
        yield live
    finally:
        live.close()


def test_catching_up_sends_nothing_about_what_is_hours_old(live: Live) -> None:
    """A cart abandoned five hours ago is recorded as too old, and nobody is written to."""
    wait_for(lambda: live.decided(*live.ancient), "the old carts")

    assert {reason for customer in live.ancient for reason in live.why(customer)} == {"too_old"}
    assert live.run.records("triggers") == []


def test_an_abandoned_cart_triggers_in_time_and_a_bought_one_never(live: Live) -> None:
    """The trigger comes a commit after the minute is over; an order within it leaves nothing to say.

    The customers are in a partition of their own, in which other topics never had a record: an idle topic blocks no
    timer.
    """
    left, bought = live.shop.customers(3, 3), live.shop.customers(2, 2)
    in_a_minute = now_ms() + SOON
    for customer in (*left, *bought):
        live.shop.fill_cart(customer, in_a_minute - MINUTE)
    for customer in bought:
        live.shop.buy(customer, in_a_minute - 1_000)
    wait_for(lambda: live.decided(*left), "the abandoned carts")
    late = (now_ms() - in_a_minute) / 1_000

    chosen = [live.decisions(customer) for customer in left]
    assert all(len(decisions) == 1 for decisions in chosen)
    assert all(one["decided_at"] == in_a_minute for (one,) in chosen)
    arms = {customer: one["arm"] for customer, (one,) in zip(left, chosen, strict=True)}
    assert set(arms.values()) <= {"treatment", "control"}
    assert "treatment" in arms.values()
    for customer, arm in arms.items():
        assert len(live.triggers(customer)) == (arm == "treatment")
    assert 0 <= late < 3
    spans = {name: topic_spans(live.run.client, "live-" + name)[3] for name in ("purchases", "email-engagement")}
    assert all(len(span) == 0 for span in spans.values())
    assert all(live.why(customer) in ([], ["cancelled"]) for customer in bought)
    assert all(live.triggers(customer) == [] for customer in bought)
    print(f"{MEASURED}decided and read {late:.2f} s after it was due, with a commit every 200 ms")


def test_an_open_transaction_upstream_holds_time_back(live: Live) -> None:
    """What a source is about to commit counts: no false abandoned cart, however long its transaction takes."""
    buyer, other = live.shop.customers(1, 2)
    upstream = Producer(
        {**live.run.client, "transactional.id": "upstream", "transaction.timeout.ms": 30_000, "linger.ms": 0}
    )
    upstream.init_transactions(20)
    upstream.begin_transaction()
    in_a_minute = now_ms() + SOON
    live.shop.buy(buyer, in_a_minute - 1_000, upstream)
    for customer in (buyer, other):
        live.shop.fill_cart(customer, in_a_minute - MINUTE)
    time.sleep(SOON / 1_000 + 2)
    held = [live.why(buyer), live.why(other)]
    upstream.commit_transaction(20)
    wait_for(lambda: live.decided(other), "time to go on")

    assert held == [[], []]
    assert live.triggers(buyer) == []
    assert live.why(buyer) in ([], ["cancelled"])


def test_a_killed_worker_is_succeeded_within_seconds(live: Live) -> None:
    """After SIGKILL the next process of that ordinal commits at once; it does not wait for any timeout."""
    (customer,) = live.shop.customers(0, 1)
    wait_for(lambda: live.run.committed()["customer-profiles", 0] >= 3, "the profile")
    before = live.run.committed()["clickstream", 0]
    live.worker.kill()
    live.shop.fill_cart(customer, now_ms() - MINUTE)
    started = time.monotonic()
    live.worker = live.run.start()
    wait_for(lambda: live.run.committed()["clickstream", 0] > before, "the successor's first commit")
    took = time.monotonic() - started

    assert took < 8
    print(f"{MEASURED}after SIGKILL the successor committed {took:.2f} s after it was started")


def test_sigterm_commits_what_was_decided_and_exits_with_zero(live: Live) -> None:
    """Within seconds the offsets are those of the state on disk, and the next process has nothing to restore."""
    for customer in live.shop.customers(0, 20):
        live.shop.fill_cart(customer, now_ms() - MINUTE)
    started = time.monotonic()
    code = live.worker.stop()
    took = time.monotonic() - started
    committed = live.run.committed()

    assert code == 0
    assert took < 5
    for number in range(live.run.topics.partitions):
        store = StateStore(live.run.state() / live.run.settings.group / str(number))
        meta = store.meta()
        store.close()
        assert meta is not None
        for topic, offset in meta.positions.items():
            assert committed[live.run.topics.plain_name(topic), number] == offset
        (changelog,) = live.run.topics.by_role("changelog")
        left = topic_spans(live.run.client, changelog.name)[number].end - meta.changelog
        assert left <= 1  # the marker of the last transaction, which no record shows
    print(f"{MEASURED}SIGTERM: exit 0 after {took:.2f} s")


def test_a_replay_of_the_barriers_used_decides_the_same(live: Live) -> None:
    """The clock topic holds every barrier that a live worker used, so that its run can be repeated byte for byte."""
    live.run.start().stop()  # whatever was read and not yet decided
    repeated = live.another("repeated", BARRIERS="replay")
    repeated.finish()

    expected, found = live.run.outputs(), repeated.outputs()
    assert len(expected["decisions"]) > 5
    for role in ("decisions", "triggers", "active"):
        assert found[role] == expected[role]


def metrics(port: int) -> str:
    """Return what a worker tells of itself, nothing while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


@pytest.mark.parametrize("static", ["true", "false"])
def test_a_double_fences_the_first_which_says_so_and_exits(live: Live, static: str) -> None:
    """Two processes with one ordinal: the second goes on, the first ends with one line and a code of its own."""
    run = live.another(f"double-{static}", f"double-{static}-", BARRIERS="live", STATIC_MEMBERSHIP=static)
    shop = Shop(run)
    (customer,) = shop.customers(0, 1)
    (port,) = free_ports(1)
    fenced: set[str] = set()
    first = run.start(WEB_PORT=str(port))
    wait_for(lambda: run.committed()["customer-profiles", 0] > 0, "the first one's commit")
    second = run.start(STATE_DIR=str(run.folder / "elsewhere"))

    def first_is_gone() -> bool:
        second.must_run()
        fenced.update(re.findall(r"^journey_fenced (\S+)$", metrics(port), re.MULTILINE))
        shop.fill_cart(customer, now_ms() - MINUTE)
        return not first.running

    took = wait_for(first_is_gone, "the first one to be fenced")
    before = run.committed()["clickstream", 0]
    shop.fill_cart(customer, now_ms() - MINUTE)
    wait_for(lambda: run.committed()["clickstream", 0] > before, "the second one to go on")

    assert first.wait() == FENCED
    assert "1.0" in fenced
    lines = [line for line in first.log.splitlines() if "took over the transactional id" in line]
    assert len(lines) == 1
    assert "ORCHESTRATOR_ORDINAL" in lines[0]
    assert second.stop() == 0
    print(f"{MEASURED}fenced and gone {took:.1f} s after the double was started, its back-off included")
