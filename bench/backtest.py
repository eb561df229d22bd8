"""Prints what back-testing the demo's year costs, and whether the demo decided the same: `python -m bench.backtest`."""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.engine import DEFINITIONS
from orchestrator.backtest.files import Files
from orchestrator.backtest.result import KINDS, read_records
from orchestrator.backtest.run import backtest
from orchestrator.demo.export import export
from orchestrator.demo.replay_process import BARRIER_EVERY, SETTLES
from orchestrator.demo.run import DemoConfig, run_demo
from orchestrator.demo.world import World
from orchestrator.report.data import ReportData
from orchestrator.runtime.avro import Codec, Encode
from orchestrator.runtime.compose import topics_of
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.record_reader import RecordReader
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.settings import load as load_settings
from orchestrator.runtime.topic import Topics


def main() -> None:
    """Run the demo, back-test its input twice, and compare every record; the exit code says whether all is equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--households", type=int)
    parser.add_argument("--days", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-backtest-") as name:
        folder = Path(name)
        equal = measure(folder, options.seed, options.households, options.days)
    sys.exit(0 if equal else 1)


def measure(folder: Path, seed: int, households: int | None, days: int | None) -> bool:
    """Print the figures and return whether the back-tests are equal to one another and to the demo."""
    decided: dict[str, str] = {}
    settings = load_settings({})

    def after(environment: Mapping[str, str], reader: RecordReader, topics: Topics, data: ReportData) -> None:
        del environment, data
        for kind, (encode, topic) in _outputs(settings, topics).items():
            decided[kind] = digest(encode(record) for record, _ in reader.read(topic))

    config = DemoConfig(folder / "demo", DEFINITIONS, seed, households, days)
    live = run_demo(config, Console(stderr=True), after).figures
    world = World(seed, households, days)
    export(world, folder / "history", settings)
    history = Files(folder / "history", settings, BARRIER_EVERY, world.ends_at + SETTLES)

    print(f"live: {live['events']:,.0f} events, {live['cpu_us_per_event']:.1f} CPU-µs each, in {live['seconds']:.0f} s")
    found = []
    for processes in (1, 2):
        began, spent = time.monotonic(), _cpu()
        out = folder / f"with-{processes}"
        result = backtest(
            history,
            load_folder(DEFINITIONS),
            out,
            settings.schemas,
            processes=processes,
            progress=lambda what, behind, total: None,  # noqa: ARG005 (nobody looks)
        )
        seconds, cpu = time.monotonic() - began, _cpu() - spent
        events = result.figures["history"]["events"]
        print(
            f"back-test with {processes} processes: {events:,} events, {cpu / events * 1e6:.1f} CPU-µs each, all "
            f"included, in {seconds:.0f} s, {events / seconds:,.0f} a second"
        )
        found.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    twice = found[0] == found[1]
    print(f"the two runs are byte for byte {'equal' if twice else 'DIFFERENT'}")
    same = True
    for kind, (encode, _) in _outputs(settings, topics_of(settings)).items():
        tested = digest(encode(record) for record in read_records(folder / "with-1", kind))
        same = same and tested == decided[kind]
        print(f"{kind}: {'equal to' if tested == decided[kind] else 'DIFFERENT from'} what the demo decided ({tested})")
    return twice and same


def _outputs(settings: Settings, topics: Topics) -> dict[str, tuple[Encode, Any]]:
    codec = Codec(FileRegistry(settings.schemas))
    ours = (topics.decisions, topics.triggers, topics.outcomes)
    return {kind: (codec.encoder(topic), topic) for kind, topic in zip(KINDS, ours, strict=True)}


def digest(values: Iterable[bytes]) -> str:
    """Return how many values there are and what stands for all of them, in whatever order they come."""
    ordered = sorted(values)
    return f"{len(ordered):,} records, {hashlib.sha256(b''.join(ordered)).hexdigest()[:16]}"


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main()
