"""`orchestrator backfill`: folds history, silently, into features that were defined after it."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import click

from orchestrator.cli.reading import progress_bars
from orchestrator.runtime import settings as environment
from orchestrator.runtime.compose import build_backfill


@click.command(epilog="Example: ORCHESTRATOR_DEFINITIONS=deploy/definitions/retail orchestrator backfill")
@click.argument("features", nargs=-1, metavar="[FEATURE]...")
def backfill(features: tuple[str, ...]) -> None:
    """Fold history into features that are new: those named, or all that no customer has yet.

    Takes the settings of the workers, which must be stopped. Decides nothing, and nothing opens because of old events.
    See docs/operations.md, 'New features'.
    """
    work = build_backfill(environment.load(dict(os.environ), required=("BOOTSTRAP_SERVERS", "DEFINITIONS")))

    def tell(chosen: tuple[str, ...]) -> None:
        click.echo(f"folding history into {', '.join(chosen)}; after an interruption, name them")

    with progress_bars() as progress_of:
        done = work.run(features, tell, progress_of("history") or (lambda _behind, _total: None))
    if not done.features:
        click.echo("somebody has every feature: name those to be folded anew")
        return
    for topic, since in sorted(done.since.items()):
        older = ", what was older is deleted" if topic in done.cut else ""
        click.echo(f"{topic}: since {datetime.fromtimestamp(since / 1000, UTC):%Y-%m-%d}{older}")
    click.echo(f"{done.changed:,} of {done.customers:,} customers changed, {done.events:,} events; start the workers")
