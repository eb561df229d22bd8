"""Definitions that were published: the records of their topic, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.definitions.catalogue import Catalogue
from orchestrator.definitions.load import load
from orchestrator.program import Definitions
from orchestrator.programs import Programs
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.publishing import publish
from orchestrator.runtime.record_reader import RecordReader
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topic, Topics

SCHEMA = "published_definitions"
"""The schema by which the topic is told from other reference data."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One set of definitions, its files as text by name, and from when on it decides; instants in milliseconds."""

    effective_from: int
    version: str
    published_at: int
    published_by: str
    note: str
    files: Mapping[str, str]

    def definitions(self, catalogue: Catalogue) -> Definitions:
        """Return the definitions; OperatorError where this program cannot read what another one published."""
        definitions, problems = load(self.files, catalogue)
        if definitions is None:
            raise OperatorError(
                f"definitions {self.version} were published by another version of this program, which this one cannot "
                "read: upgrade it, or publish others in their place",
                details=[str(problem) for problem in problems if problem.severity == "error"],
            )
        return definitions


def publication_of(record: Mapping[str, Any]) -> Publication:
    """Return what a record of the topic says."""
    return Publication(**{name: record[name] for name in Publication.__dataclass_fields__})


def require_one(programs: Programs) -> None:
    """Raise an OperatorError while nothing was published."""
    if not programs:
        raise OperatorError("no definitions were published yet: orchestrator definitions publish DIR")


def definitions_topic(topics: Topics) -> Topic:
    """Return the topic of published definitions; OperatorError where none is declared."""
    found = [topic for topic in topics.references if topic.schema == SCHEMA]
    if not found:
        raise OperatorError(f"topics.yaml declares no topic with the schema {SCHEMA}: definitions cannot be published")
    return found[0]


def read_all(settings: Settings, topics: Topics) -> list[Publication]:
    """Return everything that was published, in the order in which it comes into force."""
    records = RecordReader.open(settings).read(definitions_topic(topics))
    newest = {record["effective_from"]: publication_of(record) for record, _ in records}
    return [newest[instant] for instant in sorted(newest)]


def write(settings: Settings, topics: Topics, publication: Publication) -> None:
    """Publish definitions and return once they are there; OperatorError when the brokers do not take them."""
    publish(settings, definitions_topic(topics), {str(publication.effective_from): asdict(publication)})
