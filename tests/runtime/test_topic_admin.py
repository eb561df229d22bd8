"""Topics as code, on the embedded broker and on Apache Kafka; and what is said when there is no broker."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it does not list its exports

from orchestrator.runtime import topic_admin
from orchestrator.runtime.connection import client_config, connect
from orchestrator.runtime.embedded_broker import EmbeddedBroker, free_ports
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.settings import Settings, load
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topics import load as load_topics
from tests.kafka.broker import KafkaBroker, Member

ROOT = Path(__file__).parents[2]


def settings_for(bootstrap: str, **more: str) -> Settings:
    """Return settings that name this broker."""
    return load({"ORCHESTRATOR_BOOTSTRAP_SERVERS": bootstrap, **more}, hostname="test")


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker, and topic names that no other test uses."""

    bootstrap: str
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:8]}-")

    @property
    def admin(self) -> AdminClient:
        return connect(settings_for(self.bootstrap))

    def topics(self, partitions: int = 3) -> Topics:
        return load_topics(ROOT / "topics.yaml").with_prefix(self.prefix).with_partitions(partitions, 1)

    def run(self, *command: str, partitions: int = 3, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `orchestrator topics` on this broker."""
        environment = {
            "ORCHESTRATOR_BOOTSTRAP_SERVERS": self.bootstrap,
            "ORCHESTRATOR_TOPIC_PREFIX": self.prefix,
            "ORCHESTRATOR_PARTITIONS": str(partitions),
            "ORCHESTRATOR_REPLICATION": "1",
        }
        return run(*command, **(environment | more))


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `orchestrator topics` as an operator does."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "topics", *command],
        env=clean | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture(
    params=[pytest.param("embedded", marks=pytest.mark.broker), pytest.param("kafka", marks=pytest.mark.kafka)]
)
def broker(request: pytest.FixtureRequest) -> Broker:
    """Return each kind of broker in turn."""
    started: EmbeddedBroker | KafkaBroker = request.getfixturevalue(request.param)
    return Broker(started.bootstrap)


def with_config(topics: Topics, name: str, key: str, value: str) -> Topics:
    """Return the topics with one configuration changed."""
    changed = (replace(topic, config={**topic.config, key: value}) if topic.name == name else topic for topic in topics)
    return Topics(tuple(changed), topics.prefix)


# --- plan and apply ---------------------------------------------------------------------------------------------------


def test_a_plan_shows_what_is_missing_and_apply_creates_it(broker: Broker) -> None:
    """The second plan is empty, and applying again does nothing."""
    admin, topics = broker.admin, broker.topics()

    first = topic_admin.plan(admin, topics)
    applied = topic_admin.apply(admin, topics)
    second = topic_admin.plan(admin, topics)

    assert [(change.kind, change.topic) for change in first.changes] == [("create", topic.name) for topic in topics]
    assert applied == first
    assert second.changes == ()
    assert topic_admin.apply(admin, topics).changes == ()
    assert topic_admin.verify(admin, topics) == []


def test_planning_touches_nothing(broker: Broker) -> None:
    """Looking is not doing."""
    admin, topics = broker.admin, broker.topics()

    topic_admin.plan(admin, topics)

    assert not {topic.name for topic in topics} & set(admin.list_topics(timeout=5).topics)


def test_a_changed_configuration_is_shown_and_applied(broker: Broker) -> None:
    """From what is there to what is declared; everything else keeps its value."""
    admin, topics = broker.admin, broker.topics()
    topic_admin.apply(admin, topics)
    name = topics.by_name(f"{broker.prefix}clickstream").name
    changed = with_config(topics, name, "retention.ms", "86400000")

    shown = topic_admin.plan(admin, changed)
    topic_admin.apply(admin, changed)

    assert shown.changes == (topic_admin.Change(name, "config", "retention.ms", "1209600000", "86400000"),)
    assert str(shown.changes[0]) == f"~ {name}: retention.ms 1209600000 -> 86400000"
    assert topic_admin.plan(admin, changed).changes == ()


@pytest.mark.broker
def test_a_configuration_the_broker_does_not_tell_is_unknown_not_different(embedded: EmbeddedBroker) -> None:
    """The embedded broker tells only what was set when a topic was created."""
    broker = Broker(embedded.bootstrap)
    admin, topics = broker.admin, broker.topics()
    bare = [NewTopic(topic.name, topic.partitions, 1) for topic in topics]
    for answer in admin.create_topics(bare).values():
        answer.result(10)

    found = topic_admin.plan(admin, topics)

    assert found.changes == ()
    assert found.unknown == tuple(topic.name for topic in topics)
    assert (
        found.note == f"? this broker does not tell the configuration of {len(topics)} topics: differences are unknown"
    )


def test_a_changed_partition_count_is_refused_and_nothing_is_touched(broker: Broker) -> None:
    """Customers would move to other workers than their state; not even the missing topic is created."""
    admin, topics = broker.admin, broker.topics()
    rest = Topics(tuple(topic for topic in topics if topic.role != "clock"), topics.prefix)
    topic_admin.apply(admin, rest)

    with pytest.raises(OperatorError, match="partition counts cannot change") as caught:
        topic_admin.apply(admin, broker.topics(5))

    assert f"{broker.prefix}clickstream has 3 partitions, declared are 5" in caught.value.details
    assert caught.value.exit_code != 0
    assert topics.clock.name not in admin.list_topics(timeout=5).topics


@pytest.mark.kafka
def test_a_replication_factor_beyond_the_brokers_says_what_to_set(kafka: KafkaBroker) -> None:
    """One broker cannot hold three replicas."""
    broker = Broker(kafka.bootstrap)

    with pytest.raises(OperatorError) as caught:
        topic_admin.apply(broker.admin, broker.topics().with_partitions(3, 3))

    assert all("ORCHESTRATOR_REPLICATION" in line for line in caught.value.details)


@pytest.mark.kafka
def test_another_replication_factor_is_shown_and_left_alone(kafka: KafkaBroker) -> None:
    """Moving replicas is the cluster's business."""
    broker = Broker(kafka.bootstrap)
    admin, topics = broker.admin, broker.topics()
    topic_admin.apply(admin, topics)

    done = topic_admin.apply(admin, topics.with_partitions(3, 2))

    assert {change.kind for change in done.changes} == {"replication"}
    assert not any(change.can_be_applied for change in done.changes)


# --- verify -----------------------------------------------------------------------------------------------------------


def test_verify_lists_every_missing_topic(broker: Broker) -> None:
    """All findings, not the first."""
    topics = broker.topics()

    findings = topic_admin.verify(broker.admin, topics)

    assert findings == [f"{topic.name} is missing: run 'orchestrator topics apply'" for topic in topics]


def test_verify_finds_topics_that_are_not_co_partitioned(broker: Broker) -> None:
    """One customer's clicks and purchases would meet different workers."""
    admin, topics = broker.admin, broker.topics()
    new = [NewTopic(topic.name, 2 if topic.role in ("clock", "reference") else topic.partitions, 1) for topic in topics]
    for answer in admin.create_topics(new).values():
        answer.result(10)

    findings = topic_admin.verify(admin, topics)

    assert [finding.split(":")[0].split(", but")[0] for finding in findings] == [
        f"{topics.clock.name} has 2 partitions",
        *(f"{reference.name} has 2 partitions" for reference in topics.references),
    ]


def test_verify_says_when_only_the_declared_number_is_another(broker: Broker) -> None:
    """The topics fit together, and the setting that makes them fit the declaration is named."""
    admin = broker.admin
    topic_admin.apply(admin, broker.topics(3))

    (finding,) = topic_admin.verify(admin, broker.topics(4))

    assert "have 3 partitions, but declared are 4" in finding
    assert "ORCHESTRATOR_PARTITIONS=3" in finding


# --- the commands -----------------------------------------------------------------------------------------------------


def test_the_commands_end_with_what_scripts_expect(broker: Broker) -> None:
    """0 fine, 1 findings; a person reads lines, a program JSON."""
    assert broker.run("verify").returncode == 1

    planned = broker.run("plan", "--json")
    assert planned.returncode == 1
    assert {change["kind"] for change in json.loads(planned.stdout)["changes"]} == {"create"}

    applied = broker.run("apply")
    assert applied.returncode == 0
    assert f"+ {broker.prefix}clickstream: 3 partitions, replication 1" in applied.stdout

    again = broker.run("plan")
    assert (again.returncode, again.stderr) == (0, "")
    assert "the topics are as declared" in again.stdout

    verified = broker.run("verify", "--json")
    assert (verified.returncode, json.loads(verified.stdout)) == (0, {"findings": []})

    refused = broker.run("apply", partitions=5)
    assert refused.returncode == 1
    assert refused.stderr.startswith("orchestrator: partition counts cannot change")


def test_no_broker_named_is_a_usage_error() -> None:
    """Exit code 2, and the variable to set."""
    ended = run("plan")

    assert ended.returncode == 2
    assert "ORCHESTRATOR_BOOTSTRAP_SERVERS is not set" in ended.stderr


def test_a_wrong_topics_file_is_a_usage_error_before_any_broker_is_asked(tmp_path: Path) -> None:
    """Exit code 2, with every place."""
    file = tmp_path / "topics.yaml"
    file.write_text("version: 1\ntopics:\n  - {topic: a, rol: input}\n")

    ended = run("plan", "--bootstrap-servers", "127.0.0.1:1", "--file", str(file))

    assert ended.returncode == 2
    assert f"{file}:3:16: T001 unknown field 'rol', did you mean 'role'?" in ended.stderr


# --- no broker, or not for us -----------------------------------------------------------------------------------------


def test_a_missing_broker_gives_one_line_and_a_non_zero_exit() -> None:
    """Within seconds, without the client library's own noise."""
    (port,) = free_ports(1)
    began = time.monotonic()

    ended = run("apply", "--bootstrap-servers", f"127.0.0.1:{port}")

    assert time.monotonic() - began < 15
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"orchestrator: no broker at 127.0.0.1:{port} (")
    assert line.endswith("start it, or set ORCHESTRATOR_BOOTSTRAP_SERVERS to one that runs")


