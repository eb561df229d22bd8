"""Records on the wire: what is written is read, whatever version wrote it, and hostile bytes do no harm."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import uuid
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.runtime.avro import Codec, Decode, Record, Undecodable
from orchestrator.runtime.avro_bounds import unbounded
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.schema_registry import FileRegistry, Schema, UnknownSchema, schema_id
from orchestrator.runtime.topic import Topic
from orchestrator.runtime.topics import load

ROOT = Path(__file__).parents[2]
TOPICS = load(ROOT / "topics.yaml")
FILES = FileRegistry(ROOT / "schemas")
GUID = uuid.UUID("89791762-2336-4186-9674-299b90a802e2")

CLICK: Record = {
    "event_id": "e1",
    "customer_id": "ana",
    "event": "cart.item_added",
    "event_time": 1_700_000_000_000,
    "sku": "S1",
    "category": None,
    "query": None,
    "cart_id": "k1",
    "quantity": 2,
    "unit_price": 399,
    "cart_total": 798,
}
PURCHASE: Record = {
    "event_id": "e2",
    "customer_id": "ana",
    "event": "order.placed",
    "event_time": 1_700_000_000_000,
    "order_id": "o1",
    "cart_id": None,
    "channel": "web",
    "lines": [{"sku": f"S{line}", "quantity": 1, "price": 399, "margin": None} for line in range(10)],
    "total": 3990,
}


class Registry:
    """Our files, and the schemas a test adds under ids and one GUID."""

    def __init__(self, *schemas: Any) -> None:
        self.added = {schema_id(schema): fastavro.parse_schema(schema) for schema in schemas}
        self.guids: dict[str, Schema] = {}

    def named(self, schema_name: str) -> Schema:
        return FILES.named(schema_name)

    def id_of(self, schema_name: str, topic: str) -> int:
        return FILES.id_of(schema_name, topic)

    def schema(self, schema_id: int) -> Schema:
        return self.added[schema_id] if schema_id in self.added else FILES.schema(schema_id)

    def schema_of_guid(self, guid: str) -> Schema:
        if guid not in self.guids:
            raise UnknownSchema(f"schema GUID {guid} is not there")
        return self.guids[guid]


def source(name: str) -> dict[str, Any]:
    """Return a shipped schema as its file has it."""
    parsed: dict[str, Any] = json.loads((ROOT / "schemas" / f"{name}.avsc").read_text(encoding="utf-8"))
    return parsed


def framed(schema: Any, record: Record) -> bytes:
    """Return a record as a writer with this schema frames it."""
    out = io.BytesIO()
    out.write(struct.pack(">bI", 0, schema_id(schema)))
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


def decoder(topic: str, *schemas: Any) -> Decode:
    """Return the decoder of a shipped topic, to which further writers' schemas are known."""
    return Codec(Registry(*schemas)).decoder(TOPICS.by_name(topic))


def refused(decode: Decode, data: bytes, headers: Any = None) -> Undecodable:
    """Return why the value is not read."""
    with pytest.raises(Undecodable) as caught:
        decode(data, headers)
    return caught.value


# --- what is written is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("topic", "record"), [("clickstream", CLICK), ("purchases", PURCHASE)])
def test_a_record_comes_back_as_it_was_written(topic: str, record: Record) -> None:
    """With the frame Confluent's own clients use."""
    data = Codec(FILES).encoder(TOPICS.by_name(topic))(record)

    assert Codec(FILES).decoder(TOPICS.by_name(topic))(data) == record
    assert data[:5] == struct.pack(">bI", 0, FILES.id_of(TOPICS.by_name(topic).schema or "", topic))


def test_fields_with_a_default_may_be_left_out() -> None:
    """A writer names what it knows."""
    data = Codec(FILES).encoder(TOPICS.triggers)(
        {
            "trigger_id": "t",
            "decision_id": "d",
            "customer_id": "ana",
            "campaign": "c",
            "channel": "email",
            "template": "x",
            "moment": "m",
            "opened_at": 1,
            "decided_at": 2,
            "valid_until": 3,
            "window_until": 4,
            "definitions_version": "v",
        }
    )

    record = Codec(FILES).decoder(TOPICS.triggers)(data)

    assert (record["action"], record["step"], record["content"]) == ("send", "", {})


