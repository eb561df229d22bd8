"""Writes our own values as Avro: one function generated per schema, which does only what that schema needs.

fastavro asks every value for its type, and wants dicts. A decision repeats itself: fifty candidates have the same
instants, reasons and checks. So texts and numbers are spelled once, and a tuple that several share is written once.
Bytes are those of fastavro, which the tests compare.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from orchestrator.runtime.schema_registry import Schema

REMEMBERED = 8_192
"""Texts and numbers whose spelling is kept; then all are forgotten, for ids of customers never come to an end."""

_SIMPLE = {"string": "texts[{0}]", "long": "longs[{0}]", "int": "longs[{0}]", "double": "doubles[{0}]"}


class _Spelled(dict[Any, bytes]):
    """How values are spelled, as far as they were met."""

    def __init__(self, spell: Callable[[Any], bytes]) -> None:
        super().__init__()
        self._spell = spell

    def __missing__(self, value: Any) -> bytes:
        if len(self) >= REMEMBERED:
            self.clear()
        found = self[value] = self._spell(value)
        return found


def spell_long(value: int) -> bytes:
    """Return a number as Avro writes it: zigzag, seven bits a byte."""
    if not -(2**63) <= value < 2**63:
        raise OverflowError(f"{value} does not fit 64 bits")
    left = (value << 1) ^ (value >> 63)
    out = bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    out.append(left)
    return bytes(out)


def spell_text(value: str) -> bytes:
    """Return a text as Avro writes it, its length in front."""
    data = value.encode()
    return spell_long(len(data)) + data


def writer(schema: Schema, frame: bytes) -> Callable[[Any], bytes]:
    """Return a function from a value, with the schema's fields as attributes, to framed bytes."""
    source = _Source(schema)
    names: dict[str, Any] = {
        "texts": _Spelled(spell_text),
        "longs": _Spelled(spell_long),
        "doubles": _Spelled(struct.Struct("<d").pack),
        **source.constants,
    }
    exec("\n".join(source.lines), names)  # noqa: S102 - the source is made from our own schema, here
    write: Callable[[Any, Callable[[bytes], None]], None] = names[source.entry]

    def encode(value: Any) -> bytes:
        out = [frame]
        write(value, out.append)
        return b"".join(out)

    return encode


class _Source:
    """The source of the functions that write one schema's records, one function per record."""

    def __init__(self, schema: Schema) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self._named: dict[str, Schema] = {}
        self._depth = 0
        self.entry = self._record(schema)

    def _record(self, schema: Any) -> str:
        """Add the function that writes a record; return its name."""
        function = f"write_{schema['name'].rpartition('.')[2]}"
        body: list[str] = []
        for place, field in enumerate(schema["fields"]):
            body += self._value(field["type"], f"value.{field['name']}", f"v{place}")
        self.lines += [f"def {function}(value, add):", *(f"    {line}" for line in body)]
        return function

    def _value(self, kind: Any, read: str, name: str) -> list[str]:
        """Return the lines that add one value."""
        if isinstance(kind, list):
            null, other = kind
            if kind == ["double", "string"]:
                return [
                    f"{name} = {read}",
                    f"if type({name}) is float:",
                    f"    add(b'\\x00' + doubles[{name}])",
                    "else:",
                    f"    add(b'\\x02' + texts[{name}])",
                ]
            if null != "null":
                raise ValueError(f"a union of {kind} cannot be written")
            inner = [f"    {line}" for line in self._value(other, name, f"{name}_")]
            return [
                f"{name} = {read}",
                f"if {name} is None:",
                "    add(b'\\x00')",
                "else:",
                "    add(b'\\x02')",
                *inner,
            ]
        if isinstance(kind, str) and kind in self._named:
            kind = self._named[kind]
        what = kind["type"] if isinstance(kind, dict) else kind
        if what in _SIMPLE:
            return [f"add({_SIMPLE[what].format(read)})"]
        if what == "boolean":
            return [f"add(b'\\x01' if {read} else b'\\x00')"]
        if what == "enum":
            symbols = f"symbols_{len(self.constants)}"
            self.constants[symbols] = {symbol: spell_long(place) for place, symbol in enumerate(kind["symbols"])}
            return [f"add({symbols}[{read}])"]
        if what == "array":
            return self._items(kind["items"], read, name)
        if what == "map":
            each = self._value(kind["values"], f"{name}_value", f"{name}__")
            loop = [f"    for {name}_key, {name}_value in {name}.items():", f"        add(texts[{name}_key])"]
            return self._block(read, name, [*loop, *(f"        {line}" for line in each)])
        if what == "record":
            self._named[kind["name"]] = kind
            return [f"{self._record(kind)}({read}, add)"]
        raise ValueError(f"a {what} cannot be written")

    def _items(self, kind: Any, read: str, name: str) -> list[str]:
        self._depth += 1
        each = self._value(kind, f"{name}_item", f"{name}__")
        self._depth -= 1
        block = self._block(read, name, [f"    for {name}_item in {name}:", *(f"        {line}" for line in each)])
        if self._depth == 0:
            return block
        kept = f"kept_{len(self.constants)}"
        self.constants[kept] = [None, b""]  # the last one written: candidates side by side share theirs
        return [
            f"if {read} is not {kept}[0]:",
            "    part, before = [], add",
            "    add = part.append",
            *(f"    {line}" for line in block),
            "    add = before",
            f"    {kept}[:] = {name}, b''.join(part)",
            f"add({kept}[1])",
        ]

    @staticmethod
    def _block(read: str, name: str, loop: list[str]) -> list[str]:
        return [f"{name} = {read}", f"if {name}:", f"    add(longs[len({name})])", *loop, "add(b'\\x00')"]
