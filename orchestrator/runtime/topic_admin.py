"""Topics as code: what differs between `topics.yaml` and the broker, and making them equal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package does not list what it exports
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

from orchestrator.runtime.connection import explain
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.topic import Topic, Topics
from orchestrator.runtime.topic_configs import cleanup_policy

_TIMEOUT = 10.0  # seconds for one answer

CREATE, CONFIG, PARTITIONS, REPLICATION = "create", "config", "partitions", "replication"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: `kind` is create, config, partitions or replication; `name` is the configuration's name."""

    topic: str
    kind: str
    name: str = ""
    before: str = ""
    after: str = ""

    @property
    def can_be_applied(self) -> bool:
        """Whether `apply` can make it so; it never changes partition counts or replication."""
        return self.kind in (CREATE, CONFIG)

    def __str__(self) -> str:
        if self.kind == CREATE:
            return f"+ {self.topic}: {self.after}"
        if self.kind == CONFIG:
            return f"~ {self.topic}: {self.name} {self.before} -> {self.after}"
        return f"! {self.topic}: {self.kind} {self.before} -> {self.after} (apply does not change this)"


@dataclass(frozen=True, slots=True)
class Plan:
    """What `apply` would do, and the topics whose configuration this broker does not tell."""

    changes: tuple[Change, ...]
    unknown: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """One line about what could not be compared, or nothing."""
        if not self.unknown:
            return ""
        return f"? this broker does not tell the configuration of {len(self.unknown)} topics: differences are unknown"


def plan(admin: AdminClient, topics: Topics) -> Plan:
    """Return what differs between the broker and the declared topics, in the order declared."""
    there = _metadata(admin)
    told = _configs(admin, [topic.name for topic in topics if topic.name in there])
    changes: list[Change] = []
    unknown: list[str] = []
    for topic in topics:
        if topic.name not in there:
            changes.append(Change(topic.name, CREATE, after=_described(topic)))
            continue
        changes += _counts(topic, there[topic.name])
        configs = told[topic.name]
        if not topic.config.keys() <= configs.keys():
            unknown.append(topic.name)
        for name, wanted in topic.config.items():
            found = configs.get(name, wanted)
            if _comparable(name, found) != wanted:
                changes.append(Change(topic.name, CONFIG, name, found, wanted))
    return Plan(tuple(changes), tuple(unknown))


def apply(admin: AdminClient, topics: Topics, *, timeout: float = 30.0) -> Plan:
    """Create what is missing, alter configurations that differ, and return the plan that was followed.

    A partition count that differs refuses the whole with an OperatorError, and nothing is touched.
    """
    following = plan(admin, topics)
    refused = [change for change in following.changes if change.kind == PARTITIONS]
    if refused:
        raise OperatorError(
            "partition counts cannot change once there is state, so nothing was done; declare the counts that are "
            "there, or move to new topics with ORCHESTRATOR_TOPIC_PREFIX:",
            details=[
                f"{change.topic} has {change.before} partitions, declared are {change.after}" for change in refused
            ],
        )
    missing = [topics.by_name(change.topic) for change in following.changes if change.kind == CREATE]
    if missing:
        _create(admin, missing)
    _alter(admin, [change for change in following.changes if change.kind == CONFIG])
    if any(change.can_be_applied for change in following.changes):
        _wait_until_shown(admin, topics, timeout)
    return following


def verify(admin: AdminClient, topics: Topics) -> list[str]:
    """Return everything that would keep a worker from starting; nothing when topics exist and are co-partitioned."""
    there = _metadata(admin)
    findings = [
        f"{topic.name} is missing: run 'orchestrator topics apply'" for topic in topics if topic.name not in there
    ]
    shared = {topic.name: len(there[topic.name].partitions) for topic in topics.co_partitioned if topic.name in there}
    declared = topics.partitions
    if len(set(shared.values())) > 1:
        findings += [
            f"{name} has {count} partitions, but all co-partitioned topics need {declared}: "
            "a customer's events would meet different workers"
            for name, count in shared.items()
            if count != declared
        ]
    elif shared and set(shared.values()) != {declared}:
        (count,) = set(shared.values())
        findings.append(
            f"all {len(shared)} co-partitioned topics have {count} partitions, but declared are {declared}: "
            f"declare 'partitions: {count}' or set ORCHESTRATOR_PARTITIONS={count}"
        )
    for topic in topics.references:
        if topic.name in there and len(there[topic.name].partitions) != topic.partitions:
            count = len(there[topic.name].partitions)
            findings.append(f"{topic.name} has {count} partitions, but a reference topic needs {topic.partitions}")
    return findings


