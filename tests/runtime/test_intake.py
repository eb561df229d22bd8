"""Records to events, and for each kind of record that cannot be used the reason why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.events import ERASED, PROFILE, Event
from orchestrator.runtime.intake import MAX_ITEMS, MAX_NUMBER, MAX_TEXT, DeadLetter, Intake
from orchestrator.runtime.topic import Always, EventMapping, Topics
from tests.builders import ANA, instant
from tests.runtime.messages import (
    CLICKSTREAM,
    CODEC,
    MAX_RECORD_BYTES,
    MAX_SKEW,
    PROFILES,
    PURCHASES,
    TOPICS,
    bought,
    intake,
    item_added,
    message,
    profile,
)

NOW = instant("10:00")


def read(value: bytes | None, topic: str = CLICKSTREAM, key: bytes | None = ANA.encode()) -> Event | DeadLetter:
    """Return what becomes of a record in a step whose newest instant is ten o'clock."""
    return intake().read(topic, message(value, topic=topic, key=key, offset=7), NOW)


def event(value: bytes | None, topic: str = CLICKSTREAM) -> Event:
    """Return the event of a record that can be used."""
    found = read(value, topic)
    assert isinstance(found, Event)
    return found


def letter(value: bytes | None, topic: str = CLICKSTREAM, key: bytes | None = ANA.encode()) -> DeadLetter:
    """Return the dead letter of a record that cannot be used."""
    found = read(value, topic, key)
    assert isinstance(found, DeadLetter)
    return found


def test_a_record_becomes_an_event_with_its_own_time_and_place() -> None:
    """Event time is the payload's; the topic's place orders events of one instant."""
    found = event(item_added("09:00", cart="c9"))

    assert (found.name, found.customer, found.time, found.offset) == ("cart.item_added", ANA, instant("09:00"), 7)
    assert found.data["cart_id"] == "c9"
    assert event(profile(), PROFILES).topic < found.topic < event(bought("09:00"), PURCHASES).topic


def test_a_profile_becomes_an_event_of_when_it_became_true() -> None:
    """However old that is."""
    found = event(profile(at=0), PROFILES)

    assert (found.name, found.time) == (PROFILE, 0)


def test_a_tombstone_of_profiles_erases_at_the_newest_instant() -> None:
    """It says no time of its own."""
    found = event(None, PROFILES)

    assert (found.name, found.customer, found.time, found.offset) == (ERASED, ANA, NOW, 7)


