"""The demo's year as files of recorded events, for back-tests: one Avro container per topic."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fastavro
from fastavro.write import Writer

from orchestrator.backtest.files import ARRIVED, with_arrival
from orchestrator.demo.feed import PRODUCTS
from orchestrator.demo.world import World
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topics import load as load_topics

_SYNC = hashlib.md5(b"orchestrator demo", usedforsecurity=False).digest()
_BLOCK = 256 << 10
"""Bytes of a block; several processes read a file by its blocks."""


def export(world: World, folder: Path, settings: Settings) -> int:
    """Write a world's stream into files, each record with the instant at which it arrived; return how many."""
    topics, registry = load_topics(settings.topics, settings.schemas), FileRegistry(settings.schemas)
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    with ExitStack() as stack:
        writers: dict[str, Any] = {}
        for at, topic, _, record in world.stream():
            writer = writers.get(topic)
            if writer is None:
                file = stack.enter_context((folder / f"{topic}.avro").open("wb"))
                named: Any = registry.named(topics.by_name(topic).schema or "")
                schema = fastavro.parse_schema(named if topic == PRODUCTS else with_arrival(named))
                writer = writers[topic] = Writer(file, schema, codec="snappy", sync_interval=_BLOCK, sync_marker=_SYNC)
            writer.write(record if topic == PRODUCTS else {**record, ARRIVED: at})
            written += 1
        for writer in writers.values():
            writer.flush()
    return written