def test_something_that_is_no_broker_is_given_up() -> None:
    """A port that accepts and stays silent must not hang a deployment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()

        with pytest.raises(OperatorError, match="check the address and ORCHESTRATOR_SECURITY_PROTOCOL"):
            connect(settings_for(f"127.0.0.1:{listener.getsockname()[1]}"), timeout=2.0)

        assert time.monotonic() - began < 4


def test_an_unknown_host_is_named() -> None:
    """The address is wrong, not the network."""
    with pytest.raises(OperatorError, match=r"no-such-host\.invalid"):
        connect(settings_for("no-such-host.invalid:9092"), timeout=2.0)


def test_every_client_reaches_brokers_the_same_way() -> None:
    """One place turns settings into librdkafka's words; nothing is set that was not asked for."""
    plain = client_config(settings_for("a:1"))
    secured = client_config(
        settings_for(
            "a:1",
            ORCHESTRATOR_SECURITY_PROTOCOL="sasl_ssl",
            ORCHESTRATOR_SASL_USERNAME="ana",
            ORCHESTRATOR_SASL_PASSWORD="right",
            ORCHESTRATOR_SSL_CA=__file__,
        )
    )

    assert plain == {"bootstrap.servers": "a:1", "client.id": "journey-0", "security.protocol": "plaintext"}
    assert secured == plain | {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "ana",
        "sasl.password": "right",
        "ssl.ca.location": __file__,
    }