def test_a_field_the_schema_does_not_have_is_not_dropped_silently() -> None:
    """A misspelt field of ours fails in the first test that writes it."""
    encode = Codec(FILES).encoder(TOPICS.by_name("clickstream"))

    with pytest.raises(ValueError, match="prize"):
        encode({**CLICK, "prize": 1})


def test_an_older_writer_is_read_with_our_defaults() -> None:
    """An input's producer upgrades after us."""
    older = source("clickstream_event")
    older["fields"] = [field for field in older["fields"] if field["name"] != "cart_total"]

    record = decoder("clickstream", older)(framed(older, CLICK))

    assert record == {**CLICK, "cart_total": None}


def test_a_newer_writers_fields_are_left_out() -> None:
    """An input's producer may also upgrade before us."""
    newer = source("clickstream_event")
    newer["fields"] = [{"name": "device", "type": "string"}, *newer["fields"]]

    record = decoder("clickstream", newer)(framed(newer, {**CLICK, "device": "phone"}))

    assert record == CLICK


def test_two_versions_in_one_topic_are_told_apart() -> None:
    """During an upgrade both arrive, record by record."""
    newer = source("clickstream_event")
    newer["fields"] = [*newer["fields"], {"name": "device", "type": "string"}]
    decode = decoder("clickstream", newer)
    ours = Codec(FILES).encoder(TOPICS.by_name("clickstream"))(CLICK)

    for data in (ours, framed(newer, {**CLICK, "device": "phone"})) * 2:
        assert decode(data) == CLICK


def test_a_logical_type_stays_the_number_it_is() -> None:
    """A writer may annotate; `topics.yaml` says the unit of event time."""
    annotated = source("clickstream_event")
    annotated["fields"][3]["type"] = {"type": "long", "logicalType": "timestamp-millis"}

    record = decoder("clickstream", annotated)(framed(annotated, CLICK))

    assert record["event_time"] == CLICK["event_time"]


def test_a_guid_in_front_of_the_body_is_looked_up() -> None:
    """Newer Confluent clients may name schemas by GUID."""
    registry = Registry()
    registry.guids[str(GUID)] = FILES.named("clickstream_event")
    body = framed(source("clickstream_event"), CLICK)[5:]

    decode = Codec(registry).decoder(TOPICS.by_name("clickstream"))

    assert decode(b"\x01" + GUID.bytes + body) == CLICK


@pytest.mark.parametrize("value", [b"\x01" + GUID.bytes, struct.pack(">bI", 0, schema_id(source("clickstream_event")))])
def test_a_frame_in_a_header_leaves_the_body_bare(value: bytes) -> None:
    """Confluent's header serialisers do so, with GUIDs and with ids."""
    registry = Registry()
    registry.guids[str(GUID)] = FILES.named("clickstream_event")
    body = framed(source("clickstream_event"), CLICK)[5:]
    decode = Codec(registry).decoder(TOPICS.by_name("clickstream"))

    assert decode(body, [("trace", b"x"), ("__value_schema_id", value)]) == CLICK


def test_headers_without_a_frame_change_nothing() -> None:
    """Tracing puts headers on every record."""
    decode = decoder("clickstream")

    assert decode(framed(source("clickstream_event"), CLICK), [("traceparent", b"00-1")]) == CLICK


# --- what cannot be read says why -------------------------------------------------------------------------------------


def test_an_unknown_id_is_its_own_reason() -> None:
    """The way out is a schema, not the producer's code."""
    why = refused(decoder("clickstream"), b"\x00\x00\x00\x00\x07body")

    assert (why.reason, why.schema_id) == ("unknown_schema", 7)
    assert "schema id 7" in why.detail


def test_a_guid_without_a_registry_is_an_unknown_schema() -> None:
    """The files know no GUIDs."""
    why = refused(Codec(FILES).decoder(TOPICS.by_name("clickstream")), b"\x01" + GUID.bytes + b"body")

    assert (why.reason, why.schema_id) == ("unknown_schema", None)
    assert "SCHEMA_REGISTRY_URL" in why.detail


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "the value is empty"),
        (b'{"event": 1}', "the first byte is 0x7b, not the 0x00 or 0x01 of a schema id"),
        (b"\x00\x01", "the value has 2 bytes, fewer than its schema id takes"),
        (b"\x01\x01\x01\x01\x01\x01", "the value has 6 bytes, fewer than its schema id takes"),
    ],
)
def test_a_value_without_a_frame_is_named_for_what_it_is(data: bytes, detail: str) -> None:
    """Plain JSON is the usual mistake."""
    why = refused(decoder("clickstream"), data)

    assert (why.reason, why.detail) == ("undecodable", detail)


