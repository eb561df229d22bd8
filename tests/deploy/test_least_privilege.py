"""On Apache Kafka with an authorizer: the rendered rights suffice, every one of them is used, and no other is had."""

from __future__ import annotations

import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package does not list what it exports
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from orchestrator.events import DAY
from orchestrator.runtime import strimzi
from orchestrator.runtime.connection import connect
from orchestrator.runtime.control_app import changelog_of
from orchestrator.runtime.embedded_broker import free_ports
from orchestrator.runtime.strimzi import User
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_admin import apply
from tests.deploy.workers import Worker, decisions_read, engine, history
from tests.kafka.broker import KafkaBroker, Member
from tests.kafka.workers import RETAIL, Run

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

PASSWORD = "right"
KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactionalId": ResourceType.TRANSACTIONAL_ID,
}
_DECISION = re.compile(
    r"Principal = User:(\S+) is (Allowed|Denied) operation = (\w+) "
    r"from host = \S+ on resource = (\w+):LITERAL:(\S+) for"
)
Rights = set[tuple[str, str, str]]
"""Kind of resource, its name and an operation, as the broker writes them."""


@dataclass
class Guarded:
    """A broker that asks everybody who they are and what they may do, but for its open door, where tests come in."""

    broker: KafkaBroker
    address: str

    def grant(self, user: User) -> None:
        """Give a user the rights that are rendered for it."""
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        wanted = [
            AclBinding(
                KINDS[rule.kind],
                rule.name,
                ResourcePatternType.PREFIXED if rule.is_prefix else ResourcePatternType.LITERAL,
                f"User:{user.name}",
                "*",
                AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()],
                AclPermissionType.ALLOW,
            )
            for rule in user.rules
            for operation in rule.operations
        ]
        for answer in admin.create_acls(wanted).values():
            answer.result(10)

    def settings(self, user: str) -> dict[str, str]:
        """Return the settings of a user's worker, without ORCHESTRATOR_."""
        return {
            "BOOTSTRAP_SERVERS": self.address,
            "SECURITY_PROTOCOL": "sasl_plaintext",
            "SASL_MECHANISM": "PLAIN",
            "SASL_USERNAME": user,
            "SASL_PASSWORD": PASSWORD,
        }

    def client(self, user: str) -> dict[str, Any]:
        """Return the configuration of a user's own client."""
        return {
            "bootstrap.servers": self.address,
            "security.protocol": "sasl_plaintext",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": PASSWORD,
            "log_level": 0,
        }

    def decisions(self) -> tuple[dict[str, Rights], dict[str, Rights]]:
        """Return what each user was allowed and denied so far."""
        allowed: dict[str, Rights] = defaultdict(set)
        denied: dict[str, Rights] = defaultdict(set)
        for user, word, operation, kind, name in _DECISION.findall(self.broker.log.read_text(errors="replace")):
            (allowed if word == "Allowed" else denied)[user].add((kind, name, operation))
        return allowed, denied


@pytest.fixture(scope="module")
def guarded(kafka: KafkaBroker) -> Iterator[Guarded]:
    """Start Apache Kafka with an authorizer that writes down what it decides."""
    assert kafka.pid, "the shared broker is there only to skip or fail by name where Kafka cannot be had"
    *own, port = free_ports(3)
    member = Member(1, *own)
    users = " ".join(f'user_{name}="{PASSWORD}"' for name in ("any-engine", "any-control", "mail", "live-engine"))
    listeners = f"PLAINTEXT://127.0.0.1:{member.port},GUARDED://127.0.0.1:{port}"
    properties = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{member.controller_port}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    audit_log = "-Dorg.slf4j.simpleLogger.log.kafka.authorizer.logger=debug"
    with KafkaBroker(properties=properties, member=member, jvm=(audit_log,)) as broker:
        yield Guarded(broker, f"127.0.0.1:{port}")


