"""Reads `topics.yaml` into `Topics`; every problem is shown at once, with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from orchestrator.definitions import nodes
from orchestrator.definitions.nodes import Node, Place, Problems, Scalar, did_you_mean
from orchestrator.runtime.errors import USAGE, OperatorError
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
_EVENTS = ("name", "time", "id", "customer", "properties")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_NUMERIC = {"int", "long", "float", "double"}

SchemaFields = Mapping[str, Mapping[str, object]]
"""Per schema name, the type of every field."""


def load(path: Path, schemas: Path | None = None) -> Topics:
    """Return the topics of a file, or raise one OperatorError with every problem.

    With the directory of schemas, the names of schemas and of the fields events are read from are checked too.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"cannot read {path}: {reason}; set ORCHESTRATOR_TOPICS to a topics.yaml"
        raise OperatorError(message, exit_code=USAGE) from error
    problems = Problems()
    topics = parse_topics(text, str(path), problems, None if schemas is None else schema_fields(schemas))
    if topics is None:
        found = [str(problem) for problem in problems.sorted()]
        count = "one problem" if len(found) == 1 else f"{len(found)} problems"
        raise OperatorError(f"{path} has {count}, nothing was done:", exit_code=USAGE, details=found)
    return topics


def schema_fields(directory: Path) -> SchemaFields:
    """Return the fields of every schema in a directory; a file that is not a record has none."""
    found: dict[str, Mapping[str, object]] = {}
    for file in sorted(directory.glob("*.avsc")):
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))["fields"]
            found[file.stem] = {field["name"]: field["type"] for field in fields}
        except (OSError, ValueError, KeyError, TypeError):
            found[file.stem] = {}
    return found


def parse_topics(text: str, path: str, problems: Problems, schemas: SchemaFields | None = None) -> Topics | None:
    """Return the topics of a text, or None after noting every problem."""
    root = nodes.parse(text, path, problems)
    if root is None:
        return None
    return _Reader(problems, schemas).read(root)


class _Reader:
    """Decodes the node tree; a value that is wrong becomes a problem and a stand-in, so that reading goes on."""

    def __init__(self, problems: Problems, schemas: SchemaFields | None) -> None:
        self.problems = problems
        self.schemas = schemas

    # --- the file ---------------------------------------------------------------------------------------------------

    def read(self, root: Node) -> Topics | None:
        fields = self.mapping(root, "topics.yaml", ("version", "defaults", "topics"), required=("version", "topics"))
        version = fields.get("version")
        if version is not None and self.text(version, "version") not in ("1", None):
            self.error(version, "T005", f"version '{self.text(version, 'version')}' is not known, this program reads 1")
        defaults = self.mapping(fields["defaults"], "defaults", _DEFAULTS) if "defaults" in fields else {}
        listed = fields.get("topics")
        if listed is not None and not isinstance(listed, nodes.Sequence):
            self.error(listed, "T003", "'topics' is a list, each item starting with '- topic: NAME'")
        items = listed.items if isinstance(listed, nodes.Sequence) else ()
        read = [(item.place, self.topic(item, defaults)) for item in items]
        topics = [(place, topic) for place, topic in read if topic is not None]
        if isinstance(listed, nodes.Sequence) and not items:
            self.error(listed, "T002", "'topics' is empty: declare at least one input")
        if len(topics) == len(items) and items:
            self.check_whole(root.place, topics)
        if self.problems.errors:
            return None
        return Topics(tuple(topic for _, topic in topics))

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
        mapping = EventMapping(
            name=self.event_name(fields.get("name"), known),
            time=time_field,
            id=self.field(fields.get("id"), "id", known),
            customer=self.field(fields.get("customer"), "customer", known),
            time_unit=unit,
            properties=self.properties(fields.get("properties"), known),
        )
        return mapping if len(self.problems.found) == before else None

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


def _is_number(avro_type: object) -> bool:
    if isinstance(avro_type, list):
        return any(_is_number(branch) for branch in avro_type)
    if isinstance(avro_type, dict):
        return _is_number(avro_type.get("type"))
    return avro_type in _NUMERIC
