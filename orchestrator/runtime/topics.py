"""Reads `topics.yaml` into `Topics`; every problem is shown at once, with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from orchestrator.definitions import nodes
from orchestrator.definitions.nodes import Node, Place, Problems, Scalar, did_you_mean
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.schema_registry import schema_files
from orchestrator.runtime.topic import ROLES, SINGLE_ROLES, TIME_UNITS, Always, EventMapping, Topic, Topics
from orchestrator.runtime.topic_configs import normalise

__all__ = ["Always", "EventMapping", "SchemaFields", "Topic", "Topics", "load", "parse_topics", "schema_fields"]

# librdkafka's names; `consistent` and `random` are missing because no JVM client agrees with them.
PARTITIONERS = ("murmur2_random", "murmur2")

_DEFAULTS = ("partitions", "replication_factor", "partitioner")
_TOPIC = (
    "topic",
    "role",
    "key",
    "co_partitioned",
    "partitions",
    "replication_factor",
    "partitioner",
    "schema",
    "config",
    "events",
)
_EVENTS = ("name", "names", "time", "id", "customer", "properties", "types")
_FILE = ("version", "extends", "defaults", "topics")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_NUMERIC = {"int", "long", "float", "double"}
_PLAIN_TYPES = ("number", "money", "text", "truth", "instant")
_DEEPEST = 8  # files that extend files

SchemaFields = Mapping[str, Mapping[str, object]]
"""Per schema name, the type of every field."""


def load(path: Path, schemas: Path | None = None) -> Topics:
    """Return the topics of a file, or raise one OperatorError with every problem.

    With the directory of schemas, the names of schemas and of the fields events are read from are checked too.
    """
    problems = Problems()
    known = None if schemas is None else schema_fields(schemas)
    topics = parse_topics(_text(path), str(path), problems, known, _text)
    if topics is None:
        found = [str(problem) for problem in problems.sorted()]
        count = "one problem" if len(found) == 1 else f"{len(found)} problems"
        raise OperatorError(f"{path} has {count}, nothing was done:", exit_code=USAGE, details=found)
    return topics


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"cannot read {path}: {reason}; set ORCHESTRATOR_TOPICS to a topics.yaml"
        raise OperatorError(message, exit_code=USAGE) from error


def schema_fields(directory: Path) -> SchemaFields:
    """Return the fields of every schema in a directory; a file that is not a record has none."""
    found: dict[str, Mapping[str, object]] = {}
    for name, file in schema_files(directory).items():
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))["fields"]
            found[name] = {field["name"]: field["type"] for field in fields}
        except (OSError, ValueError, KeyError, TypeError):
            found[name] = {}
    return found


def parse_topics(
    text: str,
    path: str,
    problems: Problems,
    schemas: SchemaFields | None = None,
    open_file: Callable[[Path], str] | None = None,
) -> Topics | None:
    """Return the topics of a text, or None after noting every problem; `open_file` reads the file that it extends."""
    root = nodes.parse(text, path, problems)
    if root is None:
        return None
    return _Reader(problems, schemas, open_file).read(root)


class _Reader:
    """Decodes the node tree; a value that is wrong becomes a problem and a stand-in, so that reading goes on."""

    def __init__(
        self, problems: Problems, schemas: SchemaFields | None, open_file: Callable[[Path], str] | None = None
    ) -> None:
        self.problems = problems
        self.schemas = schemas
        self.open_file = open_file

    # --- the file ---------------------------------------------------------------------------------------------------

    def read(self, root: Node) -> Topics | None:
        read, complete, _ = self.file(root, 0)
        if complete and read:
            self.check_whole(root.place, read)
        return None if self.problems.errors else Topics(tuple(topic for _, topic in read))

    def file(self, root: Node, depth: int) -> tuple[list[tuple[Place, Topic]], bool, Mapping[str, Node]]:
        """Return a file's topics after those that it extends, whether all could be read, and the defaults."""
        fields = self.mapping(root, "topics.yaml", _FILE, required=("version", "topics"))
        version = fields.get("version")
        if version is not None and self.text(version, "version") not in ("1", None):
            self.error(version, "T005", f"version '{self.text(version, 'version')}' is not known, this program reads 1")
        read, complete, defaults = self.extended(fields.get("extends"), depth)
        if "defaults" in fields:
            defaults = {**defaults, **self.mapping(fields["defaults"], "defaults", _DEFAULTS)}
        listed = fields.get("topics")
        if listed is not None and not isinstance(listed, nodes.Sequence):
            self.error(listed, "T003", "'topics' is a list, each item starting with '- topic: NAME'")
        items = listed.items if isinstance(listed, nodes.Sequence) else ()
        own = [(item.place, topic) for item in items if (topic := self.topic(item, defaults)) is not None]
        if isinstance(listed, nodes.Sequence) and not items:
            self.error(listed, "T002", "'topics' is empty: declare at least one input")
        return [*read, *own], complete and len(own) == len(items), defaults

    def extended(self, node: Node | None, depth: int) -> tuple[list[tuple[Place, Topic]], bool, Mapping[str, Node]]:
        """Return what the file says that this one extends, named from where this one lies."""
        name = self.text(node, "extends")
        if node is None or not name or self.open_file is None:
            return [], True, {}
        path = Path(node.place.path).parent / name
        if depth >= _DEEPEST:
            self.error(node, "T007", f"'{name}' extends more than {_DEEPEST} files, or itself")
            return [], False, {}
        try:
            root = nodes.parse(self.open_file(path), str(path), self.problems)
        except OperatorError:
            self.error(node, "T005", f"no file '{path}' that could be extended")
            return [], False, {}
        return ([], False, {}) if root is None else self.file(root, depth + 1)

    def topic(self, node: Node, defaults: Mapping[str, Node]) -> Topic | None:
        before = len(self.problems.found)
        fields = self.mapping(node, "a topic", _TOPIC, required=("topic", "role", "key"))
        merged = {**defaults, **fields}
        name = self.name(fields.get("topic"))
        role = self.word(fields.get("role"), "role", ROLES)
        for field in _DEFAULTS:
            if field not in merged and isinstance(node, nodes.Mapping):
                self.error(node, "T002", f"topic '{name}' needs '{field}', here or under 'defaults'")
        topic = Topic(
            name=name,
            role=role,
            key=self.text(fields.get("key"), "key") or "",
            partitions=self.count(merged.get("partitions"), "partitions"),
            replication_factor=self.count(merged.get("replication_factor"), "replication_factor"),
            partitioner=self.word(merged.get("partitioner"), "partitioner", PARTITIONERS),
            co_partitioned=self.switch(fields.get("co_partitioned"), "co_partitioned"),
            schema=self.schema(fields.get("schema")),
            config=self.config(fields.get("config")),
            events=self.events(fields["events"], fields.get("schema"))
            if role == "input" and "events" in fields
            else None,
        )
        if role:
            self.check_topic(node, topic, fields)
        return topic if len(self.problems.found) == before else None

    # --- what only a whole topic, or all of them, can show ----------------------------------------------------------

    def check_topic(self, node: Node, topic: Topic, fields: Mapping[str, Node]) -> None:
        name, role = topic.name, topic.role
        if role == "input" and topic.events is None and "events" not in fields:
            self.error(node, "T002", f"input '{name}' needs 'events': which fields carry name, time, id and customer")
        if role != "input" and "events" in fields:
            self.error(fields["events"], "T007", f"only inputs have 'events', but '{name}' has the role {role}")
        if role != "changelog" and "schema" not in fields:
            self.error(node, "T002", f"topic '{name}' needs 'schema', the name of a file in schemas/ without .avsc")
        if role == "changelog" and "schema" in fields:
            self.error(fields["schema"], "T007", "the changelog has a format of its own: leave 'schema' out")
        if role == "reference":
            if topic.co_partitioned:
                self.error(fields["co_partitioned"], "T007", f"reference '{name}' is read in full, not co-partitioned")
            if topic.partitions > 1:
                place = fields.get("partitions", node)
                self.error(place, "T007", f"reference '{name}' needs exactly one partition: write 'partitions: 1'")
        elif not topic.co_partitioned:
            place = fields.get("co_partitioned", node)
            self.error(place, "T007", f"topic '{name}' with role {role} needs 'co_partitioned: true'")

    def check_whole(self, start: Place, topics: list[tuple[Place, Topic]]) -> None:
        seen: dict[str, Place] = {}
        for place, topic in topics:
            if topic.name in seen:
                message = f"topic '{topic.name}' was already declared on line {seen[topic.name].line}"
                self.problems.error(place, "T006", message)
            seen.setdefault(topic.name, place)
        roles: dict[str, Place] = {}
        for place, topic in topics:
            if topic.role in SINGLE_ROLES and topic.role in roles:
                message = f"one topic has the role {topic.role}, and line {roles[topic.role].line} already has it"
                self.problems.error(place, "T006", message)
            roles.setdefault(topic.role, place)
        for role in ("input", *SINGLE_ROLES):
            if role not in roles:
                self.problems.error(start, "T002", f"no topic has the role {role}")
        shared = [(place, topic) for place, topic in topics if topic.co_partitioned]
        for place, topic in shared[1:]:
            first = shared[0][1]
            for field in ("partitions", "partitioner"):
                ours, theirs = getattr(topic, field), getattr(first, field)
                if ours != theirs:
                    message = (
                        f"'{topic.name}' has {field} {ours} and '{first.name}' has {theirs}, "
                        "but co-partitioned topics must be equal"
                    )
                    self.problems.error(place, "T007", message)

    # --- events -----------------------------------------------------------------------------------------------------

    def events(self, node: Node, schema: Node | None) -> EventMapping | None:
        before = len(self.problems.found)
        fields = self.mapping(node, "'events'", _EVENTS, required=("name", "time", "id", "customer"))
        known = self.fields_of(schema)
        time_field, unit = self.time(fields.get("time"), known)
        name = self.event_name(fields.get("name"), known)
        mapping = EventMapping(
            name=name,
            time=time_field,
            id=self.field(fields.get("id"), "id", known),
            customer=self.field(fields.get("customer"), "customer", known),
            time_unit=unit,
            properties=self.properties(fields.get("properties"), known),
            names=self.names(fields.get("names"), name),
        )
        mapping = replace(mapping, types=self.types(fields.get("types"), mapping, known or {}))
        return mapping if len(self.problems.found) == before else None

    def names(self, node: Node | None, name: str | Always) -> tuple[str, ...]:
        if isinstance(name, Always):
            if node is not None:
                self.error(node, "T007", f"every event here is called '{name.name}': leave 'names' out")
            return (name.name,)
        if node is None:
            return ()
        if not isinstance(node, nodes.Sequence):
            self.error(node, "T003", "'names' lists the events, write it like [data.used, data.used_up]")
            return ()
        return tuple(self.text(item, "names") or "" for item in node)

    def types(self, node: Node | None, mapping: EventMapping, known: Mapping[str, object]) -> Mapping[str, str]:
        """Return of what type each property is that definitions may ask for: as declared, else as the schema says."""
        declared = {} if node is None else self.mapping(node, "'types'", self.properties_of(mapping, known))
        words = {name: self.word(item, name, _PLAIN_TYPES) for name, item in declared.items()}
        if not mapping.names:
            if node is not None:
                self.error(node, "T007", "'types' is about the events of 'names': say which there are")
            return {}
        fields = self.properties_of(mapping, known)
        found = {name: words.get(name) or _type_of(known.get(field)) for name, field in fields.items()}
        return {name: word for name, word in found.items() if word is not None}

    def properties_of(self, mapping: EventMapping, known: Mapping[str, object]) -> Mapping[str, str]:
        """Return the events' properties with the schema field that each comes from."""
        if mapping.properties is not None:
            return mapping.properties
        return {name: name for name in known if name not in mapping.fields}

    def event_name(self, node: Node | None, known: Mapping[str, object] | None) -> str | Always:
        if isinstance(node, nodes.Mapping):
            fields = self.mapping(node, "'name'", ("always",), required=("always",))
            return Always(self.text(fields.get("always"), "always") or "")
        return self.field(node, "name", known)

    def time(self, node: Node | None, known: Mapping[str, object] | None) -> tuple[str, str]:
        unit = "ms"
        if isinstance(node, nodes.Mapping):
            fields = self.mapping(node, "'time'", ("field", "unit"), required=("field",))
            if "unit" in fields:
                unit = self.word(fields["unit"], "unit", TIME_UNITS)
            node = fields.get("field")
        name = self.field(node, "time", known)
        if known and name in known and not _is_number(known[name]):
            assert node is not None
            self.error(node, "T007", f"field '{name}' holds no number, and event time is a number of s, ms, us or ns")
        return name, unit

    def properties(self, node: Node | None, known: Mapping[str, object] | None) -> Mapping[str, str] | None:
        if node is None:
            return None
        if not isinstance(node, nodes.Mapping):
            self.error(node, "T003", "'properties' maps names to schema fields, write it like {amount: amount_minor}")
            return None
        return MappingProxyType({name: self.field(item, name, known) for name, item in node.entries.items()})

    def fields_of(self, schema: Node | None) -> Mapping[str, object] | None:
        if self.schemas is None or not isinstance(schema, Scalar):
            return None
        return self.schemas.get(schema.text)

    def field(self, node: Node | None, what: str, known: Mapping[str, object] | None) -> str:
        name = self.text(node, what) or ""
        if node is not None and name and known is not None and name not in known:
            self.error(node, "T005", f"the schema has no field '{name}'{did_you_mean(name, known)}")
        return name

    # --- single values ----------------------------------------------------------------------------------------------

    def name(self, node: Node | None) -> str:
        name = self.text(node, "topic") or ""
        if node is not None and name and (not _NAME.fullmatch(name) or name in (".", "..")):
            self.error(node, "T005", f"'{name}' is not a topic name: up to 249 letters, digits, '.', '_' and '-'")
        return name

    def schema(self, node: Node | None) -> str | None:
        name = self.text(node, "schema")
        if node is not None and name and self.schemas is not None and name not in self.schemas:
            self.error(node, "T005", f"no schema '{name}' in the schema directory{did_you_mean(name, self.schemas)}")
        return name

    def config(self, node: Node | None) -> Mapping[str, str]:
        if node is None:
            return MappingProxyType({})
        if not isinstance(node, nodes.Mapping):
            self.error(node, "T003", "'config' maps Kafka's names to values, write it like {retention.ms: 14d}")
            return MappingProxyType({})
        found: dict[str, str] = {}
        for name, item in node.entries.items():
            text = self.text(item, name, join=True)
            if text is None:
                continue
            try:
                found[name] = normalise(name, text)
            except ValueError as error:
                unknown = str(error).startswith("unknown")
                place = node.keys[name] if unknown else item.place
                message = str(error) if unknown else f"{name}: {error}"
                self.problems.error(place, "T001" if unknown else "T004", message)
        return MappingProxyType(found)

    def count(self, node: Node | None, what: str) -> int:
        text = self.text(node, what)
        if node is None or text is None:
            return 1
        if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
            self.error(node, "T004", f"{what}: '{text}' is not a whole number from 1")
            return 1
        return int(text)

    def switch(self, node: Node | None, what: str) -> bool:
        text = self.text(node, what)
        if node is not None and text is not None and text not in ("true", "false"):
            self.error(node, "T004", f"{what}: '{text}' is neither true nor false")
        return text not in (None, "false")

    def word(self, node: Node | None, what: str, known: Iterable[str]) -> str:
        text = self.text(node, what) or ""
        if node is not None and text and text not in known:
            hint = did_you_mean(text, known) or f", use {', '.join(known)}"
            self.error(node, "T005", f"{what} '{text}' is not known{hint}")
            return ""
        return text

    def text(self, node: Node | None, what: str, *, join: bool = False) -> str | None:
        """Return the text of a value, None after noting why there is none; `join` takes a list as a,b."""
        if node is None:
            return None
        if join and isinstance(node, nodes.Sequence) and all(isinstance(item, Scalar) for item in node):
            return ",".join(item.text for item in node if isinstance(item, Scalar))
        if not isinstance(node, Scalar):
            self.error(node, "T003", f"'{what}' is one value, not a {_shape(node)}")
            return None
        if not node.text:
            self.error(node, "T002", f"'{what}' is empty")
            return None
        return node.text

    def mapping(
        self, node: Node, what: str, known: Iterable[str], *, required: Iterable[str] = ()
    ) -> Mapping[str, Node]:
        """Return the known fields of a mapping; unknown and missing ones are noted."""
        if not isinstance(node, nodes.Mapping):
            self.error(node, "T003", f"{what} has named fields: {', '.join(known)}")
            return {}
        for name, place in node.keys.items():
            if name not in known:
                hint = did_you_mean(name, known) or f", use {', '.join(known)}"
                self.problems.error(place, "T001", f"unknown field '{name}'{hint}")
        for name in required:
            if name not in node.keys:
                self.error(node, "T002", f"{what} needs the field '{name}'")
        return {name: value for name, value in node.entries.items() if name in known}

    def error(self, node: Node, code: str, message: str) -> None:
        self.problems.error(node.place, code, message)


def _shape(node: Node) -> str:
    return "list" if isinstance(node, nodes.Sequence) else "set of fields"


def _type_of(avro_type: object) -> str | None:
    """Return of what type the values of an Avro type are in conditions, None for what cannot be asked for."""
    if isinstance(avro_type, list):
        return next((found for branch in avro_type if (found := _type_of(branch)) is not None), None)
    if isinstance(avro_type, dict):
        if avro_type.get("logicalType") == "timestamp-millis":
            return "instant"
        return "text" if avro_type.get("type") == "enum" else _type_of(avro_type.get("type"))
    if avro_type in _NUMERIC:
        return "number"
    return {"string": "text", "boolean": "truth"}.get(str(avro_type))


def _is_number(avro_type: object) -> bool:
    if isinstance(avro_type, list):
        return any(_is_number(branch) for branch in avro_type)
    if isinstance(avro_type, dict):
        return _is_number(avro_type.get("type"))
    return avro_type in _NUMERIC
