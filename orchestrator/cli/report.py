"""`orchestrator report`: what the campaigns are worth, one by one and all together, and what the rules cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group

from orchestrator.arbitration.policy import Policy
from orchestrator.backtest.earnings import ledger_of
from orchestrator.cli.paths import OUT_FILE
from orchestrator.cli.reading import as_json as json_option
from orchestrator.cli.reading import brokers, kept_records, open_topics, progress_bars, records_folder
from orchestrator.cli.recorded import bars, definitions_of, history_of, instant, settings_of
from orchestrator.definitions.values import USE_HUNDREDTHS, WITHOUT_HUNDREDTHS
from orchestrator.learning.program import Ledger, TooEarlyError, UnmeasurableError, Whole, fill, first_of, whole_program
from orchestrator.learning.uplift import METRICS, OBJECTIVE
from orchestrator.report import levers, page, program_page
from orchestrator.report.worth import Worth
from orchestrator.report.worth_page import render
from orchestrator.report.worth_table import table
from orchestrator.runtime import published
from orchestrator.runtime.compose import topics_of
from orchestrator.runtime.errors import FINDINGS, USAGE, OperatorError
from orchestrator.runtime.topic import Topic

Records = Iterable[dict[str, Any]]

_PAGE_WIDTH = 150


@dataclass(frozen=True, slots=True)
class Source:
    """Where output records come from: the topics, or a folder that a back-test wrote."""

    name: str
    read: Callable[[str], Records]


@click.command(epilog="Example: orchestrator report --program --rules --html worth.html")
@click.option(
    "--metric",
    type=click.Choice((OBJECTIVE, *METRICS)),
    default=OBJECTIVE,
    show_default=True,
    help="What to compare; each campaign by the objective it names, unless one is named here.",
)
@click.option("--before-cost", is_flag=True, help="Do not take off what messages and offers cost, as after a replay.")
@click.option(
    "--program", is_flag=True, help="Also the program as a whole: against the hold-out, and methods compared."
)
@click.option("--rules", is_flag=True, help="Also what each rule costs, from the decisions.")
@records_folder
@click.option(
    "--events",
    type=click.Path(exists=True, path_type=Path),
    help="For --program: recorded events, instead of the input topics.",
)
@click.option(
    "--definitions",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="For --program: the definitions, instead of those that were published last.",
)
@click.option("--since", metavar="TIME", help="For --program: when it began; default: with the first window.")
@click.option("--currency", help="The program's currency; default: as in the definitions, else USD.")
@click.option("--html", type=OUT_FILE, help="Also write a page with plots.")
@brokers
@json_option
def report(
    metric: str,
    before_cost: bool,
    program: bool,
    rules: bool,
    records: Path | None,
    events: Path | None,
    definitions: Path | None,
    since: str | None,
    currency: str | None,
    html: Path | None,
    bootstrap_servers: str | None,
    as_json: bool,
) -> None:
    """Show what every campaign was worth against its randomised control.

    Reads the topic `campaign-outcomes` to its end, or what a back-test wrote. The intervals are right however often
    this is run; where there is not enough data yet, it says so and about how many more customers are needed.
    """
    if currency in WITHOUT_HUNDREDTHS:
        raise OperatorError(f"--currency {currency} has no hundredths: {USE_HUNDREDTHS}", exit_code=USAGE)
    source = _of_topics(bootstrap_servers) if records is None else _of_folder(records)
    outcomes = list(source.read("outcomes"))
    policy = _policy(definitions, bootstrap_servers) if program or definitions is not None else None
    money = currency or ("USD" if policy is None else policy.currency)
    whole, ledger, began, notes = None, None, None, tuple[str, ...]()
    if program and policy is not None:
        began = first_of(outcomes) if since is None else instant("--since", since)
    if policy is not None and began is not None:
        ledger = _ledger(policy, definitions, events, bootstrap_servers)
        _check(ledger, began, since)
        fill(ledger, outcomes, net=not before_cost)
    prices = _prices(source, ledger, rules=rules)
    if policy is not None and began is not None and ledger is not None:
        whole, notes = _whole(ledger, policy, began)
    found = Worth.fold(outcomes, metric, net=not before_cost, currency=money)

    if html is not None:
        sections = program_page.sections(whole, prices, money)
        if notes:
            sections.insert(0 if whole is None else 1, page.section("What to know of it", *map(page.paragraph, notes)))
        html.write_text(render(found, *sections), encoding="utf-8")
    if as_json:
        told = found.as_dict() | program_page.as_dict(whole, prices)
        if notes:
            told["notes"] = list(notes)
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    if not found.results.campaigns:
        click.echo(f"No measurement window has closed yet: {source.name} has no outcome.")
        if others := program_page.tables(whole, prices, money):
            Console(width=None if sys.stdout.isatty() else _PAGE_WIDTH).print(Group(*others))
        return
    console = Console(width=None if sys.stdout.isatty() else _PAGE_WIDTH)
    console.print(Group(table(found), *program_page.tables(whole, prices, money)))
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if html is not None:
        click.echo(f"{html.resolve().as_uri()}")


def _ledger(policy: Policy, definitions: Path | None, events: Path | None, bootstrap_servers: str | None) -> Ledger:
    """Return what the recorded events say of money."""
    settings = settings_of(definitions or Path(), live=events is None, bootstrap_servers=bootstrap_servers)
    with bars() as told:
        return ledger_of(history_of(settings, events), policy, told)


def _check(ledger: Ledger, began: int, since: str | None) -> None:
    """Raise an OperatorError where the events are of another time than the campaigns."""
    if ledger.last < began:
        raise OperatorError(
            "no order since the program began: --events must hold what happened while the campaigns ran"
            if since is None
            else f"no order since --since {since}: name an instant while the campaigns ran",
            exit_code=USAGE,
        )


def _prices(source: Source, ledger: Ledger | None, *, rules: bool) -> levers.Levers | None:
    """Return what rules cost, where that is asked for, and enter decisions into the ledger; they are read but once."""
    if ledger is None:
        return levers.fold(source.read("decisions")) if rules else None
    decisions = _entered(source.read("decisions"), ledger)
    if rules:
        return levers.fold(decisions)
    for _ in decisions:
        pass
    return None


def _entered(decisions: Records, ledger: Ledger) -> Records:
    for decision in decisions:
        ledger.decision(decision)
        yield decision


def _whole(ledger: Ledger, policy: Policy, began: int) -> tuple[Whole | None, tuple[str, ...]]:
    """Return the program as a whole, None while it is too early, with notes; or raise an OperatorError."""
    try:
        whole = whole_program(ledger, policy, began, ledger.until(policy))
        return whole, whole.notes
    except TooEarlyError as error:
        return None, (f"The program as a whole: {error}.",)
    except UnmeasurableError as error:
        raise OperatorError(f"--program: {error}", exit_code=FINDINGS) from None


def _policy(folder: Path | None, bootstrap_servers: str | None) -> Policy:
    """Return the policy of a folder, else of what was published last, or raise an OperatorError."""
    if folder is not None:
        return definitions_of(folder, settings_of(folder)).policy
    settings, topics, _ = open_topics(bootstrap_servers)
    publications = published.read_all(settings, topics)
    if not publications:
        raise OperatorError("no definitions were published: name them with --definitions DIR", exit_code=USAGE)
    return publications[-1].definitions(topics_of(settings).catalogue).policy


def _of_folder(folder: Path) -> Source:
    return Source(str(folder), partial(kept_records, folder))


def _of_topics(bootstrap_servers: str | None) -> Source:
    _, topics, reader = open_topics(bootstrap_servers)
    named: Mapping[str, Topic] = {"outcomes": topics.outcomes, "decisions": topics.decisions}

    def read(kind: str) -> Records:
        topic = named[kind]
        with progress_bars() as progress_of:
            yield from (record for record, _ in reader.read(topic, progress=progress_of(topic.name)))

    return Source(topics.outcomes.name, read)
