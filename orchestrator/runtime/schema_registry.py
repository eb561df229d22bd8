"""Which schema an id means, and which id a schema has: from files, or from a Confluent Schema Registry."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from orchestrator.definitions.nodes import did_you_mean
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.settings import Settings

Schema = Any
"""What fastavro's `parse_schema` returns."""


_UNKNOWN_FOR = 60.0  # seconds: a registry's follower may lag behind the producer that registered
_MAX_UNKNOWN = 10_000


class UnknownSchema(Exception):  # noqa: N818 (it is an answer, not an error of ours)
    """No schema is known for an id; the message says where it was looked for."""


class SchemaRegistry(Protocol):
    """Ids and schemas, whoever gives the ids."""

    def named(self, schema_name: str) -> Schema:
        """Return our own schema of that name, with which records are written and into which they are read."""

    def id_of(self, schema_name: str, topic: str) -> int:
        """Return the id under which records of the topic are written with our schema of that name."""

    def schema(self, schema_id: int) -> Schema:
        """Return the schema of an id, or raise UnknownSchema."""

    def schema_of_guid(self, guid: str) -> Schema:
        """Return the schema of a GUID, or raise UnknownSchema."""


def canonical(schema: Schema) -> str:
    """Return the form in which schemas are equal if they write the same bytes."""
    return str(to_parsing_canonical_form(schema))


def schema_id(schema: Schema) -> int:
    """Return the file registry's id: the first four bytes of the SHA-256 of the canonical form."""
    digest = bytes.fromhex(fingerprint(canonical(schema), "SHA-256"))
    return int(struct.unpack(">I", digest[:4])[0])


class FileRegistry:
    """Schemas from a directory and its folders, with their released versions in `released/*/`; ids are computed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        if not directory.is_dir():
            raise OperatorError(f"no directory {directory}: set ORCHESTRATOR_SCHEMAS to the schemas", exit_code=USAGE)
        self._named = {name: _parsed(file) for name, file in schema_files(directory).items()}
        released = [schema for folder in sorted(directory.glob("released/*/")) for schema in _read_all(folder)]
        self._by_id: dict[int, Schema] = {}
        for schema in (*self._named.values(), *released):
            self._add(schema)

    def _add(self, schema: Schema) -> None:
        number = schema_id(schema)
        there = self._by_id.setdefault(number, schema)
        if canonical(there) != canonical(schema):
            raise OperatorError(
                f"two schemas in {self._directory} have the computed id {number}: rename a new field of one",
                exit_code=USAGE,
            )

    def named(self, schema_name: str) -> Schema:
        """Return the schema of that file, or raise an OperatorError that offers the nearest name."""
        try:
            return self._named[schema_name]
        except KeyError:
            hint = did_you_mean(schema_name, self._named)
            message = f"no schema '{schema_name}' in {self._directory}{hint}"
            raise OperatorError(message, exit_code=USAGE) from None

    def id_of(self, schema_name: str, topic: str) -> int:  # noqa: ARG002 (a registry server keeps subjects apart)
        """Return the schema's computed id, the same in every process and for every topic."""
        return schema_id(self.named(schema_name))

    def schema(self, schema_id: int) -> Schema:
        """Return the schema of an id, current or released, or raise UnknownSchema."""
        try:
            return self._by_id[schema_id]
        except KeyError:
            raise UnknownSchema(
                f"schema id {schema_id} is of no file in {self._directory}: add the writer's schema under released/"
            ) from None

    def schema_of_guid(self, guid: str) -> Schema:
        """Raise UnknownSchema: only a registry server gives GUIDs."""
        raise UnknownSchema(f"schema GUID {guid} needs a schema registry: set ORCHESTRATOR_SCHEMA_REGISTRY_URL")


