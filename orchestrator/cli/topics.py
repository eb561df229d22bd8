"""`orchestrator topics`: topics as code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from confluent_kafka.admin import AdminClient

from orchestrator.cli.asyncapi import asyncapi
from orchestrator.cli.topics_render import render
from orchestrator.runtime import settings as environment
from orchestrator.runtime import topic_admin
from orchestrator.runtime.connection import connect
from orchestrator.runtime.errors import FINDINGS
from orchestrator.runtime.topics import Topics, load


@click.group(epilog="Example: orchestrator topics plan --bootstrap-servers localhost:9092")
def topics() -> None:
    """Compare, create and verify the topics of topics.yaml."""


topics.add_command(asyncapi)
topics.add_command(render)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
        click.option(
            "--file",
            "path",
            type=click.Path(dir_okay=False, path_type=Path),
            help="The declared topics, instead of ORCHESTRATOR_TOPICS.",
        ),
        click.option(
            "--bootstrap-servers", metavar="HOST:PORT,...", help="Brokers, instead of ORCHESTRATOR_BOOTSTRAP_SERVERS."
        ),
    ):
        command = option(command)
    return command


@topics.command(epilog="Example: orchestrator topics plan --bootstrap-servers localhost:9092")
@_options
def plan(bootstrap_servers: str | None, path: Path | None, as_json: bool) -> None:
    """Show what apply would do; exit 1 if anything differs."""
    found = topic_admin.plan(*_open(bootstrap_servers, path))
    if as_json:
        _print_json(found)
    else:
        _print_plan(found, "the topics are as declared")
    if found.changes:
        raise click.exceptions.Exit(FINDINGS)


@topics.command(epilog="Example: orchestrator topics apply --bootstrap-servers localhost:9092")
@_options
def apply(bootstrap_servers: str | None, path: Path | None, as_json: bool) -> None:
    """Create missing topics and alter configurations; exit 1 if something else differs.

    A partition count that differs refuses the whole, and nothing is touched.
    """
    done = topic_admin.apply(*_open(bootstrap_servers, path))
    if as_json:
        _print_json(done)
    else:
        _print_plan(done, "nothing to do, the topics are as declared")
    if not all(change.can_be_applied for change in done.changes):
        raise click.exceptions.Exit(FINDINGS)


@topics.command(epilog="Example: orchestrator topics verify --bootstrap-servers localhost:9092 --json")
@_options
def verify(bootstrap_servers: str | None, path: Path | None, as_json: bool) -> None:
    """Check that all topics exist and are co-partitioned; exit 1 with all findings if not."""
    findings = topic_admin.verify(*_open(bootstrap_servers, path))
    if as_json:
        click.echo(json.dumps({"findings": findings}, indent=2))
    else:
        click.echo("\n".join(findings) if findings else "all topics exist and are co-partitioned")
    if findings:
        raise click.exceptions.Exit(FINDINGS)


def _open(bootstrap_servers: str | None, path: Path | None) -> tuple[AdminClient, Topics]:
    """Return the broker and the declared topics, which are read first: they may be wrong without a broker."""
    given = dict(os.environ)
    if bootstrap_servers is not None:
        given["ORCHESTRATOR_BOOTSTRAP_SERVERS"] = bootstrap_servers
    settings = environment.load(given, required=("BOOTSTRAP_SERVERS",))
    declared = load(path or settings.topics, settings.schemas)
    declared = declared.with_prefix(settings.topic_prefix).with_partitions(settings.partitions, settings.replication)
    return connect(settings), declared


def _print_plan(plan: topic_admin.Plan, when_equal: str) -> None:
    lines = [str(change) for change in plan.changes] or [when_equal]
    click.echo("\n".join([*lines, plan.note] if plan.note else lines))


def _print_json(plan: topic_admin.Plan) -> None:
    changes: list[dict[str, Any]] = [
        asdict(change) | {"can_be_applied": change.can_be_applied} for change in plan.changes
    ]
    click.echo(json.dumps({"changes": changes, "unknown_configuration": plan.unknown}, indent=2))
