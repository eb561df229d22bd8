"""What the commands on recorded events share: the options that name them, the history they mean, and a bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator.backtest.files import Files
from orchestrator.backtest.history import History
from orchestrator.backtest.pool import Progress as Told
from orchestrator.backtest.steps import BARRIER_EVERY
from orchestrator.backtest.topics import TopicRange
from orchestrator.events import FOREVER
from orchestrator.program import Definitions
from orchestrator.runtime import settings as environment
from orchestrator.runtime.compose import topics_of
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.units import duration_ms

Command = TypeVar("Command", bound=Callable[..., Any])


def recorded(command: Command) -> Command:
    """Give a command the options that say which recorded events it works on."""
    for option in (
        click.option(
            "--processes", type=click.IntRange(1, 256), help="Processes; default: one per core, for large histories."
        ),
        click.option(
            "--barrier-every",
            default="1h",
            show_default=True,
            help="How far apart the instants are at which time advances.",
        ),
        click.option("--to", metavar="TIME", help="Let time end here: 2025-03-01 (its end, UTC) or 2025-03-01T09:00Z."),
        click.option("--topics", is_flag=True, help="Take the events from the input topics instead of files."),
        click.option(
            "--events",
            type=click.Path(exists=True, path_type=Path),
            help="A folder with files named after topics: .avro, .jsonl or .parquet.",
        ),
    ):
        command = option(command)
    return command


def settings_of(folder: Path, *, live: bool = False, bootstrap_servers: str | None = None) -> Settings:
    """Return the settings for the definitions in a folder, which may declare further inputs in inputs/topics.yaml."""
    given = dict(os.environ)
    own = folder / "inputs" / "topics.yaml"
    if own.exists():
        given.setdefault("ORCHESTRATOR_TOPICS", str(own))
    if bootstrap_servers is not None:
        given["ORCHESTRATOR_BOOTSTRAP_SERVERS"] = bootstrap_servers
    return environment.load(given, required=("BOOTSTRAP_SERVERS",) if live else ())


def definitions_of(folder: Path, settings: Settings) -> Definitions:
    """Return the definitions in a folder over the events that the settings declare."""
    return load_folder(folder, topics_of(settings).catalogue)


def named_history(
    settings: Settings, events: Path | None, *, topics: bool, to: str | None, barrier_every: str
) -> History:
    """Return the recorded events that the options name, or raise an OperatorError."""
    until = FOREVER if to is None else instant("--to", to, end=True)
    try:
        every = duration_ms(barrier_every)
    except ValueError as error:
        raise OperatorError(f"--barrier-every: {error}", exit_code=USAGE) from None
    if topics == (events is not None):
        raise OperatorError("name the recorded events: --events PATH, or --topics", exit_code=USAGE)
    return history_of(settings, events, every=every, until=until)


def history_of(settings: Settings, events: Path | None, *, every: int = BARRIER_EVERY, until: int = FOREVER) -> History:
    """Return recorded events: those of a folder, or those that the topics still hold."""
    if events is not None:
        return Files(events, settings, every, until)
    return TopicRange.open(settings, every=every, until=until)


def processes_for(history: History, wanted: int | None) -> int:
    """Return how many processes to use: those asked for, else one per core where it is worth it."""
    return wanted or (1 if history.is_small else os.cpu_count() or 1)


def instant(option: str, text: str, *, end: bool = False) -> int:
    """Return the instant of an ISO date or time, UTC unless it says otherwise; of a date its beginning, or its end."""
    try:
        read = datetime.fromisoformat(text)
        if end and len(text) == len("2025-03-01"):
            read += timedelta(days=1)
    except (ValueError, OverflowError):  # the last day that there is has no end
        message = f"{option} '{text}' is not a time, write it like 2025-03-01 or 2025-03-01T09:00Z"
        raise OperatorError(message, exit_code=USAGE) from None
    at = read if read.tzinfo is not None else read.replace(tzinfo=UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@contextmanager
def bars() -> Iterator[Told]:
    """Show how far the work is, and only where a person looks on."""
    if not sys.stderr.isatty():
        yield lambda what, behind, total: None  # noqa: ARG005 (nobody looks)
        return
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks = {what: progress.add_task(what, total=None) for what in ("reading", "deciding")}
        yield lambda what, behind, total: progress.update(tasks[what], completed=behind, total=total)