def test_a_header_that_is_no_frame_is_refused() -> None:
    """Guessing would read another record than was written."""
    why = refused(decoder("clickstream"), b"body", [("__value_schema_id", "seven")])

    assert "__value_schema_id" in why.detail


def test_bytes_after_the_record_are_an_error() -> None:
    """They would be the sign of another schema, read by accident."""
    why = refused(decoder("clickstream"), framed(source("clickstream_event"), CLICK) + b"\x00")

    assert (why.reason, why.detail) == ("undecodable", "1 bytes are left after the record")


def test_a_cut_record_is_an_error() -> None:
    """Not a record with less in it."""
    data = framed(source("clickstream_event"), CLICK)
    decode = decoder("clickstream")

    for length in range(5, len(data)):
        assert refused(decode, data[:length]).reason == "undecodable"


def test_a_writer_whose_schema_does_not_fit_ours_is_an_error() -> None:
    """A required field that the writer never had."""
    other = source("clickstream_event")
    other["fields"] = [field for field in other["fields"] if field["name"] != "event_time"]

    why = refused(decoder("clickstream", other), framed(other, CLICK))

    assert (why.reason, why.schema_id) == ("undecodable", schema_id(other))
    assert "event_time" in why.detail


def test_details_repeat_no_text_of_the_value() -> None:
    """Dead letters' details are logged, and a customer's words are not."""
    data = framed(source("clickstream_event"), {**CLICK, "query": "geheim" * 20})
    decode = decoder("clickstream")

    for position in range(5, len(data)):
        mutated = data[:position] + b"\xff" + data[position + 1 :]
        try:
            decode(mutated)
        except Undecodable as why:
            assert "geheim" not in why.detail


# --- hostile bytes ----------------------------------------------------------------------------------------------------


CLAIMS = [b"\xfe" + b"\xff" * 8 + b"\x01", b"\xff" * 9 + b"\x01", b"\xfe\xff\x7f", b"\x80" * 30]
"""Lengths: the largest, the smallest, a million, and a number without end."""


def test_a_length_beyond_the_bytes_takes_no_memory() -> None:
    """A corrupted length may claim any number of items or bytes."""
    data = framed(source("purchase_event"), {**PURCHASE, "lines": []})
    start = data.index(b"\x06web") + len(b"\x06web")
    decode = decoder("purchases")
    tracemalloc.start()
    began = time.perf_counter()

    for claim in (
        b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xfe\xff\x7f",
    ):
        refused(decode, data[:start] + claim + data[start + 1 :])
        refused(decode, data[:5] + claim + data[6:])

    assert time.perf_counter() - began < 1.0
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def nested(schema: Any) -> dict[str, Any]:
    """Return a writer's schema that has a field of this type."""
    other = source("clickstream_event")
    other["fields"] = [*other["fields"], {"name": "extra", "type": schema}]
    return other


ITSELF = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "array", "items": "null"}, "no bytes"),
        ({"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}}, "no bytes"),
        ({"type": "map", "values": {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}}, "no bytes"),
        (["null", {"type": "array", "items": "null"}], "no bytes"),
        (ITSELF, "contains itself"),
        ({"type": "array", "items": ITSELF}, "contains itself"),
    ],
)
def test_a_schema_under_which_bytes_have_no_bound_is_refused(schema: Any, why: str) -> None:
    """Thirty million items from five bytes, and a crash of the process by depth, were both measured."""
    writer = nested(schema)
    data = struct.pack(">bI", 0, schema_id(writer)) + b"\x00" * 20

    found = refused(decoder("clickstream", writer), data)

    assert found.reason == "unknown_schema"
    assert why in found.detail


def test_every_shipped_schema_is_bounded() -> None:
    """We read none of our own topics with a schema that could be turned against us."""
    for file in (ROOT / "schemas").glob("*.avsc"):
        assert unbounded(fastavro.parse_schema(source(file.stem))) is None


def test_a_topic_without_a_schema_holds_no_avro() -> None:
    """The changelog has a format of its own."""
    with pytest.raises(OperatorError, match="has no schema"):
        Codec(FILES).decoder(TOPICS.changelog)


