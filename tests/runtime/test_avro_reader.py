"""Ordinary records are read as fastavro reads them, and everything else is left to it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.runtime.avro import Codec, Record, Undecodable
from orchestrator.runtime.avro_reader import MOST_VALUES, reader
from orchestrator.runtime.intake import _implausible
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topics import load

ROOT = Path(__file__).parents[2]
TOPICS = load(ROOT / "topics.yaml")
CODEC = Codec(FileRegistry(ROOT / "schemas"))
FRAME = b"\x00\x00\x00\x00\x07"

LINE = {"type": "record", "name": "Line", "fields": [{"name": "sku", "type": "string"}, {"name": "n", "type": "int"}]}
EVERYTHING = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Everything",
        "fields": [
            {"name": "text", "type": "string"},
            {"name": "number", "type": {"type": "long"}},
            {"name": "maybe", "type": ["null", "long"]},
            {"name": "word", "type": ["null", "string"]},
            {"name": "share", "type": "double"},
            {"name": "yes", "type": "boolean"},
            {"name": "colour", "type": {"type": "enum", "name": "Colour", "symbols": ["red", "green"]}},
            {"name": "again", "type": ["null", "Colour"]},
            {"name": "first", "type": ["null", LINE]},
            {"name": "lines", "type": {"type": "array", "items": "Line"}},
            {"name": "grid", "type": {"type": "array", "items": {"type": "array", "items": "double"}}},
            {"name": "none", "type": "null"},
        ],
    }
)
READ = reader(EVERYTHING, len(FRAME))


def records(texts: st.SearchStrategy[str], numbers: st.SearchStrategy[int], most: int) -> st.SearchStrategy[Any]:
    """Return records of everything, made of such texts and numbers and lists of so many entries at most."""
    ints = st.integers(-(2**31), 2**31 - 1)
    line = st.fixed_dictionaries({"sku": texts, "n": ints})
    doubles = st.floats(-1e12, 1e12)
    return st.fixed_dictionaries(
        {
            "text": texts,
            "number": numbers,
            "maybe": st.none() | numbers,
            "word": st.none() | texts,
            "share": doubles,
            "yes": st.booleans(),
            "colour": st.sampled_from(["red", "green"]),
            "again": st.none() | st.sampled_from(["red", "green"]),
            "first": st.none() | line,
            "lines": st.lists(line, max_size=most),
            "grid": st.lists(st.lists(doubles, max_size=3), max_size=3),
            "none": st.none(),
        }
    )


ORDINARY = records(st.text(max_size=15), st.integers(-(2**48), 2**48 - 1), 5)
ANY = records(st.text(max_size=200), st.integers(-(2**63), 2**63 - 1), 80)


def written(record: Any) -> bytes:
    """Return a record of everything, framed."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, EVERYTHING, record)
    return FRAME + out.getvalue()


def by_fastavro(data: bytes) -> Any:
    """Return what fastavro reads, None where it cannot read the bytes, or only the first of them."""
    body = io.BytesIO(data[len(FRAME) :])
    try:
        record = fastavro.schemaless_reader(body, EVERYTHING, None)
    except Exception:  # fastavro has many
        return None
    return None if body.read(1) else record


@given(ORDINARY)
def test_an_ordinary_record_is_read(record: Any) -> None:
    """All of it, whatever its type."""
    assert READ is not None
    assert READ(written(record)) == record


@given(ANY)
def test_what_is_read_is_equal_and_plausible(record: Any) -> None:
    """The rest, such as a long text or a huge number, is left to fastavro."""
    assert READ is not None
    read = READ(written(record))

    assert read in (None, record)
    assert read is None or _implausible(read, None) is None


