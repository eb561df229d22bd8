"""Whether bytes of some length can only decode to a value in proportion to that length."""

from __future__ import annotations

from typing import Any

_SMALLEST = {"null": 0, "float": 4, "double": 8}


def unbounded(schema: Any) -> str | None:
    """Return why a few hostile bytes could take all memory or the process under this schema, or None if they cannot.

    An array of items that take no bytes may claim any length, and fastavro reads nested records on the C stack:
    both measured, the second ends in a segmentation fault.
    """
    try:
        _smallest(schema, {}, ())
    except _Unbounded as reason:
        return str(reason)
    return None


class _Unbounded(Exception):  # noqa: N818 (it carries an answer)
    pass


def _smallest(schema: Any, named: dict[str, int], inside: tuple[str, ...]) -> int:
    """Return the fewest bytes a value takes."""
    if isinstance(schema, str):
        if schema in inside:
            raise _Unbounded(f"{schema} contains itself, and the depth of its values has no bound")
        return named.get(schema, _SMALLEST.get(schema, 1))
    if isinstance(schema, list):
        # Every branch is looked at, also when one is empty.
        return 1 + min([_smallest(branch, named, inside) for branch in schema], default=0)
    kind = schema["type"]
    if kind in ("record", "error"):
        fields = [_smallest(field["type"], named, (*inside, schema["name"])) for field in schema["fields"]]
        named[schema["name"]] = sum(fields)
        return sum(fields)
    if kind == "array":
        if _smallest(schema["items"], named, inside) == 0:
            raise _Unbounded("an array's items take no bytes, so its length has no bound")
        return 1
    if kind == "map":
        _smallest(schema["values"], named, inside)
        return 1
    if kind == "fixed":
        named[schema["name"]] = schema["size"]
        return int(schema["size"])
    if kind == "enum":
        named[schema["name"]] = 1
        return 1
    return _smallest(kind, named, inside)