def _older_purchase() -> dict[str, Any]:
    older = source("purchase_event")
    older["fields"] = [field for field in older["fields"] if field["name"] != "channel"]
    older["fields"].insert(3, {"name": "notes", "type": {"type": "map", "values": {"type": "array", "items": "long"}}})
    return older


OLDER = _older_purchase()
CASES: list[tuple[Topic, Decode, bytes]] = [
    (TOPICS.by_name("clickstream"), decoder("clickstream"), framed(source("clickstream_event"), CLICK)),
    (TOPICS.by_name("purchases"), decoder("purchases"), framed(source("purchase_event"), PURCHASE)),
    (
        TOPICS.by_name("purchases"),
        decoder("purchases", OLDER),
        framed(OLDER, {**PURCHASE, "notes": {"a": [1, 2, 3], "b": []}}),
    ),
    (
        TOPICS.profiles,
        decoder("customer-profiles"),
        framed(
            source("customer_profile"),
            {"customer_id": "ana", "updated_at": 1, "consents": [], "attributes": {}, "birth_date": "1987-02-28"},
        ),
    ),
]


@st.composite
def mutated(draw: st.DrawFn) -> tuple[Decode, bytes]:
    """Draw a valid record with some bytes changed, cut, repeated or replaced by a hostile length."""
    _, decode, data = draw(st.sampled_from(CASES))
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(5, len(changed)))
        piece = draw(
            st.binary(max_size=12) | st.sampled_from([b"\xff" * 9 + b"\x01", b"\xfe" * 9 + b"\x01", b"\x80" * 30])
        )
        changed[at : at + draw(st.integers(0, 8))] = piece
    return decode, bytes(changed)


@settings(max_examples=400, deadline=1_000)
@given(mutated())
def test_mutated_bytes_are_a_record_or_a_reason(case: tuple[Decode, bytes]) -> None:
    """Never another exception, and never longer than the bytes allow."""
    decode, data = case
    try:
        assert isinstance(decode(data), dict)
    except Undecodable as why:
        assert why.reason == "undecodable"
        assert why.detail


@settings(max_examples=200, deadline=1_000)
@given(st.binary(max_size=64), st.none() | st.lists(st.tuples(st.just("__value_schema_id"), st.none() | st.binary())))
def test_any_bytes_are_a_record_or_a_reason(data: bytes, headers: list[tuple[str, bytes | str | None]] | None) -> None:
    """Also when nobody meant them as Avro."""
    try:
        CASES[0][1](data, headers)
    except Undecodable as why:
        assert why.detail


# --- a glance ---------------------------------------------------------------------------------------------------------


def test_a_glance_finds_a_text_without_reading() -> None:
    """The event's name, behind texts of any short length."""
    find = Codec(FILES).finder(TOPICS.by_name("clickstream"), "event")
    for number in (1, 60):
        record = {**CLICK, "event_id": "e" * number}
        assert find(Codec(FILES).encoder(TOPICS.by_name("clickstream"))(record)) == b"cart.item_added"


def test_a_glance_knows_when_it_takes_reading() -> None:
    """A long text, a frame of another kind, a field that is not there or not behind texts alone, and broken bytes."""
    clicks = TOPICS.by_name("clickstream")
    find, encode = Codec(FILES).finder(clicks, "event"), Codec(FILES).encoder(clicks)
    data = encode(CLICK)

    assert find(encode({**CLICK, "customer_id": "c" * 64})) is None
    assert find(encode({**CLICK, "event": "e" * 64})) is None
    assert find(b"\x01" + data[1:]) is None
    assert find(b"\x00\x00\x00\x00\x09" + data[5:]) is None
    assert Codec(FILES).finder(clicks, "sku")(data) is None
    assert Codec(FILES).finder(clicks, "nothing")(data) is None
    assert all(find(data[:end]) is None for end in range(data.index(b"added") + len(b"added")))


@given(st.binary(max_size=60))
def test_a_glance_at_any_bytes_does_no_harm(data: bytes) -> None:
    """Whatever they hold."""
    clicks = TOPICS.by_name("clickstream")
    found = Codec(FILES).finder(clicks, "event")(Codec(FILES).encoder(clicks)(CLICK)[:5] + data)

    assert found is None or found in data
