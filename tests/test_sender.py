"""The reference sender in examples/: it sends each committed trigger once, whatever is delivered twice or killed."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import fastavro
import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.events import HOUR
from orchestrator.records import CartLine, Facts, Trigger, to_record
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.outbox import cloud_event
from orchestrator.runtime.partitioner import murmur2_partition
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topics import load
from tests.builders import trigger
from tests.kafka.broker import KafkaBroker
from tests.mail_provider import CALLS
from tests.measured import MEASURED

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "examples" / "sender.py"
PARTITIONS = 4
KILLS = 20


def load_example() -> Any:
    """Return the example as a module."""
    spec = importlib.util.spec_from_file_location("example_sender", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


example = load_example()


# --- the ledger, without a broker -------------------------------------------------------------------------------------


class Desk:
    """A ledger with one sender's name, and what its provider was handed."""

    def __init__(self, path: Path, name: str = "one") -> None:
        self.ledger = example.Ledger(path)
        self.name = name
        self.action = ""
        self.sent: list[str] = []

    def take(self, *triggers: Trigger) -> None:
        self.ledger.take([to_record(one) for one in triggers])

    def claim(self) -> str | None:
        claimed = self.ledger.claim(self.name, lambda _: int(time.time() * 1000))
        self.action = "" if claimed is None else str(claimed["action"])
        return None if claimed is None else str(claimed["trigger_id"])

    def send_all(self) -> None:
        while (claimed := self.claim()) is not None:
            self.sent.append(claimed)
            self.ledger.sent(claimed, 1, self.action)

    def states(self) -> dict[str, int]:
        return dict(self.ledger.counts())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Return a desk with an empty ledger."""
    found = Desk(tmp_path / "ledger.db")
    yield found
    found.ledger.close()


def test_a_trigger_delivered_twice_is_sent_once(desk: Desk) -> None:
    """In one batch, in another batch, and after it was sent."""
    desk.take(trigger("a"), trigger("a"))
    desk.take(trigger("a"))
    desk.send_all()
    desk.take(trigger("a"))
    desk.send_all()

    assert desk.sent == ["a"]
    assert desk.states() == {"send sent": 1}


def test_a_retraction_that_comes_before_the_message_went_out_suppresses_it(desk: Desk) -> None:
    """A backlog is read before it is sent, so what was retracted in it does not go out."""
    desk.take(trigger("a"), trigger("b"), trigger("a", "retract"))
    desk.send_all()

    assert desk.sent == ["b"]
    assert desk.states() == {"send sent": 1, "send suppressed": 1, "retract noted": 1}


def test_who_is_removed_before_they_were_added_is_never_added(desk: Desk) -> None:
    """Both are settled without a call of the provider."""
    desk.take(trigger("a", "add"), trigger("a", "remove"))
    desk.send_all()

    assert desk.sent == []
    assert desk.states() == {"add suppressed": 1, "remove noted": 1}


def test_who_was_added_is_removed_however_late(desk: Desk) -> None:
    """An addition is stale after `valid_until`, its removal never; neither is reported as a message."""
    desk.take(trigger("a", "add"), trigger("stale", "add", valid_for=-1))
    desk.send_all()
    desk.take(trigger("a", "remove", valid_for=-1), trigger("a", "remove", valid_for=-1), trigger("stale", "remove"))
    desk.send_all()

    assert desk.sent == ["a", "a"]
    assert desk.states() == {"add sent": 1, "remove sent": 1, "add stale": 1, "remove noted": 1}
    assert desk.ledger.to_report() == []


def test_nobody_is_removed_while_they_are_still_being_added(desk: Desk, tmp_path: Path) -> None:
    """Two senders share the ledger; a removal that the provider sees first would leave the customer in for good."""
    other = Desk(tmp_path / "ledger.db", "two")
    desk.take(trigger("a", "add"))
    adding = desk.claim()
    other.take(trigger("a", "remove"))
    meanwhile = other.claim()
    desk.ledger.sent("a", 1, "add")

    assert (adding, meanwhile, other.claim()) == ("a", None, "a")
    other.ledger.close()


def test_a_retraction_without_its_trigger_is_kept(desk: Desk) -> None:
    """Whoever begins to read in the middle may see the trigger later, on another way."""
    desk.take(trigger("a", "retract"))
    desk.take(trigger("a"))
    desk.send_all()

    assert desk.sent == []
    assert desk.states() == {"send suppressed": 1, "retract noted": 1}


def test_a_retraction_after_the_message_went_out_changes_nothing(desk: Desk) -> None:
    """It is noted as too late."""
    desk.take(trigger("a"))
    desk.send_all()
    desk.take(trigger("a", "retract"))
    desk.send_all()

    assert desk.sent == ["a"]
    assert desk.states() == {"send sent": 1, "retract too_late": 1}


def test_a_stale_trigger_is_never_sent(desk: Desk) -> None:
    """At valid_until itself the moment is over."""
    stale = trigger("at the very instant", valid_for=0)
    desk.take(stale, trigger("long ago", valid_for=-HOUR), trigger("fresh"))
    desk.send_all()

    assert desk.sent == ["fresh"]
    assert desk.states() == {"send sent": 1, "send stale": 2}


@pytest.mark.parametrize(("repeat", "state"), [(False, "unknown"), (True, "queued")])
def test_a_message_that_was_being_sent_at_a_crash_is_repeated_only_if_the_provider_can_tell(
    desk: Desk, repeat: bool, state: str
) -> None:
    """Without idempotency keys it would perhaps arrive twice."""
    desk.take(trigger("a"), trigger("b"))
    claimed = desk.claim()

    settled = desk.ledger.resume("one", repeat=repeat)

    assert (claimed, settled) == ("a", 1)
    assert desk.states() == Counter(["send queued", f"send {state}"])


def test_a_retraction_during_the_crash_ends_the_repeating(desk: Desk) -> None:
    """What is uncertain and no longer wanted is left alone."""
    desk.take(trigger("a"))
    desk.claim()
    desk.take(trigger("a", "retract"))

    desk.ledger.resume("one", repeat=True)

    assert desk.claim() is None
    assert desk.states() == {"send unknown": 1, "retract too_late": 1}


def test_a_message_of_a_sender_that_still_runs_is_not_settled_by_another(desk: Desk, tmp_path: Path) -> None:
    """Two senders share the ledger; each answers for what it was sending itself."""
    other = Desk(tmp_path / "ledger.db", "two")
    desk.take(trigger("a"), trigger("b"))

    claimed = [desk.claim(), other.claim(), other.claim()]

    assert claimed == ["a", "b", None]
    assert other.ledger.resume("two", repeat=False) == 1
    assert desk.states() == {"send sending": 1, "send unknown": 1}
    other.ledger.close()


def test_what_the_provider_certainly_refused_is_tried_again_later(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once, and not if it was retracted in between."""
    monkeypatch.setattr(example, "RETRY_MS", 1_000)
    desk.take(trigger("a"), trigger("b"))
    first = [desk.claim(), desk.claim()]
    desk.take(trigger("b", "retract"))
    desk.ledger.not_sent("a")
    desk.ledger.not_sent("b")

    at_once = desk.claim()
    time.sleep(1.1)
    desk.send_all()

    assert (first, at_once) == (["a", "b"], None)
    assert desk.sent == ["a"]
    assert desk.states()["send suppressed"] == 1


