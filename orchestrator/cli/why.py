"""`orchestrator why`: every decision about a customer, in the marketer's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from orchestrator.backtest.one import Known, decide_again
from orchestrator.cli.reading import as_json as json_option
from orchestrator.cli.reading import brokers, open_topics, progress_bars
from orchestrator.cli.recorded import bars, definitions_of, history_of, settings_of
from orchestrator.definitions import nodes
from orchestrator.definitions.nodes import Problems, Scalar, parse
from orchestrator.events import FOREVER
from orchestrator.prospects import lines
from orchestrator.records import to_record
from orchestrator.runtime.auditor import ProgressOf
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.partitioner import murmur2_partition
from orchestrator.runtime.record_reader import RecordReader
from orchestrator.runtime.topic import Topic, Topics
from orchestrator.runtime.topic_reader import Span
from orchestrator.why import Clock, Explanation, explain


@click.command(epilog="Example: orchestrator why ana --at 2025-03-01 --definitions my-pack --events history")
@click.argument("customer")
@click.option(
    "--at", metavar="TIME", help="What was known then: 2025-03-01, or 2025-03-01T09:00 on the customer's clock."
)
@click.option(
    "--definitions",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Decide again with these, and tell how far every moment has come and what would have to change.",
)
@click.option(
    "--events", type=click.Path(exists=True, path_type=Path), help="Recorded events to decide again, instead of topics."
)
@brokers
@json_option
def why(
    customer: str,
    at: str | None,
    definitions: Path | None,
    events: Path | None,
    bootstrap_servers: str | None,
    as_json: bool,
) -> None:
    """Show every decision about a CUSTOMER with its reasons.

    With --definitions the customer's recorded events are decided again, from the topics or from files: then everybody
    gets an answer, also whoever no moment has met so far.
    """
    if definitions is not None:
        tell_again(customer, at, definitions, events, bootstrap_servers, as_json)
        return
    if events is not None:
        raise OperatorError("--events needs --definitions DIR: what is to decide them again?", exit_code=USAGE)
    settings, topics, reader = open_topics(bootstrap_servers)
    with progress_bars() as progress_of:
        told = explain_customer(
            reader, topics, customer, at=at, says=says_of(settings.definitions), progress_of=progress_of
        )
    if not told.entries and settings.definitions is not None:  # nobody gets an empty answer
        tell_again(customer, at, settings.definitions, None, bootstrap_servers, as_json)
        return
    click.echo(json.dumps(told.as_dict(), indent=2, ensure_ascii=False) if as_json else "\n".join(told.lines()))


def tell_again(
    customer: str,
    at: str | None,
    definitions: Path,
    events: Path | None,
    bootstrap_servers: str | None,
    as_json: bool,
) -> None:
    """Print what deciding a customer's recorded events again tells."""
    settings = settings_of(definitions, live=events is None, bootstrap_servers=bootstrap_servers)
    loaded = definitions_of(definitions, settings)
    says = says_of(definitions)

    def known_at(until: int) -> Known:
        history = history_of(settings, events, until=until)
        with bars() as progress:
            return decide_again(history, loaded, customer, progress)

    known = known_at(FOREVER)
    zone = zone_of(known)
    as_of = None if at is None else _instant(at, zone)
    if as_of is not None:
        known = known_at(as_of)
    decided = [to_record(decision) for decision in known.life.decisions]
    where = f"the recorded events, decided again by {loaded.version}"
    told = explain(customer, decided, says=says, zone=zone, as_of=as_of, looked_at=where)
    if as_json:
        found = {**told.as_dict(), "events": len(known.events), "prospects": msgspec.to_builtins(known.prospects)}
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    clock = Clock(zone or "UTC")
    events_read = f"{len(known.events)} recorded events of this customer are of interest."
    head = f"How far everything has come by {clock.say(known.at)}, and what would have to change:"
    click.echo("\n".join([*told.lines(), "", events_read, head, *lines(known.prospects, says, clock)]))


def zone_of(known: Known) -> str | None:
    """Return the zone of the customer's profile, None where there is none."""
    customer = known.life.customer
    return None if customer is None or customer.profile is None else customer.profile.time_zone


def explain_customer(
    reader: RecordReader,
    topics: Topics,
    customer: str,
    *,
    at: str | None = None,
    says: Mapping[str, str] | None = None,
    progress_of: ProgressOf | None = None,
) -> Explanation:
    """Return the explanation for one customer, reading only the partition where that customer is."""
    zone = _zone(reader, topics.profiles, customer)
    as_of = None if at is None else _instant(at, zone)
    decided, looked_at = _decisions(reader, topics.decisions, customer, progress_of)

    return explain(customer, decided, says=says, zone=zone, as_of=as_of, looked_at=looked_at)


def _decisions(
    reader: RecordReader, topic: Topic, customer: str, progress_of: ProgressOf | None
) -> tuple[list[dict[str, Any]], str]:
    progress = None if progress_of is None else progress_of(topic.name)
    spans = _own(reader, topic, customer)
    ((partition, span),) = spans.items()
    key = customer.encode()
    found = reader.read(topic, spans=spans, key_filter=lambda other: other == key, progress=progress)

    return [record for record, _ in found], f"partition {partition} of {topic.name}, offsets {span.start} to {span.end}"


def _zone(reader: RecordReader, topic: Topic, customer: str) -> str | None:
    """Return the zone of the customer's newest profile, None where there is none."""
    zone = None
    key = customer.encode()
    for record, _ in reader.read(topic, spans=_own(reader, topic, customer), key_filter=lambda other: other == key):
        zone = record["time_zone"]

    return zone


def _own(reader: RecordReader, topic: Topic, customer: str) -> dict[int, Span]:
    """Return what the customer's partition of a topic holds."""
    spans = reader.spans(topic)
    partition = murmur2_partition(customer.encode(), len(spans))

    return {partition: spans[partition]}


def _instant(text: str, zone: str | None) -> int:
    try:
        return Clock(zone or "UTC").read(text)
    except ValueError:
        message = f"--at '{text}' is not a time, write it like 2025-03-01 or 2025-03-01T09:00"
        raise OperatorError(message, exit_code=USAGE) from None


def says_of(definitions: Path | None) -> dict[str, str]:
    """Return each moment's sentence by its name, from whatever definitions can be read; faults are lint's to tell."""
    says: dict[str, str] = {}
    for file in [] if definitions is None else sorted(definitions.rglob("*.yaml")):
        root = parse(file.read_text(encoding="utf-8", errors="replace"), str(file), Problems())
        moments = root.entries.get("moments") if isinstance(root, nodes.Mapping) else None
        for moment in moments if isinstance(moments, nodes.Sequence) else ():
            fields = moment.entries if isinstance(moment, nodes.Mapping) else {}
            name, say = fields.get("moment"), fields.get("say")
            if isinstance(name, Scalar) and isinstance(say, Scalar):
                says[name.text] = say.text

    return says
