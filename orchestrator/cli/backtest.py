"""`orchestrator backtest`: what definitions would have done on recorded events."""

from __future__ import annotations

import json
import os
import sys
import time
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
from orchestrator.backtest.run import backtest as run
from orchestrator.backtest.topics import TopicRange
from orchestrator.cli.reading import events_of
from orchestrator.events import FOREVER
from orchestrator.report.summary import summary
from orchestrator.runtime import settings as environment
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.units import duration_ms

Command = TypeVar("Command", bound=Callable[..., Any])


def recorded(command: Command) -> Command:
    """Give a command the options that say which recorded events it works on."""
    for option in (
        click.option("--processes", type=click.IntRange(1, 256), help="Processes; default: one per core."),
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


@click.command(epilog="Example: orchestrator backtest my-pack --events history --out last-year")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@recorded
@click.option("--from", "start", metavar="TIME", help="Report from here on; what came before is decided all the same.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("backtest"),
    show_default=True,
    help="Folder of the report, the figures and the records.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def backtest(
    folder: Path,
    events: Path | None,
    topics: bool,
    start: str | None,
    to: str | None,
    barrier_every: str,
    processes: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """Show what the definitions in DIR would have decided on recorded events.

    Every rule is on: consent, caps, quiet hours, slots, hold-out and control. The result is the same on every run and
    with any number of processes, and what a worker with the same barriers decides.
    """
    began = time.monotonic()
    definitions = load_folder(folder, events_of(folder, environment.load(os.environ, required=()).topics))
    history = history_of(events, topics=topics, to=to, barrier_every=barrier_every)
    with bars() as progress:
        found = run(
            history,
            definitions,
            out,
            environment.load(os.environ, required=()).schemas,
            processes=processes or os.cpu_count() or 1,
            progress=progress,
            report_from=-FOREVER if start is None else instant("--from", start),
        )
    if as_json:
        click.echo(json.dumps(found.figures, indent=2, ensure_ascii=False))
        return
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(summary(found.data, definitions.policy.currency))
    console.print(f"{found.figures['history']['events']:,} events in {time.monotonic() - began:.1f} s", highlight=False)
    console.print(f"report: {(out / 'report.html').resolve()}", highlight=False, soft_wrap=True)


def history_of(events: Path | None, *, topics: bool, to: str | None, barrier_every: str) -> History:
    """Return the recorded events that the options name, or raise an OperatorError."""
    until = FOREVER if to is None else instant("--to", to, end=True)
    try:
        every = duration_ms(barrier_every)
    except ValueError as error:
        raise OperatorError(f"--barrier-every: {error}", exit_code=USAGE) from None
    if topics == (events is not None):
        raise OperatorError("name the recorded events: --events PATH, or --topics", exit_code=USAGE)
    if events is not None:
        return Files(events, environment.load(os.environ, required=()), every, until)
    settings = environment.load(os.environ, required=("BOOTSTRAP_SERVERS",))
    return TopicRange.open(settings, every=every, until=until)


def instant(option: str, text: str, *, end: bool = False) -> int:
    """Return the instant of an ISO date or time, UTC unless it says otherwise; of a date its beginning, or its end."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        message = f"{option} '{text}' is not a time, write it like 2025-03-01 or 2025-03-01T09:00Z"
        raise OperatorError(message, exit_code=USAGE) from None
    if end and len(text) == len("2025-03-01"):
        read += timedelta(days=1)
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
