"""`orchestrator definitions`: publishes definitions to running engines, and shows, compares and takes back versions."""

from __future__ import annotations

import difflib
import getpass
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from orchestrator.cli.reading import as_json as json_option
from orchestrator.cli.reading import brokers, settings_of
from orchestrator.cli.test import lines_of, tested
from orchestrator.definitions.load import load
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.compose import topics_of
from orchestrator.runtime.definitions_folder import read_directory
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.published import Publication, read_all, write
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.units import duration_ms

MARGIN = "10s"
"""How far ahead definitions come into force: every engine must have read them before its clock is there."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

starting = click.option(
    "--in",
    "delay",
    default=MARGIN,
    show_default=True,
    help="How long from now they come into force, such as 10s or 2h.",
)
noted = click.option("--note", default="", help="What was changed and why.")


@click.group()
def definitions() -> None:
    """Publish definitions to engines that run with ORCHESTRATOR_DEFINITIONS=topic.

    All engines change over at the same instant of their clocks, without a restart.
    """


@definitions.command(epilog='Example: orchestrator definitions publish my-pack --note "a reminder after two days"')
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@starting
@noted
@brokers
def publish(folder: Path, delay: str, note: str, bootstrap_servers: str | None) -> None:
    """Publish the definitions in DIR, once they lint and their tests pass."""
    settings, topics = _open(bootstrap_servers)
    texts = read_directory(folder)
    found, problems = load(texts, topics.catalogue)
    if found is None:
        errors = [str(problem) for problem in problems if problem.severity == "error"]
        raise OperatorError(
            f"the definitions in '{folder}' have {len(errors)} errors, nothing was published:", details=errors
        )
    _, failures, wrong = tested(texts, found, topics.catalogue)
    if failures or wrong:
        details = [str(problem) for problem in wrong] + [line for one in failures for line in lines_of(one) if line]
        raise OperatorError("the tests beside the definitions fail, nothing was published:", details=details)
    files = {Path(path).name: text for path, text in texts.items()}
    _publish(settings, topics, found.version, files, delay, note)


@definitions.command("list", epilog="Example: orchestrator definitions list")
@brokers
@json_option
def list_(bootstrap_servers: str | None, as_json: bool) -> None:
    """List what was published, in the order in which it comes into force."""
    published = read_all(*_open(bootstrap_servers))
    in_force = _in_force(published)
    if as_json:
        rows = [{**_said(one), "in_force": one is in_force} for one in published]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for place, one in enumerate(published):
        since = "from the beginning " if place == 0 else _written(one.effective_from)
        mark = "in force" if one is in_force else "to come" if one.effective_from > now_ms() else ""
        click.echo(f"{since}  {one.version}  {mark:8}  {one.published_by}  {one.note}".rstrip())
    if not published:
        click.echo("nothing was published yet: orchestrator definitions publish DIR")


@definitions.command(epilog="Example: orchestrator definitions diff my-pack")
@click.argument("new")
@click.option("--from", "old", metavar="OLD", help="What to compare with, instead of what is in force.")
@brokers
def diff(old: str | None, new: str, bootstrap_servers: str | None) -> None:
    """Show what changes from what is in force to NEW; both are a version that was published, or a folder."""
    published = read_all(*_open(bootstrap_servers))
    before = _files(old, published) if old is not None else _require(_in_force(published)).files
    for line in compared(before, _files(new, published)):
        click.echo(line)


@definitions.command(epilog="Example: orchestrator definitions rollback")
@click.argument("version", required=False)
@starting
@noted
@brokers
def rollback(version: str | None, delay: str, note: str, bootstrap_servers: str | None) -> None:
    """Publish an earlier VERSION again; without one, that before what is in force."""
    settings, topics = _open(bootstrap_servers)
    published = read_all(settings, topics)
    current = _require(_in_force(published))
    if version is None:
        earlier = [one for one in published[: published.index(current)] if one.version != current.version]
        if not earlier:
            raise OperatorError(
                f"nothing was in force before {current.version}: publish a folder instead", exit_code=USAGE
            )
        wanted = earlier[-1]
    else:
        wanted = _of(version, published)
    _publish(settings, topics, wanted.version, wanted.files, delay, note or f"back to {wanted.version}")


def compared(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    """Yield the differences between two sets of files as a unified diff, file by file."""
    for name in sorted({*old, *new}):
        before, after = (files.get(name, "").splitlines() for files in (old, new))
        yield from difflib.unified_diff(before, after, name, name, lineterm="")


def _publish(settings: Settings, topics: Topics, version: str, files: Mapping[str, str], delay: str, note: str) -> None:
    try:
        ahead = duration_ms(delay)
    except ValueError as error:
        raise OperatorError(f"--in: {error}", exit_code=USAGE) from None
    now = now_ms()
    publication = Publication(now + ahead, version, now, getpass.getuser(), note, files)
    write(settings, topics, publication)
    if now_ms() >= publication.effective_from:
        raise OperatorError(
            f"it took longer than {delay} until {version} was written, so engines may have changed over at different "
            "instants: publish it again with a larger --in"
        )
    click.echo(f"{version} comes into force at {_written(publication.effective_from)}")


def _open(bootstrap_servers: str | None) -> tuple[Settings, Topics]:
    settings = settings_of(bootstrap_servers)
    return settings, topics_of(settings)


def _in_force(published: Sequence[Publication]) -> Publication | None:
    """Return what is in force now: the first counts from the beginning."""
    begun = [one for one in published if one.effective_from <= now_ms()]
    return begun[-1] if begun else next(iter(published), None)


def _require(publication: Publication | None) -> Publication:
    if publication is None:
        raise OperatorError("nothing was published yet: orchestrator definitions publish DIR", exit_code=USAGE)
    return publication


def _of(version: str, published: Sequence[Publication]) -> Publication:
    found = [one for one in published if one.version == version]
    if not found:
        raise OperatorError(f"no version '{version}' was published: see orchestrator definitions list", exit_code=USAGE)
    return found[-1]


def _files(named: str, published: Sequence[Publication]) -> Mapping[str, str]:
    """Return the files of a folder or of a published version."""
    if Path(named).is_dir():
        return {Path(path).name: text for path, text in read_directory(Path(named)).items()}
    return _of(named, published).files


def _said(one: Publication) -> dict[str, object]:
    return {name: getattr(one, name) for name in Publication.__dataclass_fields__ if name != "files"}


def _written(instant: int) -> str:
    return f"{_EPOCH + timedelta(milliseconds=instant):%Y-%m-%d %H:%M:%S}Z"