@pytest.fixture(scope="module")
def guarded(kafka: KafkaBroker) -> Iterator[str]:
    """Start Apache Kafka with a listener that asks for a password and lets nobody do anything."""
    assert kafka.pid, "the shared broker is there only to skip or fail by name where Kafka cannot be had"
    *own, port = free_ports(3)
    member = Member(1, *own)
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    listeners = f"PLAINTEXT://127.0.0.1:{member.port},GUARDED://127.0.0.1:{port}"
    properties = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{member.controller_port}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": f'{module} required user_ana="right";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with KafkaBroker(properties=properties, member=member):
        yield f"127.0.0.1:{port}"


SASL = {
    "ORCHESTRATOR_SECURITY_PROTOCOL": "sasl_plaintext",
    "ORCHESTRATOR_SASL_MECHANISM": "PLAIN",
    "ORCHESTRATOR_SASL_USERNAME": "ana",
}


@pytest.mark.kafka
def test_wrong_credentials_give_one_line_and_a_non_zero_exit(guarded: str) -> None:
    """The user and the settings to check are named, the password is not."""
    ended = run("plan", "--bootstrap-servers", guarded, **SASL, ORCHESTRATOR_SASL_PASSWORD="wrong-word")

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"orchestrator: {guarded} refused user 'ana' (")
    assert "ORCHESTRATOR_SASL_PASSWORD" in line
    assert "wrong-word" not in line


@pytest.mark.kafka
def test_a_user_without_rights_is_told_which_ones_to_ask_for(guarded: str) -> None:
    """Authentication is not authorisation."""
    settings = settings_for(guarded, **SASL, ORCHESTRATOR_SASL_PASSWORD="right")
    topics = load_topics(ROOT / "topics.yaml").with_partitions(1, 1)

    with pytest.raises(OperatorError) as caught:
        topic_admin.apply(connect(settings), topics)

    assert len(caught.value.details) == len(topics)
    assert all("Create, Describe, DescribeConfigs and AlterConfigs" in line for line in caught.value.details)


@pytest.mark.kafka
def test_speaking_plaintext_to_a_listener_that_wants_a_password_is_given_up(guarded: str) -> None:
    """The broker only hangs up; the line names the setting that would explain it."""
    with pytest.raises(OperatorError, match="check the address and ORCHESTRATOR_SECURITY_PROTOCOL"):
        connect(settings_for(guarded), timeout=3.0)


@pytest.mark.kafka
def test_speaking_tls_to_a_plaintext_listener_is_recognised(kafka: KafkaBroker) -> None:
    """At once: trying again cannot help."""
    began = time.monotonic()

    with pytest.raises(OperatorError, match=r"no TLS with .* check ORCHESTRATOR_SECURITY_PROTOCOL"):
        connect(settings_for(kafka.bootstrap, ORCHESTRATOR_SECURITY_PROTOCOL="ssl"))

    assert time.monotonic() - began < 6
