"""`orchestrator policy plan`: a snapshot from outcome records, offline; and what it looks like to people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastavro
import pytest
from click.testing import CliRunner, Result

from orchestrator.backtest.files import Files
from orchestrator.cli import main
from orchestrator.events import DAY
from orchestrator.learning.outcomes import Outcomes
from orchestrator.learning.plan import plan
from orchestrator.report.policies import differences
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.settings import load
from orchestrator.valuation import records_of
from tests.backtest.made import REGISTRY
from tests.kafka.test_learning import DEFINITIONS, START, outcome


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Return a folder of definitions that choose by expected value."""
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "all.yaml").write_text(DEFINITIONS)
    return folder


@pytest.fixture
def records() -> list[dict[str, Any]]:
    """Return outcomes that are enough for a campaign to be proven, one amended a day later."""
    found = [outcome(number, START - DAY, margin=900 if number % 5 else 500) for number in range(300)]
    return [*found, {**found[1], "revision": 1, "margin": 0, "known_at": START}]


def told(*arguments: object) -> Result:
    """Return what `orchestrator policy` answered."""
    return CliRunner().invoke(main, ["policy", *map(str, arguments)], env={})


def test_a_plan_is_what_the_learner_would_publish(pack: Path, records: list[dict[str, Any]], tmp_path: Path) -> None:
    """As a table, as JSON, and as a file from which back-tests read the very same values."""
    lines = tmp_path / "outcomes.jsonl"
    lines.write_text("\n".join(map(json.dumps, records)))
    history = tmp_path / "history"
    history.mkdir()
    (history / "clickstream.jsonl").write_text("")
    expected = plan(Outcomes(records), load_folder(pack), START, START + 1)

    table = told("plan", pack, "--outcomes", lines, "--out", history / "policy.jsonl")
    as_json = json.loads(told("plan", pack, "--outcomes", tmp_path, "--json").stdout)
    reference = Files(history, load({})).products()

    assert table.exit_code == 0, table.output
    assert "rescue@email" in table.stdout
    assert "proven" in table.stdout
    assert as_json["version"] == expected.version
    (arm,) = as_json["leaves"][0]["arms"]
    assert (arm["state"], as_json["outcomes"]) == ("proven", 300)
    assert reference.policy(START) is None
    found = reference.policy(START + 1)
    assert found is not None
    assert records_of(found) == records_of(expected)


def test_an_earlier_plan_counts_what_was_known_then(pack: Path, records: list[dict[str, Any]], tmp_path: Path) -> None:
    """From an Avro container as back-tests leave it."""
    path = tmp_path / "outcomes.avro"
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(REGISTRY.named("campaign_outcome")), records)
    known = START - DAY

    found = told("plan", pack, "--outcomes", path, "--as-of", "2024-10-03T00:00Z", "--json")

    assert known == 1_727_913_600_000
    expected = plan(Outcomes(records[:300]), load_folder(pack), known, known + 1)
    assert json.loads(found.stdout)["version"] == expected.version


def test_mistakes_are_told_with_what_to_do(pack: Path, tmp_path: Path) -> None:
    """A folder without outcomes, a row that is none, a leaf that is not there, no brokers."""
    path = tmp_path / "outcomes.jsonl"
    path.write_text('{"outcome_id": "a"}')
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = tmp_path / "nothing.jsonl"
    nothing.write_text("")

    answers = [
        told("plan", pack, "--outcomes", empty),
        told("plan", pack, "--outcomes", path),
        told("plan", pack, "--outcomes", nothing, "--leaf", "tier=high"),
        told("show"),
        told("plan", pack, "--outcomes", nothing, "--as-of", "9999-12-31"),
    ]

    assert [answer.exit_code for answer in answers] == [2, 2, 2, 2, 2]
    wanted = ["outcomes.avro", "no campaign_outcome", "none but everybody", "BOOTSTRAP_SERVERS", "is not a time"]
    assert [text for text, answer in zip(wanted, answers, strict=True) if text not in answer.output] == []


def test_a_file_that_is_no_snapshot_is_one_line(pack: Path, records: list[dict[str, Any]], tmp_path: Path) -> None:
    """Before anything is decided by it."""
    lines, history = tmp_path / "outcomes.jsonl", tmp_path / "history"
    lines.write_text("\n".join(map(json.dumps, records)))
    history.mkdir()
    (history / "clickstream.jsonl").write_text("")
    path = history / "policy.jsonl"
    told("plan", pack, "--outcomes", lines, "--out", path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "draws": 1}))

    with pytest.raises(OperatorError, match=r"policy.jsonl' cannot be used: .* where it should have 4"):
        Files(history, load({})).products()


def test_differences_say_where_two_snapshots_are_not_the_same(pack: Path, records: list[dict[str, Any]]) -> None:
    """By key, and there by field or arm."""
    first = records_of(plan(Outcomes(records), load_folder(pack), START, START + 1))
    other = records_of(plan(Outcomes(records[:200]), load_folder(pack), START, START + 1))
    key = f"{START + 1}/"

    assert differences(first, first) == []
    assert f"{key}: rescue@email is another" in differences(first, other)
    assert differences({}, first) == [f"{key}: is missing"]
    assert differences(first, {}) == [f"{key}: should not be there"]
