"""The table of fields rendered: the Markdown reference for people, the JSON Schema for their editors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.definitions.catalogue import CATALOGUE, Catalogue
from orchestrator.definitions.codes import CODES
from orchestrator.definitions.content import CONTENT
from orchestrator.definitions.fields import (
    FAMILIES,
    KINDS,
    POLICY_SECTIONS,
    SECTIONS,
    TYPES,
    Field,
    Kind,
)
from orchestrator.definitions.values import WITHOUT_HUNDREDTHS

Schema = dict[str, Any]

_PATTERNS = {
    "duration": "^[0-9]{1,5}[smhdw]$",
    "window": "^([0-9]{1,5}[smhdw]|window)$",
    "offset": "^[+-]?[0-9]{1,4}[hdw]$",
    "days": "^[+-]?[0-9]{1,4}d$",
    "months": "^[0-9]{1,3}m$",
    "percentage": r"^[0-9]{1,3}(\.[0-9]{1,2})?%$",
    "times": r"^[0-9]{1,4}(\.[0-9]{1,3})?x$",
    "time": "^[0-9]{1,2}:[0-9]{2}$",
    "date": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "name": "^[a-z][a-z0-9_]{0,63}$",
    "currency": f"^(?!{'|'.join(sorted(WITHOUT_HUNDREDTHS))})[A-Z]{{3}}$",
    "property": r"^[a-z_.]+\.[a-z_]+$",
    "profile": "^profile\\.",
}
_JSON_TYPES = {"money": "number", "multiple": "number", "count": "integer", "truth": "boolean"}


# --- for people ---------------------------------------------------------------------------------------------------


def markdown(catalogue: Catalogue = CATALOGUE) -> str:
    """Return the reference of every section, kind of object, field, type, event and problem."""
    return "\n".join(_lines(catalogue)) + "\n"


def _lines(catalogue: Catalogue) -> Iterator[str]:
    yield from ("# Reference of the definition language", "", "Made from the table of fields; do not edit.", "")
    yield from ("## Sections of a file", "", "| section | what stands there |", "|---|---|")
    yield from (f"| `{name}` | {description} |" for name, description in SECTIONS.items())
    for kind in KINDS.values():
        yield from ("", *_kind(kind))
    yield from ("", "## Types", "", "| type | how it is written |", "|---|---|")
    yield from (f"| {name} | {_cell(description)} |" for name, description in TYPES.items())
    yield from ("", "## Events", "", "| event | topic | properties |", "|---|---|---|")
    for event in catalogue.events.values():
        properties = ", ".join(f"`{name}` ({kind})" for name, kind in event.properties.items())
        yield f"| `{event.name}` | `{event.topic}` | {properties} |"
    yield from (
        "",
        "## Content",
        "",
        "What `with` may ask for. The engine fills it in as of the decision, into the field `facts` of the trigger; "
        "null or empty is what is not known, and what ends in `?` may be null as well.",
        "",
    )
    yield from ("| content | Avro type | what it is |", "|---|---|---|")
    yield from (f"| `{name}` | `{kind}` | {description} |" for name, (kind, description) in CONTENT.items())
    yield from ("", "## Problems", "", "| code | what it means |", "|---|---|")
    yield from (f"| {code} | {meaning} |" for code, meaning in CODES.items())


def _kind(kind: Kind) -> Iterator[str]:
    family, _, head = kind.name.partition("/")
    yield from (f"## {family} with `{head}`" if head else f"## {kind.name}", "", kind.description, "")
    yield from ("| field | type | default | description | example |", "|---|---|---|---|---|")
    for known in kind.fields:
        spared = "".join(f", or `{other}`" for other in known.spared)
        default = f"required{spared}" if known.required else f"`{known.default}`" if known.default else ""
        yield f"| `{known.name}` | {_type(known)} | {default} | {known.description} | `{_cell(known.example)}` |"
    if kind.planned:
        yield from ("", f"Not supported yet: {', '.join(f'`{name}`' for name in kind.planned)}.")


def _type(known: Field) -> str:
    words = [", ".join(f"`{option}`" for option in known.options)] if known.options else [known.type]
    if known.type == "name" and known.options:
        words.append(known.type)
    if known.kind:
        words = [f"fields of {known.kind}"] + ([] if known.type == "object" else words)
    return " or ".join(words) + (", or a list" if known.many else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# --- for editors --------------------------------------------------------------------------------------------------


def json_schema(catalogue: Catalogue = CATALOGUE) -> Schema:
    """Return the JSON Schema of a file of definitions."""
    named = {"pattern": _PATTERNS["name"]}
    sections: Schema = {
        "features": {"type": "object", "propertyNames": named, "additionalProperties": _ref("feature")},
        "segments": {"type": "object", "propertyNames": named, "additionalProperties": _ref("segment")},
        "moments": {"type": "array", "items": _ref("moment")},
        "campaigns": {"type": "array", "items": _ref("campaign")},
        "policy": _closed({name: _ref(name) for name in POLICY_SECTIONS}),
        **{name: _ref(name) for name in POLICY_SECTIONS},
    }
    for name, schema in sections.items():
        schema["description"] = SECTIONS[name]
    definitions = {_anchor(kind.name): _object(kind, catalogue) for kind in KINDS.values()}
    for family, kinds in FAMILIES.items():
        definitions[family] = {"oneOf": [_ref(kind.name) for kind in kinds]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Journey Orchestrator definitions",
        **_closed(sections),
        "$defs": definitions,
    }


def _anchor(kind: str) -> str:
    return kind.replace("/", ".")


def _ref(kind: str) -> Schema:
    return {"$ref": f"#/$defs/{_anchor(kind)}"}


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _object(kind: Kind, catalogue: Catalogue) -> Schema:
    schema = _closed({known.name: _field(known, catalogue) for known in kind.fields})
    required = [known.name for known in kind.fields if known.required and not known.spared]
    either = [
        {"anyOf": [{"required": [known.name]}, *map(_says, known.spared)]} for known in kind.fields if known.spared
    ]
    return {
        "description": kind.description,
        **schema,
        **({"required": required} if required else {}),
        **({"allOf": either} if either else {}),
    }


def _says(what: str) -> Schema:
    """Return the schema of an object with a field set, or set to a word."""
    name, _, word = what.partition(": ")
    return {"required": [name], **({"properties": {name: {"const": word}}} if word else {})}


def _field(known: Field, catalogue: Catalogue) -> Schema:
    shapes = [_ref(known.kind)] if known.kind else []
    if known.type == "durations":
        duration = {"type": "string", "pattern": _PATTERNS["duration"]}
        shapes.append(_closed(dict.fromkeys(catalogue.topics, duration)))
    elif known.type in ("shares", "amounts", "conditions", "costs"):
        named = {"type": "object", "propertyNames": {"pattern": _PATTERNS["name"]}}
        values: dict[str, Schema] = {"shares": {"type": "number"}, "conditions": {"type": "string"}}
        either: Schema = {"anyOf": [{"type": "number"}, {"type": "string"}]}
        shapes += [{"type": "number"}] if known.type == "costs" else []
        shapes.append({**named, "additionalProperties": values.get(known.type, either)})
    elif known.type != "object":
        shapes.append(_plain(known, catalogue))
    if known.many:
        shapes.append(
            {"type": "array", "minItems": 1, "items": shapes[0] if len(shapes) == 1 else {"anyOf": [*shapes]}}
        )
    schema = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    description = f"{known.description} Like: {known.name}: {known.example}"
    return {**schema, "description": description} if "$ref" not in schema else {
        "allOf": [schema], "description": description,
    }  # fmt: skip


_PLAIN_WORDS = {"true": True, "false": False}
"""Words that are not text to editors."""


def _plain(known: Field, catalogue: Catalogue) -> Schema:
    if known.type == "name" and known.options:
        return {"anyOf": [{"enum": list(known.options)}, {"type": "string", "pattern": _PATTERNS["name"]}]}
    if known.type == "model":
        return {"anyOf": [{"enum": list(known.options)}, {"type": "string", "pattern": "^topic:."}]}
    if known.type == "choice":
        return {"enum": [_PLAIN_WORDS.get(option, option) for option in known.options]}
    if known.type == "event":
        return {"enum": list(catalogue.events)}
    if known.type in _JSON_TYPES:
        return {"type": _JSON_TYPES[known.type]}
    if known.type == "amount":
        return {"anyOf": [{"type": "number"}, {"type": "string"}]}
    pattern = _PATTERNS.get(known.type)
    return {"type": "string"} if pattern is None else {"type": "string", "pattern": pattern}
