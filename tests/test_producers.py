"""The producer in docs/producers.md, run as it stands there, and what the page says of the engine's intake."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.contact import learn_profile
from orchestrator.customer import Customer
from orchestrator.engine import MAX_SEEN
from orchestrator.events import ERASED, PROFILE, Event
from orchestrator.runtime.avro import SCHEMA_HEADER, Codec
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.intake import MAX_CUSTOMER_BYTES, MAX_ITEMS, MAX_TEXT, DeadLetter, Intake
from orchestrator.runtime.partitioner import murmur2_partition
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topics import load
from tests.runtime.messages import encoded, intake, message
from tests.test_docs import ROOT, blocks

PAGE = (ROOT / "docs" / "producers.md").read_text(encoding="utf-8")
PARTITIONS = 12
NEITHER_FIRST_NOR_LAST = "customer-4711"


def documented() -> dict[str, Any]:
    """Return what the document's only block of Python defines."""
    (code,) = blocks(PAGE, "python")
    defined: dict[str, Any] = {}
    exec(compile(code, "docs/producers.md", "exec"), defined)
    return defined


def records(brokers: str, topic: str) -> list[Message]:
    """Return everything in a topic."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "none", "auto.offset.reset": "earliest"})
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        found: list[Message] = []
        patience = time.monotonic() + 30
        while not found and time.monotonic() < patience:
            found += [one for one in consumer.consume(10, 1) if one.error() is None]
        return found
    finally:
        consumer.close()


@pytest.mark.broker
def test_the_documented_producer_is_understood(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its event and its profile lie in their customer's partition, and the engine reads both as they were meant."""
    monkeypatch.chdir(ROOT)
    prefix = f"producer-{uuid.uuid4().hex[:6]}-"
    topics = load(ROOT / "topics.yaml", ROOT / "schemas").with_partitions(PARTITIONS, 1).with_prefix(prefix)
    names = [f"{prefix}customer-profiles", f"{prefix}clickstream"]
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap})
    for made in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
        made.result(20)

    documented()["send"](embedded.bootstrap, NEITHER_FIRST_NOR_LAST, prefix)

    read = Intake(topics, Codec(FileRegistry(ROOT / "schemas")), max_record_bytes=1 << 20, max_skew=0)
    ((sent_profile,), (sent_event,)) = (records(embedded.bootstrap, name) for name in names)
    place = murmur2_partition(NEITHER_FIRST_NOR_LAST.encode(), PARTITIONS)
    now = int(time.time() * 1000)
    profile, event = (read.read(name, one, now) for name, one in zip(names, (sent_profile, sent_event), strict=True))
    assert isinstance(profile, Event)
    assert isinstance(event, Event)
    customer = Customer()
    learn_profile(customer, profile)

    assert (sent_profile.partition(), sent_event.partition()) == (place, place)
    assert (profile.name, profile.customer) == (PROFILE, NEITHER_FIRST_NOR_LAST)
    assert customer.consents == {"email/marketing": (True, profile.time)}
    assert customer.profile is not None
    assert (customer.profile.time_zone, customer.profile.birth_date) == ("Europe/Madrid", "1987-02-28")
    assert (event.name, event.customer) == ("cart.item_added", NEITHER_FIRST_NOR_LAST)
    assert event.id == f"cart-17/{event.time}"
    assert event.data["cart_total"] == 4_990


def test_a_misspelt_field_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample does not lose silently what the schema does not have."""
    monkeypatch.chdir(ROOT)
    encode = documented()["encoder"]("schemas/product.avsc")

    with pytest.raises(ValueError, match="stcok"):
        encode({"sku": "LAMP", "effective_from": 1, "stcok": 3})


def test_without_a_delivery_the_sample_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the brokers do not take is an error, not a silence."""
    monkeypatch.chdir(ROOT)

    class Refusing:
        def __init__(self, settings: dict[str, Any]) -> None:
            assert settings["partitioner"] == "murmur2_random"

        def produce(self, *_: Any, on_delivery: Any) -> None:
            on_delivery(confluent_kafka.KafkaError(confluent_kafka.KafkaError._MSG_TIMED_OUT), None)

        def flush(self, _: float) -> int:
            return 0

    monkeypatch.setattr(confluent_kafka, "Producer", Refusing)

    with pytest.raises(RuntimeError, match="not delivered"):
        documented()["send"]("nowhere:9092", "ana")


def test_a_frame_in_a_header_is_not_read() -> None:
    """The page says that the frame has to stand in front of the record."""
    value = encoded("clickstream", {"event_id": "e", "customer_id": "c-ana", "event": "site.visited", "event_time": 1})
    answer = intake().read(
        "clickstream", message(value[5:], key=b"c-ana", headers=[(SCHEMA_HEADER, value[:5])]), 10**12
    )

    assert f"`{SCHEMA_HEADER}`" in PAGE
    assert isinstance(answer, DeadLetter)
    assert answer.reason == "undecodable"


def test_a_profile_without_value_erases_and_an_event_without_value_is_a_dead_letter() -> None:
    """Only profiles have tombstones."""
    erased = intake().read("customer-profiles", message(None, topic="customer-profiles"), 10**12)
    refused = intake().read("clickstream", message(None), 10**12)

    assert isinstance(erased, Event)
    assert erased.name == ERASED
    assert isinstance(refused, DeadLetter)


def test_the_documented_topics_are_all_that_others_write() -> None:
    """A producer finds every input and profile, products, and the retention of each input."""
    topics = load(ROOT / "topics.yaml", ROOT / "schemas")
    listed = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    days = {topic.name: int(topic.config["retention.ms"]) // 86_400_000 for topic in topics.inputs}

    assert listed == [*(topic.name for topic in topics.inputs), topics.profiles.name, "products"]
    assert days == {"clickstream": 14, "purchases": 400, "email-engagement": 90}
    assert "14 days for `clickstream`, 400 for `purchases`, 90 for `email-engagement`" in PAGE


def test_the_documented_limits_are_those_of_the_intake() -> None:
    """The numbers on the page are the code's."""
    assert f"{MAX_CUSTOMER_BYTES} bytes" in PAGE
    assert f"last {MAX_SEEN}" in PAGE
    assert f"{MAX_TEXT:,} characters" in PAGE
    assert f"{MAX_ITEMS:,} entries" in PAGE
