"""`orchestrator plan`: the impact of a change of definitions, before it is merged."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.markdown import Markdown

from orchestrator.backtest.impact import impact
from orchestrator.backtest.impact_text import figures, markdown
from orchestrator.cli.recorded import bars, definitions_of, named_history, processes_for, recorded, settings_of
from orchestrator.definitions.load import load
from orchestrator.runtime.compose import topics_of
from orchestrator.runtime.definitions_folder import read_directory
from orchestrator.runtime.settings import Settings


@click.command(epilog="Example: orchestrator plan main/my-pack my-pack --events history --markdown")
@click.argument("old", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("new", type=click.Path(exists=True, file_okay=False, path_type=Path))
@recorded
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown, for a pull request.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def plan(
    old: Path,
    new: Path,
    events: Path | None,
    topics: bool,
    to: str | None,
    barrier_every: str,
    processes: int | None,
    as_markdown: bool,
    as_json: bool,
) -> None:
    """Show what would differ if the definitions in NEW had been in force instead of those in OLD.

    Both decide the same recorded events: who may be reached or no longer, which campaigns gain and lose, which moments
    another campaign answers, and who is inside a measurement window that the change concerns.
    """
    settings = settings_of(new, live=topics and events is None)
    before, after = (definitions_of(folder, settings) for folder in (old, new))
    warnings = sorted(_warnings(new, settings) - _warnings(old, settings))
    history = named_history(settings, events, topics=topics, to=to, barrier_every=barrier_every)
    with bars() as progress:
        found, records = impact(history, before, after, processes=processes_for(history, processes), progress=progress)
    if as_json:
        said = figures(found, before, after, warnings=warnings, records=records)
        click.echo(json.dumps(said, indent=2, ensure_ascii=False))
        return
    text = markdown(found, before, after, warnings=warnings, records=records)
    if as_markdown:
        click.echo(text, nl=False)
    else:
        Console().print(Markdown(text))


def _warnings(folder: Path, settings: Settings) -> set[str]:
    """Return what lint warns of, without the places, which move when lines do."""
    _, problems = load(read_directory(folder), topics_of(settings).catalogue)
    return {f"{problem.code} {problem.message}" for problem in problems if problem.severity == "warning"}
