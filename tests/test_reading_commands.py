"""`audit` and `why` against a broker: what they print, and how they end."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.audit import Promise
from orchestrator.cli import main
from orchestrator.cli.why import says_of
from orchestrator.runtime import settings as environment
from orchestrator.runtime import topics as declared
from orchestrator.runtime.auditor import audit_topics
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.embedded_broker import EmbeddedBroker, free_ports
from orchestrator.runtime.partitioner import murmur2_partition
from orchestrator.runtime.record_reader import RecordReader
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topic import Topics
from tests.report.test_journeys import outcome as outcome_of
from tests.report.test_journeys import window
from tests.test_audit import DAY, History, decision, send

PARTITIONS = 4


@dataclass
class Stage:
    """Topics of a test's own on the embedded broker."""

    bootstrap: str
    prefix: str
    topics: Topics

    def write(self, role: str, records: Iterable[dict[str, Any]]) -> None:
        """Write records as the engine would, in one transaction."""
        topic = self.topics.by_role(role)[0]
        encode = Codec(FileRegistry(Path("schemas"))).encoder(topic)
        config = {"bootstrap.servers": self.bootstrap, "transactional.id": f"{topic.name}-writer", "log_level": 2}
        producer = Producer(config)
        producer.init_transactions(20)
        producer.begin_transaction()
        for record in records:
            key = record["customer_id"].encode()
            producer.produce(topic.name, encode(record), key, murmur2_partition(key, PARTITIONS))
        producer.commit_transaction(20)

    def run(self, *arguments: str) -> Result:
        """Return what a command did, run in this process as an operator would run it."""
        given = {"ORCHESTRATOR_BOOTSTRAP_SERVERS": self.bootstrap, "ORCHESTRATOR_TOPIC_PREFIX": self.prefix}
        return CliRunner().invoke(main, arguments, env=given)


