"""The sender in docs/senders.md, run as it stands there."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.records import Trigger, to_record
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.outbox import cloud_event
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topics import load
from tests.builders import trigger
from tests.test_docs import ROOT, blocks

TOPIC = "campaign-triggers-of-the-documented-sender"


def documented() -> dict[str, Any]:
    """Return what the document's only block of Python defines."""
    (code,) = blocks((ROOT / "docs" / "senders.md").read_text(encoding="utf-8"), "python")
    defined: dict[str, Any] = {}
    exec(compile(code, "docs/senders.md", "exec"), defined)
    return defined


class QuickConsumer(confluent_kafka.Consumer):
    """Joins its group in seconds, also on the embedded broker, which is slow to answer a heartbeat."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings | {"session.timeout.ms": 6_000, "heartbeat.interval.ms": 1_000})


def produce(brokers: str, triggers: list[Trigger]) -> None:
    """Write triggers as the outbox does."""
    encode = Codec(FileRegistry(ROOT / "schemas")).encoder(load(ROOT / "topics.yaml", ROOT / "schemas").triggers)
    producer = confluent_kafka.Producer({"bootstrap.servers": brokers})
    for one in triggers:
        producer.produce(TOPIC, encode(to_record(one)), b"ana", 0, headers=cloud_event(one))
    assert producer.flush(20) == 0


@pytest.mark.broker
def test_the_documented_sender_honours_the_contract(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends each trigger once, takes back what is retracted, leaves all else alone, and goes on where it was."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(confluent_kafka, "Consumer", QuickConsumer)
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap})
    admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])[TOPIC].result(20)
    sent: list[str] = []
    taken_back: list[str] = []

    def follow_until(last: str) -> set[tuple[str, str]]:
        done: set[tuple[str, str]] = set()
        patience = time.monotonic() + 60
        documented()["follow"](
            embedded.bootstrap,
            done,
            lambda one: sent.append(one["trigger_id"]),
            lambda one: taken_back.append(one["trigger_id"]),
            topic=TOPIC,
            enough=lambda: (last, "send") in done or time.monotonic() > patience,
        )
        return done

    stale, retracted = trigger("stale", valid_for=-1), trigger("a", "retract", valid_for=-1)
    audience = [trigger("in", "add"), trigger("in", "remove"), trigger("out", "remove", valid_for=-1)]
    produce(
        embedded.bootstrap,
        [trigger("a"), trigger("a"), stale, retracted, *audience, trigger("newer", "unknown"), trigger("b")],
    )
    done = follow_until("b")

    assert (sent, taken_back) == (["a", "b"], ["a"])
    assert {once for once in done if once[1] in {"send", "retract"}} == {
        ("a", "send"),
        ("stale", "send"),
        ("a", "retract"),
        ("b", "send"),
    }

    produce(embedded.bootstrap, [trigger("c")])
    follow_until("c")

    assert (sent, taken_back) == (["a", "b", "c"], ["a"])


def test_the_documented_headers_are_those_of_a_trigger() -> None:
    """A sender may route and de-duplicate by headers, so the document lists all of them."""
    text = (ROOT / "docs" / "senders.md").read_text(encoding="utf-8")
    headers = dict(cloud_event(trigger("a", action="retract")))

    assert [name for name in headers if f"| `{name}` |" not in text] == []
    assert headers["ce_id"] == "a/retract"
    assert headers["ce_type"] == "journey.campaign-trigger.retract"


def test_the_documented_events_are_those_of_the_schema() -> None:
    """A sender may report just the events that the schema names."""
    schema = json.loads(Path(ROOT / "schemas" / "email_engagement_event.avsc").read_text(encoding="utf-8"))
    (doc,) = [field["doc"] for field in schema["fields"] if field["name"] == "event"]
    text = (ROOT / "docs" / "senders.md").read_text(encoding="utf-8")

    assert [name for name in doc.rstrip(".").replace(" or", ",").split(", ") if f"`{name.strip()}`" not in text] == []
