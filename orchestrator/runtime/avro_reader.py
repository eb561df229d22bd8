"""Reads ordinary records: one function generated per schema, which leaves everything out of the ordinary to fastavro.

fastavro finds out for every value of what type it is to be, and reads a file byte by byte. Nearly all events hold
short texts, small numbers and few lines; that this is so is seen from the lengths in front of them, so a record that
was read here also holds nothing implausible. Values are those of fastavro, which the tests compare.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from orchestrator.runtime.schema_registry import Schema

Read = Callable[[bytes], dict[str, Any] | None]
"""Reads framed bytes; None for whatever else has to look at."""

MOST = 63
"""Bytes of a text and entries of a list that are read here: as many as a length of one byte can say."""

LARGEST = 2**48
"""Numbers of seven bytes lie within it, and so within anything plausible."""

DEEPEST, MOST_VALUES = 8, 300
"""What a schema may hold to be read here: others write them too, and named types make a few lines very long code."""

_LONG = """\
{0} = data[at]
at += 1
if {0} > 127:
    {0} &= 127
    for shift in (7, 14, 21, 28, 35, 42):
        more = data[at]
        at += 1
        {0} |= (more & 127) << shift
        if more < 128:
            break
    else:
        return None
{0} = {0} >> 1 ^ -({0} & 1)"""

_TEXT = """\
size = data[at]
if size & 129:
    return None
at += 1
{0} = data[at : (at := at + (size >> 1))].decode()"""

_DOUBLE = """\
({0},) = double(data, at)
at += 8
if not -largest <= {0} <= largest:
    return None"""

_BOOLEAN = """\
{0} = data[at]
if {0} > 1:
    return None
{0} = {0} == 1
at += 1"""

_SIMPLE = {"string": _TEXT, "long": _LONG, "int": _LONG, "double": _DOUBLE, "boolean": _BOOLEAN, "null": "{0} = None"}


def reader(schema: Schema, start: int) -> Read | None:
    """Return a function that reads a schema's ordinary records behind a frame of some length; None for other types."""
    source = _Source()
    try:
        result = source.value(schema, "v")
    except _UnknownType:
        return None
    lines = [
        "def read(data):",
        f"    at = {start}",
        "    try:",
        *(f"        {line}" for line in result),
        "    except (IndexError, UnicodeDecodeError, error):",
        "        return None",
        "    return v if at == len(data) else None",  # beyond it where a length said more than there is
    ]
    names: dict[str, Any] = {
        "double": struct.Struct("<d").unpack_from,
        "error": struct.error,
        "largest": LARGEST,
        **source.constants,
    }
    exec("\n".join(lines), names)  # noqa: S102 - names of fields appear in it as literals only
    read: Read = names["read"]
    return read


class _UnknownType(Exception):  # noqa: N818 (it says what to leave to fastavro)
    pass


class _Source:
    """The source of the function that reads one schema's records."""

    def __init__(self) -> None:
        self.constants: dict[str, Any] = {}
        self._named: dict[str, Any] = {}
        self._values = 0

    def value(self, kind: Any, name: str, depth: int = 0) -> list[str]:
        """Return the lines that read one value into a variable."""
        self._values += 1
        if depth > DEEPEST or self._values > MOST_VALUES:
            raise _UnknownType
        if isinstance(kind, list):
            return self._optional(kind, name, depth + 1)
        if isinstance(kind, str):
            kind = self._named.get(kind, kind)
        what = kind["type"] if isinstance(kind, dict) else kind
        if not isinstance(what, str):
            return self.value(what, name, depth + 1)
        if what in _SIMPLE:
            return _SIMPLE[what].format(name).splitlines()
        if what == "enum":
            self._named[kind["name"]] = kind
            symbols = f"symbols_{len(self.constants)}"
            self.constants[symbols] = {2 * place: symbol for place, symbol in enumerate(kind["symbols"][: MOST + 1])}
            return [f"{name} = {symbols}.get(data[at])", f"if {name} is None:", "    return None", "at += 1"]
        if what == "array":
            return self._items(kind["items"], name, depth + 1)
        if what == "record":
            self._named[kind["name"]] = kind
            fields = [(field["name"], f"{name}_{place}", field["type"]) for place, field in enumerate(kind["fields"])]
            read = [line for _, variable, type_ in fields for line in self.value(type_, variable, depth + 1)]
            return [*read, f"{name} = {{{', '.join(f'{field!r}: {variable}' for field, variable, _ in fields)}}}"]
        raise _UnknownType

    def _optional(self, kinds: list[Any], name: str, depth: int) -> list[str]:
        if len(kinds) != 2 or kinds[0] != "null":
            raise _UnknownType
        some = [f"    {line}" for line in self.value(kinds[1], name, depth)]
        none = ["elif data[at] == 0:", f"    {name} = None", "    at += 1", "else:", "    return None"]
        return ["if data[at] == 2:", "    at += 1", *some, *none]

    def _items(self, kind: Any, name: str, depth: int) -> list[str]:
        each = [f"    {line}" for line in self.value(kind, f"{name}_item", depth)]
        return [
            f"{name} = []",
            f"{name}_left = data[at]",
            "at += 1",
            f"if {name}_left & 129:",
            "    return None",
            f"for _ in range({name}_left >> 1):",
            *each,
            f"    {name}.append({name}_item)",
            f"if {name}_left:",
            "    if data[at]:",
            "        return None",
            "    at += 1",
        ]
