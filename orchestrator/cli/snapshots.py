"""`orchestrator snapshots`: computes what only all customers together tell, and publishes it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from orchestrator.backtest.rhythms import predictions_of
from orchestrator.backtest.snapshot import quantiles_of
from orchestrator.backtest.snapshot import snapshots as computed
from orchestrator.backtest.together import similar_products
from orchestrator.cli.definitions import starting
from orchestrator.cli.reading import brokers, open_topics
from orchestrator.cli.recorded import bars, definitions_of, named_history, processes_for, recorded, settings_of
from orchestrator.reference import SimilarProducts, Snapshot, similar_of, snapshot_of
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.compose import topics_of
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.publishing import publish as send
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topic, Topics
from orchestrator.runtime.units import duration_ms

SCHEMA, SIMILAR = "snapshot", "similar_products"
"""The schemas by which the topics are told from other reference data."""

pack = click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.group()
def snapshots() -> None:
    """Compute over all customers: bands of a `quantile`, spread of next orders, products that go together."""


@snapshots.command(epilog="Example: orchestrator snapshots compute my-pack --events history > history/snapshots.jsonl")
@pack
@recorded
def compute(
    folder: Path,
    events: Path | None,
    topics: bool,
    to: str | None,
    barrier_every: str,
    processes: int | None,
) -> None:
    """Print one snapshot per quantile and per predicted next order in DIR, effective from the events' end.

    They are JSON lines. A file of them beside the events, snapshots.jsonl, is what back-tests take them from.
    """
    settings = settings_of(folder, live=topics and events is None)
    _print(_computed(folder, settings, events, topics, to, barrier_every, processes))


@snapshots.command(epilog="Example: orchestrator snapshots publish my-pack --topics")
@pack
@recorded
@starting
@brokers
def publish(
    folder: Path,
    events: Path | None,
    topics: bool,
    to: str | None,
    barrier_every: str,
    processes: int | None,
    delay: str,
    bootstrap_servers: str | None,
) -> None:
    """Publish one snapshot per quantile and per predicted next order in DIR: engines go by it from one instant on."""
    settings = settings_of(folder, live=True, bootstrap_servers=bootstrap_servers)
    ahead, topic = _delay(delay), snapshots_topic(topics_of(settings))
    found = _computed(folder, settings, events, topics, to, barrier_every, processes)
    effective_from = now_ms() + ahead
    found = [msgspec.structs.replace(one, effective_from=effective_from) for one in found]
    send(settings, topic, {f"{one.feature}/{one.effective_from}": msgspec.to_builtins(one) for one in found})
    _in_time(effective_from, delay)
    _print(found)


@snapshots.command(epilog="Example: orchestrator snapshots similar my-pack --topics --publish")
@pack
@recorded
@click.option("--publish", "send_it", is_flag=True, help="Write them to their topic as well, for running engines.")
@starting
@brokers
def similar(
    folder: Path,
    events: Path | None,
    topics: bool,
    to: str | None,
    barrier_every: str,
    processes: int | None,
    send_it: bool,
    delay: str,
    bootstrap_servers: str | None,
) -> None:
    """Print which products are bought by the same customers, one JSON line per product.

    It is what `recommended` and `liked_by_similar` go by. A file of them beside the events, similar-products.jsonl, is
    what back-tests take them from. Those of 20 customers or more are compared, of these the 4,000 with the most.
    """
    settings = settings_of(folder, live=send_it or (topics and events is None), bootstrap_servers=bootstrap_servers)
    ahead, definitions = _delay(delay), definitions_of(folder, settings)
    history = named_history(settings, events, topics=topics, to=to, barrier_every=barrier_every)
    with bars() as progress:
        found = similar_products(history, definitions, processes=processes_for(history, processes), progress=progress)
    if not found:
        raise OperatorError("no two products of these events were bought by enough customers to be compared")
    if send_it:
        topic = _topic_of(topics_of(settings), SIMILAR)
        records = open_topics(bootstrap_servers)[2].read(topic)
        there = {one.sku for one in (similar_of(record) for record, _ in records) if one.similar}
        effective_from = now_ms() + ahead
        found = [msgspec.structs.replace(one, effective_from=effective_from) for one in found]
        gone = (SimilarProducts(sku, effective_from) for sku in sorted(there - {one.sku for one in found}))
        send(settings, topic, {one.sku: msgspec.to_builtins(one) for one in (*found, *gone)})
        _in_time(effective_from, delay)
    _print(found)


@snapshots.command("list", epilog="Example: orchestrator snapshots list")
@brokers
def list_(bootstrap_servers: str | None) -> None:
    """Print what was published, in the order in which it comes into force, as JSON lines."""
    _, topics, reader = open_topics(bootstrap_servers)
    published = {
        (one.effective_from, one.feature): one
        for one in (snapshot_of(record) for record, _ in reader.read(snapshots_topic(topics)))
    }
    _print(published[place] for place in sorted(published))


def snapshots_topic(topics: Topics) -> Topic:
    """Return the topic of snapshots; OperatorError where none is declared."""
    return _topic_of(topics, SCHEMA)


def _topic_of(topics: Topics, schema: str) -> Topic:
    found = next((topic for topic in topics.references if topic.schema == schema), None)
    if found is None:
        raise OperatorError(f"topics.yaml declares no topic with the schema {schema}: snapshots cannot be published")
    return found


def _delay(text: str) -> int:
    try:
        return duration_ms(text)
    except ValueError as error:
        raise OperatorError(f"--in: {error}", exit_code=USAGE) from None


def _in_time(effective_from: int, delay: str) -> None:
    """Raise an OperatorError when what was written is in force already."""
    if now_ms() >= effective_from:
        raise OperatorError(
            f"it took longer than {delay} until the snapshots were written, so engines may have changed over at "
            "different instants: publish them again with a larger --in"
        )


def _computed(
    folder: Path,
    settings: Settings,
    events: Path | None,
    topics: bool,
    to: str | None,
    barrier_every: str,
    processes: int | None,
) -> list[Snapshot]:
    definitions = definitions_of(folder, settings)
    quantiles = {quantile.name for quantile in quantiles_of(definitions)}
    if not quantiles and not predictions_of(definitions):
        raise OperatorError(
            f"no feature in '{folder}' has a 'quantile' or predicts a 'next_order_date': there is nothing to compute",
            exit_code=USAGE,
        )
    history = named_history(settings, events, topics=topics, to=to, barrier_every=barrier_every)
    with bars() as progress:
        found = computed(history, definitions, processes=processes_for(history, processes), progress=progress)
    if missing := sorted(quantiles - {one.feature for one in found}):
        raise OperatorError(f"no customer of these events has what '{missing[0]}' goes by")
    return found


def _print(found: Iterable[Snapshot | SimilarProducts]) -> None:
    for one in found:
        click.echo(json.dumps(msgspec.to_builtins(one), ensure_ascii=False))
