"""`orchestrator snapshots`: what it publishes is what engines read, from the instant it says on."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.cli import main
from orchestrator.programs import Programs
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.compose import _references, topics_of
from orchestrator.runtime.connection import client_config
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.schema_registry import registry_of
from orchestrator.runtime.settings import load
from tests.backtest.made import made, write
from tests.backtest.test_snapshot import PACK

Command = Callable[..., Result]
NAMES = ("products", "definitions", "snapshots", "similar-products", "policy")


@pytest.fixture
def given(embedded: EmbeddedBroker, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Return the environment of reference topics of this test's own."""
    prefix = f"{request.node.name}-"
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap})
    names = [f"{prefix}{name}" for name in NAMES]
    for created in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        created.result(20)
    yield {"ORCHESTRATOR_BOOTSTRAP_SERVERS": embedded.bootstrap, "ORCHESTRATOR_TOPIC_PREFIX": prefix}
    for deleted in admin.delete_topics(names).values():
        deleted.exception(20)


@pytest.mark.broker
def test_engines_read_what_was_published(given: dict[str, str], tmp_path: Path) -> None:
    """Both snapshots, each from its own instant on."""
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "all.yaml").write_text(PACK)
    events = write(made(30), tmp_path / "history", ".jsonl")

    def told(*arguments: str) -> list[dict[str, object]]:
        result = CliRunner().invoke(main, ["snapshots", *arguments], env=given)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    assert told("list") == []
    (first,) = told("publish", str(pack), "--events", str(events), "--to", "2017-03-11", "--in", "10m")
    (second,) = told("publish", str(pack), "--events", str(events), "--in", "1h")

    assert first["least"] != second["least"]
    assert told("list") == [first, second]
    settings = load(given)
    topics = topics_of(settings)
    reference, reader = _references(settings, topics, Codec(registry_of(settings)), client_config(settings), Programs())
    reader.read_all()
    reader.close()
    since, later = int(str(first["effective_from"])), int(str(second["effective_from"]))
    assert reference.cut_points("value_tier", since - 1) is None
    assert reference.cut_points("value_tier", later - 1) == first["least"]
    assert reference.cut_points("value_tier", later) == second["least"]
