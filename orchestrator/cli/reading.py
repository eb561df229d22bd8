"""What the reading commands share: the brokers they are told to read from, and a bar that shows how far they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from orchestrator.backtest.result import read_records
from orchestrator.definitions.catalogue import CATALOGUE, Catalogue
from orchestrator.runtime import settings as environment
from orchestrator.runtime import topics as declared
from orchestrator.runtime.auditor import ProgressOf
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.record_reader import RecordReader
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topics

brokers = click.option(
    "--bootstrap-servers", metavar="HOST:PORT,...", help="Brokers, instead of ORCHESTRATOR_BOOTSTRAP_SERVERS."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


records_folder = click.option(
    "--records",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder that a back-test wrote, instead of the topics.",
)

topics_file = click.option(
    "--topics-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="ORCHESTRATOR_TOPICS",
    help="The topics.yaml that declares further inputs; default: DIR/inputs/topics.yaml, where there is one.",
)


def events_of(folder: Path, topics_file: Path | None = None) -> Catalogue:
    """Return the events that the definitions in a folder may name: the built-in ones, and what is declared for them."""
    own = folder / "inputs" / "topics.yaml"
    file = topics_file or (own if own.exists() else None)
    if file is None:
        return CATALOGUE
    schemas = environment.load(os.environ, required=()).schemas
    return declared.load(file, schemas).catalogue


def open_topics(bootstrap_servers: str | None) -> tuple[Settings, Topics, RecordReader]:
    """Return the settings, the declared topics and a reader of them, or raise an OperatorError."""
    settings = settings_of(bootstrap_servers)
    topics = declared.load(settings.topics, settings.schemas).with_prefix(settings.topic_prefix)

    return settings, topics, RecordReader.open(settings)


def settings_of(bootstrap_servers: str | None) -> Settings:
    """Return the environment's settings, with other brokers where some were named."""
    given = dict(os.environ)
    if bootstrap_servers is not None:
        given["ORCHESTRATOR_BOOTSTRAP_SERVERS"] = bootstrap_servers
    return environment.load(given, required=("BOOTSTRAP_SERVERS",))


def kept_records(folder: Path, kind: str) -> Iterable[dict[str, Any]]:
    """Return what a back-test wrote of a kind, or raise an OperatorError where the folder has none of it."""
    if not (folder / f"{kind}.avro").exists():
        raise OperatorError(f"--records: {folder} has no {kind}.avro; name what backtest --out wrote", exit_code=USAGE)
    return read_records(folder, kind)


def emitted(records: Path | None, bootstrap_servers: str | None) -> Callable[[str], Iterable[dict[str, Any]]]:
    """Return what reads `decisions` or `outcomes`: what a back-test wrote into a folder, or else their topics."""
    if records is not None:
        return partial(kept_records, records)
    _, topics, reader = open_topics(bootstrap_servers)

    def read(kind: str) -> Iterator[dict[str, Any]]:
        topic = topics.decisions if kind == "decisions" else topics.outcomes
        with progress_bars() as progress_of:
            yield from (record for record, _ in reader.read(topic, progress=progress_of(topic.name)))

    return read


@contextmanager
def progress_bars() -> Iterator[ProgressOf]:
    """Show a bar per topic while reading, and only where a person looks on."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("reading {task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        def of(topic: str) -> Callable[[int, int], None]:
            task = progress.add_task(topic, total=None)
            return lambda behind, total: progress.update(task, completed=behind, total=total)

        yield of