def test_properties_and_units_come_from_the_mapping() -> None:
    """An input that calls things otherwise is declared, not programmed."""
    mapping = EventMapping(Always("shop.looked"), "event_time", "event_id", "customer_id", "s", {"what": "sku"})
    topics = Topics(tuple(replace(topic, events=mapping) if topic.name == CLICKSTREAM else topic for topic in TOPICS))
    own = Intake(topics, CODEC, max_record_bytes=MAX_RECORD_BYTES, max_skew=MAX_SKEW)

    found = own.read(CLICKSTREAM, message(item_added(instant("09:00") // 1000, sku="A1")), NOW)

    assert isinstance(found, Event)
    assert (found.name, found.time, found.data) == ("shop.looked", instant("09:00"), {"what": "A1"})


@pytest.mark.parametrize(
    ("value", "reason", "says"),
    [
        pytest.param(b"\x00\x00", "undecodable", "fewer than its schema id takes", id="a_few_bytes"),
        pytest.param(b"", "undecodable", "empty", id="no_bytes"),
        pytest.param(None, "undecodable", "tombstones", id="a_tombstone"),
        pytest.param(b'{"event": "cart"}', "undecodable", "0x7b", id="json"),
        pytest.param(b"\x00\x00\x00\x00\x05xyz", "unknown_schema", "5", id="an_unknown_schema"),
        pytest.param(item_added()[:-3], "undecodable", "ends too early", id="a_truncated_record"),
        pytest.param(item_added() + b"!", "undecodable", "left after the record", id="a_byte_too_many"),
        pytest.param(item_added(customer="bob"), "missing_customer", "customer_id", id="another_customer"),
        pytest.param(item_added(NOW + MAX_SKEW + 1), "too_far_ahead", "ahead", id="too_far_ahead"),
        pytest.param(item_added(2**62), "too_far_ahead", "ahead", id="the_end_of_time"),
        pytest.param(item_added(NOW // 1000), "too_old", "milliseconds since 1970", id="seconds"),
        pytest.param(item_added(0), "too_old", "before 2000", id="a_default"),
        pytest.param(item_added(-(2**63)), "too_old", "before 2000", id="the_beginning_of_time"),
        pytest.param(item_added(total=MAX_NUMBER + 1), "invalid_value", "cart_total", id="an_absurd_number"),
        pytest.param(item_added(cart="c" * (MAX_TEXT + 1)), "invalid_value", "cart_id", id="an_endless_text"),
        pytest.param(bytes(MAX_RECORD_BYTES + 1), "too_large", "at most", id="one_byte_too_large"),
    ],
)
def test_what_cannot_be_used_says_why(value: bytes | None, reason: str, says: str) -> None:
    """The reason is one of a closed set, the detail is for whoever mends the producer."""
    found = letter(value)

    assert found.reason == reason
    assert says in found.detail


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (None, "no key"),
        (b"", "no key"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 513, "513 bytes"),
        (b"\x00meta", "no customer id"),
        (b"bob", "not the record's key"),
    ],
)
@pytest.mark.parametrize("topic", [CLICKSTREAM, PROFILES])
def test_a_record_without_its_customer_is_a_dead_letter(topic: str, key: bytes | None, says: str) -> None:
    """The key is the customer, in profiles as in events; a key of ours cannot be forged."""
    found = letter(item_added() if topic == CLICKSTREAM else profile(), topic, key)

    assert found.reason == "missing_customer"
    assert says in found.detail


def test_the_bounds_themselves_are_inside() -> None:
    """A value at its bound is used."""
    inside = [
        item_added(NOW + MAX_SKEW),
        item_added(946_684_800_000),
        item_added(total=MAX_NUMBER),
        item_added(cart="c" * MAX_TEXT),
    ]

    assert [isinstance(read(value), Event) for value in inside] == [True] * 4
    exact = intake(max_record_bytes=len(inside[0]))
    assert isinstance(exact.read(CLICKSTREAM, message(inside[0]), NOW), Event)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([{"sku": "A", "quantity": 1, "price": MAX_NUMBER + 1, "margin": None}], "price"),
        ([{"sku": "A" * (MAX_TEXT + 1), "quantity": 1, "price": 1, "margin": None}], "sku"),
        ([{"sku": "A", "quantity": 1, "price": 1, "margin": None}] * (MAX_ITEMS + 1), "1001 entries"),
    ],
)
def test_values_inside_lists_are_looked_at_too(lines: list[dict[str, Any]], says: str) -> None:
    """An order is mostly its lines."""
    found = letter(bought("09:00", lines=lines), PURCHASES)

    assert found.reason == "invalid_value"
    assert says in found.detail


def test_a_profile_with_endless_attributes_is_a_dead_letter() -> None:
    """Attributes are kept with the customer."""
    found = letter(profile(attributes={str(n): "x" for n in range(MAX_ITEMS + 1)}), PROFILES)

    assert found.reason == "invalid_value"


def test_a_profile_of_the_future_is_a_dead_letter() -> None:
    """It would win over every profile until then."""
    assert letter(profile(at=NOW + MAX_SKEW + 1), PROFILES).reason == "too_far_ahead"


def test_a_mapped_field_that_is_empty_is_a_dead_letter() -> None:
    """A schema may allow null where the mapping needs a value."""
    for empty, mapping in (
        ("quantity", EventMapping("event", "quantity", "event_id", "customer_id")),
        ("sku", EventMapping("event", "event_time", "sku", "customer_id")),
    ):
        topics = Topics(
            tuple(replace(topic, events=mapping) if topic.name == CLICKSTREAM else topic for topic in TOPICS)
        )
        own = Intake(topics, CODEC, max_record_bytes=MAX_RECORD_BYTES, max_skew=MAX_SKEW)

        found = own.read(CLICKSTREAM, message(item_added()), NOW)

        assert found == DeadLetter("invalid_value", f"the field {empty} is empty")


def test_nothing_of_a_record_is_repeated_in_the_detail() -> None:
    """Details may be logged by whoever reads dead letters; they hold no customer's data."""
    secret = "someone@example.com"
    values = [
        item_added(customer=secret),
        item_added(customer=secret)[:-2],
        item_added(customer=secret, cart=secret * 1_000),
        item_added("09:00", secret, event=secret, event_id=secret, event_time=5),
    ]

    for value in values:
        assert secret not in letter(value).detail


def test_strangers_are_recognised_by_their_partition() -> None:
    """The declared partitioner says where a customer belongs."""
    own = Intake(TOPICS.with_partitions(4), CODEC, max_record_bytes=MAX_RECORD_BYTES, max_skew=MAX_SKEW)

    assert [own.is_stranger(b"ana", number) for number in range(4)].count(False) == 1
