"""Records to events: what can be used, and for everything else the dead letter that says why it could not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final, NamedTuple

from confluent_kafka import Message

from orchestrator.events import ERASED, PROFILE, Event
from orchestrator.runtime.avro import Codec, Decode, Undecodable
from orchestrator.runtime.avro_reader import Read
from orchestrator.runtime.partitioner import partition_of
from orchestrator.runtime.topic import Always, EventMapping, Topic, Topics

OLDEST: Final = 946_684_800_000
"""2000-01-01: an event before it carries seconds, or a default, instead of milliseconds."""

MAX_CUSTOMER_BYTES: Final = 512

MAX_NUMBER: Final = 10**15
"""Larger than any price, count or instant in milliseconds; sums of thousands still fit 64 bits."""

MAX_TEXT: Final = 8_192
MAX_ITEMS: Final = 1_000
"""Characters of a text and entries of a list or map: a few extreme records must not fill a customer's state."""


_CUSTOMER_FIELD: Final = "customer_id"
"""Where a profile names its customer."""


class DeadLetter(NamedTuple):
    """Why a record could not be used."""

    reason: str
    detail: str


class _Source(NamedTuple):
    place: int
    read: Read  # reads ordinary records, which are plausible too
    decode: Decode
    mapping: EventMapping | None  # None for profiles
    name: str | None  # the one name all of its events have
    glance: Callable[[bytes], bytes | None] | None  # finds an event's name without reading the record


class Intake:
    """Decodes the records of all inputs of one partition count."""

    def __init__(self, topics: Topics, codec: Codec, *, max_record_bytes: int, max_skew: int) -> None:
        """Take every input and the profiles; `max_skew` is how far ahead of its step an event may be, milliseconds."""
        self.partitions = topics.partitions
        self._max_bytes = max_record_bytes
        self._max_skew = max_skew
        self._sources: dict[str, _Source] = {}
        self.topic_names = tuple(topic.name for topic in sources_of(topics))
        """By an event's topic, which is its place among them."""
        for place, topic in enumerate((topics.profiles, *topics.inputs)):
            name = topic.events.name.name if topic.events and isinstance(topic.events.name, Always) else None
            named_by = None if topic.events is None or name is not None else topic.events.name
            glance = codec.finder(topic, named_by) if isinstance(named_by, str) else None
            self._sources[topic.name] = _Source(
                place, codec.ordinary_reader(topic), codec.decoder(topic), topic.events, name, glance
            )

    def read(self, topic: str, message: Message, newest: int) -> Event | DeadLetter:
        """Return the event of a record, or why there is none; `newest` is the step's newest instant."""
        source = self._sources[topic]
        key, value = message.key(), message.value()
        if not key:
            return DeadLetter("missing_customer", "the record has no key; the key must be the customer's id")
        assert isinstance(key, bytes)
        if value is not None and len(value) > self._max_bytes:
            return DeadLetter("too_large", f"the record has {len(value)} bytes, at most {self._max_bytes} are read")
        try:
            customer = key.decode()
        except UnicodeDecodeError:
            return DeadLetter("missing_customer", "the key is not UTF-8; the key must be the customer's id")
        if len(key) > MAX_CUSTOMER_BYTES or key[0] == 0:
            return DeadLetter("missing_customer", f"the key is no customer id: {len(key)} bytes")
        offset = message.offset() or 0
        if value is None:
            if source.mapping is None:
                return Event(ERASED, customer, newest, "", source.place, offset)
            return DeadLetter("undecodable", "the value is empty; only customer-profiles has tombstones")
        assert isinstance(value, bytes)
        ordinary = source.read(value)
        try:
            record = source.decode(value) if ordinary is None else ordinary
        except Undecodable as error:
            return DeadLetter(error.reason, error.detail)
        mapping = source.mapping
        owner = _CUSTOMER_FIELD if mapping is None else mapping.customer
        if str(record[owner]) != customer:
            return DeadLetter("missing_customer", f"the field {owner} is not the record's key")
        odd = _odd(source, record) if ordinary is None else None
        return self._event(source, customer, record, offset, newest) if odd is None else odd

    def glance(self, topic: str) -> Callable[[bytes], bytes | None] | None:
        """Return what finds an event's name in a topic's records without reading them, None where each has the same."""
        return self._sources[topic].glance

    def take(self, topic: str, record: dict[str, Any], offset: int, newest: int) -> Event | DeadLetter:
        """Return the event of a record that was read from elsewhere than its topic, or why there is none."""
        source = self._sources[topic]
        customer = str(record[_CUSTOMER_FIELD if source.mapping is None else source.mapping.customer])
        key = customer.encode(errors="replace")
        if not key or len(key) > MAX_CUSTOMER_BYTES or key[0] == 0:
            return DeadLetter("missing_customer", f"the key is no customer id: {len(key)} bytes")
        odd = _odd(source, record)
        return self._event(source, customer, record, offset, newest) if odd is None else odd

    def _event(
        self, source: _Source, customer: str, record: dict[str, Any], offset: int, newest: int
    ) -> Event | DeadLetter:
        mapping = source.mapping
        if mapping is None:
            return self._checked(
                Event(PROFILE, customer, record["updated_at"], "", source.place, offset, record), newest
            )
        time, number = record[mapping.time], record[mapping.id]
        if time is None or number is None:
            return DeadLetter("invalid_value", f"the field {mapping.time if time is None else mapping.id} is empty")
        event = Event(
            source.name or record[mapping.name],  # type: ignore[index]  # one of the two is set
            customer,
            time if mapping.time_unit == "ms" and type(time) is int else mapping.milliseconds(time),
            str(number),
            source.place,
            offset,
            record if mapping.properties is None else _renamed(record, mapping.properties),
        )
        return self._checked(event, newest)

    def is_stranger(self, key: bytes, partition: int) -> bool:
        """Return whether a customer does not belong to a partition; senders must use the declared partitioner."""
        return partition_of(key, self.partitions) != partition

    def _checked(self, event: Event, newest: int) -> Event | DeadLetter:
        if event.time > newest + self._max_skew > 0:
            ahead = (event.time - newest) // 1000
            return DeadLetter("too_far_ahead", f"its time is {ahead} s ahead of the step it arrived in")
        # A profile's date is when it became true; a false default there only means that it is old.
        if event.time < OLDEST and event.name != PROFILE:
            return DeadLetter("too_old", f"its time {event.time} is before 2000; it must be milliseconds since 1970")
        return event


