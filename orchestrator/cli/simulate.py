"""`orchestrator simulate`: what learning makes of a market whose truth is known, beside what would be best."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.cli.paths import OUT_FOLDER
from orchestrator.simulate.oracles import best_list
from orchestrator.simulate.page import Results, drawing, tables
from orchestrator.simulate.run import OURS, RIVALS, SWITCHES, Result
from orchestrator.simulate.run import simulate as run
from orchestrator.simulate.world import worlds


@click.command(epilog="Example: orchestrator simulate --customers 2500 --seeds 1-8 --out simulation")
@click.option("--world", default="shop", show_default=True, help="One of the worlds pinned in the product.")
@click.option("--customers", default=2_500, show_default=True, type=click.IntRange(50), help="How many to learn from.")
@click.option("--seeds", default="1-8", show_default=True, help="Whole numbers such as 1-8 or 101,104.")
@click.option("--ablations", is_flag=True, help="Also switch off one part of ours at a time.")
@click.option("--only", multiple=True, help="Only this policy; may be given several times.")
@click.option(
    "--find-list", is_flag=True, help="Search the best fixed list of priorities with the truth, and print it."
)
@click.option("--processes", type=click.IntRange(1), help="Processes; as many as there are processors when left out.")
@click.option("--out", type=OUT_FOLDER, help="Folder for the results, the tables and the drawing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def simulate(
    world: str,
    customers: int,
    seeds: str,
    ablations: bool,
    only: tuple[str, ...],
    find_list: bool,
    processes: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Let the real engine and the learner live a year in a market whose truth is known.

    Beside them live those who know the truth, fixed lists of priorities, and ours with one part switched off. Scores
    are shares of what the segment oracle earns beyond sending nothing. They rank policies and promise nothing about a
    market.
    """
    if world not in worlds():
        raise click.UsageError(f"unknown world {world!r}, there are: {', '.join(worlds())}")
    if find_list:
        click.echo(", ".join(best_list(worlds()[world], customers)))
        return
    known = (*RIVALS, OURS, *SWITCHES)
    unknown = [name for name in only if name not in known]
    if unknown:
        raise click.UsageError(f"unknown policy {unknown[0]!r}, there are: {', '.join(known)}")
    policies = only or (*RIVALS, OURS, *(SWITCHES if ablations else ()))
    numbers = _numbers(seeds)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    found: list[Result] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("years lived", total=len(policies) * len(numbers))
        for result in run(world, customers, numbers, policies, processes or os.cpu_count() or 1):
            found.append(result)
            progress.advance(task)
            if out is not None:
                _keep(out, found)
    results = Results(found)
    if as_json:
        said = {
            "results": [one.to_dict() for one in found],
            "gates": [{"what": g.what, "bar": g.bar, "found": g.found, "reached": g.reached} for g in results.gates()],
        }
        click.echo(json.dumps(said, indent=2))
    else:
        click.echo(tables(results), nl=False)
    if out is not None:
        (out / "simulation.md").write_text(tables(results))
        (out / "simulation.svg").write_text(drawing(results))
    if not all(gate.reached for gate in results.gates()):
        raise SystemExit(1)


def _keep(out: Path, found: list[Result]) -> None:
    records = sorted((one.to_dict() for one in found), key=lambda one: (one["policy"], one["seed"]))
    (out / "simulation.json").write_text(json.dumps(records) + "\n")


def _numbers(text: str) -> list[int]:
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            numbers += range(int(first), int(last or first) + 1)
    except ValueError:
        numbers = []
    if not numbers:
        raise click.UsageError(f"seeds are {text!r}, write whole numbers such as 1-8 or 101,104")
    return numbers