@settings(max_examples=400)
@given(st.data())
def test_mutated_bytes_are_read_as_fastavro_reads_them(data: st.DataObject) -> None:
    """Or not at all: changed, cut, with hostile lengths in them, and with bytes behind the record."""
    changed = bytearray(written(data.draw(ORDINARY)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(len(FRAME), len(changed)))
        hostile = st.sampled_from([b"\xff" * 9 + b"\x01", b"\x80" * 30, b"\x80\x00", b"\x7e", b"\x01"])
        changed[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=9) | hostile)
    assert READ is not None
    read = READ(bytes(changed))

    assert read is None or read == by_fastavro(bytes(changed))


def test_every_cut_record_is_left() -> None:
    """Wherever it ends, and where one byte too many follows."""
    record = {"text": "té", "number": 300, "maybe": 7, "word": None, "share": 0.5, "yes": True, "colour": "green"}
    record |= {"again": "red", "first": {"sku": "a", "n": 1}, "lines": [{"sku": "b", "n": 2}], "grid": [[1.0]]}
    data = written(record)
    assert READ is not None

    assert READ(data) == {**record, "none": None}
    assert READ(data + b"\x00") is None
    assert [end for end in range(len(FRAME), len(data)) if READ(data[:end]) is not None] == []


def test_the_events_of_the_shipped_topics_are_read() -> None:
    """Or the engine would decode each of them at twice the cost, and nobody would see it."""
    event = {"event_id": "e1", "customer_id": "ana", "event_time": 1_700_000_000_000}
    lines = [{"sku": "S1", "quantity": 1, "price": 399, "margin": None}]
    events: dict[str, Record] = {
        "clickstream": {"event": "cart.item_added", "cart_id": "k1", "cart_total": 399},
        "purchases": {"event": "order.placed", "order_id": "o1", "lines": lines, "total": 399},
        "email-engagement": {"event": "message.clicked", "channel": "email"},
    }
    for topic, more in events.items():
        data = CODEC.encoder(TOPICS.by_name(topic))({**event, **more})
        assert CODEC.ordinary_reader(TOPICS.by_name(topic))(data) == CODEC.decoder(TOPICS.by_name(topic))(data)


def test_a_frame_of_another_kind_is_left() -> None:
    """An unknown schema, a GUID, and what is no frame at all."""
    topic = TOPICS.by_name("clickstream")
    read = CODEC.ordinary_reader(topic)
    for data in (b"\x00\x00\x00\x00\x09abc", b"\x01" + bytes(20), b"", b"\x00", b"abc"):
        assert read(data) is None
        with pytest.raises(Undecodable):
            CODEC.decoder(topic)(data)


def _record(name: str, *types: Any) -> dict[str, Any]:
    fields = [{"name": f"f{place}", "type": kind} for place, kind in enumerate(types)]
    return {"type": "record", "name": name, "fields": fields}


def _doubling(depth: int) -> dict[str, Any]:
    return _record(f"R{depth}", "long") if depth == 0 else _record(f"R{depth}", _doubling(depth - 1), f"R{depth - 1}")


def _nested(depth: int) -> Any:
    return "long" if depth == 0 else {"type": "array", "items": _nested(depth - 1)}


@pytest.mark.parametrize(
    "schema",
    [
        _record("Map", {"type": "map", "values": "string"}),
        _record("Bytes", "bytes"),
        _record("Union", ["null", "long", "string"]),
        _record("Turned", ["string", "null"]),
        _record("Wide", *["long"] * MOST_VALUES),
        _record("Deep", _nested(30)),
        _doubling(7),
        _doubling(40),
    ],
    ids=lambda schema: str(schema["name"]),
)
def test_a_schema_of_other_types_or_of_any_size_is_left(schema: Any) -> None:
    """Somebody else's schema must not become code without end."""
    assert reader(fastavro.parse_schema(json.loads(json.dumps(schema))), len(FRAME)) is None


def test_a_field_may_have_any_name() -> None:
    """For names become part of the code: as texts, and nothing else."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "'], x[", "type": "long"}]}
    read = reader(schema, 0)
    assert read is not None

    assert read(b"\x02") == {"'], x[": 1}
