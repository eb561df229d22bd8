"""`orchestrator demo`: the whole product on this machine, and the proof that it kept its promises."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console

from orchestrator.cli.why import explain_customer, says_of
from orchestrator.demo.export import export as export_world
from orchestrator.demo.replay_process import replay
from orchestrator.demo.run import DemoConfig, run_demo
from orchestrator.demo.world import World
from orchestrator.report.data import ReportData
from orchestrator.runtime.errors import FINDINGS, USAGE, OperatorError
from orchestrator.runtime.record_reader import RecordReader
from orchestrator.runtime.settings import load, shipped
from orchestrator.runtime.topic import Topics

WHY_LINES = 16
"""Lines shown of one customer's story at the end of the demo."""


@click.command(epilog="Example: orchestrator demo --households 200 --days 90")
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-report"), help="Folder of the report.")
@click.option("--definitions", type=click.Path(path_type=Path), help="Folder of definitions; default: the retail pack.")
@click.option("--seed", type=int, default=1, help="Seed of what is invented around the real purchases.")
@click.option("--households", type=click.IntRange(1), help="Only so many of the 2,469 households.")
@click.option("--days", type=click.IntRange(1, 366), help="Only so many days of the year.")
@click.option("--partitions", type=click.IntRange(1, 64), default=4, help="Partitions of the customer topics.")
@click.option("--engines", type=click.IntRange(1, 8), default=1, help="Engine processes.")
@click.option(
    "--learn-every",
    metavar="TIME",
    help="Learn what campaigns are worth as often, such as 7d, where the definitions choose by expected value.",
)
@click.option("--keep", is_flag=True, help="Leave the broker running at the end, to ask it why; Ctrl-C ends it.")
@click.option("--only-replay", is_flag=True, help="Only fill the environment's topics, for workers that run already.")
@click.option(
    "--export",
    type=click.Path(path_type=Path),
    help="Only write the year's input into a folder of recorded events, for back-tests.",
)
def demo(
    out: Path,
    definitions: Path | None,
    seed: int,
    households: int | None,
    days: int | None,
    partitions: int,
    engines: int,
    learn_every: str | None,
    keep: bool,
    only_replay: bool,
    export: Path | None,
) -> None:
    """Replay a year of real purchases through real topics and workers, then report and audit.

    Starts a broker of its own on a free loopback port, unless ORCHESTRATOR_BOOTSTRAP_SERVERS names one. Stops
    everything it started; exits 0 only if the audit is clean and every planted cart is accounted for.
    """
    console = Console(width=None if sys.stdout.isatty() else 110)  # a log file has no width of its own
    if export is not None:
        written = export_world(World(seed, households, days), export, load())
        console.print(f"{written:,} recorded events in {export}", highlight=False)
        return
    if only_replay:
        settings = load(required={"BOOTSTRAP_SERVERS"})
        ended = replay(settings, seed, households, days, lambda _: None)
        console.print(f"{ended.records:,} records are in the topics", highlight=False)
        return
    folder = definitions or _shipped_pack()
    servers = os.environ.get("ORCHESTRATOR_BOOTSTRAP_SERVERS")
    config = DemoConfig(out, folder, seed, households, days, partitions, engines, servers, learn_every)

    def after(environment: Mapping[str, str], reader: RecordReader, topics: Topics, data: ReportData) -> None:
        _tell_why(console, reader, topics, data, folder)
        if keep:
            _wait(console, environment)

    result = run_demo(config, console, after)
    report = result.audit
    console.print(
        f"audit: {report.decisions:,} decisions, {report.triggers:,} triggers, {report.intervals:,} slot intervals, "
        f"{len(report.violations)} violations",
        highlight=False,
    )
    console.print(f"report: {result.report.resolve()}", highlight=False, soft_wrap=True)
    if result.unaccounted_carts:
        console.print(f"{result.unaccounted_carts} planted carts do not have exactly one record", highlight=False)
    if not result.clean:
        raise click.exceptions.Exit(FINDINGS)


def _tell_why(console: Console, reader: RecordReader, topics: Topics, data: ReportData, definitions: Path) -> None:
    """Print the beginning of one customer's story, as `orchestrator why` tells it."""
    if not data.timelines:
        return
    customer = data.timelines[0].customer
    lines = explain_customer(reader, topics, customer, says=says_of(definitions)).lines()
    console.print(f"orchestrator why {customer}", style="bold", highlight=False)
    for line in lines[:WHY_LINES]:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    if len(lines) > WHY_LINES:
        console.print(f"  ... and {len(lines) - WHY_LINES} more lines", highlight=False)
    console.print()


def _wait(console: Console, environment: Mapping[str, str]) -> None:
    """Say how to reach what the demo left behind, and wait for Ctrl-C."""
    console.print("The broker stays until Ctrl-C. In another terminal:", highlight=False)
    for name in ("BOOTSTRAP_SERVERS", "TOPIC_PREFIX", "PARTITIONS", "REPLICATION", "DEFINITIONS"):
        variable = f"ORCHESTRATOR_{name}"
        console.print(f"  export {variable}={environment[variable]}", highlight=False, soft_wrap=True)
    console.print("  orchestrator why hh-1", highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _shipped_pack() -> Path:
    folder = shipped("deploy/definitions/retail")
    if not folder.is_dir():
        raise OperatorError("no definitions: name a folder with --definitions", exit_code=USAGE)
    return folder.resolve()  # to be copied into another terminal, and from there it is to be found
