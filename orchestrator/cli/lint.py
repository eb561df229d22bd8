"""`orchestrator lint`: every problem of a folder of definitions, with its place, and what it costs per customer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.cli.reading import events_of, topics_file
from orchestrator.definitions.footprint import Cost, footprint
from orchestrator.definitions.load import load
from orchestrator.definitions.nodes import Problem
from orchestrator.runtime.definitions_folder import read_directory
from orchestrator.runtime.errors import FINDINGS


@click.command(epilog="Example: orchestrator lint deploy/definitions/retail")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@topics_file
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def lint(folder: Path, topics_file: Path | None, as_json: bool) -> None:
    """Check the definitions in DIR and print every problem with its place; warnings alone are no failure.

    Then print how many bytes of state they cost per customer: of a usual one, and at most.
    """
    definitions, problems = load(read_directory(folder), events_of(folder, topics_file))
    version = None if definitions is None else definitions.version
    costs = [] if definitions is None else footprint(definitions)
    if as_json:
        state = None if definitions is None else {
            **_total(costs), "definitions": [asdict(cost) for cost in costs],
        }  # fmt: skip
        found = {"version": version, "problems": [_plain(problem) for problem in problems], "state": state}
        click.echo(json.dumps(found, indent=2))
    else:
        for line in (*problems, *_table(costs)):
            click.echo(line)
        errors = sum(problem.severity == "error" for problem in problems)
        end = f", version {version}" if version else ""
        click.echo(f"{errors} errors, {len(problems) - errors} warnings{end}", err=True)
    if definitions is None:
        raise click.exceptions.Exit(FINDINGS)


SHOWN = 8
"""Of so many definitions the table shows what they cost."""


def _table(costs: Sequence[Cost]) -> Iterator[str]:
    if not costs:
        return
    total = _total(costs)
    yield "bytes of state per customer: usually  at most"
    yield f"{'all':27}{total['usual']:9,}{total['at_most']:9,}"
    for cost in costs[:SHOWN]:
        yield f"  {f'{cost.what} {cost.name}':25}{cost.usual:9,}{cost.at_most:9,}"
    others = _total(costs[SHOWN:])
    if others["usual"]:
        yield f"  {f'{len(costs) - SHOWN} others':25}{others['usual']:9,}{others['at_most']:9,}"


def _total(costs: Sequence[Cost]) -> dict[str, int]:
    return {"usual": sum(cost.usual for cost in costs), "at_most": sum(cost.at_most for cost in costs)}


def _plain(problem: Problem) -> dict[str, object]:
    return {**asdict(problem.place), "code": problem.code, "severity": problem.severity, "message": problem.message}