@pytest.fixture(scope="module")
def run(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return the topics of a group that is called `any`, filled with two months of customers."""
    run = Run("any", guarded.broker.bootstrap, tmp_path_factory.mktemp("rights"), "", {"STATIC_MEMBERSHIP": "false"})
    arrivals, until = history()
    run.replay(arrivals, until, barrier_every=DAY // 24)
    return run


def granted(user: User) -> Rights:
    """Return a user's rights but those that others bring with them, as Read and Write bring Describe."""
    words = {"topic": "Topic", "group": "Group", "transactionalId": "TransactionalId"}
    return {
        (words[rule.kind], rule.name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper())
        for rule in user.rules
        for operation in rule.operations
        if operation != "Describe"
    }


def pack_that_learns(folder: Path) -> Path:
    """Return a copy of the retail pack that chooses by expected value."""
    shutil.copytree(RETAIL, folder, dirs_exist_ok=True)
    policy = folder / "policy.yaml"
    policy.write_text(policy.read_text().replace("method: priority", "method: expected_value"))
    return folder


def of_prefix(rights: Rights, prefix: str) -> Rights:
    """Return rights with the names of transactional ids cut to their common beginning, without Describe."""
    return {
        (kind, prefix if kind == "TransactionalId" and name.startswith(prefix) else name, operation)
        for kind, name, operation in rights
        if operation != "DESCRIBE"
    }


def test_the_engine_lives_on_its_rights_and_uses_all_of_them(guarded: Guarded, run: Run) -> None:
    """It decides a whole replay, writes every kind of record, and was denied nothing."""
    user = strimzi.engine(run.topics, run.settings.group, live=False)
    guarded.grant(user)

    with engine(run, guarded.settings(user.name)) as worker:
        worker.until(lambda: run.decided() >= run.barriers(), "the end of the replay")
    shutil.rmtree(run.state())
    with engine(run, guarded.settings(user.name)) as worker:
        changelog = ("Topic", run.topics.changelog.name, "READ")
        worker.until(lambda: changelog in guarded.decisions()[0][user.name], "restoring of what was lost")

    assert {role: bool(records) for role, records in run.outputs().items()} == dict.fromkeys(run.outputs(), True)
    allowed, denied = guarded.decisions()
    assert denied[user.name] == set()
    assert of_prefix(allowed[user.name], f"{run.settings.group}.") == granted(user)


def test_a_live_engine_may_write_the_clock(guarded: Guarded, run: Run, tmp_path: Path) -> None:
    """It keeps a record of the barriers that it used; in a replay it could not have."""
    live = Run("live", guarded.broker.bootstrap, tmp_path, "", {"BARRIERS": "live", "STATIC_MEMBERSHIP": "false"})
    user = strimzi.engine(live.topics, live.settings.group, live=True)
    guarded.grant(user)
    before = live.barriers()

    with engine(live, guarded.settings(user.name)) as worker:
        worker.until(lambda: live.barriers() > before, "a barrier in the clock topic")

    allowed, denied = guarded.decisions()
    assert denied[user.name] == set()
    assert ("Topic", "clock", "WRITE") in allowed[user.name]
    assert ("Topic", "clock", "WRITE") not in allowed["any-engine"]
    assert run.topics.clock.name == "clock"


def test_control_lives_on_its_rights_and_uses_all_of_them(guarded: Guarded, run: Run) -> None:
    """It reads what was decided, keeps its changelog, learns, and was denied nothing; its topic was made for it."""
    changelog = changelog_of(run.settings, run.topics)
    user = strimzi.control(run.topics, run.settings.group, changelog)
    guarded.grant(user)
    apply(connect(run.settings), Topics((changelog,)))
    (port,) = free_ports(1)
    given = run.environment(
        0,
        **guarded.settings(user.name),
        WEB_PORT=str(port),
        SESSION_TIMEOUT="6s",
        BARRIERS="live",
        DEFINITIONS=str(pack_that_learns(run.folder / "pack")),
    )
    expected, learner = len(run.records("decisions")), f"{run.settings.group}.learner"

    with Worker("control", given, run.folder / "control.log") as worker:
        worker.until(lambda: decisions_read(port) >= expected, "control to read every decision")
        worker.until(
            lambda: of_prefix(guarded.decisions()[0][user.name], learner) >= granted(user), "control to use its rights"
        )

    allowed, denied = guarded.decisions()
    assert denied[user.name] == set()
    assert of_prefix(allowed[user.name], learner) == granted(user)


def test_a_sender_reads_its_triggers_and_reports_back_and_nothing_else(guarded: Guarded, run: Run) -> None:
    """It gets every trigger; decisions and profiles are closed to it, and it can pretend to be nobody."""
    user = strimzi.sender(run.topics, "mail")
    guarded.grant(user)
    reader = Consumer(
        {
            **guarded.client("mail"),
            "group.id": "mail",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "session.timeout.ms": 6000,
        }
    )
    try:
        reader.subscribe([run.topics.triggers.name])
        expected, found = len(run.records("triggers")), 0
        deadline = time.monotonic() + 30
        while found < expected and time.monotonic() < deadline:
            found += sum(message.error() is None for message in reader.consume(1000, 0.5))
        reader.commit(asynchronous=False)
    finally:
        reader.close()
    assert found == expected > 0

    [reports] = [topic.name for topic in run.topics.inputs if topic.schema == strimzi.ENGAGEMENT]
    seen = AdminClient(guarded.client("mail")).list_topics(timeout=10).topics
    assert set(seen) == {run.topics.triggers.name, run.topics.active.name, reports}
    reporting = {**guarded.client("mail"), "enable.idempotence": True}
    assert refusal_to_write(reporting, reports) is None
    assert refusal_to_read(guarded.client("mail"), reports, "mail") == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert refusal_to_write(guarded.client("mail"), run.topics.triggers.name) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    taking_over = Producer({**guarded.client("mail"), "transactional.id": f"{run.settings.group}.0"})
    with pytest.raises(KafkaException) as caught:
        taking_over.init_transactions(10)
    assert caught.value.args[0].code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


def test_the_engines_user_cannot_read_what_it_wrote(guarded: Guarded, run: Run) -> None:
    """Its rights are for deciding, not for looking at decisions."""
    who = guarded.client("any-engine")

    assert refusal_to_read(who, run.topics.decisions.name, run.settings.group) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert refusal_to_write(who, run.topics.inputs[0].name) == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_an_engine_without_rights_names_every_topic(guarded: Guarded, tmp_path: Path) -> None:
    """What it must not even see is missing for it, topic by topic."""
    other = Run("bare", guarded.broker.bootstrap, tmp_path, "", {"STATIC_MEMBERSHIP": "false"})
    user = strimzi.engine(other.topics, "any", live=False)  # of another group

    with engine(other, guarded.settings(user.name)) as worker:
        assert worker.wait() == 1

    assert f"{other.topics.changelog.name} is missing" in worker.log


def refusal_to_read(client: dict[str, Any], topic: str, group: str) -> int | None:
    """Return the error that reading a topic brings, None if it brings none."""
    reader = Consumer({**client, "group.id": group, "auto.offset.reset": "earliest", "enable.partition.eof": True})
    try:
        reader.assign([TopicPartition(topic, 0, 0)])
        message = reader.poll(10)
        error = None if message is None else message.error()
        return None if error is None else error.code()
    finally:
        reader.close()


def refusal_to_write(client: dict[str, Any], topic: str) -> int | None:
    """Return the error that writing to a topic brings, None if it brings none."""
    told: list[int | None] = []
    writer = Producer({**client, "message.timeout.ms": 8000})
    writer.produce(topic, b"x", partition=0, on_delivery=lambda error, _: told.append(error.code() if error else None))
    writer.flush(10)
    return told[0]
