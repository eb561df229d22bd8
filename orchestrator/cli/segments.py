"""`orchestrator segments`: how large each segment is over recorded events, and who enters and leaves it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from orchestrator.backtest.segments import Looks, segment_sizes
from orchestrator.cli.paths import OUT_FILE
from orchestrator.cli.recorded import bars, definitions_of, named_history, processes_for, recorded, settings_of
from orchestrator.report import charts, page

MOVES = ("segment", "what changed", "entered", "left")


@click.command(epilog="Example: orchestrator segments my-pack --events history")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@recorded
@click.option("--html", type=OUT_FILE, help="Also write a page with a plot.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def segments(
    folder: Path,
    events: Path | None,
    topics: bool,
    to: str | None,
    barrier_every: str,
    processes: int | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Show how large each segment in DIR was at the end of every week, and which values let customers in and out.

    A customer counts from their first event of interest on. Weeks end on Monday at midnight, UTC.
    """
    settings = settings_of(folder, live=topics and events is None)
    definitions = definitions_of(folder, settings)
    history = named_history(settings, events, topics=topics, to=to, barrier_every=barrier_every)
    with bars() as progress:
        found = segment_sizes(history, definitions, processes=processes_for(history, processes), progress=progress)
    names = list(definitions.segments)
    if html is not None:
        html.write_text(_page(found, names), encoding="utf-8")
    if as_json:
        said = [{"at": at, **look.as_dict(names)} for at, look in found.items()]
        click.echo(json.dumps(said, indent=2, ensure_ascii=False))
        return
    if not names or not found:
        click.echo("There is no segment." if not names else "There are no events of interest.")
        return
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(_sizes(found, names))
    console.print(_moves(found, names))
    if html is not None:
        click.echo(html.resolve().as_uri())


def _sizes(found: Looks, names: list[str]) -> Table:
    table = Table("until", box=box.SIMPLE_HEAD, title="Customers in each segment", title_style="bold")
    for name in ("all", *names):
        table.add_column(name, justify="right")
    for at, look in found.items():
        day = f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M}"
        table.add_row(day, f"{look.known:,}", *(f"{look.sizes[name]:,}" for name in names))
    return table


def _moves(found: Looks, names: list[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Who entered and left", title_style="bold")
    for number, name in enumerate(MOVES):
        table.add_column(name, justify="right" if number > 1 else "left")
    for row in _rows(found, names):
        table.add_row(*row)
    return table


def _page(found: Looks, names: list[str]) -> str:
    title = "How large the segments are"
    head = f"<header><h1>{title}</h1></header>"
    if not names or len(found) < 2:
        return page.page(title, head, page.paragraph("There is nothing to draw: no segment, or less than a week."))
    colors = {name: f"c{number % page.COLORS}" for number, name in enumerate(names)}
    rows = {name: [look.sizes[name] for look in found.values()] for name in names}
    return page.page(
        title,
        head,
        page.section("Customers in each segment", page.figure(charts.sizes(list(found), rows, colors.__getitem__))),
        page.section("Who entered and left", page.table(MOVES, list(_rows(found, names)))),
    )


def _rows(found: Looks, names: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield how many entered and left each segment by which value, over all looks."""
    entered = sum((look.entered for look in found.values()), Counter[tuple[str, str]]())
    left = sum((look.left for look in found.values()), Counter[tuple[str, str]]())
    for name in names:
        for one in sorted({*entered, *left}):
            if one[0] == name:
                yield (*one, f"{entered[one]:,}", f"{left[one]:,}")
