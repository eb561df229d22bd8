"""`orchestrator topics render`: the declared topics and their users, for a platform that keeps them as manifests."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.runtime import settings as environment
from orchestrator.runtime import strimzi
from orchestrator.runtime.topics import load

HEADER = (
    "# Made by `orchestrator topics render`: change topics.yaml and render again.\n"
    "# Never change a partition count once there is state, and never delete a topic's resource with state in it.\n"
)


@click.command(epilog="Example: orchestrator topics render --format strimzi --cluster my-cluster | kubectl apply -f -")
@click.option("--format", "form", type=click.Choice(["strimzi", "jikkou"]), default="strimzi", show_default=True)
@click.option("--cluster", help="The Kafka resource that the topics belong to; Strimzi needs it.")
@click.option("--namespace", help="Where Strimzi's operator watches; without it, where kubectl applies.")
@click.option(
    "--authentication",
    type=click.Choice(["scram-sha-512", "tls"]),
    default="scram-sha-512",
    show_default=True,
    help="How the users prove who they are.",
)
@click.option("--sender", "senders", multiple=True, help="A sender's user, may be repeated.  [default: GROUP-sender]")
@click.option(
    "--api-version",
    help=f"Of the resources, where an older release differs.  [default: {strimzi.STRIMZI_API}, {strimzi.JIKKOU_API}]",
)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The declared topics, instead of ORCHESTRATOR_TOPICS.",
)
def render(
    form: str,
    cluster: str | None,
    namespace: str | None,
    authentication: str,
    senders: tuple[str, ...],
    api_version: str | None,
    path: Path | None,
) -> None:
    """Print topics and users as manifests, each user with the rights it needs and no others.

    Group, prefix, partitions, replication and the source of time are those of the environment.
    """
    from orchestrator.runtime.control_app import changelog_of  # Faust takes a second to import

    if form == "strimzi" and cluster is None:
        raise click.UsageError("Strimzi finds its topics by the cluster's name: give --cluster")
    settings = environment.load()
    declared = load(path or settings.topics, settings.schemas)
    declared = declared.with_partitions(settings.partitions, settings.replication).with_prefix(settings.topic_prefix)
    changelog = changelog_of(settings, declared)
    users = [
        strimzi.engine(declared, settings.group, live=settings.barriers == "live"),
        strimzi.control(declared, settings.group, changelog),
        *(strimzi.sender(declared, name) for name in senders or (f"{settings.group}-sender",)),
    ]
    topics = [*declared, changelog]
    if form == "jikkou":
        manifests = strimzi.jikkou(
            topics, users, authentication=authentication, api_version=api_version or strimzi.JIKKOU_API
        )
    else:
        manifests = strimzi.strimzi(
            topics,
            users,
            cluster=cluster or "",
            namespace=namespace,
            authentication=authentication,
            api_version=api_version or strimzi.STRIMZI_API,
        )
    click.echo(HEADER + strimzi.as_yaml(manifests), nl=False)
