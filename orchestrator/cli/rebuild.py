"""`orchestrator rebuild`: writes the changelog anew from the inputs and our own decisions, after it was lost."""

from __future__ import annotations

import os

import click

from orchestrator.runtime import settings as environment
from orchestrator.runtime.compose import build_rebuild
from orchestrator.runtime.rebuild import Rebuilt


@click.command(epilog="Example: ORCHESTRATOR_DEFINITIONS=deploy/definitions/retail orchestrator rebuild")
def rebuild() -> None:
    """Write the changelog anew from the inputs and our own decisions, after it was lost with every store.

    Takes the settings of the workers, which must be stopped. Decides nothing for the past. See docs/operations.md,
    'Disaster recovery'.
    """
    work = build_rebuild(environment.load(dict(os.environ), required=("BOOTSTRAP_SERVERS", "DEFINITIONS")))
    customers = 0

    def tell(rebuilt: Rebuilt) -> None:
        nonlocal customers
        customers += rebuilt.customers
        click.echo(
            f"partition {rebuilt.partition}: {rebuilt.customers:,} customers from {rebuilt.events:,} events and "
            f"{rebuilt.decisions:,} decisions, {rebuilt.held_slots:,} slots held"
        )

    work.run(tell)
    click.echo(f"rebuilt {customers:,} customers; start the workers, then prove it with `orchestrator audit`")