class ConfluentRegistry:
    """A Confluent Schema Registry; subjects are `{topic}-value`, and our own schemas come from the files."""

    def __init__(self, url: str, files: FileRegistry, *, register: bool = True, timeout: float = 10.0) -> None:
        try:
            from confluent_kafka.schema_registry import Schema as RegistrySchema
            from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError
        except ImportError as error:
            raise OperatorError(
                f"a schema registry needs the Python package '{error.name}': "
                "pip install 'journey-orchestrator[registry]', or unset ORCHESTRATOR_SCHEMA_REGISTRY_URL",
                exit_code=USAGE,
            ) from None
        self._client: Any = SchemaRegistryClient({"url": url, "timeout": timeout})
        self._error: type[Exception] = SchemaRegistryError
        self._new: Any = RegistrySchema
        self._files = files
        self._register = register
        self._where = url.rsplit("@", 1)[-1]  # never the user and the password
        self._unknown: dict[str, float] = {}

    def named(self, schema_name: str) -> Schema:
        """Return the schema of that file."""
        return self._files.named(schema_name)

    def id_of(self, schema_name: str, topic: str) -> int:
        """Return the registry's id of our schema under `{topic}-value`, registering it there if it is new."""
        subject = f"{topic}-value"
        ours = self._new(json.dumps(_plain(self.named(schema_name))), "AVRO")
        try:
            return int(self._client.lookup_schema(subject, ours).schema_id)
        except self._error as error:
            if not _is_missing(error):
                raise self._failed(f"looking up {subject}", error) from None
        except Exception as error:
            raise self._failed(f"looking up {subject}", error) from None
        if not self._register:
            raise OperatorError(
                f"schema '{schema_name}' is not registered under {subject} at {self._where}: register it"
            )
        try:
            return int(self._client.register_schema(subject, ours))
        except Exception as error:
            raise self._failed(f"registering '{schema_name}' under {subject}", error) from None

    def schema(self, schema_id: int) -> Schema:
        """Return the registry's schema of an id, or raise UnknownSchema; OperatorError if it does not answer."""
        return self._fetch(f"schema id {schema_id}", lambda: self._client.get_schema(schema_id))

    def schema_of_guid(self, guid: str) -> Schema:
        """Return the registry's schema of a GUID, or raise UnknownSchema."""
        return self._fetch(f"schema GUID {guid}", lambda: self._client.get_schema_by_guid(guid))

    def _fetch(self, what: str, ask: Callable[[], Any]) -> Schema:
        missing = UnknownSchema(f"{what} is not in the registry at {self._where}")
        # Hostile records may name any id, and each would cost a request.
        if self._unknown.get(what, 0.0) > time.monotonic():
            raise missing
        try:
            found = ask()
        except self._error as error:
            if _is_missing(error):
                if len(self._unknown) >= _MAX_UNKNOWN:
                    self._unknown.clear()
                self._unknown[what] = time.monotonic() + _UNKNOWN_FOR
                raise missing from None
            raise self._failed(f"asking for {what}", error) from None
        except Exception as error:
            raise self._failed(f"asking for {what}", error) from None
        if found.schema_type != "AVRO" or found.references:
            raise UnknownSchema(f"{what} is not one self-contained Avro schema")
        try:
            return fastavro.parse_schema(json.loads(found.schema_str))
        except Exception as error:
            raise UnknownSchema(f"{what} is not an Avro schema: {type(error).__name__}") from None

    def _failed(self, doing: str, error: Exception) -> OperatorError:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return OperatorError(
            f"schema registry {self._where}, {doing}: {reason}; check ORCHESTRATOR_SCHEMA_REGISTRY_URL"
        )


def _is_missing(error: Exception) -> bool:
    return getattr(error, "http_status_code", None) == 404


def registry_of(settings: Settings, *, register: bool = True) -> SchemaRegistry:
    """Return the configured schema registry, else the schema files; only writers register their schemas."""
    files = FileRegistry(settings.schemas)
    if settings.schema_registry_url is None:
        return files
    return ConfluentRegistry(settings.schema_registry_url, files, register=register)


def schema_files(directory: Path) -> dict[str, Path]:
    """Return the schema files by name: `purchase_event`, and for one in a folder `telco/usage`."""
    files = sorted((*directory.glob("*.avsc"), *directory.glob("*/*.avsc")))
    return {file.relative_to(directory).with_suffix("").as_posix(): file for file in files}


def _read_all(folder: Path) -> list[Schema]:
    return [_parsed(file) for file in sorted(folder.glob("*.avsc"))]


def _parsed(file: Path) -> Schema:
    try:
        return fastavro.parse_schema(json.loads(file.read_text(encoding="utf-8")))
    except Exception as error:  # fastavro raises many kinds
        reason = " ".join(str(error).split())[:200]
        raise OperatorError(f"{file} is not an Avro schema: {reason}", exit_code=USAGE) from None


def _plain(schema: Schema) -> Schema:
    """Return the schema without the keys fastavro adds when parsing."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if not str(key).startswith("__")}
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    return schema