# --- asking the broker ------------------------------------------------------------------------------------------------


def _metadata(admin: AdminClient) -> Mapping[str, TopicMetadata]:
    try:
        topics = admin.list_topics(timeout=_TIMEOUT).topics
    except KafkaException as error:
        raise OperatorError(explain(error.args[0], "listing topics")) from None
    return {name: topic for name, topic in topics.items() if topic.error is None or topic.partitions}


def _configs(admin: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers = admin.describe_configs(resources, request_timeout=_TIMEOUT)
    told = _results(
        {resource.name: answer for resource, answer in answers.items()},
        "reading configurations of",
        tolerated=KafkaError.UNKNOWN_TOPIC_OR_PART,  # one broker lists a new topic before another has heard of it
    )
    return {
        name: {entry.name: entry.value for entry in told.get(name, {}).values() if entry.value is not None}
        for name in names
    }


def _counts(topic: Topic, there: TopicMetadata) -> list[Change]:
    changes = []
    partitions = len(there.partitions)
    if partitions != topic.partitions:
        changes.append(Change(topic.name, PARTITIONS, "", str(partitions), str(topic.partitions)))
    replicas = {len(partition.replicas) for partition in there.partitions.values()}
    if replicas and replicas != {topic.replication_factor}:
        found = "/".join(map(str, sorted(replicas)))
        changes.append(Change(topic.name, REPLICATION, "", found, str(topic.replication_factor)))
    return changes


def _comparable(name: str, value: str) -> str:
    if name != "cleanup.policy":
        return value
    try:
        return cleanup_policy(value)
    except ValueError:
        return value


def _described(topic: Topic) -> str:
    config = "".join(f", {name}={value}" for name, value in topic.config.items())
    partitions = "1 partition" if topic.partitions == 1 else f"{topic.partitions} partitions"
    return f"{partitions}, replication {topic.replication_factor}{config}"


# --- changing it ------------------------------------------------------------------------------------------------------


def _create(admin: AdminClient, missing: Iterable[Topic]) -> None:
    new = [
        NewTopic(topic.name, topic.partitions, topic.replication_factor, config=dict(topic.config)) for topic in missing
    ]
    answers = admin.create_topics(new, operation_timeout=_TIMEOUT, request_timeout=_TIMEOUT)
    # Another process may have been faster; what it created is waited for like our own.
    _results(answers, "creating", tolerated=KafkaError.TOPIC_ALREADY_EXISTS)


def _wait_until_shown(admin: AdminClient, topics: Topics, timeout: float) -> None:
    """Return once the broker shows what it accepted: brokers learn of it after the answer, measured on Apache Kafka."""
    deadline = time.monotonic() + timeout
    while left := [change for change in plan(admin, topics).changes if change.kind != REPLICATION]:
        if time.monotonic() > deadline:
            message = f"accepted, but after {timeout:g} s the broker still shows something else:"
            raise OperatorError(message, details=[str(change) for change in left])
        time.sleep(0.1)


def _alter(admin: AdminClient, changes: Iterable[Change]) -> None:
    by_topic: dict[str, list[ConfigEntry]] = {}
    for change in changes:
        entry = ConfigEntry(change.name, change.after, incremental_operation=AlterConfigOpType.SET)
        by_topic.setdefault(change.topic, []).append(entry)
    if not by_topic:
        return
    resources = [
        ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries) for name, entries in by_topic.items()
    ]
    answers = admin.incremental_alter_configs(resources, request_timeout=_TIMEOUT)
    _results({resource.name: answer for resource, answer in answers.items()}, "altering")


def _results(answers: Mapping[str, Future[Any]], doing: str, tolerated: int | None = None) -> dict[str, Any]:
    """Return every answer, or raise one OperatorError with every reason."""
    found: dict[str, Any] = {}
    failed: list[str] = []
    for name, answer in answers.items():
        try:
            found[name] = answer.result(timeout=_TIMEOUT + 1)
        except KafkaException as error:
            if error.args[0].code() != tolerated:
                failed.append(explain(error.args[0], f"{doing} {name}"))
        except FutureTimeoutError:
            failed.append(f"{doing} {name}: the broker did not answer; see whether it is healthy and run this again")
    if len(failed) == 1:
        raise OperatorError(failed[0])
    if failed:
        raise OperatorError(f"{doing} {len(failed)} topics failed, run 'orchestrator topics plan':", details=failed)
    return found
