"""`orchestrator backtest`: what definitions would have done on recorded events."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click
from rich.console import Console

from orchestrator.backtest.run import backtest as run
from orchestrator.cli.paths import OUT_FOLDER
from orchestrator.cli.recorded import bars, definitions_of, instant, named_history, processes_for, recorded, settings_of
from orchestrator.events import FOREVER
from orchestrator.report.summary import summary


@click.command(epilog="Example: orchestrator backtest my-pack --events history --out last-year")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@recorded
@click.option("--from", "start", metavar="TIME", help="Report from here on; what came before is decided all the same.")
@click.option(
    "--out",
    type=OUT_FOLDER,
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
    settings = settings_of(folder, live=topics and events is None)
    definitions = definitions_of(folder, settings)
    history = named_history(settings, events, topics=topics, to=to, barrier_every=barrier_every)
    with bars() as progress:
        found = run(
            history,
            definitions,
            out,
            settings.schemas,
            processes=processes_for(history, processes),
            progress=progress,
            report_from=-FOREVER if start is None else instant("--from", start),
        )
    if as_json:
        click.echo(json.dumps(found.figures, indent=2, ensure_ascii=False))
        return
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(summary(found.data, definitions.policy.currency))
    for bad in found.figures["history"]["unusable"]:
        said = f"{bad['topic']}: {bad['records']:,} records cannot be used ({bad['reason']}), such as: {bad['example']}"
        console.print(said, highlight=False, markup=False)
    console.print(f"{found.figures['history']['events']:,} events in {time.monotonic() - began:.1f} s", highlight=False)
    console.print(f"report: {(out / 'report.html').resolve()}", highlight=False, soft_wrap=True)
