"""`orchestrator audit`: proves the promises from the output topics alone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict

import click

from orchestrator.audit import AuditReport, Promise
from orchestrator.cli.reading import as_json as json_option
from orchestrator.cli.reading import brokers, open_topics, progress_bars
from orchestrator.runtime.auditor import audit_topics
from orchestrator.runtime.errors import FINDINGS

SHOWN = 20
"""Violations printed per promise; --json has them all."""

KEPT = {
    Promise.NO_OVERLAP: "no customer had two campaigns at once",
    Promise.REAL_INTERVAL: "treatment and control hold the slot until their window ends, nothing else does",
    Promise.UNIQUE_DECISION: "no decision id is there twice",
    Promise.UNIQUE_TRIGGER: "no trigger id is there twice",
    Promise.TRIGGER_HAS_DECISION: "every trigger has its decision",
    Promise.DECISION_HAS_TRIGGER: "every treatment has its trigger",
    Promise.STEP_CONTINUES: "every later step of a series was sent once, in the slot of its series",
    Promise.CONTROL_IS_SILENT: "control and hold-out customers got no trigger",
    Promise.RETRACT_FOLLOWS: "every retraction follows its trigger and a void decision",
    Promise.REMOVE_FOLLOWS: "every removal from an audience follows its addition and its decision",
    Promise.HOLDER_HOLDS: "whoever is said to hold a slot held it",
}
"""What each promise says when it is kept."""


@click.command(epilog="Example: orchestrator audit --bootstrap-servers localhost:9092")
@brokers
@json_option
def audit(bootstrap_servers: str | None, as_json: bool) -> None:
    """Prove the promises from the topics `decisions` and `campaign-triggers` alone.

    Reads both from the beginning to their ends, shares no code with the engine, and exits 1 if a promise was broken.
    """
    _, topics, reader = open_topics(bootstrap_servers)
    with progress_bars() as progress_of:
        report = audit_topics(reader, topics, progress_of)
    click.echo(as_text(report) if not as_json else json.dumps(asdict(report) | {"clean": report.clean}, indent=2))
    if not report.clean:
        raise click.exceptions.Exit(FINDINGS)


def as_text(report: AuditReport) -> str:
    """Return the report as an operator reads it: counts, every promise, and the violations found."""
    found = Counter(violation.kind for violation in report.violations)
    lines = [
        f"{report.decisions:,} decisions and {report.triggers:,} triggers of {report.customers:,} customers, "
        f"{report.intervals:,} slot intervals"
    ]
    for promise, kept in KEPT.items():
        broken = found[promise]
        lines.append(f"  broken {broken:,} times: {kept}" if broken else f"  kept: {kept}")
        of_promise = [violation for violation in report.violations if violation.kind == promise]
        lines += [f"      customer {one.customer}, {one.where}: {one.detail}" for one in of_promise[:SHOWN]]
        if broken > SHOWN:
            lines.append(f"      and {broken - SHOWN:,} more; --json has them all")
    lines.append("clean" if report.clean else f"NOT clean: {len(report.violations):,} violations")

    return "\n".join(lines)
