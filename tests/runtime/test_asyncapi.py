"""The AsyncAPI document says what the topics, schemas and headers are, and has the shape that its readers expect."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
import yaml
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.records import Trigger
from orchestrator.runtime.asyncapi import as_yaml, document
from orchestrator.runtime.outbox import cloud_event
from orchestrator.runtime.topics import load

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "docs" / "asyncapi.yaml"
TOPICS = load(ROOT / "topics.yaml", ROOT / "schemas")
DOCUMENT = document(TOPICS, ROOT / "schemas")
NAME = re.compile(r"[\w.-]+")


def references(node: Any) -> Iterator[str]:
    """Return every `$ref` below a node."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def at(reference: str) -> Any:
    """Return what a reference within the document points to."""
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_the_committed_document_is_current() -> None:
    """Whoever changes a topic or a schema renews the document in the same commit."""
    renew = "run `orchestrator topics asyncapi > docs/asyncapi.yaml`"

    assert COMMITTED.read_text(encoding="utf-8") == as_yaml(DOCUMENT), renew


def test_yaml_reads_as_what_was_written() -> None:
    """Nothing is an anchor, a date or a boolean by accident."""
    text = as_yaml(DOCUMENT)

    assert yaml.safe_load(text) == json.loads(json.dumps(DOCUMENT))
    assert re.search(r"[&*]id\d", text) is None


def test_the_root_has_what_version_3_demands() -> None:
    """Version, title and version of the product, channels, operations and components, and nothing else."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version", "description"} <= set(DOCUMENT["info"])
    assert set(DOCUMENT) == {"asyncapi", "id", "info", "defaultContentType", "channels", "operations", "components"}
    assert all(NAME.fullmatch(name) for part in ("channels", "operations") for name in DOCUMENT[part])


def test_every_reference_leads_somewhere() -> None:
    """An operation's messages are messages of its channel, as version 3 demands."""
    assert all(at(reference) for reference in references(DOCUMENT))
    for operation in DOCUMENT["operations"].values():
        channel = operation["channel"]["$ref"]
        assert operation["action"] in ("send", "receive")
        assert [message["$ref"].rsplit("/", 2)[0] for message in operation["messages"]] == [channel]


def test_all_topics_but_the_changelog_are_channels() -> None:
    """State is nobody else's business; everything else is."""
    assert set(DOCUMENT["channels"]) == {topic.name for topic in TOPICS} - {TOPICS.changelog.name}


@pytest.mark.parametrize("name", DOCUMENT["channels"])
def test_a_channel_says_how_its_topic_is_made(name: str) -> None:
    """The binding has the types that its version 0.5.0 demands, and the values of topics.yaml."""
    topic = TOPICS.by_name(name)
    kafka = dict(DOCUMENT["channels"][name]["bindings"]["kafka"])
    configuration = kafka.pop("topicConfiguration")
    as_declared = {key: text if key != "cleanup.policy" else text.split(",") for key, text in topic.config.items()}

    assert kafka == {
        "topic": name,
        "partitions": topic.partitions,
        "replicas": topic.replication_factor,
        "bindingVersion": "0.5.0",
    }
    assert set(configuration["cleanup.policy"]) <= {"compact", "delete"}
    assert all(type(value) is int for key, value in configuration.items() if key.endswith((".ms", ".bytes")))
    assert {key: value if type(value) is list else str(value) for key, value in configuration.items()} == as_declared


@pytest.mark.parametrize("name", DOCUMENT["channels"])
def test_a_payload_is_the_schema_that_is_on_the_wire(name: str) -> None:
    """A generator finds the whole Avro schema, not a link to a file that it does not have."""
    payload = at(f"#/components/messages/{name}")["payload"]
    file = ROOT / "schemas" / f"{TOPICS.by_name(name).schema}.avsc"

    assert payload["schemaFormat"] == "application/vnd.apache.avro;version=1.9.0"
    assert payload["schema"] == json.loads(file.read_text(encoding="utf-8"))
    assert fastavro.parse_schema(payload["schema"])


def test_the_headers_are_those_of_a_trigger() -> None:
    """A generated subscriber looks for exactly the headers that the outbox writes, with the values it writes."""
    headers = at("#/components/messages/campaign-triggers")["headers"]
    for action in ("send", "retract"):
        trigger = Trigger(
            trigger_id="t1", decision_id="d1", customer_id="ana", campaign="c", channel="email", template="t",
            moment="m", moment_key="", opened_at=0, decided_at=0, valid_until=0, window_until=0,
            definitions_version="v1", action=action,
        )  # fmt: skip
        written = dict(cloud_event(trigger))

        assert headers["required"] == list(headers["properties"]) == list(written)
        for name, allowed in headers["properties"].items():
            assert written[name] in allowed.get("enum", [allowed.get("const", written[name])])


def test_the_description_says_what_subscribers_must_do() -> None:
    """The three duties are where every generated page begins."""
    said = " ".join(DOCUMENT["info"]["description"].split())

    assert "MUST read with `isolation.level=read_committed`" in said
    assert "MUST de-duplicate campaign triggers on (`trigger_id`, `action`)" in said
    assert "MUST honour `retract` and `valid_until`" in said
    assert "partition by murmur2 of the key" in said


def test_the_command_describes_the_topics_as_they_run() -> None:
    """Prefix, partitions and replication of the environment are in the document."""
    given = {"ORCHESTRATOR_TOPIC_PREFIX": "test-", "ORCHESTRATOR_PARTITIONS": "6", "ORCHESTRATOR_REPLICATION": "1"}

    result = CliRunner().invoke(main, ["topics", "asyncapi"], env=given)

    assert result.exit_code == 0, result.output
    channel = yaml.safe_load(result.output)["channels"]["test-campaign-triggers"]
    assert channel["address"] == "test-campaign-triggers"
    assert (channel["bindings"]["kafka"]["partitions"], channel["bindings"]["kafka"]["replicas"]) == (6, 1)
