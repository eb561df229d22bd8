"""`orchestrator test`: the tests that marketers write beside their definitions."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import click

from orchestrator.cli.reading import events_of, topics_file
from orchestrator.definitions.catalogue import Catalogue
from orchestrator.definitions.load import TESTS, load
from orchestrator.definitions.nodes import Problem, Problems
from orchestrator.definitions.scenario_run import Failure, run_scenario
from orchestrator.definitions.scenarios import parse_scenarios
from orchestrator.program import Definitions
from orchestrator.runtime.definitions_folder import read_directory
from orchestrator.runtime.errors import FINDINGS


@click.command(epilog="Example: orchestrator test deploy/definitions/retail")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@topics_file
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def test(folder: Path, topics_file: Path | None, as_json: bool) -> None:
    """Run the tests in DIR (files that end in .test.yaml) against its definitions, without Kafka."""
    started = time.monotonic()
    texts = read_directory(folder)
    catalogue = events_of(folder, topics_file)
    definitions, found = load(texts, catalogue)
    problems = Problems([problem for problem in found if problem.severity == "error"])
    count, failures = 0, list[Failure]()
    if definitions is not None:
        count, failures, wrong = tested(texts, definitions, catalogue)
        problems.found += wrong
    broken = len({failure.scenario.place for failure in failures})
    passed = count - broken
    if as_json:
        said = {
            "passed": passed,
            "failed": broken,
            "problems": [str(problem) for problem in problems.sorted()],
            "failures": [_plain(failure) for failure in failures],
        }
        click.echo(json.dumps(said, indent=2, ensure_ascii=False))
    else:
        for problem in problems.sorted():
            click.echo(problem)
        for failure in failures:
            click.echo("\n".join(lines_of(failure)))
        click.echo(f"{passed} passed, {broken} failed in {time.monotonic() - started:.2f} s")
    if failures or problems.errors:
        raise click.exceptions.Exit(FINDINGS)


def tested(
    texts: Mapping[str, str], definitions: Definitions, catalogue: Catalogue
) -> tuple[int, list[Failure], list[Problem]]:
    """Return how many tests the files hold, what failed in them, and what cannot be read as a test."""
    problems = Problems()
    scenarios = [
        scenario
        for path, text in texts.items()
        if path.endswith(TESTS)
        for scenario in parse_scenarios(text, path, definitions, problems, catalogue)
    ]
    return len(scenarios), [failure for one in scenarios for failure in run_scenario(one, definitions)], problems.found


def lines_of(failure: Failure) -> list[str]:
    """Return a failure as a marketer reads it: place, expectation, what happened, and the customer's timeline."""
    return [
        f"{failure.expect.place}: {failure.scenario.name}",
        f"  expected  {failure.expected}",
        f"  happened  {failure.happened}",
        *(f"    {line}" for line in failure.timeline),
        "",
    ]


def _plain(failure: Failure) -> dict[str, object]:
    place = failure.expect.place
    return {
        "path": place.path,
        "line": place.line,
        "column": place.column,
        "test": failure.scenario.name,
        "expected": failure.expected,
        "happened": failure.happened,
        "timeline": list(failure.timeline),
    }