def _renamed(record: Mapping[str, Any], properties: Mapping[str, str]) -> dict[str, Any]:
    return {name: record.get(field) for name, field in properties.items()}


def _odd(source: _Source, record: Mapping[str, Any]) -> DeadLetter | None:
    """Return the dead letter of a record that holds what no honest one does, None for all others."""
    odd = _implausible(record, None if source.mapping is None else source.mapping.time)
    return None if odd is None else DeadLetter("invalid_value", odd)


def _implausible(record: Mapping[str, Any], time: str | None) -> str | None:
    """Return what is wrong with a value that no honest record holds, or None; the event's time has its own checks."""
    for name, value in record.items():
        kind = type(value)
        if kind is str:
            if len(value) > MAX_TEXT:
                return f"the text in {name} has {len(value)} characters, at most {MAX_TEXT} are taken"
        elif kind is int:
            if not -MAX_NUMBER <= value <= MAX_NUMBER and name != time:
                return f"the number in {name} is beyond {MAX_NUMBER}"
        elif kind is float:
            if not -MAX_NUMBER <= value <= MAX_NUMBER and (name != time or not isfinite(value)):
                return f"the number in {name} is beyond {MAX_NUMBER} or none at all"
        elif kind is list or kind is dict:
            if len(value) > MAX_ITEMS:
                return f"{name} has {len(value)} entries, at most {MAX_ITEMS} are taken"
            for item in (value,) if kind is dict else value:
                odd = _implausible(item if type(item) is dict else {name: item}, None)
                if odd is not None:
                    return odd
    return None


def sources_of(topics: Topics) -> tuple[Topic, ...]:
    """Return the topics that the firehose consists of, profiles first: at one instant they are known before events."""
    return (topics.profiles, *topics.inputs)
