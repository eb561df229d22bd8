"""`orchestrator policy evaluate`: what the choice earned, and what a priority list would have, from the log alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.cli.reading import as_json as json_option
from orchestrator.cli.reading import brokers, emitted
from orchestrator.learning.off_policy import LEAST_EFFECTIVE, Estimate, evaluate, listed_by
from orchestrator.report import labels
from orchestrator.runtime.errors import OperatorError

_LINES = (
    ("logged", "as it was chosen, against sending nothing"),
    ("priority", "the highest priority, against sending nothing"),
    ("difference", "as it was chosen, against the highest priority"),
)


@click.command("evaluate", epilog="Example: orchestrator policy evaluate")
@click.option(
    "--records",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder that a back-test wrote, instead of the topics.",
)
@click.option("--before-cost", is_flag=True, help="Do not take off what messages and offers cost, as after a replay.")
@click.option("--currency", default="USD", show_default=True, help="The program's currency, as in policy.yaml.")
@brokers
@json_option
def evaluate_(
    records: Path | None, before_cost: bool, currency: str, bootstrap_servers: str | None, as_json: bool
) -> None:
    """Estimate from decisions and outcomes what the choice earned per opportunity, and what a priority list would have.

    Doubly robust, from the probabilities on record, with always-valid 95 % intervals over customers. It counts what is
    earned in the windows themselves, not what comes after. Where the list's choice was hardly ever taken it says so.
    """
    read = emitted(records, bootstrap_servers)
    found = evaluate(read("outcomes"), listed_by(read("decisions")), net=not before_cost)
    if found is None:
        raise OperatorError(
            "no measured window is of a decision that says how likely it was: choose by value, or tell customers apart "
            "with `choose: { by: [...] }`, and decide with it for a while"
        )
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    click.echo(f"{found.windows:,} windows of about {found.opportunities:,.0f} opportunities; margin per opportunity")
    for name, said in _LINES:
        click.echo(f"  {said:48}{_said(getattr(found, name), currency)}")


def _said(estimate: Estimate, currency: str) -> str:
    if estimate.worth is None:
        return f"insufficient overlap: {estimate.effective:,.0f} effective customers of about {LEAST_EFFECTIVE} needed"
    mean, low, high = (
        labels.money(value, currency, signed=True)
        for value in (estimate.worth.mean, estimate.worth.low, estimate.worth.high)
    )
    return f"{mean} ({low} to {high})"
