"""Schemas change only as schemas/README.md allows: outputs FULL_TRANSITIVE, inputs BACKWARD_TRANSITIVE.

Each schema is compared with its copy in every folder of `schemas/released/`. The rules say what changed and is not
allowed; the trial writes generated records with one version and reads them with the other.
"""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest

from orchestrator.runtime.avro import Codec
from orchestrator.runtime.schema_registry import FileRegistry, schema_id
from orchestrator.runtime.topics import load

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = ROOT / "schemas"
RELEASED = sorted(SCHEMAS.glob("released/*/*.avsc"))
TOPICS = load(ROOT / "topics.yaml", SCHEMAS)
OUTPUT_ROLES = ("triggers", "decisions", "outcomes", "active", "dead_letters")
OUTPUTS = {topic.schema for role in OUTPUT_ROLES for topic in TOPICS.by_role(role)}
TRIALS = 60

Schema = Any


def read(path: Path) -> Schema:
    """Return a schema as it is written."""
    return json.loads(path.read_text(encoding="utf-8"))


def identity(path: Path) -> str:
    """Return a released schema's name for the list of tests."""
    return f"{path.parent.name}/{path.stem}"


# --- the rules --------------------------------------------------------------------------------------------------------


def broken_rules(released: Schema, current: Schema, place: str = "") -> Iterator[str]:
    """Yield what changed since a release and may not have, with its place."""
    if isinstance(released, dict) and isinstance(current, dict) and released["type"] == current["type"]:
        if released.get("name") != current.get("name"):
            yield f"{place}: the type '{released.get('name')}' was renamed"
        kind = released["type"]
        if kind == "record":
            yield from _broken_in_record(released, current, place)
        elif kind == "enum":
            yield from _broken_in_enum(released, current, place)
        elif kind in ("array", "map"):
            part = "items" if kind == "array" else "values"
            yield from broken_rules(released[part], current[part], f"{place}[]")
    elif isinstance(released, list) and isinstance(current, list) and len(released) == len(current):
        for ours, theirs in zip(released, current, strict=True):
            yield from broken_rules(ours, theirs, place)
    elif released != current:
        yield f"{place}: the type changed"


def _broken_in_record(released: Schema, current: Schema, place: str) -> Iterator[str]:
    was = {field["name"]: field for field in released["fields"]}
    now = {field["name"]: field for field in current["fields"]}
    for name, field in was.items():
        at = f"{place}.{name}"
        if name not in now:
            yield f"{at}: the field was removed or renamed"
            continue
        if "default" in field and "default" not in now[name]:
            yield f"{at}: the field lost its default"
        yield from broken_rules(field["type"], now[name]["type"], at)
    for name in now.keys() - was.keys():
        if "default" not in now[name]:
            yield f"{place}.{name}: the new field has no default"


def _broken_in_enum(released: Schema, current: Schema, place: str) -> Iterator[str]:
    if set(released["symbols"]) - set(current["symbols"]):
        yield f"{place}: a symbol was removed or renamed"
    if set(current["symbols"]) - set(released["symbols"]) and "default" not in released:
        yield f"{place}: there is a new symbol, and released readers have no default for it"
    if "default" in released and "default" not in current:
        yield f"{place}: the enum lost its default"


# --- the trial --------------------------------------------------------------------------------------------------------


def misreadings(writer: Schema, reader: Schema) -> Iterator[str]:
    """Yield what goes wrong when generated records of one version are read with the other."""
    # Parsing notes named types on the schema itself, and both may share parts.
    written, wanted = fastavro.parse_schema(copy.deepcopy(writer)), fastavro.parse_schema(copy.deepcopy(reader))
    chance, plain, fields = random.Random(writer["name"]), written_out(writer), wanted_of(written_out(reader))
    for _ in range(TRIALS):
        record = generated(plain, chance)
        body = io.BytesIO()
        fastavro.schemaless_writer(body, written, record)
        body.seek(0)
        try:
            found: Any = fastavro.schemaless_reader(body, written, wanted)
        except Exception as error:
            yield f"{type(error).__name__}: {error}"
            return
        yield from differences(record, found, fields)


def written_out(schema: Schema, named: dict[str, Schema] | None = None) -> Schema:
    """Return a schema in which every type stands where it is used, also where it is only named."""
    named = {} if named is None else named
    if isinstance(schema, list):
        return [written_out(branch, named) for branch in schema]
    if isinstance(schema, str):
        return named.get(schema, schema)
    found = {part: written_out(schema[part], named) if part in ("items", "values") else schema[part] for part in schema}
    if schema["type"] == "record":
        found["fields"] = [{**field, "type": written_out(field["type"], named)} for field in schema["fields"]]
        named[schema["name"]] = found
    return found


