"""`orchestrator lint`: every problem of a folder of definitions, with its place."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.definitions.load import load
from orchestrator.definitions.nodes import Problem
from orchestrator.runtime.definitions_folder import read_directory
from orchestrator.runtime.errors import FINDINGS


@click.command(epilog="Example: orchestrator lint deploy/definitions/retail")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def lint(folder: Path, as_json: bool) -> None:
    """Check the definitions in DIR and print every problem with its place; warnings alone are no failure."""
    definitions, problems = load(read_directory(folder))
    version = None if definitions is None else definitions.version
    if as_json:
        click.echo(json.dumps({"version": version, "problems": [_plain(problem) for problem in problems]}, indent=2))
    else:
        for problem in problems:
            click.echo(problem)
        errors = sum(problem.severity == "error" for problem in problems)
        end = f", version {version}" if version else ""
        click.echo(f"{errors} errors, {len(problems) - errors} warnings{end}", err=True)
    if definitions is None:
        raise click.exceptions.Exit(FINDINGS)


def _plain(problem: Problem) -> dict[str, object]:
    return {**asdict(problem.place), "code": problem.code, "severity": problem.severity, "message": problem.message}
