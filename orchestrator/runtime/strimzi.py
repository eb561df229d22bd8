"""The topics of `topics.yaml` and who may do what with them, as manifests for Strimzi or Jikkou."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from orchestrator.runtime.policy_log import SCHEMA as POLICY
from orchestrator.runtime.published import SCHEMA as DEFINITIONS
from orchestrator.runtime.topic import Topic, Topics

Manifest = dict[str, Any]

STRIMZI_API = "kafka.strimzi.io/v1"
JIKKOU_API = "kafka.jikkou.io/v1"
PART_OF = {"app.kubernetes.io/part-of": "journey-orchestrator"}

ENGAGEMENT = "email_engagement_event"
"""The schema of what senders report back."""

READ = ("Describe", "Read")
WRITE = ("Describe", "Write")
READ_WRITE = ("Describe", "Read", "Write")


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be done with one resource: a topic, a group or a transactionalId."""

    kind: str
    name: str
    operations: tuple[str, ...]
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who connects to the brokers, and everything they are allowed."""

    name: str
    rules: tuple[Rule, ...]


def engine(topics: Topics, group: str, *, live: bool) -> User:
    """Return the user of the engine role; live it writes the clock topic, in a replay it reads it."""
    outputs = (topics.triggers, topics.decisions, topics.outcomes, topics.active, topics.dead_letters)
    return User(
        f"{group}-engine",
        (
            Rule("group", group, ("Read",)),
            *_lookups("orchestrator-references", "orchestrator-restore"),
            # Each process has its own: GROUP.ORDINAL. With it, idempotence needs no right on the cluster.
            Rule("transactionalId", f"{group}.", WRITE, is_prefix=True),
            *_topics((*topics.inputs, topics.profiles, *topics.references), READ),
            *_topics((topics.clock,), WRITE if live else READ),
            *_topics(outputs, WRITE),
            *_topics((topics.changelog,), READ_WRITE),
        ),
    )


def control(topics: Topics, group: str, changelog: Topic) -> User:
    """Return the user of the control role, which reads what was decided, learns, and sees that the rest is there."""
    learned = [topic for topic in topics.references if topic.schema == POLICY]
    published = [topic for topic in topics.references if topic.schema == DEFINITIONS]
    read = (topics.decisions, topics.triggers, topics.outcomes, topics.clock, *published)
    return User(
        f"{group}-control",
        (
            Rule("group", f"{group}-control", ("Read",)),
            *_lookups("orchestrator-reader"),
            # One for all instances: whoever learns next shuts out the one before.
            Rule("transactionalId", f"{group}.learner", WRITE),
            *_topics(read, READ),
            *_topics(learned, READ_WRITE),
            *_topics((topic for topic in topics if topic not in (*read, *learned)), ("Describe",)),
            *_topics((changelog,), ("Describe", "DescribeConfigs", "Read", "Write")),
        ),
    )


def sender(topics: Topics, name: str) -> User:
    """Return a sender's user: its own group, what it is asked to send, who holds a slot now, and where it reports back.

    Its reports need no transaction, and an idempotent producer no right but Write: brokers ask for no more since 2.8.
    """
    reports = [topic for topic in topics.inputs if topic.schema == ENGAGEMENT]
    read = (topics.triggers, topics.active)
    return User(name, (Rule("group", name, ("Read",)), *_topics(read, READ), *_topics(reports, WRITE)))


def _lookups(*groups: str) -> list[Rule]:
    """Return the right to ask for the coordinator of groups that nobody joins: Kafka's client asks all the same."""
    return [Rule("group", name, ("Describe",)) for name in groups]


def _topics(topics: Iterable[Topic], operations: tuple[str, ...]) -> list[Rule]:
    return [Rule("topic", topic.name, operations) for topic in topics]


# --- Strimzi ----------------------------------------------------------------------------------------------------------


def strimzi(
    topics: Iterable[Topic],
    users: Iterable[User],
    *,
    cluster: str,
    namespace: str | None = None,
    authentication: str = "scram-sha-512",
    api_version: str = STRIMZI_API,
) -> list[Manifest]:
    """Return KafkaTopic and KafkaUser resources of a Strimzi cluster."""

    def resource(kind: str, name: str, spec: dict[str, Any]) -> Manifest:
        metadata: dict[str, Any] = {"name": resource_name(name)}
        if namespace:
            metadata["namespace"] = namespace
        metadata["labels"] = {"strimzi.io/cluster": cluster, **PART_OF}
        if metadata["name"] != name:
            spec = {"topicName" if kind == "KafkaTopic" else "userName": name} | spec
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}

    found = [
        resource(
            "KafkaTopic",
            topic.name,
            {"partitions": topic.partitions, "replicas": topic.replication_factor, "config": dict(topic.config)},
        )
        for topic in topics
    ]
    found += [
        resource(
            "KafkaUser",
            user.name,
            {
                "authentication": {"type": authentication},
                "authorization": {"type": "simple", "acls": [_strimzi_acl(rule) for rule in user.rules]},
            },
        )
        for user in users
    ]
    return found


def resource_name(name: str) -> str:
    """Return a name that Kubernetes accepts for a topic or user: lower case, with dashes for what it refuses."""
    return re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.")


def _strimzi_acl(rule: Rule) -> dict[str, Any]:
    pattern = "prefix" if rule.is_prefix else "literal"
    return {
        "resource": {"type": rule.kind, "name": rule.name, "patternType": pattern},
        "operations": list(rule.operations),
    }


# --- Jikkou -----------------------------------------------------------------------------------------------------------

_JIKKOU_KINDS = {"topic": "TOPIC", "group": "GROUP", "transactionalId": "TRANSACTIONAL_ID"}


def jikkou(
    topics: Iterable[Topic],
    users: Iterable[User],
    *,
    authentication: str = "scram-sha-512",
    api_version: str = JIKKOU_API,
) -> list[Manifest]:
    """Return KafkaTopic and KafkaPrincipalAuthorization resources."""
    principal = "User:CN=" if authentication == "tls" else "User:"
    found: list[Manifest] = [
        {
            "apiVersion": api_version,
            "kind": "KafkaTopic",
            "metadata": {"name": topic.name, "labels": dict(PART_OF)},
            "spec": {
                "partitions": topic.partitions,
                "replicas": topic.replication_factor,
                "configs": dict(topic.config),
            },
        }
        for topic in topics
    ]
    found += [
        {
            "apiVersion": api_version,
            "kind": "KafkaPrincipalAuthorization",
            "metadata": {"name": principal + user.name, "labels": dict(PART_OF)},
            "spec": {"acls": [_jikkou_acl(rule) for rule in user.rules]},
        }
        for user in users
    ]
    return found


def _jikkou_acl(rule: Rule) -> dict[str, Any]:
    return {
        "resource": {
            "type": _JIKKOU_KINDS[rule.kind],
            "pattern": rule.name,
            "patternType": "PREFIXED" if rule.is_prefix else "LITERAL",
        },
        "type": "ALLOW",
        "operations": [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper() for operation in rule.operations],
        "host": "*",
    }


def as_yaml(manifests: Sequence[Manifest]) -> str:
    """Return manifests as one YAML text, a document each."""
    return yaml.safe_dump_all(manifests, sort_keys=False, explicit_start=True, width=120)
