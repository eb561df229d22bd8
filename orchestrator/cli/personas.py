"""`orchestrator personas`: for whom a campaign works and for whom not, as a table and as a change of definitions."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from orchestrator.cli.paths import OUT_FILE
from orchestrator.cli.reading import as_json as json_option
from orchestrator.cli.reading import brokers, emitted
from orchestrator.cli.recorded import settings_of
from orchestrator.cli.test import tested
from orchestrator.definitions.amend import unified_diff
from orchestrator.definitions.catalogue import Catalogue
from orchestrator.definitions.lineage import Lineage
from orchestrator.definitions.load import load
from orchestrator.definitions.persona_patch import Proposal, propose
from orchestrator.definitions.values import basis_points, minor_units
from orchestrator.learning.personas import Found, Limits, find
from orchestrator.learning.windows import features_of, slim, windows_of
from orchestrator.program import Definitions
from orchestrator.report.personas import as_dict, table
from orchestrator.runtime.compose import topics_of
from orchestrator.runtime.definitions_folder import load_folder, read_directory
from orchestrator.runtime.errors import FINDINGS, USAGE, OperatorError

Command = TypeVar("Command", bound=Callable[..., Any])

definitions_folder = click.option(
    "--definitions",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="The definitions in force, which tell what features mean.",
)


def measured(command: Command) -> Command:
    """Give a command the options that say which windows it reads, and what it takes to be a sub-persona."""
    for option in (
        brokers,
        click.option(
            "--difference",
            default="0",
            show_default=True,
            metavar="AMOUNT",
            help="By how much per window the parts must differ for sure.",
        ),
        click.option(
            "--false-discoveries",
            default="10%",
            show_default=True,
            metavar="SHARE",
            help="How many of the sub-personas found may be false.",
        ),
        click.option(
            "--before-cost", is_flag=True, help="Do not take off what messages and offers cost, as after a replay."
        ),
        click.option(
            "--records",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="A folder that a back-test wrote, instead of the topics.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was found in measured windows, the last of which ended at `until`, by the definitions of a folder."""

    found: Found
    until: int
    definitions: Definitions
    catalogue: Catalogue


@click.group()
def personas() -> None:
    """Find for whom campaigns work extremely well, somewhat or not, and propose to split them.

    The features that are searched are those of the policy: `choose: { split_on: [order_gap, orders_lifetime] }`.
    """


@personas.command("find", epilog="Example: orchestrator personas find --definitions my-pack")
@definitions_folder
@measured
@json_option
def find_(folder: Path, as_json: bool, **options: Any) -> None:
    """Show with whom each campaign's uplift differs, as far as that is proven.

    Reads the topics `decisions` and `campaign-outcomes` to their ends, or what a back-test wrote.
    """
    answer = _answer(folder, **options)
    if as_json:
        click.echo(json.dumps(as_dict(answer.found), indent=2, ensure_ascii=False))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table(answer.found, answer.definitions.policy.currency))


@personas.command("propose", epilog="Example: orchestrator personas propose --definitions my-pack --out split.patch")
@definitions_folder
@click.option("--out", type=OUT_FILE, help="Write the patch to a file.")
@measured
def propose_(folder: Path, out: Path | None, **options: Any) -> None:
    """Write the splits as a patch of the definitions, which a person completes and merges.

    It adds a segment for those with whom a campaign works best, keeps the campaign for them, and puts a sibling beside
    it for the others. Apply it with: git apply split.patch
    """
    answer = _answer(folder, **options)
    before = _by_patch_path(read_directory(folder))
    proposal = propose(before, answer.definitions, answer.found, until=answer.until, catalogue=answer.catalogue)
    for note in proposal.notes:
        click.echo(f"note: {note}", err=True)
    if not proposal.campaigns:
        click.echo("Nothing to propose: no campaign's uplift is proven to differ between customers.", err=True)
        return
    if proposal.problems:
        raise OperatorError(
            f"the patch would not lint, nothing was written; split {', '.join(proposal.campaigns)} by hand:",
            exit_code=FINDINGS,
            details=[str(problem) for problem in proposal.problems],
        )
    for line in _tests_that_change(before, proposal, answer.catalogue):
        click.echo(f"note: {line}", err=True)
    patch = unified_diff(before, proposal.texts)
    if out is None:
        click.echo(patch, nl=False)
    else:
        out.write_text(patch, encoding="utf-8", newline="")
        click.echo(f"{out}: splits {', '.join(proposal.campaigns)}; read it, then: git apply {out}", err=True)


@personas.command(epilog="Example: orchestrator personas lineage my-pack")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def lineage(folder: Path, as_json: bool) -> None:
    """Show which campaign grew from which, as `grew_from` says, with whom each is for."""
    definitions = load_folder(folder, topics_of(settings_of(folder)).catalogue)
    found = Lineage.of(definitions)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
        return
    for line in found.lines():
        click.echo(line)


def _answer(
    folder: Path,
    *,
    records: Path | None,
    before_cost: bool,
    false_discoveries: str,
    difference: str,
    bootstrap_servers: str | None,
) -> _Answer:
    rate, least = basis_points(false_discoveries), minor_units(difference)
    if not rate:
        raise OperatorError(
            f"--false-discoveries '{false_discoveries}' is not a share, write it like 10%", exit_code=USAGE
        )
    if least is None:
        raise OperatorError(f"--difference '{difference}' is not an amount, write it like 0.50", exit_code=USAGE)
    catalogue = topics_of(settings_of(folder)).catalogue
    definitions = load_folder(folder, catalogue)
    read = emitted(records, bootstrap_servers)
    features, outcomes = features_of(read("decisions")), [slim(one) for one in read("outcomes")]
    if not outcomes:
        raise OperatorError("no measurement window has closed yet, so there is nothing to search")
    if not features:
        raise OperatorError(
            "no decision says what was known of the customer: name the features to search in the policy, "
            "like choose: { split_on: [order_gap, orders_lifetime] }, and decide with it for a while"
        )
    units = {name: feature.unit for name, feature in definitions.features.items()}
    found = find(windows_of(outcomes, features, net=not before_cost), units, Limits(rate / 10_000, least))
    return _Answer(found, max(one["window_until"] for one in outcomes), definitions, catalogue)


def _by_patch_path(texts: Mapping[str, str]) -> dict[str, str]:
    """Return texts by their paths below the working directory, as `git apply` looks for them; others by themselves."""
    here = Path.cwd().resolve()
    found = {}
    for path, text in texts.items():
        whole = Path(path).resolve()
        found[(whole.relative_to(here) if whole.is_relative_to(here) else Path(path)).as_posix()] = text
    return found


def _tests_that_change(before: Mapping[str, str], proposal: Proposal, catalogue: Catalogue) -> list[str]:
    """Return which tests beside the definitions no longer hold: their customers are not in the segment any more."""
    failing = []
    for texts in (before, proposal.texts):
        definitions, _ = load(texts, catalogue)
        assert definitions is not None, "both were checked"
        _, failures, _ = tested(texts, definitions, catalogue)
        failing.append({(failure.scenario.place, failure.scenario.name) for failure in failures})
    return [
        f"{place}: the test '{name}' expects what the split changes" for place, name in sorted(failing[1] - failing[0])
    ]