def generated(schema: Schema, chance: random.Random) -> Any:
    """Return a value of a schema: every branch, symbol and length turns up sooner or later."""
    if isinstance(schema, list):
        return generated(chance.choice(schema), chance)
    kind = schema["type"] if isinstance(schema, dict) else schema
    match kind:
        case "record":
            return {field["name"]: generated(field["type"], chance) for field in schema["fields"]}
        case "enum":
            return chance.choice(schema["symbols"])
        case "array":
            return [generated(schema["items"], chance) for _ in range(chance.randrange(4))]
        case "map":
            return {f"k{n}": generated(schema["values"], chance) for n in range(chance.randrange(4))}
        case "null":
            return None
        case "boolean":
            return chance.random() < 0.5
        case "int":
            return chance.choice([0, -1, 2**31 - 1, -(2**31), chance.randrange(10_000)])
        case "long":
            return chance.choice([0, -1, 2**63 - 1, -(2**63), chance.randrange(10**13)])
        case "double":
            return chance.choice([0.0, -1.5, chance.random()])
        case "string":
            return chance.choice(["", "Zoë ☕", f"s{chance.randrange(1000)}"])
        case "bytes":
            return chance.randbytes(chance.randrange(9))
    raise AssertionError(f"no value of {kind} can be made: teach this function the type")


def wanted_of(reader: Schema) -> dict[str, Any]:
    """Return a record's fields by name."""
    return {field["name"]: field for field in reader["fields"]}


def differences(written: dict[str, Any], found: dict[str, Any], fields: dict[str, Any]) -> Iterator[str]:
    """Yield what was read otherwise than written; what only the reader knows is its default."""
    for name, field in fields.items():
        if name not in written:
            if found[name] != field["default"]:
                yield f"{name}: read {found[name]!r}, its default is {field['default']!r}"
        elif not same(written[name], found[name], field["type"]):
            yield f"{name}: written {written[name]!r}, read {found[name]!r}"


def same(written: Any, found: Any, schema: Schema) -> bool:
    """Return whether a reader found what was written, as far as its schema goes."""
    if isinstance(schema, list):
        return any(same(written, found, branch) for branch in schema)
    if isinstance(schema, dict):
        if schema["type"] == "record" and isinstance(written, dict):
            return not list(differences(written, found, wanted_of(schema)))
        if schema["type"] == "enum" and written not in schema["symbols"]:
            return bool(found == schema.get("default"))
        if schema["type"] == "array" and isinstance(written, list):
            pairs = list(zip(written, found, strict=False))
            return len(written) == len(found) and all(same(was, now, schema["items"]) for was, now in pairs)
    return bool(written == found)


# --- the promises -----------------------------------------------------------------------------------------------------


def test_there_is_a_release_to_compare_with() -> None:
    """The folder of releases is not lost, and each release has every schema of its outputs."""
    assert RELEASED
    for release in SCHEMAS.glob("released/*/"):
        assert {path.stem for path in release.glob("*.avsc")} >= OUTPUTS


@pytest.mark.parametrize("path", RELEASED, ids=identity)
def test_only_what_is_allowed_has_changed(path: Path) -> None:
    """No field or symbol was removed, renamed or retyped; new ones have defaults."""
    assert list(broken_rules(read(path), read(SCHEMAS / path.name))) == []


@pytest.mark.parametrize("path", RELEASED, ids=identity)
def test_current_readers_read_what_released_writers_wrote(path: Path) -> None:
    """BACKWARD_TRANSITIVE, for inputs and outputs: old records in a topic stay readable."""
    assert list(misreadings(read(path), read(SCHEMAS / path.name))) == []


@pytest.mark.parametrize("path", [path for path in RELEASED if path.stem in OUTPUTS], ids=identity)
def test_released_readers_read_what_current_writers_write(path: Path) -> None:
    """FULL_TRANSITIVE, for outputs: senders upgrade when they like."""
    assert list(misreadings(read(SCHEMAS / path.name), read(path))) == []


@pytest.mark.parametrize("path", RELEASED, ids=identity)
def test_a_record_of_a_released_writer_is_read_by_its_id(path: Path) -> None:
    """Without a registry server the id alone leads to the released schema, as long as its file is kept."""
    registry = FileRegistry(SCHEMAS)
    topic = next(topic for topic in TOPICS if topic.schema == path.stem)
    parsed = fastavro.parse_schema(read(path))
    record = generated(read(path), random.Random(path.stem))
    body = io.BytesIO(b"\0" + schema_id(parsed).to_bytes(4))
    body.seek(5)
    fastavro.schemaless_writer(body, parsed, record)

    found = Codec(registry).decoder(topic)(body.getvalue())

    assert list(differences(record, found, wanted_of(read(SCHEMAS / path.name)))) == []


# --- violations on purpose --------------------------------------------------------------------------------------------