def half_open(path: Path) -> sqlite3.Connection:
    """Return another's connection to a new ledger, which is about to write: SQLite lets nobody wait for that."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_ledger_that_another_opens_at_the_same_time_is_opened_a_little_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two senders that start on a new ledger, or after both were killed."""
    other = half_open(tmp_path / "ledger.db")
    waits: list[float] = []

    def other_has_done(seconds: float) -> None:
        waits.append(seconds)
        other.close()

    monkeypatch.setattr(example.time, "sleep", other_has_done)
    found = Desk(tmp_path / "ledger.db")
    found.take(trigger("a"))

    assert len(waits) == 1
    assert found.states() == {"send queued": 1}
    found.ledger.close()


def test_a_ledger_that_stays_locked_ends_the_sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SQLite's own error, after its time is up."""
    monkeypatch.setattr(example, "LOCK_SECONDS", 0.0)
    other = half_open(tmp_path / "ledger.db")

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        example.Ledger(tmp_path / "ledger.db")
    other.close()


def test_a_template_is_filled_with_what_is_known() -> None:
    """What the message is about, and its facts; not what is null or empty, nor with a schema that has none."""
    facts = Facts(cart_lines=(CartLine("LAMP", 2, 4_000, "Lamp"),), next_quantity=3)
    written = to_record(msgspec.structs.replace(trigger("a"), content={"cart_id": "c1"}, facts=facts))

    known = json.loads(json.dumps(example.filling(written)))
    written.pop("facts")

    line = {"sku": "LAMP", "quantity": 2, "price": 4_000, "name": "Lamp"}
    assert known == {"cart_id": "c1", "cart_lines": [line], "next_quantity": 3}
    assert example.filling(written) == {"cart_id": "c1"}


