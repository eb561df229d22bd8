"""`orchestrator policy`: what was learned of each campaign; shown, proven from the outcomes, and computed offline."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from orchestrator.backtest.fitting import Unfit, fitting
from orchestrator.backtest.formats import SUFFIXES, rows
from orchestrator.cli.evaluate import evaluate_
from orchestrator.cli.paths import OUT_FILE
from orchestrator.cli.reading import as_json as json_option
from orchestrator.cli.reading import brokers, open_topics, progress_bars
from orchestrator.cli.recorded import definitions_of, instant, settings_of
from orchestrator.learning.outcomes import Outcomes
from orchestrator.learning.plan import plan as planned
from orchestrator.program import Definitions
from orchestrator.report import policies
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.errors import FINDINGS, USAGE, OperatorError
from orchestrator.runtime.outcome_log import read_outcomes
from orchestrator.runtime.policy_log import policy_topic, read_versions
from orchestrator.runtime.published import read_all
from orchestrator.runtime.schema_registry import FileRegistry, registry_of
from orchestrator.runtime.settings import PUBLISHED, Settings
from orchestrator.runtime.topic import Topics
from orchestrator.valuation import PolicySnapshot, records_of, snapshot_of

OUTCOME = "campaign_outcome"

leaf_option = click.option("--leaf", metavar="LEAF", help="One leaf only, such as value_tier=high; '' for everybody.")


@click.group(epilog="Example: orchestrator policy show")
def policy() -> None:
    """Show what each campaign was found to be worth, prove it from the outcomes, or compute it offline."""


policy.add_command(evaluate_)


@policy.command(epilog="Example: orchestrator policy show --leaf value_tier=high")
@leaf_option
@click.option("--newest", is_flag=True, help="The newest snapshot, also where it is not in force yet.")
@click.option("--currency", default="USD", show_default=True, help="The program's currency, as in policy.yaml.")
@brokers
@json_option
def show(leaf: str | None, newest: bool, currency: str, bootstrap_servers: str | None, as_json: bool) -> None:
    """Print the policy snapshot in force: per leaf and arm its gain with spread, its control share and its state.

    The gain is what a message earns beyond sending nothing. Over a free slot is what is left of it after the price of
    the slot that it holds, with what it opens: the campaign is chosen where that is above 0. Exits 1 before the first.
    """
    settings, topics, _ = open_topics(bootstrap_servers)
    versions = [_snapshot(records) for records in _versions(settings, topics)]
    found = [one for one in versions if newest or one.effective_from <= now_ms()]
    if not found:
        raise OperatorError("no policy snapshot is in force yet: is anything learned (`choose` in policy.yaml)?")
    _print(found[-1], leaf, currency, as_json=as_json)


@policy.command(epilog="Example: orchestrator policy verify deploy/definitions/retail")
@click.argument(
    "folder", metavar="[DIR]", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@brokers
@json_option
def verify(folder: Path | None, bootstrap_servers: str | None, as_json: bool) -> None:
    """Compute the newest policy snapshot again from the outcomes, and compare the bytes; exit 1 if any differs.

    The definitions are those in DIR, or as ORCHESTRATOR_DEFINITIONS says. Of an outcome that was amended after the
    snapshot, the earlier form may be gone, for the topic is compacted: verify soon after a snapshot.
    """
    settings, topics, _ = open_topics(bootstrap_servers)
    versions = _versions(settings, topics)
    if not versions:
        raise OperatorError("no policy snapshot was published yet: there is nothing to verify")
    published = versions[-1]
    snapshot = _snapshot(published)
    definitions = _definitions(folder, settings, topics, snapshot.definitions_version)
    with progress_bars() as progress_of:
        outcomes = read_outcomes(settings, topics, progress_of(topics.outcomes.name))
    computed = records_of(planned(outcomes, definitions, snapshot.as_of, snapshot.effective_from))
    encode = Codec(registry_of(settings, register=False)).encoder(policy_topic(topics))
    is_same = {key: encode(dict(record)) for key, record in computed.items()} == {
        key: encode(dict(record)) for key, record in published.items()
    }
    found = [] if is_same else policies.differences(published, computed)
    if as_json:
        told = {"version": snapshot.version, "as_of": snapshot.as_of, "same": is_same, "differences": found}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    elif is_same:
        click.echo(
            f"snapshot {snapshot.version} follows from {snapshot.outcomes:,} outcomes, byte for byte, in "
            f"{len(published)} leaves"
        )
    else:
        click.echo("\n".join([f"snapshot {snapshot.version} does not follow from the outcomes as they are:", *found]))
    if not is_same:
        raise click.exceptions.Exit(FINDINGS)


@policy.command(epilog="Example: orchestrator policy plan my-pack --outcomes backtest/outcomes.avro")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--outcomes",
    "path",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Outcome records: a file (.avro, .jsonl or .parquet), or a folder with outcomes.* as a back-test leaves it.",
)
@click.option("--as-of", metavar="TIME", help="Count what was known up to here; default: all.")
@click.option("--out", type=OUT_FILE, help="Also write it as policy.jsonl, for back-tests.")
@leaf_option
@click.option("--currency", default="USD", show_default=True, help="The program's currency, as in policy.yaml.")
@json_option
def plan(
    folder: Path, path: Path, as_of: str | None, out: Path | None, leaf: str | None, currency: str, as_json: bool
) -> None:
    """Compute the policy snapshot that follows from outcome records, without brokers; DIR has the definitions.

    It counts from the millisecond after TIME on. Written beside recorded events as policy.jsonl, back-tests use it.
    """
    settings = settings_of(folder)
    definitions = definitions_of(folder, settings)
    records = list(_recorded(path, settings))
    known = max((record["known_at"] for record in records), default=0)
    until = known if as_of is None else instant("--as-of", as_of, end=True)
    snapshot = planned(Outcomes(records), definitions, until, until + 1)
    if out is not None:
        lines = [json.dumps(_as_json(record), ensure_ascii=True) for record in records_of(snapshot).values()]
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _print(snapshot, leaf, currency, as_json=as_json)


def _recorded(path: Path, settings: Settings) -> list[dict[str, Any]]:
    """Return the outcome records of a file, or of a folder's outcomes."""
    paths = [path] if path.is_file() else [one for one in sorted(path.glob("outcomes*")) if one.suffix in SUFFIXES]
    if not paths:
        raise OperatorError(
            f"no outcomes: '{path}' has no file such as outcomes.avro or outcomes.jsonl", exit_code=USAGE
        )
    schema = FileRegistry(settings.schemas).named(OUTCOME)
    found = []
    for file in paths:
        for _, record in rows(file, schema, fitting(schema), 0, 1):
            if isinstance(record, Unfit):
                raise OperatorError(f"'{file}' has a row that is no {OUTCOME}: {record}", exit_code=USAGE)
            found.append(record)
    return found


