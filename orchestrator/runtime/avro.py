"""Bytes to records and back, framed as Confluent does it; whatever cannot be read says why."""

from __future__ import annotations

import io
import struct
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

import fastavro
import msgspec
from fastavro import schemaless_reader, schemaless_writer

from orchestrator.runtime.avro_bounds import unbounded
from orchestrator.runtime.avro_reader import Read, reader
from orchestrator.runtime.avro_writer import writer
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.schema_registry import Schema, SchemaRegistry, UnknownSchema, canonical
from orchestrator.runtime.topic import Topic

Record = dict[str, Any]
Headers = Iterable[tuple[str, bytes | str | None]]
Encode = Callable[[Record], bytes]

SCHEMA_HEADER = "__value_schema_id"
"""Where newer Confluent serialisers put the frame instead of in front of the body."""

_ID_FRAME, _GUID_FRAME = 5, 17
_NOT_SHORT = 0x81
"""The bits of a length's first byte that say it is negative, or goes on in another byte."""
_Reading = tuple[Schema, Schema | None]  # the writer's schema, and ours where the two differ


class Decode(Protocol):
    """Reads one record's value; headers matter only where the frame is in a header."""

    def __call__(self, data: bytes, headers: Headers | None = None) -> Record:
        """Return the record, or raise Undecodable."""


