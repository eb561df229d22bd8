"""`orchestrator journeys`: the paths customers really take between moments, campaigns and orders."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from orchestrator.cli.paths import OUT_FILE
from orchestrator.cli.reading import as_json as json_option
from orchestrator.cli.reading import brokers, kept_records, open_topics, progress_bars, records_folder
from orchestrator.cli.recorded import definitions_of, settings_of
from orchestrator.report.journeys import Journeys, Pair
from orchestrator.report.journeys_page import render, table
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.units import duration_ms

Records = Iterable[dict[str, Any]]


@click.command(epilog="Example: orchestrator journeys --records last-year --definitions my-pack --html journeys.html")
@records_folder
@click.option(
    "--definitions",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Definitions whose `leads_to` to set the paths against.",
)
@click.option(
    "--within", default="30d", show_default=True, help="How long after a window's end the next campaign may begin."
)
@click.option("--html", type=OUT_FILE, help="Also write a page with the picture.")
@brokers
@json_option
def journeys(
    records: Path | None,
    definitions: Path | None,
    within: str,
    html: Path | None,
    bootstrap_servers: str | None,
    as_json: bool,
) -> None:
    """Show which campaign followed which, in either arm, with an order or without, and what `leads_to` imagines.

    Reads the topics `decisions` and `campaign-outcomes` to their ends, or what a back-test wrote.
    """
    try:
        limit = duration_ms(within)
    except ValueError as error:
        raise OperatorError(f"--within: {error}", exit_code=USAGE) from None
    imagined = _imagined(definitions) if definitions is not None else []
    if records is None:
        decided, measured = _of_topics(bootstrap_servers)
    else:
        decided, measured = _of_folder(records)
    found = Journeys.fold(decided, measured, within=limit, imagined=imagined)
    if html is not None:
        html.write_text(render(found), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    if not found.answered:
        click.echo("No campaign has answered a moment yet.")
        return
    Console(width=None if sys.stdout.isatty() else 110).print(table(found))
    if html is not None:
        click.echo(html.resolve().as_uri())


def _imagined(folder: Path) -> list[Pair]:
    """Return the pairs of `leads_to`."""
    definitions = definitions_of(folder, settings_of(folder))
    return [(name, target) for name, campaign in definitions.campaigns.items() for target in campaign.leads_to]


def _of_folder(folder: Path) -> tuple[Records, Records]:
    return kept_records(folder, "decisions"), kept_records(folder, "outcomes")


def _of_topics(bootstrap_servers: str | None) -> tuple[Records, Records]:
    _, topics, reader = open_topics(bootstrap_servers)
    with progress_bars() as progress_of:
        decided, measured = (
            [record for record, _ in reader.read(topic, progress=progress_of(topic.name))]
            for topic in (topics.decisions, topics.outcomes)
        )
    return decided, measured
