"""Rows of files that know no schema, made into records of a topic's schema: what fits, and what does not and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

Fit = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Unfit(Exception):  # noqa: N818 (it is data: why a row is left out)
    """Why a row is no record of its topic; the message says the field, and what was expected."""


def fitting(schema: Any) -> Fit:
    """Return a function from a row's value to the value that Avro would have given for this schema.

    Instants may be numbers of milliseconds, times in ISO 8601 (without an offset in UTC) or a column's own times;
    fields that are not there get their default, and those the schema does not have are left out.
    """
    return _fit(schema, {})


def milliseconds(value: object) -> int:
    """Return an instant as milliseconds, from a number, a time, a date or their text; ValueError if it is none."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        since = moment - _EPOCH
        return since.days * 86_400_000 + since.seconds * 1_000 + since.microseconds // 1_000
    if isinstance(value, date):
        return (value - _EPOCH.date()).days * 86_400_000
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(value)
    return int(value)


def _fit(schema: Any, names: dict[str, Fit]) -> Fit:
    if isinstance(schema, list):
        return _union(schema, names)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        return _record(schema, names)
    if kind == "array":
        item = _fit(schema["items"], names)
        return lambda value: [item(one) for one in _a(list, value, "a list")]
    if kind == "map":
        entry = _fit(schema["values"], names)
        return lambda value: {str(name): entry(one) for name, one in _entries(value)}
    if kind == "enum":
        return lambda value: _one_of(schema["symbols"], value)
    if kind in names:
        return lambda value: names[kind](value)
    return _SCALARS[kind]


def _union(schemas: list[Any], names: dict[str, Fit]) -> Fit:
    branches = [_fit(schema, names) for schema in schemas if schema != "null"]
    nullable = len(branches) < len(schemas)

    def fit(value: Any) -> Any:
        if value is None and nullable:
            return None
        for branch in branches[:-1]:
            try:
                return branch(value)
            except Unfit:
                continue
        return branches[-1](value)

    return fit


def _record(schema: Mapping[str, Any], names: dict[str, Fit]) -> Fit:
    fields: list[tuple[str, Fit, bool, Any]] = []

    def fit(value: Any) -> Any:
        row = _a(dict, value, "an object")
        record = {}
        for name, of_field, has_default, default in fields:
            given = row.get(name)
            if given is None and has_default:
                record[name] = default
                continue
            try:
                record[name] = of_field(given)
            except Unfit as error:
                raise Unfit(f"{name}: {error}" if not str(error).startswith("[") else f"{name}{error}") from None
        return record

    names[schema["name"]] = fit  # first, because its fields may refer to it
    fields += [
        (field["name"], _fit(field["type"], names), "default" in field, field.get("default"))
        for field in schema["fields"]
    ]
    return fit


def _a(kind: type, value: Any, said: str) -> Any:
    if not isinstance(value, kind):
        raise Unfit(f"expected {said}, found {_short(value)}")
    return value


def _entries(value: Any) -> list[tuple[Any, Any]]:
    # Parquet has its maps as lists of pairs.
    return list(value.items()) if isinstance(value, dict) else list(_a(list, value, "an object"))


def _whole(value: Any) -> int:
    try:
        return milliseconds(value)
    except ValueError:
        raise Unfit(f"expected a whole number or a time, found {_short(value)}") from None


def _text(value: Any) -> str:
    if isinstance(value, date):  # and datetime, which is one
        return value.isoformat()
    if value is None or isinstance(value, bool | list | dict | bytes):
        raise Unfit(f"expected a text, found {_short(value)}")
    return str(value)


def _one_of(words: list[str], value: Any) -> str:
    if value not in words:
        raise Unfit(f"expected one of {', '.join(words)}, found {_short(value)}")
    return str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit(f"expected a number, found {_short(value)}")
    return float(value)


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):  # as Avro has them in JSON: a character for a byte
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            raise Unfit(f"expected bytes, a character for each, found {_short(value)}") from None
    return bytes(_a(bytes, value, "bytes"))


def _null(value: Any) -> None:
    if value is not None:
        raise Unfit(f"expected nothing, found {_short(value)}")


def _short(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


_SCALARS: Mapping[str, Fit] = {
    "null": _null,
    "boolean": lambda value: _a(bool, value, "true or false"),
    "int": _whole,
    "long": _whole,
    "float": _number,
    "double": _number,
    "string": _text,
    "bytes": _bytes,
}