def field(schema: Schema, name: str) -> Schema:
    """Return a field of a record."""
    return wanted_of(schema)[name]


def add(**new: Any) -> Callable[[Schema], None]:
    """Return a change that adds a field."""
    return lambda schema: schema["fields"].insert(1, new)


def remove(name: str) -> Callable[[Schema], None]:
    """Return a change that removes a field."""
    return lambda schema: schema["fields"].remove(field(schema, name))


def alter(name: str, /, **changes: Any) -> Callable[[Schema], None]:
    """Return a change of a field."""
    return lambda schema: field(schema, name).update(changes)


def alter_type(name: str, /, **changes: Any) -> Callable[[Schema], None]:
    """Return a change of a field's own type."""
    return lambda schema: field(schema, name)["type"].update(changes)


def forget_default(name: str) -> Callable[[Schema], None]:
    """Return a change that takes a field's default away."""
    return lambda schema: field(schema, name).pop("default")


def in_candidates(change: Callable[[Schema], None]) -> Callable[[Schema], None]:
    """Return the same change of the records that a decision lists."""
    return lambda schema: change(field(schema, "candidates")["type"]["items"])


BACK, FORTH, BOTH, UNSEEN = "back", "forth", "both", "unseen"
"""In which direction a trial shows a violation: released records read now, today's by a released reader, or neither."""

VIOLATIONS: dict[str, tuple[str, Callable[[Schema], None], str, str]] = {
    "new field without default": (
        "campaign_trigger", add(name="urgency", type="int"), ".urgency: the new field has no default", BACK,
    ),
    "field removed": ("campaign_trigger", remove("template"), ".template: the field was removed or renamed", FORTH),
    "field renamed": (
        "campaign_trigger", alter("template", name="layout"), ".template: the field was removed or renamed", BOTH,
    ),
    "field with default removed": (
        "campaign_trigger", remove("content"), ".content: the field was removed or renamed", UNSEEN,
    ),
    "default taken away": ("campaign_trigger", forget_default("step"), ".step: the field lost its default", UNSEEN),
    "number became text": (
        "campaign_trigger", alter("valid_until", type="string"), ".valid_until: the type changed", BOTH,
    ),
    "number widened": (
        "dead_letter", alter("source_partition", type="long"), ".source_partition: the type changed", FORTH,
    ),
    "field made optional": (
        "campaign_trigger", alter("template", type=["null", "string"]), ".template: the type changed", FORTH,
    ),
    "field made mandatory": (
        "decision", alter("campaign", type="string", default=""), ".campaign: the type changed", BACK,
    ),
    "symbol removed": (
        "campaign_trigger", alter_type("action", symbols=["send", "unknown"]),
        ".action: a symbol was removed or renamed", UNSEEN,
    ),
    "new symbol without a default": (
        "decision", alter_type("arm", symbols=["none", "treatment", "control", "holdout", "maybe"]),
        ".arm: there is a new symbol, and released readers have no default for it", FORTH,
    ),
    "new field without default, further in": (
        "decision", in_candidates(add(name="rank", type="int")),
        ".candidates[].rank: the new field has no default", BACK,
    ),
    "field removed, further in": (
        "decision", in_candidates(remove("moment")), ".candidates[].moment: the field was removed or renamed", FORTH,
    ),
    "map of another type": (
        "campaign_trigger", alter_type("content", values="long"), ".content[]: the type changed", BOTH,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_planted_violation_is_found(name: str) -> None:
    """The rules name its place, and the trial fails in the direction in which readers would."""
    schema, change, rule, seen = VIOLATIONS[name]
    released = read(SCHEMAS / f"{schema}.avsc")
    current = copy.deepcopy(released)
    change(current)

    back, forth = bool(list(misreadings(released, current))), bool(list(misreadings(current, released)))

    assert next(broken_rules(released, current)) == rule
    assert {(True, False): BACK, (False, True): FORTH, (True, True): BOTH, (False, False): UNSEEN}[back, forth] == seen


ALLOWED: dict[str, Callable[[Schema], None]] = {
    "new field with a default": add(name="urgency", type=["null", "int"], default=None),
    "new list with a default": add(name="tags", type={"type": "array", "items": "string"}, default=[]),
    "new symbol where there is a default": alter_type(
        "action", symbols=["send", "retract", "unknown", "add", "remove", "hold"]
    ),
    "other words": alter("template", doc="The template that the sender knows by this name."),
    "a default for a field that had none": alter("template", default=""),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_an_allowed_change_passes(name: str) -> None:
    """The check does not forbid what the contract allows."""
    released = read(SCHEMAS / "campaign_trigger.avsc")
    current = copy.deepcopy(released)
    ALLOWED[name](current)

    assert list(broken_rules(released, current)) == []
    assert list(misreadings(released, current)) == []
    assert list(misreadings(current, released)) == []