def _definitions(folder: Path | None, settings: Settings, topics: Topics, version: str) -> Definitions:
    """Return the definitions of a version from where they are, or raise an OperatorError."""
    if folder is None and settings.definitions == PUBLISHED:
        found = next((one for one in read_all(settings, topics) if one.version == version), None)
        if found is None:
            raise OperatorError(f"definitions {version} are no longer among those published: name their folder")
        return found.definitions(topics.catalogue)
    where = folder or settings.definitions
    if where is None:
        raise OperatorError("no definitions: name their folder, or set ORCHESTRATOR_DEFINITIONS", exit_code=USAGE)
    definitions = load_folder(where, topics.catalogue)
    if definitions.version != version:
        raise OperatorError(
            f"the snapshot was learned for definitions {version}, but those in '{where}' are {definitions.version}",
            exit_code=USAGE,
        )
    return definitions


def _versions(settings: Settings, topics: Topics) -> list[dict[str, dict[str, Any]]]:
    """Return the whole versions of the topic, and tell what else there is."""
    unreadable: list[str] = []
    versions = read_versions(settings, topics, unreadable)
    if unreadable:
        click.echo(
            f"left out, for engines cannot use it either, the first of {len(unreadable)}: {unreadable[0]}", err=True
        )
    return versions


def _snapshot(records: Mapping[str, Mapping[str, Any]]) -> PolicySnapshot:
    snapshot = snapshot_of(records.values())
    assert snapshot is not None, "versions are whole"
    return snapshot


def _print(snapshot: PolicySnapshot, leaf: str | None, currency: str, *, as_json: bool) -> None:
    if leaf is not None and leaf not in snapshot.leaves:
        known = ", ".join(sorted(filter(None, snapshot.leaves))[:8]) or "none but everybody"
        raise OperatorError(f"no leaf '{leaf}' in snapshot {snapshot.version}; there are: {known}", exit_code=USAGE)
    if as_json:
        click.echo(json.dumps(policies.as_dict(snapshot, leaf), indent=2, ensure_ascii=False))
    else:
        width = None if sys.stdout.isatty() else 110  # a file has no width of its own
        Console(width=width).print(policies.told(snapshot, leaf, currency), highlight=False)


def _as_json(value: Any) -> Any:
    """Return a value as Avro has it in JSON: bytes as a text of as many characters."""
    if isinstance(value, Mapping):
        return {name: _as_json(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    return value.decode("latin-1") if isinstance(value, bytes) else value
