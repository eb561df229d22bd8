"""Our worker as it is measured: topics of its own over shared inputs, customers seeded beforehand, replay barriers."""

from __future__ import annotations

import re
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from bench.harness.compiled import path_to
from bench.harness.machine import ROOT
from orchestrator.runtime import settings as environment
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.compose import codec_of, topics_of
from orchestrator.runtime.connection import client_config
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_admin import apply
from orchestrator.runtime.topic_reader import topic_spans

_OURS = ("triggers", "decisions", "outcomes", "active", "dead_letters", "changelog")
_LEADERS_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Worker:
    """What it takes to start one of our workers."""

    group: str
    settings: Settings
    topics: Topics
    codec: Codec
    client: dict[str, Any]
    environment: dict[str, str]
    is_compiled: bool = False

    @property
    def command(self) -> list[str]:
        """The command line."""
        python = [sys.executable, "-P"] if self.is_compiled else [sys.executable]
        return [*python, "-m", "orchestrator", "worker", "--role", "engine"]

    def compiled(self, package: Path) -> Worker:
        """Return the same worker of a compiled package."""
        return replace(self, environment=self.environment | {"PYTHONPATH": path_to(package)}, is_compiled=True)

    @property
    def state(self) -> Path:
        """The directory with its stores, one per partition."""
        return self.settings.state_dir / self.group

    def take_up(self, seeded: Path) -> None:
        """Begin with these stores."""
        shutil.copytree(seeded, self.state)


def worker(
    bootstrap: str, folder: Path, name: str, *, inputs: str, definitions: Path, partitions: int, **more: str
) -> Worker:
    """Declare and create a worker's topics: inputs by their prefix, outputs and changelog of its own.

    `more` are settings by their names without ORCHESTRATOR_.
    """
    folder = folder / name
    folder.mkdir(parents=True)
    declared = folder / "topics.yaml"
    declared.write_text(_renamed((ROOT / "topics.yaml").read_text(), name))
    given = {
        "BOOTSTRAP_SERVERS": bootstrap,
        "GROUP": name,
        "ORDINAL": "0",
        "STATE_DIR": str(folder / "state"),
        "TOPICS": str(declared),
        "SCHEMAS": str(ROOT / "schemas"),
        "DEFINITIONS": str(definitions),
        "TOPIC_PREFIX": inputs,
        "PARTITIONS": str(partitions),
        "REPLICATION": "1",
        "BARRIERS": "replay",
        "WEB_PORT": "0",
        "LOG_LEVEL": "warning",
        **more,
    }
    variables = {f"ORCHESTRATOR_{key}": text for key, text in given.items()}
    settings = environment.load(variables)
    topics = topics_of(settings)
    client = {**client_config(settings), "log_level": 0}
    apply(AdminClient(client), topics)
    _wait_for_leaders(client, topics)
    return Worker(name, settings, topics, codec_of(settings), client, variables)


def _wait_for_leaders(client: dict[str, Any], topics: Topics) -> None:
    """Wait until new topics have leaders: created, their broker does not know yet."""
    deadline = time.monotonic() + _LEADERS_SECONDS
    while True:
        try:
            for topic in topics:
                topic_spans(client, topic.name)
        except OperatorError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _renamed(text: str, name: str) -> str:
    def rename(match: re.Match[str]) -> str:
        return f"- topic: {name}.{match[1]}\n    role: {match[2]}" if match[2] in _OURS else match[0]

    return re.sub(r"- topic: (\S+)\n    role: (\S+)", rename, text)