def test_the_outbox_holds_a_message_once(desk: Desk) -> None:
    """It takes idempotency keys: repeating a call changes nothing."""
    send = example.outbox(desk.ledger)

    send(to_record(trigger("a")), "a")
    send(to_record(trigger("a")), "a")

    with desk.ledger.transaction() as db:
        assert db.execute("SELECT idempotency_key, customer_id FROM outbox").fetchall() == [("a", "ana")]


def test_an_action_that_is_newer_than_the_schema_is_not_taken_for_a_send(tmp_path: Path) -> None:
    """The schema's default for an unknown action is `send`; the header says what it is."""
    newer = json.loads((ROOT / "schemas" / "campaign_trigger.avsc").read_text(encoding="utf-8"))
    next(field for field in newer["fields"] if field["name"] == "action")["type"]["symbols"].append("hold")
    (tmp_path / "released" / "9.0.0").mkdir(parents=True)
    (tmp_path / "released" / "9.0.0" / "campaign_trigger.avsc").write_text(json.dumps(newer), encoding="utf-8")
    for name in ("campaign_trigger", "email_engagement_event"):
        (tmp_path / f"{name}.avsc").write_bytes((ROOT / "schemas" / f"{name}.avsc").read_bytes())
    written = fastavro.parse_schema(newer)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, written, to_record(trigger("a")) | {"action": "hold"})
    message = SimpleNamespace(
        value=lambda: b"\0" + example._schema_id(written) + body.getvalue(),
        headers=lambda: [("ce_type", b"journey.campaign-trigger.hold")],
    )
    ledger = example.Ledger(tmp_path / "ledger.db")

    ledger.take([example.Schemas(tmp_path).read(message)])

    assert dict(ledger.counts()) == {"hold ignored": 1}
    ledger.close()


# --- on a broker ------------------------------------------------------------------------------------------------------


class Stage:
    """Topics of a test's own, also when it is run again, and a producer that writes triggers as the engine does."""

    def __init__(self, brokers: str, name: str) -> None:
        self.brokers, self.prefix = brokers, f"sender-{name}-{uuid.uuid4().hex[:8]}-"
        prefix = self.prefix
        self.topics: Topics = load(ROOT / "topics.yaml", ROOT / "schemas").with_prefix(prefix)
        admin = AdminClient({"bootstrap.servers": brokers})
        self.engagement = self.topics.by_name(f"{prefix}email-engagement")
        names = [self.topics.triggers.name, self.engagement.name]
        for created in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
            created.result(20)
        self.codec = Codec(FileRegistry(ROOT / "schemas"))
        self._encode = self.codec.encoder(self.topics.triggers)
        self._producer = Producer({"bootstrap.servers": brokers, "transactional.id": f"{prefix}engine", "log_level": 2})
        self._producer.init_transactions(30)

    def write(self, triggers: Sequence[Trigger], *, commit: bool = True) -> None:
        """Write triggers in one transaction, each to the partition of its customer."""
        self._producer.begin_transaction()
        for one in triggers:
            key = one.customer_id.encode()
            self._producer.produce(
                self.topics.triggers.name,
                self._encode(to_record(one)),
                key,
                murmur2_partition(key, PARTITIONS),
                headers=cloud_event(one),
            )
        if commit:
            self._producer.commit_transaction(30)
        else:
            self._producer.flush(30)
            self._producer.abort_transaction(30)

    def reports(self) -> list[dict[str, Any]]:
        """Return the events that were reported, each from the partition in which the engine looks for it."""
        decode = self.codec.decoder(self.engagement)
        config = {"bootstrap.servers": self.brokers, "group.id": "none", "auto.offset.reset": "earliest"}
        consumer = Consumer(config)
        consumer.assign([TopicPartition(self.engagement.name, partition) for partition in range(PARTITIONS)])
        found: list[dict[str, Any]] = []
        # Until nothing more comes: of a batch of several records the embedded broker counts one in a partition's end.
        while messages := consumer.consume(1_000, 2.0 if not found else 1.0):
            for message in messages:
                key, value = message.key(), message.value()
                assert isinstance(key, bytes)
                assert isinstance(value, bytes)
                event = decode(value)
                assert key.decode() == event["customer_id"]
                assert message.partition() == murmur2_partition(key, PARTITIONS)
                found.append(event)
        consumer.close()
        return found


def run_until(sender: Any, path: Path, enough: Callable[[Counter[str]], bool]) -> None:
    """Run a sender in this process until the ledger says that it is enough."""
    patience = time.monotonic() + 60

    def watch() -> None:
        ledger = example.Ledger(path)
        while not enough(ledger.counts()) and time.monotonic() < patience:
            time.sleep(0.05)
        sender.stopping = True
        ledger.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    sender.run()
    watcher.join()


