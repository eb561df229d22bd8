"""`orchestrator snapshots`: what it publishes is what engines read, from the instant it says on."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.cli import main
from orchestrator.programs import Programs
from orchestrator.reference import Reference
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.compose import _references, topics_of
from orchestrator.runtime.connection import client_config
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.schema_registry import registry_of
from orchestrator.runtime.settings import load
from tests.backtest.made import made, write
from tests.backtest.test_snapshot import PACK

Told = Callable[..., list[dict[str, Any]]]
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


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Return a folder with a pack that has a tier."""
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "all.yaml").write_text(PACK)
    return folder


@pytest.fixture
def told(given: dict[str, str]) -> Callable[..., list[dict[str, Any]]]:
    """Return a function from the arguments of `snapshots` to what it prints."""

    def tell(*arguments: str) -> list[dict[str, Any]]:
        result = CliRunner().invoke(main, ["snapshots", *arguments], env=given)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    return tell


def as_engines_read(given: dict[str, str]) -> Reference:
    """Return the reference data as an engine has it that starts now."""
    settings = load(given)
    codec, config = Codec(registry_of(settings)), client_config(settings)
    reference, reader = _references(settings, topics_of(settings), codec, config, Programs())
    reader.read_all()
    reader.close()
    return reference


@pytest.mark.broker
def test_engines_read_which_products_go_together(given: dict[str, str], told: Told, pack: Path, tmp_path: Path) -> None:
    """From the instant it says on; a product that goes with nothing any more has nothing close to it."""
    first = told(
        "similar", str(pack), "--events", str(write(made(60, days=40), tmp_path / "one")), "--publish", "--in", "10m"
    )
    fewer = made(60, days=40)
    for order in fewer["purchases"]:
        order["lines"] = [line for line in order["lines"] if line["sku"] != "S0"]
    second = told("similar", str(pack), "--events", str(write(fewer, tmp_path / "two")), "--publish", "--in", "1h")

    reference = as_engines_read(given)
    since, later = first[0]["effective_from"], second[0]["effective_from"]
    close = {one["sku"]: [other["sku"] for other in one["similar"]] for one in second}
    assert {one["sku"] for one in first} - close.keys() == {"S0"}
    assert [other.sku for other in reference.similar("S1", later)] == close["S1"]
    assert reference.similar("S0", later) == ()
    assert reference.similar("S1", since - 1) == ()


@pytest.mark.broker
def test_engines_read_what_was_published(given: dict[str, str], told: Told, pack: Path, tmp_path: Path) -> None:
    """Both snapshots, each from its own instant on."""
    events = write(made(30), tmp_path / "history", ".jsonl")

    assert told("list") == []
    (first,) = told("publish", str(pack), "--events", str(events), "--to", "2017-03-11", "--in", "10m")
    (second,) = told("publish", str(pack), "--events", str(events), "--in", "1h")

    assert first["least"] != second["least"]
    assert told("list") == [first, second]
    reference = as_engines_read(given)
    since, later = first["effective_from"], second["effective_from"]
    assert reference.cut_points("value_tier", since - 1) is None
    assert reference.cut_points("value_tier", later - 1) == first["least"]
    assert reference.cut_points("value_tier", later) == second["least"]