@pytest.fixture
def stage(embedded: EmbeddedBroker, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Empty output topics for one test."""
    prefix = f"{request.node.name.replace('[', '-').replace(']', '')}-"
    topics = declared.load(Path("topics.yaml")).with_prefix(prefix)
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap})
    names = [topics.decisions.name, topics.triggers.name, topics.profiles.name, topics.outcomes.name]
    for created in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
        created.result(20)
    yield Stage(embedded.bootstrap, prefix, topics)
    for deleted in admin.delete_topics(names).values():
        deleted.exception(20)


def outcome(number: int, arm: str) -> dict[str, Any]:
    """Return an outcome: treated customers spend twice as much and earn 2.00 more."""
    treated = arm == "treatment"
    return {
        "outcome_id": f"{arm}{number}",
        "revision": 0,
        "decision_id": f"{arm}{number}",
        "customer_id": f"{arm}{number}",
        "campaign": "cart",
        "arm": arm,
        "moment": "abandoned_cart",
        "window_from": 0,
        "window_until": (1 + number % 60) * DAY,
        "orders": 1 + treated,
        "revenue": 400 * (1 + treated) + number % 7,
        "margin": 300 + 200 * treated + number % 7,
        "cost": 10 * treated,
        "unsubscribed": False,
        "contaminated": False,
        "void": False,
        "definitions_version": "v1",
    }


def profile(customer: str, zone: str | None) -> dict[str, Any]:
    """Return a profile with nothing but a zone."""
    nothing: dict[str, Any] = {"birth_date": None, "country": None, "city": None, "consents": [], "attributes": {}}
    return {"customer_id": customer, "updated_at": 0, "time_zone": zone, **nothing}


@pytest.mark.broker
def test_clean_topics_are_clean(stage: Stage) -> None:
    """The audit reads both topics whole, says what it counted, and ends with 0."""
    history = History()
    stage.write("decisions", history.decisions.values())
    stage.write("triggers", history.triggers.values())

    result = stage.run("audit")

    assert result.exit_code == 0, result.output
    assert "16 decisions and 10 triggers of 3 customers, 4 slot intervals" in result.output
    assert result.output.count("  kept: ") == len(Promise)
    assert result.output.endswith("\nclean\n")


@pytest.mark.broker
def test_report_says_what_campaigns_were_worth(stage: Stage, tmp_path: Path) -> None:
    """As a table with a page beside it, and as JSON; amended outcomes count once."""
    windows = [outcome(number, arm) for number in range(120) for arm in ("treatment", "control")]
    amended = {**windows[0], "revision": 1, "margin": 700}
    stage.write("outcomes", [*windows, amended])
    page = tmp_path / "worth.html"

    told = stage.run("report", "--html", str(page))
    read = json.loads(stage.run("report", "--json", "--before-cost", "--metric", "revenue").output)

    assert told.exit_code == 0, told.output
    assert "cart" in told.output
    assert "works" in told.output
    assert page.read_text().count("<svg") >= 3
    assert read["metric"] == "revenue"
    assert read["campaigns"][0]["treatment"]["windows"] == 120
    assert read["campaigns"][0]["difference"]["mean"] == pytest.approx(400)


@pytest.mark.broker
def test_report_without_an_outcome_says_so(stage: Stage) -> None:
    """Nothing measured yet is an answer."""
    result = stage.run("report")

    assert result.exit_code == 0
    assert f"No measurement window has closed yet: {stage.prefix}campaign-outcomes has no outcome." in result.output


@pytest.mark.broker
def test_journeys_are_read_from_the_topics(stage: Stage) -> None:
    """Which campaign followed which, with the orders that the outcomes tell."""
    first, second = window("d1", "cart", 0), window("d2", "thanks", 10)
    stage.write("decisions", [first, second])
    stage.write("outcomes", [outcome_of(first, 1)])

    result = stage.run("journeys", "--json")

    assert result.exit_code == 0, result.output
    followed = {(one["campaign"], one["next"]): one for one in json.loads(result.output)["followed"]}
    assert followed["cart", "thanks"]["treatment_ordered"] == 1


@pytest.mark.broker
def test_violation_is_printed_and_ends_with_1(stage: Stage) -> None:
    """An overlap names the customer, both windows and where the record stands."""
    history = History()
    history.decisions["d3"]["decided_at"] -= 1
    stage.write("decisions", history.decisions.values())
    stage.write("triggers", history.triggers.values())

    result = stage.run("audit")

    partition = murmur2_partition(b"ana", PARTITIONS)
    assert result.exit_code == 1
    assert "broken 1 times: no customer had two campaigns at once" in result.output
    assert f"customer ana, {stage.prefix}decisions[{partition}]@5: cart [604799999, 1209600000)" in result.output
    assert result.output.endswith("NOT clean: 1 violations\n")


@pytest.mark.broker
def test_audit_as_json(stage: Stage) -> None:
    """A program reads counts and violations."""
    stage.write("decisions", [decision("d1", at=0, until=DAY)])

    result = stage.run("audit", "--json")

    read = json.loads(result.output)
    assert result.exit_code == 1
    assert (read["decisions"], read["triggers"], read["clean"]) == (1, 0, False)
    assert [violation["kind"] for violation in read["violations"]] == ["decision_has_trigger"]


@pytest.mark.broker
def test_decision_written_between_the_two_readings(stage: Stage) -> None:
    """A system that goes on working is not accused of what came while it was read."""
    old, new = decision("d1", at=0, until=DAY), decision("d2", at=2 * DAY, until=3 * DAY)
    stage.write("decisions", [old])
    stage.write("triggers", [send(old)])
    given = {"ORCHESTRATOR_BOOTSTRAP_SERVERS": stage.bootstrap}
    reader = RecordReader.open(environment.load(given))

    def meanwhile() -> None:
        stage.write("decisions", [new])
        stage.write("triggers", [send(new)])

    report = audit_topics(_Meanwhile(reader, stage.topics.triggers.name, meanwhile), stage.topics)

    assert report.clean, report.violations
    assert (report.decisions, report.triggers) == (2, 2)


class _Meanwhile(RecordReader):
    """A reader during which something happens just before one topic is read."""

    def __init__(self, reader: RecordReader, topic: str, happen: Callable[[], None]) -> None:
        super().__init__(reader._config, reader._codec)
        self._topic = topic
        self._happen = happen

    def read(self, topic: Any, **options: Any) -> Iterator[Any]:
        """Yield the topic's records, after what happens."""
        if topic.name == self._topic and "spans" not in options:
            self._happen()
        yield from super().read(topic, **options)


@pytest.mark.broker
def test_missing_topics_are_one_line(embedded: EmbeddedBroker) -> None:
    """Where nothing was ever set up, one line says what to do."""
    given = {"ORCHESTRATOR_BOOTSTRAP_SERVERS": embedded.bootstrap, "ORCHESTRATOR_TOPIC_PREFIX": "nowhere-"}
    result = CliRunner().invoke(main, ["audit"], env=given)

    assert result.exit_code == 1
    assert result.output == (
        "orchestrator: topic nowhere-decisions is missing: create it with `orchestrator topics apply`\n"
    )


def test_missing_broker_is_one_line() -> None:
    """Where no broker runs, one line says so."""
    (port,) = free_ports(1)
    result = CliRunner().invoke(main, ["audit", "--bootstrap-servers", f"127.0.0.1:{port}"], env=dict(os.environ))

    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert f"no broker at 127.0.0.1:{port}" in result.output


@pytest.mark.broker
def test_why_reads_one_customer(stage: Stage) -> None:
    """Every decision about that customer and no other, on that customer's own clock."""
    stage.write("decisions", History().decisions.values())
    stage.write("profiles", [profile("ana", None), profile("ana", "Europe/Madrid"), profile("ben", "Asia/Tokyo")])

    result = stage.run("why", "ana")

    assert result.exit_code == 0, result.output
    assert "Customer ana: 12 decisions: 5 triggered, 2 held back as control, 5 without a message." in result.output
    assert "Times are in Europe/Madrid." in result.output
    assert "ben" not in result.output


@pytest.mark.broker
def test_why_of_nobody_is_an_answer(stage: Stage) -> None:
    """Somebody unknown gets a sentence and what was looked at."""
    stage.write("decisions", History().decisions.values())

    result = stage.run("why", "zoe")

    assert result.exit_code == 0
    assert result.output.startswith("No decision about customer zoe.\nLooked at partition ")


@pytest.mark.broker
def test_why_at_an_instant_as_json(stage: Stage) -> None:
    """Asked about a day, a program gets what was known then."""
    stage.write("decisions", History().decisions.values())

    read = json.loads(stage.run("why", "ana", "--at", "1970-01-02", "--json").output)

    assert [one["decision_id"] for one in read["decisions"]] == ["d1", "d2"]
    assert read["slot"]["campaign"] == "cart"


@pytest.mark.broker
def test_time_that_is_none_is_refused(stage: Stage) -> None:
    """A wrong --at is a matter of usage."""
    result = stage.run("why", "ana", "--at", "yesterday")

    assert result.exit_code == 2
    assert "--at 'yesterday' is not a time, write it like" in result.output


def test_says_come_from_whatever_definitions_can_be_read(tmp_path: Path) -> None:
    """Sentences are found although other parts of the definitions are wrong."""
    (tmp_path / "moments.yaml").write_text(
        'moments:\n  - moment: cart\n    say: "Left things in the cart"\n    lasts: never\n  - moment: mute\n  - 7\n'
    )
    (tmp_path / "broken.yaml").write_text("moments: [")
    (tmp_path / "other.yaml").write_text("campaigns: []\n")

    assert says_of(tmp_path) == {"cart": "Left things in the cart"}
    assert says_of(None) == {}
