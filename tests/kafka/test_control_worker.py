"""The control role as Kubernetes runs it, on Apache Kafka: what it reads and answers, and what a restart changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from confluent_kafka import Producer

from orchestrator.audit import Promise
from orchestrator.runtime.compose import codec_of, topics_of
from orchestrator.runtime.connection import connect
from orchestrator.runtime.embedded_broker import die_with_parent, free_ports, stop_watcher
from orchestrator.runtime.partitioner import murmur2_partition
from orchestrator.runtime.settings import Settings, load
from orchestrator.runtime.topic import Topic
from orchestrator.runtime.topic_admin import apply
from tests.kafka.broker import KafkaBroker
from tests.measured import MEASURED

pytestmark = pytest.mark.kafka

PATIENCE = 30.0
PARTITIONS = 2
TOKEN = "a-token-of-the-test"
DAY = 86_400_000
REDELIVERED = "journey_control_redelivered_total "
Record = dict[str, Any]


def decision(number: int, customer: str, day: int, arm: str = "treatment", days: int = 1) -> Record:
    """Return a decision of some day that holds the slot for so many days where its arm does."""
    return {
        "decision_id": f"d{number}",
        "customer_id": customer,
        "decided_at": day * DAY,
        "campaign": "win-back",
        "arm": arm,
        "reason": "chosen" if arm == "treatment" else arm,
        "window_until": (day + days) * DAY if arm in ("treatment", "control") else None,
        "trigger_id": f"t{number}" if arm == "treatment" else None,
        "definitions_version": "1",
    }


def trigger(of: Record) -> Record:
    """Return the trigger of a treatment decision."""
    return {
        "trigger_id": of["trigger_id"],
        "decision_id": of["decision_id"],
        "customer_id": of["customer_id"],
        "campaign": of["campaign"],
        "channel": "email",
        "template": "hello",
        "moment": "lapsed",
        "opened_at": of["decided_at"],
        "decided_at": of["decided_at"],
        "valid_until": of["decided_at"] + DAY,
        "window_until": of["window_until"],
        "definitions_version": "1",
    }


class Engine:
    """Writes decisions and triggers in transactions, as the engine does."""

    def __init__(self, settings: Settings) -> None:
        self._topics = topics_of(settings)
        codec = codec_of(settings)
        self._encode = {topic.name: codec.encoder(topic) for topic in (self._topics.decisions, self._topics.triggers)}
        self._producer = Producer(
            {"bootstrap.servers": settings.bootstrap_servers, "transactional.id": settings.group, "log_level": 0}
        )
        self._producer.init_transactions(PATIENCE)

    def write(
        self,
        decisions: list[Record],
        triggers: list[Record] | None = None,
        *,
        commit: bool = True,
        raw: dict[str, bytes] | None = None,
    ) -> None:
        """Write one transaction; triggers are by default those of the treatments, `raw` is put into the decisions."""
        if triggers is None:
            triggers = [trigger(one) for one in decisions if one["arm"] == "treatment"]
        self._producer.begin_transaction()
        for topic, records in ((self._topics.decisions, decisions), (self._topics.triggers, triggers)):
            for record in records:
                self._send(topic, record["customer_id"], self._encode[topic.name](record))
        for customer, value in (raw or {}).items():
            self._send(self._topics.decisions, customer, value)
        self._producer.flush(PATIENCE)
        if commit:
            self._producer.commit_transaction(PATIENCE)
        else:
            self._producer.abort_transaction(PATIENCE)

    def _send(self, topic: Topic, customer: str, value: bytes) -> None:
        key = customer.encode()
        self._producer.produce(topic.name, value, key, murmur2_partition(key, PARTITIONS))


class Worker:
    """One control worker in a process of its own."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        (self._port,) = free_ports(1)
        self._log = log
        given = {name: text for name, text in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        given |= environment | {"ORCHESTRATOR_WEB_PORT": str(self._port)}
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "worker", "--role", "control"],
                env=given,
                cwd=Path(__file__).resolve().parents[2],
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self._watcher = die_with_parent(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        stop_watcher(self._watcher)

    def ask(self, page: str, token: str | None = None) -> tuple[int, str]:
        """Return status and text of a page; 0 while nobody answers."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{page}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def audit(self) -> Record:
        """Return what /audit says, nothing until the worker is ready."""
        status, text = self.ask("/audit")
        return dict(json.loads(text)) if status == 200 else {}

    def wait(self, what: Callable[[Record], bool]) -> Record:
        """Return what /audit says as soon as it is as told."""
        deadline = time.monotonic() + PATIENCE
        said: Record = {}
        while time.monotonic() < deadline and self._process.poll() is None:
            said = self.audit()
            if said and what(said):
                return said
            time.sleep(0.1)
        pytest.fail(f"the audit says {said}; the worker's log ends with\n{self._log.read_text()[-3000:]}")

    def redelivered(self) -> int:
        """Return how many records had been read before."""
        (line,) = (line for line in self.ask("/metrics")[1].splitlines() if line.startswith(REDELIVERED))
        return int(float(line.removeprefix(REDELIVERED)))

    def stop(self) -> int:
        """Stop the worker as Kubernetes does, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop the process where it is, and let it go on afterwards."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the worker as a power cut would."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def environment(kafka: KafkaBroker, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return what a worker is told, with topics of its own that are there."""
    unique = uuid.uuid4().hex[:8]
    given = {
        "ORCHESTRATOR_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "ORCHESTRATOR_GROUP": f"group-{unique}",
        "ORCHESTRATOR_TOPIC_PREFIX": f"test-{unique}-",
        "ORCHESTRATOR_PARTITIONS": str(PARTITIONS),
        "ORCHESTRATOR_REPLICATION": "1",
        "ORCHESTRATOR_STATE_DIR": str(tmp_path / "state"),
        "ORCHESTRATOR_SESSION_TIMEOUT": "6s",
        "ORCHESTRATOR_WEB_TOKEN": TOKEN,
    }
    settings = load(given)
    apply(connect(settings), topics_of(settings))
    yield given


def test_the_audit_follows_committed_records_over_restarts(environment: dict[str, str], tmp_path: Path) -> None:
    """Aborted records are not seen, planted violations are, and neither SIGTERM nor SIGKILL changes an answer."""
    began = time.monotonic()
    engine = Engine(load(environment))
    engine.write([decision(1, "ana", 1), decision(2, "ben", 1, arm="control")])
    engine.write([decision(3, "ana", 1, days=9)], commit=False)  # would overlap
    engine.write([decision(4, "ana", 3), decision(5, "ben", 3, arm="holdout"), decision(6, "cleo", 3)])

    with Worker(environment, tmp_path / "log") as worker:
        clean = worker.wait(lambda said: said["decisions"] == 5 and said["triggers"] == 3)
        ready = time.monotonic() - began
        engine.write([decision(7, "ana", 3)], commit=False)
        engine.write([decision(8, "cleo", 3)], raw={"dan": b"\x00\x00\x00\x00\x01 not a decision"})
        broken = worker.wait(lambda said: said["decisions"] == 6 and said["triggers"] == 4 and said["unusable"])
        shown = worker.ask("/customers/ana/decisions", TOKEN)
        metrics = worker.ask("/metrics")[1]
        refusals = [worker.ask("/customers/ana/decisions", token)[0] for token in (None, "a-guess")]
        health = [worker.ask(page)[0] for page in ("/healthz", "/readyz")]
        stopped = time.monotonic()
        code = worker.stop()
        stopped = time.monotonic() - stopped

    assert clean["clean"]
    assert clean["intervals"] == 4
    assert not broken["clean"]
    assert {kind: count for kind, count in broken["violations"].items() if count} == {Promise.NO_OVERLAP: 1}
    assert sum(broken["unusable"].values()) == 1
    assert health == [200, 200]
    assert refusals == [401, 401]
    assert code == 0
    told = json.loads(shown[1])
    assert [one["decision_id"] for one in told["decisions"]] == ["d1", "d4"]
    assert "win-back was triggered (t4)" in told["decisions"][1]["sentence"]
    assert 'journey_control_decisions_total{reason="chosen"} 4.0' in metrics
    assert 'journey_control_triggers_total{campaign="win-back"} 4.0' in metrics
    assert f'journey_control_violations{{kind="{Promise.NO_OVERLAP}"}} 1.0' in metrics
    assert not any(name in metrics for name in ("ana", "cleo"))

    restarted = time.monotonic()
    with Worker(environment, tmp_path / "log") as worker:
        again = worker.wait(lambda said: said["decisions"] >= 6)
        after_stop = worker.redelivered()
        restarted = time.monotonic() - restarted
        shown_again = worker.ask("/customers/ana/decisions", TOKEN)
        engine.write([decision(9, "ben", 9), decision(10, "ana", 9)])
        worker.wait(lambda said: said["decisions"] == 8 and said["triggers"] == 6)
        worker.kill()
    with Worker(environment, tmp_path / "log") as worker:
        killed = worker.wait(lambda said: said["decisions"] >= 8 and said["triggers"] >= 6)
        after_kill = worker.redelivered()
        assert worker.stop() == 0

    assert again == broken
    assert shown_again == shown
    assert killed["violations"] == broken["violations"]
    assert (killed["decisions"], killed["triggers"]) == (8, 6)
    assert after_stop == 0  # the markers of transactions did not keep the worker from committing
    print(f"{MEASURED}ready in {ready:.1f} s, stopped in {stopped:.1f} s, restarted in {restarted:.1f} s")
    print(f"{MEASURED}after the kill {after_kill} records were delivered again")


def test_two_instances_share_the_customers_and_say_whose_they_are(environment: dict[str, str], tmp_path: Path) -> None:
    """Each customer is answered by one instance, and whoever is left takes over what the other knew."""
    Engine(load(environment)).write([decision(1, "ana", 1), decision(2, "ben", 1), decision(3, "cleo", 1)])
    with Worker(environment, tmp_path / "a") as first, Worker(environment, tmp_path / "b") as second:
        one = first.wait(lambda said: len(said["partitions"]) == 1 and not said["waiting"])
        other = second.wait(lambda said: len(said["partitions"]) == 1 and not said["waiting"])
        asked = sorted(worker.ask("/customers/ana/decisions", TOKEN) for worker in (first, second))
        assert second.stop() == 0
        alone = first.wait(lambda said: len(said["partitions"]) == 2 and said["decisions"] == 3)
        answered = first.ask("/customers/ana/decisions", TOKEN)
        assert first.stop() == 0

    assert sorted(one["partitions"] + other["partitions"]) == [0, 1]
    assert one["decisions"] + other["decisions"] == 3
    assert one["triggers"] + other["triggers"] == 3
    (_, shown), (status, text) = asked
    assert (status, text) == (404, f"not here: ask the instance that owns partition {murmur2_partition(b'ana', 2)}\n")
    assert answered == (200, shown)
    assert alone["clean"]


def test_nothing_that_control_says_names_a_customer(environment: dict[str, str], tmp_path: Path) -> None:
    """Over records that are fine, broken promises and records that cannot be read; only the page for it does."""
    mark = "zqmarked"
    environment["ORCHESTRATOR_LOG_FORMAT"] = "json"
    engine = Engine(load(environment))
    ana, bo = f"{mark}-ana@example.com", f"{mark}-bo"
    overlapping = [decision(1, ana, 1, days=9), decision(2, ana, 2), decision(3, bo, 1, arm="control")]
    silent = trigger(decision(9, bo, 1))
    engine.write(overlapping, [*map(trigger, overlapping[:2]), silent], raw={f"{mark}-cy": f"\0{mark}".encode()})
    with Worker(environment, tmp_path / "log") as worker:
        worker.wait(lambda found: found["decisions"] == 3 and found["triggers"] == 3 and found["unusable"])
        pages = [worker.ask(page)[1] for page in ("/metrics", "/audit", "/readyz", "/healthz", f"/customers/{ana}")]
        pages.append(worker.ask(f"/customers/{ana}/decisions", "a-guess")[1])
        shown = worker.ask(f"/customers/{ana}/decisions", TOKEN)[1]
        assert worker.stop() == 0
    said = (tmp_path / "log").read_text()

    assert mark in shown
    assert any(json.loads(line)["level"] == "warning" for line in said.splitlines())
    assert mark not in said
    assert mark not in "".join(pages)


def test_customers_are_shown_to_nobody_without_a_token(environment: dict[str, str], tmp_path: Path) -> None:
    """Who has not set a token has not decided who may see customers."""
    del environment["ORCHESTRATOR_WEB_TOKEN"]
    with Worker(environment, tmp_path / "log") as worker:
        worker.wait(lambda said: said["clean"])
        status, text = worker.ask("/customers/ana/decisions", "anything")
        others = [worker.ask(page)[0] for page in ("/table/", "/router/", "/stats/", "/graph/")]
        assert worker.stop() == 0

    assert status == 404
    assert "ORCHESTRATOR_WEB_TOKEN" in text
    assert others == [404] * 4


def test_missing_topics_end_the_worker_with_a_line_that_says_what_to_do(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Faust would wait for them, or make them with other partitions."""
    environment["ORCHESTRATOR_TOPIC_PREFIX"] = "nowhere-"
    with Worker(environment, tmp_path / "log") as worker:
        code = worker._process.wait(PATIENCE)

    assert code == 1
    assert "nowhere-decisions is missing: run 'orchestrator topics apply'" in (tmp_path / "log").read_text()