@pytest.mark.broker
def test_the_sender_keeps_the_contract(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Duplicates, a retraction in time and one too late, a stale trigger, a restart; and the sends are reported."""
    stage = Stage(embedded.bootstrap, "contract")
    path = tmp_path / "ledger.db"
    sent: list[tuple[str, str]] = []

    def run(enough: Callable[[Counter[str]], bool]) -> Counter[str]:
        ledger = example.Ledger(path)
        # Without a static name: the embedded broker lets such a group wait for its whole session.
        quick = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500", "group.instance.id": ""}
        config = {"bootstrap.servers": embedded.bootstrap, **quick}
        sender = example.Sender(
            config,
            ledger,
            example.Schemas(ROOT / "schemas"),
            lambda one, key: sent.append((one["trigger_id"], key)),
            name="one",
            group=f"{stage.prefix}group",
            prefix=stage.prefix,
        )
        run_until(sender, path, enough)
        counts: Counter[str] = ledger.counts()
        ledger.close()
        return counts

    stage.write([trigger("a", customer="ana"), trigger("a", customer="ana"), trigger("stale", valid_for=-1)])
    stage.write([trigger("b", customer="bo"), trigger("b", "retract", customer="bo"), trigger("c", customer="cy")])
    before = run(
        lambda counts: counts["send sent"] == 2 and counts["send stale"] == 1 and counts["send suppressed"] == 1
    )
    stage.write([trigger("a", customer="ana"), trigger("c", "retract", customer="cy"), trigger("d", customer="di")])
    after = run(lambda counts: counts["send sent"] == 3 and counts["retract too_late"] == 1)
    reports = {event["event_id"]: event for event in stage.reports()}

    assert before == {"send sent": 2, "send stale": 1, "send suppressed": 1, "retract noted": 1}
    assert after == before + Counter(["send sent", "retract too_late"])
    assert sorted(sent) == [("a", "a"), ("c", "c"), ("d", "d")]
    assert {name: (event["event"], event["trigger_id"]) for name, event in reports.items()} == {
        f"{name}/sent": ("message.sent", name) for name in ("a", "c", "d")
    }


# --- killed -----------------------------------------------------------------------------------------------------------


class Processes:
    """Sender processes of one group that share a ledger, by name."""

    def __init__(self, stage: Stage, folder: Path, *, idempotent: bool) -> None:
        self.ledger, self.calls = folder / "ledger.db", folder / "calls"
        self.calls.touch()
        self._log = (folder / "log").open("ab")
        config = folder / "client.properties"
        config.write_text("session.timeout.ms=2000\nheartbeat.interval.ms=500\nlog_level=2\n", encoding="utf-8")
        self._command = [
            sys.executable, str(PROGRAM), "--bootstrap-servers", stage.brokers, "--topic-prefix", stage.prefix,
            "--group", f"{stage.prefix}group", "--config", str(config), "--ledger", str(self.ledger),
            "--provider", "tests.mail_provider:deliver", *(["--idempotent"] if idempotent else []),
        ]  # fmt: skip
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), CALLS: str(self.calls)}
        command = [*self._command, "--name", name]
        self.running[name] = subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log)

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        assert process.poll() is None, f"a sender ended by itself:\n{self.log()}"
        process.kill()
        process.wait()

    def stop(self) -> list[int]:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        return [process.wait(30) for process in self.running.values()]

    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")[-3000:]

    def close(self) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        self._log.close()

    def rows(self) -> dict[tuple[str, str], tuple[str, int]]:
        """Return state and number of deliveries of every row."""
        with sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=30) as db:
            rows = db.execute("SELECT trigger_id, action, state, deliveries FROM handled").fetchall()
        db.close()
        return {(trigger_id, action): (state, deliveries) for trigger_id, action, state, deliveries in rows}


class Feed(threading.Thread):
    """The engine's part: transactions of triggers, some aborted, some with what a sender must not send."""

    def __init__(self, stage: Stage, chance: random.Random) -> None:
        super().__init__()
        self._stage, self._chance = stage, chance
        self.written: dict[tuple[str, str], int] = {}
        self.stale: set[str] = set()
        self.aborted = 0
        self.enough = threading.Event()

    def transaction(self, number: int) -> None:
        chance = self._chance
        commit = chance.random() > 0.15
        kind = "t" if commit else "aborted"
        found: list[Trigger] = []
        for place in range(chance.randrange(1, 8)):
            name, customer = f"{kind}-{number}-{place}", f"customer-{chance.randrange(200)}"
            fate = chance.random()
            one = trigger(name, customer=customer, valid_for=-1 if fate < 0.05 else HOUR)
            found.append(one)
            if fate < 0.05 and commit:
                self.stale.add(name)
            if 0.05 < fate < 0.15:
                found.append(trigger(name, "retract", customer=customer))
            if fate > 0.9:
                found.append(one)
        self._stage.write(found, commit=commit)
        self.aborted += 0 if commit else len(found)
        for one in found if commit else ():
            key = (one.trigger_id, one.action)
            self.written[key] = self.written.get(key, 0) + 1

    def run(self) -> None:
        number = 1_000
        while not self.enough.wait(0.06):
            self.transaction(number)
            number += 1


@contextmanager
def senders(processes: Processes) -> Iterator[Processes]:
    """Leave no process behind."""
    try:
        yield processes
    finally:
        processes.close()


def kill_senders(processes: Processes, feed: Feed, chance: random.Random) -> None:
    """Kill two senders again and again while triggers flow, then let them handle everything and stop them."""
    for number in range(40):  # a backlog, in which retractions come before anything was sent
        feed.transaction(number)
    processes.start("one")
    processes.start("two")
    feed.start()
    try:
        for number in range(KILLS):
            time.sleep(chance.uniform(0.4, 1.2))
            name = chance.choice(["one", "two"])
            processes.kill(name)
            # Longer than the session: the partitions go to the other sender, and what was not committed with them.
            time.sleep(2.5 if number % 5 == 0 else chance.uniform(0, 0.3))
            processes.start(name)
    finally:
        feed.enough.set()
        feed.join()
    patience = time.monotonic() + 40
    while time.monotonic() < patience:
        rows = processes.rows()
        if rows.keys() >= feed.written.keys() and not {"queued", "sending"} & {state for state, _ in rows.values()}:
            break
        time.sleep(0.2)
    assert processes.stop() == [0, 0], processes.log()


@pytest.mark.kafka
@pytest.mark.parametrize("idempotent", [False, True], ids=["at-most-once", "idempotency-key"])
def test_a_sender_killed_20_times_handles_every_committed_trigger_once(
    kafka: KafkaBroker, tmp_path: Path, idempotent: bool
) -> None:
    """One row each, none of an aborted transaction; no second call without idempotency keys, and all sent with them."""
    started = time.monotonic()
    chance = random.Random(7)
    stage = Stage(kafka.bootstrap, "killed")
    feed = Feed(stage, chance)
    with senders(Processes(stage, tmp_path, idempotent=idempotent)) as processes:
        kill_senders(processes, feed, chance)
    rows = processes.rows()
    calls = Counter(processes.calls.read_text(encoding="ascii").split())
    state = {trigger_id: state for (trigger_id, action), (state, _) in rows.items() if action == "send"}
    retracted = {trigger_id for trigger_id, action in rows if action == "retract"}
    reports = {event["trigger_id"]: event for event in stage.reports()}
    by_state = Counter(state.values())
    redelivered = sum(deliveries for _, deliveries in rows.values()) - sum(feed.written.values())
    print(
        f"{MEASURED}"
        f"{KILLS} kills in {time.monotonic() - started:.0f} s: {len(rows)} triggers and retractions committed, "
        f"{feed.aborted} aborted, {sum(feed.written.values()) - len(rows)} written twice, "
        f"{redelivered} delivered again; {dict(by_state)}; {sum(calls.values())} calls for {len(calls)} messages, "
        f"{sum(count - 1 for count in calls.values())} repeated under the same key; {len(reports)} sends reported"
    )

    assert feed.aborted > 0
    assert redelivered > 0
    assert rows.keys() == feed.written.keys()
    assert {name for name in state if state[name] == "stale"} == feed.stale - {
        name for name in feed.stale if state[name] == "suppressed"
    }
    assert {name for name in state if state[name] == "suppressed"} <= retracted
    assert by_state["suppressed"] > 0
    assert calls.keys() & {name for name in state if state[name] in ("suppressed", "stale")} == set()
    assert {name for name in state if state[name] == "sent"} == reports.keys()
    if idempotent:
        assert calls.keys() >= reports.keys()
        # A retraction that came while its message was uncertain is the one case left to a person.
        assert {name for name in state if state[name] == "unknown"} <= retracted
    else:
        assert max(calls.values()) == 1
        assert by_state["unknown"] <= KILLS
    assert {state[name] for name in state.keys() - retracted - feed.stale} <= (
        {"sent"} if idempotent else {"sent", "unknown"}
    )
