"""`orchestrator topics asyncapi`: the topics described for whoever subscribes to them or produces to them."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.runtime import settings as environment
from orchestrator.runtime.asyncapi import as_yaml, document
from orchestrator.runtime.topics import load


@click.command(epilog="Example: orchestrator topics asyncapi > docs/asyncapi.yaml")
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The declared topics, instead of ORCHESTRATOR_TOPICS.",
)
def asyncapi(path: Path | None) -> None:
    """Print topics.yaml and schemas/ as an AsyncAPI 3.0 document.

    Prefix, partitions and replication are those of the environment, so that it describes the topics as they run.
    """
    settings = environment.load()
    declared = load(path or settings.topics, settings.schemas)
    declared = declared.with_partitions(settings.partitions, settings.replication).with_prefix(settings.topic_prefix)
    click.echo(as_yaml(document(declared, settings.schemas)), nl=False)
