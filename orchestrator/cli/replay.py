"""`orchestrator replay`: recorded events and their barriers into the topics, for workers that follow the clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import click

from orchestrator.backtest.arrivals import Arrival, Arrivals
from orchestrator.backtest.files import Files
from orchestrator.cli.reading import as_json as json_option
from orchestrator.cli.reading import brokers, settings_of
from orchestrator.cli.recorded import instant
from orchestrator.demo.replayer import Replayer
from orchestrator.events import FOREVER
from orchestrator.runtime.compose import build_learner, codec_of, require_learning, topics_of
from orchestrator.runtime.connection import client_config, connect
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.learner import Learned
from orchestrator.runtime.settings import PUBLISHED
from orchestrator.runtime.topic_admin import verify
from orchestrator.runtime.topic_reader import topic_spans
from orchestrator.runtime.units import duration_ms


@click.command(epilog="Example: ORCHESTRATOR_BARRIERS=replay orchestrator replay --events history --learn-every 7d")
@click.option(
    "--events",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="A folder with files named after topics: .avro, .jsonl or .parquet, each in the order of arrival.",
)
@click.option("--to", metavar="TIME", help="Let time end here: 2025-03-01 (its end, UTC) or 2025-03-01T09:00Z.")
@click.option("--settle", default="3d", show_default=True, help="How long time goes on after the last record.")
@click.option("--barrier-every", default="1h", show_default=True, help="How far apart the instants are of barriers.")
@click.option(
    "--learn-every",
    metavar="TIME",
    help="Wait as often, such as 7d, for what was learned up to then; the definitions choose by expected value.",
)
@click.option(
    "--learned-by",
    type=click.Choice(["replay", "control"]),
    default="replay",
    show_default=True,
    help="Who learns: this command, or a control worker with the same ORCHESTRATOR_LEARN_EVERY.",
)
@brokers
@json_option
def replay(
    events: Path,
    to: str | None,
    settle: str,
    barrier_every: str,
    learn_every: str | None,
    learned_by: str,
    bootstrap_servers: str | None,
    as_json: bool,
) -> None:
    """Write recorded events into the input topics, and after every hour of theirs a barrier into the clock topic.

    For engines with ORCHESTRATOR_BARRIERS=replay: they decide it as it was, at any speed, and every replay of the same
    files into new topics gives the same bytes. With --learn-every the replay waits for engines and learner in turn.
    """
    settings = settings_of(bootstrap_servers)
    if settings.barriers != "replay":
        raise OperatorError(
            "a replay writes the clock that engines follow: set ORCHESTRATOR_BARRIERS=replay, here and for them",
            exit_code=USAGE,
        )
    learns = None if learn_every is None else _length("--learn-every", learn_every)
    every, settles = _length("--barrier-every", barrier_every), _length("--settle", settle)
    topics = topics_of(settings)
    if learns is not None and settings.definitions not in (None, PUBLISHED):
        require_learning(settings.definitions, topics)
    if findings := verify(connect(settings), topics):
        raise OperatorError("the topics are not as topics.yaml declares them:", details=findings)
    if any(span.end for span in topic_spans(client_config(settings), topics.clock.name).values()):
        raise OperatorError(
            f"{topics.clock.name} has the barriers of another replay, and time would go back: replay into new topics "
            "(another ORCHESTRATOR_TOPIC_PREFIX and `orchestrator topics apply`), or delete these and create them anew",
            exit_code=USAGE,
        )
    until = FOREVER if to is None else instant("--to", to, end=True)
    arrivals = Arrivals(Files(events, settings, every, until))
    last = _Last(_begun(arrivals, events, to))
    with ExitStack() as stack:
        learner = None
        if learns is not None and learned_by == "replay":
            learner = build_learner(settings, Learned(), every=learns)
            stack.callback(learner.close)
        replayer = Replayer(
            client_config(settings),
            topics,
            codec_of(settings),
            barrier_every=every,
            learn_every=learns,
            learner=learner,
            group=settings.group,
        )
        stack.callback(replayer.close)
        records = replayer.replay(last, lambda: until if to is not None else last.at + settles)
    if as_json:
        click.echo(json.dumps({"records": records, "left_out": arrivals.unfit, "until": replayer.reached}))
        return
    click.echo(f"{records:,} records are in the topics, with barriers every {barrier_every}")
    if arrivals.unfit:
        click.echo(f"{arrivals.unfit:,} rows were no records of their topic: left out, the first in {arrivals.why}")


def _begun(arrivals: Arrivals, events: Path, to: str | None) -> Iterator[Arrival]:
    """Return the stream of what there is, or raise an OperatorError where there is nothing, before any barrier."""
    stream = arrivals.stream()
    first = next(stream, None)
    if first is not None:
        return chain([first], stream)
    reason = f"'{events}' has no record"
    if to is not None:
        reason += f" that arrived by --to {to}"
    if arrivals.unfit:
        reason += f"; {arrivals.unfit:,} rows are no records of their topic, the first in {arrivals.why}"
    raise OperatorError(f"nothing to replay: {reason}", exit_code=USAGE)


class _Last:
    """A stream that knows when its last record arrived."""

    def __init__(self, stream: Iterator[Arrival]) -> None:
        self.at = 0
        self._stream = stream

    def __iter__(self) -> Iterator[Arrival]:
        for arrival in self._stream:
            self.at = arrival[0]
            yield arrival


def _length(option: str, text: str) -> int:
    try:
        length = duration_ms(text)
    except ValueError as error:
        raise OperatorError(f"{option}: {error}", exit_code=USAGE) from None
    if length == 0:
        raise OperatorError(f"{option} '{text}' is no time at all, write it like 1h or 7d", exit_code=USAGE)
    return length
