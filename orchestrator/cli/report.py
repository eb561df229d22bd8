"""`orchestrator report`: what the campaigns are worth, from the outcome records alone."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from orchestrator.cli.reading import as_json as json_option
from orchestrator.cli.reading import brokers, open_topics, progress_bars
from orchestrator.learning.uplift import METRICS, OBJECTIVE
from orchestrator.report.worth import Worth
from orchestrator.report.worth_page import render
from orchestrator.report.worth_table import table


@click.command(epilog="Example: orchestrator report --html worth.html")
@click.option(
    "--metric",
    type=click.Choice((OBJECTIVE, *METRICS)),
    default=OBJECTIVE,
    show_default=True,
    help="What to compare; each campaign by the objective it names, unless one is named here.",
)
@click.option("--before-cost", is_flag=True, help="Do not take off what messages and offers cost, as after a replay.")
@click.option("--currency", default="USD", show_default=True, help="The program's currency, as in policy.yaml.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write a page with plots.")
@brokers
@json_option
def report(
    metric: str, before_cost: bool, currency: str, html: Path | None, bootstrap_servers: str | None, as_json: bool
) -> None:
    """Show what every campaign was worth against its randomised control.

    Reads the topic `campaign-outcomes` to its end. The intervals are right however often this is run; where there is
    not enough data yet, it says so and about how many more customers are needed.
    """
    _, topics, reader = open_topics(bootstrap_servers)
    with progress_bars() as progress_of:
        outcomes = [record for record, _ in reader.read(topics.outcomes, progress=progress_of(topics.outcomes.name))]
    found = Worth.fold(outcomes, metric, net=not before_cost, currency=currency)
    if html is not None:
        html.write_text(render(found), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    if not found.results.campaigns:
        click.echo(f"No measurement window has closed yet: {topics.outcomes.name} has no outcome.")
        return
    Console().print(table(found))
    if html is not None:
        click.echo(f"{html.resolve().as_uri()}")