class Undecodable(Exception):  # noqa: N818 (it is data: the content of a dead letter)
    """Why a value could not be read, in the words of a dead letter; `detail` repeats nothing of the value's text."""

    def __init__(
        self, reason: Literal["undecodable", "unknown_schema"], detail: str, schema_id: int | None = None
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.schema_id = schema_id


class Codec:
    """Encoders and decoders of topics over one registry."""

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry

    def encoder(self, topic: Topic) -> Encode:
        """Return a function from record to framed bytes; a field the schema does not have is an error."""
        name = _schema_name(topic)
        frame = struct.pack(">bI", 0, self._registry.id_of(name, topic.name))
        schema = _prepared(self._registry.named(name))

        def encode(record: Record) -> bytes:
            out = io.BytesIO()
            out.write(frame)
            schemaless_writer(out, schema, record, strict_allow_default=True)
            return out.getvalue()

        return encode

    def value_encoder(self, topic: Topic, kind: type[msgspec.Struct]) -> Callable[[Any], bytes]:
        """Return a function from values of our own type to framed bytes, at a third of the cost."""
        name = _schema_name(topic)
        schema = self._registry.named(name)
        differing = {field["name"] for field in schema["fields"]} ^ set(kind.__struct_fields__)
        if differing:
            raise OperatorError(f"schema '{name}' and {kind.__name__} differ in {', '.join(sorted(differing))}")
        return writer(schema, struct.pack(">bI", 0, self._registry.id_of(name, topic.name)))

    def decoder(self, topic: Topic) -> Decode:
        """Return a function from framed bytes to a record of our schema, whichever version wrote it.

        It takes time and memory in proportion to the bytes and raises Undecodable for whatever they hold;
        only a schema registry that does not answer raises OperatorError.
        Records are to be read, not changed: defaults of our newer fields are shared between them.
        Fetching headers costs as much as reading a small record: pass them where frames are known to be there.
        """
        ours = _prepared(self._registry.named(_schema_name(topic)))
        if (reason := unbounded(ours)) is not None:
            raise OperatorError(f"schema '{topic.schema}' cannot be read safely: {reason}", exit_code=USAGE)
        known: dict[bytes, _Reading] = {}

        def reading_of(frame: bytes) -> _Reading:
            reading = known.get(frame)
            if reading is None:
                reading = known[frame] = self._reading(frame, ours)
            return reading

        def decode(data: bytes, headers: Headers | None = None) -> Record:
            frame = data[:_ID_FRAME]
            start = _ID_FRAME
            reading = known.get(frame)
            if reading is None or headers is not None:
                in_header = _frame_in(headers)
                frame, start = _frame_of(data) if in_header is None else (in_header, 0)
                reading = reading_of(frame)
            body = io.BytesIO(data)
            body.seek(start)
            try:
                record: Any = schemaless_reader(body, reading[0], reading[1])
            except Exception as error:
                raise _misfit(data, body.tell(), error, frame, reading[0]) from None
            if body.read(1):
                left = len(data) - body.tell() + 1
                raise Undecodable("undecodable", f"{left} bytes are left after the record", _id(frame))
            return record  # type: ignore[no-any-return]  # the schema is a record, so fastavro returns a dict

        return decode

    def ordinary_reader(self, topic: Topic) -> Read:
        """Return a function that reads ordinary records at half the cost, and returns None for those to be decoded.

        What it returns is what decoding returns, and holds no long text or list and no number beyond the plausible.
        """
        ours = _prepared(self._registry.named(_schema_name(topic)))
        readers: dict[bytes, Read | None] = {}

        def read(data: bytes) -> Record | None:
            frame = data[:_ID_FRAME]
            try:
                known = readers[frame]
            except KeyError:
                known = readers[frame] = self._ordinary_reader(data, ours)
            return None if known is None else known(data)

        return read

    def _ordinary_reader(self, data: bytes, ours: Schema) -> Read | None:
        """Return how to read the records of a frame; None where it has a GUID, or where our schema is another."""
        try:
            frame, start = _frame_of(data)
            theirs, other = self._reading(frame, ours)
        except Undecodable:
            return None
        return reader(theirs, start) if start == _ID_FRAME and other is None else None

    def finder(self, topic: Topic, field: str) -> Callable[[bytes], bytes | None]:
        """Return a function that finds a short text in a record without reading it, None where it takes reading.

        It costs a tenth of what reading costs: enough to drop what nobody asks for.
        """
        ours = _prepared(self._registry.named(_schema_name(topic)))
        texts_before: dict[bytes, int | None] = {}

        def find(data: bytes) -> bytes | None:
            frame = data[:_ID_FRAME]
            try:
                before = texts_before[frame]
            except KeyError:
                before = texts_before[frame] = self._texts_before(data, field, ours)
            if before is None:
                return None
            at = _ID_FRAME
            try:
                for _ in range(before):
                    size = data[at]
                    if size & _NOT_SHORT:
                        return None
                    at += 1 + (size >> 1)
                size = data[at]
            except IndexError:
                return None
            found = data[at + 1 : at + 1 + (size >> 1)]
            return None if size & _NOT_SHORT or len(found) < size >> 1 else found

        return find

    def _texts_before(self, data: bytes, field: str, ours: Schema) -> int | None:
        """Return how many texts come before a text in records of a frame; None where anything else does."""
        try:
            frame, start = _frame_of(data)
            fields = self._reading(frame, ours)[0]["fields"]
        except Undecodable:
            return None
        names = [one["name"] for one in fields]
        if start != _ID_FRAME or field not in names:
            return None
        before = names.index(field)
        return before if all(one["type"] == "string" for one in fields[: before + 1]) else None

    def _reading(self, frame: bytes, ours: Schema) -> _Reading:
        """Return how to read what this frame announces, or raise Undecodable."""
        number = _id(frame)
        try:
            if number is not None:
                found = self._registry.schema(number)
            else:
                found = self._registry.schema_of_guid(str(uuid.UUID(bytes=frame[1:])))
        except UnknownSchema as error:
            raise Undecodable("unknown_schema", str(error), number) from None
        theirs = _prepared(found)
        if not isinstance(theirs, dict) or theirs.get("type") != "record":
            raise Undecodable("unknown_schema", "the writer's schema is not a record", number)
        if (reason := unbounded(theirs)) is not None:
            raise Undecodable("unknown_schema", f"the writer's schema cannot be read safely: {reason}", number)
        return theirs, None if canonical(theirs) == canonical(ours) else ours


def _schema_name(topic: Topic) -> str:
    if topic.schema is None:
        raise OperatorError(f"topic '{topic.name}' has no schema in topics.yaml, so it holds no Avro", exit_code=USAGE)
    return topic.schema


def _prepared(schema: Schema) -> Schema:
    """Return the schema parsed without logical types: values stay numbers and text, whatever a writer annotates.

    A hostile decimal of a megabyte would also take seconds to convert.
    """
    return fastavro.parse_schema(_without_logical_types(schema))


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_logical_types(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = ("logicalType", "precision", "scale")
    return {
        # A default is a value, which may have keys of any name.
        key: value if key == "default" else _without_logical_types(value)
        for key, value in schema.items()
        if key not in dropped and not str(key).startswith("__")
    }


# --- frames: 0x00 and a 32-bit id, or 0x01 and a GUID; in front of the body or in a header ----------------------------


def _frame_of(data: bytes) -> tuple[bytes, int]:
    """Return the frame in front of a body and where the body starts, or raise Undecodable."""
    if not data:
        raise Undecodable("undecodable", "the value is empty")
    length = {0: _ID_FRAME, 1: _GUID_FRAME}.get(data[0])
    if length is None:
        raise Undecodable("undecodable", f"the first byte is 0x{data[0]:02x}, not the 0x00 or 0x01 of a schema id")
    if len(data) < length:
        raise Undecodable("undecodable", f"the value has {len(data)} bytes, fewer than its schema id takes")
    return data[:length], length


def _frame_in(headers: Headers | None) -> bytes | None:
    """Return the frame in a header, or None without such a header."""
    for name, value in headers or ():
        if name == SCHEMA_HEADER and value is not None:
            frame = value.encode() if isinstance(value, str) else value
            if (len(frame), frame[:1]) not in ((_ID_FRAME, b"\x00"), (_GUID_FRAME, b"\x01")):
                raise Undecodable("undecodable", f"the header {SCHEMA_HEADER} holds neither a schema id nor a GUID")
            return frame
    return None


def _id(frame: bytes) -> int | None:
    return int(struct.unpack(">I", frame[1:])[0]) if len(frame) == _ID_FRAME else None


def _misfit(data: bytes, position: int, error: Exception, frame: bytes, schema: Schema) -> Undecodable:
    what = " ".join(str(error).split())[:200]
    if position >= len(data) and isinstance(error, EOFError | IndexError):
        what = "it ends too early"
    elif isinstance(error, UnicodeDecodeError):
        what = "text is not UTF-8"
    return Undecodable(
        "undecodable",
        f"the body does not fit {schema['name']} at byte {position} of {len(data)}: {what or type(error).__name__}",
        _id(frame),
    )
