"""The topics as an AsyncAPI 3.0 document: what others may read from us and write to us, for people and generators."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator import __version__
from orchestrator.runtime.topic import Topic, Topics

Document = dict[str, Any]

AVRO = "application/vnd.apache.avro;version=1.9.0"
BINDING = "0.5.0"

_DESCRIPTION = """\
One campaign per customer at a time, chosen for its incremental value, triggered at the right moment.

Subscribers MUST read with `isolation.level=read_committed`: every record belongs to a transaction, and one that was
aborted never happened. Subscribers MUST de-duplicate campaign triggers on (`trigger_id`, `action`): the same cause has
the same id, whatever crashed in between. Subscribers MUST honour `retract` and `valid_until`.

Producers MUST use the record key given here and partition by murmur2 of the key, as JVM clients do (with librdkafka set
`partitioner=murmur2_random`). Values are framed as Confluent does it: a zero byte, the schema id as a big-endian 32-bit
integer, the Avro body.

This file is generated from topics.yaml and schemas/: run `orchestrator topics asyncapi > docs/asyncapi.yaml`.
"""

_ROLES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "input": (("receive",), "What customers do. The engine reads it; produce it keyed by customer."),
    "profiles": (("receive",), "What is known about a customer. Compacted; a tombstone erases the customer."),
    "clock": (("receive", "send"), "Barriers: followed in a replay, recorded in live use."),
    "reference": (("receive",), "Reference data, read in full by every engine process."),
    "triggers": (("send",), "What senders subscribe to. De-duplicate on (trigger_id, action)."),
    "decisions": (("send",), "Every decision with its reasons, also when it is none."),
    "outcomes": (
        ("send",),
        "One record per closed measurement window. Compacted; an amendment is a newer revision under the same key.",
    ),
    "active": (("send",), "What holds a customer's slot now. Compacted; a tombstone when it is free."),
    "dead_letters": (("send",), "Records that could not be used, with their place, the reason and their bytes."),
}
"""By role, what the orchestrator does with the topic and what it holds; the changelog is nobody else's business."""

_CLOUD_EVENT: Mapping[str, Mapping[str, Any]] = {
    "ce_specversion": {"type": "string", "const": "1.0"},
    "ce_id": {"type": "string", "description": "`trigger_id/action`, unique."},
    "ce_source": {"type": "string", "const": "/journey-orchestrator"},
    "ce_type": {
        "type": "string",
        "enum": ["journey.campaign-trigger.send", "journey.campaign-trigger.retract"],
    },
    "ce_time": {"type": "string", "format": "date-time", "description": "`decided_at`, in UTC."},
    "content-type": {"type": "string", "const": "application/avro"},
}
"""CloudEvents 1.0 headers in binary mode, as `outbox.cloud_event` writes them."""


def document(topics: Topics, schemas: Path) -> Document:
    """Return the document of these topics, with the Avro schemas of a directory in full."""
    shown = [topic for topic in topics if topic.role in _ROLES and topic.schema is not None]
    return {
        "asyncapi": "3.0.0",
        "id": "urn:journey-orchestrator",
        "info": {
            "title": "Journey Orchestrator",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/avro",
        "channels": {topic.name: _channel(topic) for topic in shown},
        "operations": {
            f"{action}-{topic.name}": _operation(topic, action) for topic in shown for action in _ROLES[topic.role][0]
        },
        # By topic, not by schema: two topics may share a schema and have different keys.
        "components": {"messages": {topic.name: _message(topic, schemas) for topic in shown}},
    }


def as_yaml(found: Document) -> str:
    """Return the document as text, the same for the same topics and schemas."""
    return yaml.dump(found, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, and text of several lines as it reads."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 (PyYAML's signature)
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _channel(topic: Topic) -> Document:
    return {
        "address": topic.name,
        "description": _ROLES[topic.role][1],
        "messages": {str(topic.schema): {"$ref": f"#/components/messages/{topic.name}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replication_factor,
                "topicConfiguration": {name: _setting(name, text) for name, text in topic.config.items()},
                "bindingVersion": BINDING,
            }
        },
    }


def _setting(name: str, text: str) -> object:
    if name == "cleanup.policy":
        return text.split(",")
    return int(text) if text.removeprefix("-").isdigit() else text


def _operation(topic: Topic, action: str) -> Document:
    # Our own group is of no use to a subscriber, and theirs is theirs: what binds is that the id stays the same.
    group = {"type": "string", "description": "A name of the subscriber's own, the same at every start."}
    bindings: Document = {"groupId": group} if action == "send" else {}
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{topic.schema}"}],
        "bindings": {"kafka": {**bindings, "bindingVersion": BINDING}},
    }


def _message(topic: Topic, schemas: Path) -> Document:
    schema = json.loads((schemas / f"{topic.schema}.avsc").read_text(encoding="utf-8"))
    found: Document = {
        "name": schema["name"],
        "summary": schema.get("doc", ""),
        "contentType": "application/avro",
        "payload": {"schemaFormat": AVRO, "schema": schema},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": f"{topic.key}, UTF-8"},
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "schemaLookupStrategy": "TopicIdStrategy",
                "bindingVersion": BINDING,
            }
        },
    }
    if topic.role == "triggers":
        properties = {name: dict(schema) for name, schema in _CLOUD_EVENT.items()}
        found["headers"] = {"type": "object", "required": list(properties), "properties": properties}
    return found
