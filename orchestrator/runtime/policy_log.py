"""What the `policy` topic holds: versions of the snapshot by the instant from which each counts, and what may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.runtime.avro import Codec, Undecodable
from orchestrator.runtime.connection import client_config, connect
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.schema_registry import registry_of
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topic, Topics
from orchestrator.runtime.topic_reader import read_topic
from orchestrator.valuation import MalformedError, snapshot_of

SCHEMA = "policy_leaf"
"""The schema by which the topic is told from other reference data."""


def text_of(key: bytes | None) -> str:
    """Return a key as text, whatever its bytes are: a compacted topic keeps also those that are nobody's."""
    return (key or b"").decode(errors="replace")


def policy_topic(topics: Topics) -> Topic:
    """Return the topic of policy snapshots; OperatorError where none is declared."""
    found = next((topic for topic in topics.references if topic.schema == SCHEMA), None)
    if found is None:
        raise OperatorError(f"topics.yaml declares no topic with the schema {SCHEMA}: nothing can be learned")
    return found


@dataclass(frozen=True, slots=True)
class Published:
    """One version of the snapshot as the topic has it, without its values; instants in milliseconds."""

    effective_from: int
    as_of: int
    version: str
    definitions_version: str


class PolicyLog:
    """The versions that are there, from records and tombstones by their keys, in whatever order of versions."""

    def __init__(self) -> None:
        self._keys: dict[str, Published] = {}

    def take(self, key: str, record: Mapping[str, Any] | None) -> None:
        """Take in one record, None for a tombstone."""
        if record is None:
            self._keys.pop(key, None)
            return
        self._keys[key] = Published(
            record["effective_from"], record["as_of"], record["version"], record["definitions_version"]
        )

    @property
    def newest(self) -> Published | None:
        """The version that counts last, None while there is none."""
        return max(self._keys.values(), key=lambda one: one.effective_from, default=None)

    def superseded(self, before: int) -> list[str]:
        """Return the keys of versions that another had followed by an instant, in order."""
        since = [one.effective_from for one in self._keys.values() if one.effective_from <= before]
        in_force = max(since, default=before)
        return sorted(key for key, one in self._keys.items() if one.effective_from < in_force)


def read_versions(
    settings: Settings, topics: Topics, unreadable: list[str] | None = None
) -> list[dict[str, dict[str, Any]]]:
    """Return the records by their keys of every whole version that the topic has, in the order in which they count.

    As engines do it leaves out what cannot be read, and adds to `unreadable` where that is and why.
    """
    connect(settings)
    topic = policy_topic(topics)
    decode = Codec(registry_of(settings, register=False)).decoder(topic)
    left_out: list[str] = [] if unreadable is None else unreadable
    records: dict[str, dict[str, Any]] = {}
    for one in read_topic(client_config(settings), topic.name):
        key = text_of(one.key)
        if one.value is None:
            records.pop(key, None)
            continue
        try:
            records[key] = decode(one.value, one.headers or None)
        except Undecodable as error:
            left_out.append(f"{topic.name}[{one.partition}]@{one.offset}: {error}")
    versions: dict[tuple[int, str], dict[str, dict[str, Any]]] = {}
    for key, record in records.items():
        versions.setdefault((record["effective_from"], record["version"]), {})[key] = record
    whole = []
    for place in sorted(versions):
        try:
            if snapshot_of(versions[place].values()) is not None:
                whole.append(versions[place])
        except MalformedError as error:
            left_out.append(f"{topic.name}: {error}")
    return whole
