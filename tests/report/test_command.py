"""`orchestrator report` on what a back-test wrote: no broker is needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from shutil import copytree

import fastavro
import pytest
from click.testing import CliRunner, Result

from orchestrator.backtest.result import read_records
from orchestrator.cli import main
from tests.backtest.made import REGISTRY, RETAIL, made, write


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return recorded events, and what a back-test made of them."""
    folder = tmp_path_factory.mktemp("report")
    events, out = write(made(120), folder / "events"), folder / "out"
    said = CliRunner().invoke(
        main, ["backtest", str(RETAIL), "--events", str(events), "--out", str(out), "--processes", "1"]
    )
    assert said.exit_code == 0, said.output
    return events, out


def run(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_program_and_rules_of_a_backtest(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    """Tables, page and JSON say the same: too few are held out, and no value was known."""
    events, out = recorded
    html = tmp_path / "worth.html"
    arguments = ["--records", out, "--events", events, "--definitions", RETAIL, "--program", "--rules"]
    told = run(*arguments, "--html", html)
    read = json.loads(run(*arguments, "--json").output)

    assert told.exit_code == 0, told.output
    for shown in (told.output, html.read_text()):
        assert "everybody else against the hold-out" in shown
        assert "it takes a policy snapshot" in shown
    assert read["program"]["customers"] == 120
    held = read["program"]["against_holdout"]
    assert held["treatment"]["customers"] + held["control"]["customers"] == 120
    assert read["program"]["expected_value_against_priority"] is None
    assert read["rules"] == []


def test_program_is_measured_as_far_as_costs_are_known(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    """Not up to the last order: terminal, page and JSON say so, and the rules cost the same, read along or not."""
    events, out = recorded
    html = tmp_path / "worth.html"
    arguments = ["--records", out, "--events", events, "--definitions", RETAIL, "--program"]
    told = run(*arguments, "--html", html)
    read = json.loads(run(*arguments, "--json").stdout)
    ruled = json.loads(run(*arguments, "--rules", "--json").stdout)
    longest = max(one["window_until"] - one["window_from"] for one in read_records(out, "outcomes"))
    last = max(one["event_time"] for one in made(120)["purchases"])

    assert read["program"]["until"] <= last - longest
    assert ruled["program"] == read["program"]
    assert ruled["rules"] == json.loads(run("--records", out, "--rules", "--json").stdout)["rules"]
    (note,) = read["notes"]
    assert "not to the last order" in note
    assert f"note: {note}" in told.stderr
    assert note in html.read_text()


def test_while_it_is_too_early_for_the_program_the_rest_is_told(tmp_path: Path) -> None:
    """A week of campaigns whose windows take longer says nothing of what was spent."""
    events, out = write(made(20, days=6), tmp_path / "events"), tmp_path / "out"
    CliRunner().invoke(main, ["backtest", str(RETAIL), "--events", str(events), "--out", str(out), "--processes", "1"])
    said = run("--records", out, "--events", events, "--definitions", RETAIL, "--program", "--json")
    read = json.loads(said.stdout)

    assert said.exit_code == 0, said.output
    assert read["campaigns"]
    assert "program" not in read
    assert "too early to measure from 2017-03-0" in read["notes"][0]


def test_hold_out_that_was_raised_since_is_refused(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    """Today's policy would call customers held out who were written to: the message names the day to measure from."""
    events, out = recorded
    raised = tmp_path / "raised"
    copytree(RETAIL, raised)
    policy = raised / "policy.yaml"
    policy.write_text(policy.read_text().replace("holdout: { share: 5%", "holdout: { share: 50%"))
    said = run("--records", out, "--events", events, "--definitions", raised, "--program")
    message = " ".join(said.output.split())

    assert said.exit_code == 1
    assert "--program: customers of the hold-out had" in message
    assert "measure from then on: --since 2017-" in message


def test_currency_without_hundredths_is_refused(tmp_path: Path) -> None:
    """Every amount would be printed as a hundredth of itself."""
    said = run("--records", tmp_path, "--currency", "JPY")

    assert said.exit_code == 2
    assert "--currency JPY has no hundredths" in said.output


def test_a_folder_that_is_no_backtest(tmp_path: Path) -> None:
    """The message names the file that is missing and what to do."""
    said = run("--records", tmp_path)

    assert said.exit_code == 2
    assert "has no outcomes.avro; name what backtest --out wrote" in said.output


def test_rules_have_a_price_before_the_first_outcome(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    """Decisions are enough for it."""
    _, out = recorded
    shutil.copy(out / "decisions.avro", tmp_path)
    schema = fastavro.parse_schema(REGISTRY.named("campaign_outcome"))
    with (tmp_path / "outcomes.avro").open("wb") as file:
        fastavro.writer(file, schema, [])

    told = run("--records", tmp_path, "--rules")

    assert told.exit_code == 0, told.output
    assert "No measurement window has closed yet" in told.output
    assert "it takes a policy snapshot" in told.output


@pytest.mark.parametrize(
    "command",
    [["report"], ["policy", "evaluate"], ["personas", "find", "--definitions", str(RETAIL)]],
    ids=["report", "evaluate", "personas"],
)
@pytest.mark.parametrize("cut", [0, 3, 2_000])
def test_a_damaged_container_is_one_line(
    recorded: tuple[Path, Path], tmp_path: Path, command: list[str], cut: int
) -> None:
    """Such as after a copy that was broken off."""
    for kind in ("decisions", "outcomes"):
        data = (recorded[1] / f"{kind}.avro").read_bytes()
        (tmp_path / f"{kind}.avro").write_bytes(data[:cut])

    said = CliRunner().invoke(main, [*command, "--records", str(tmp_path)])

    assert said.exit_code == 2, said.output
    assert "is not what a back-test wrote, or damaged" in said.stderr


@pytest.mark.parametrize(
    ("since", "expected"),
    [("soon", "--since 'soon' is not a time"), ("2099-01-01", "no order since --since 2099-01-01: name an instant")],
)
def test_the_program_began_at_some_time(recorded: tuple[Path, Path], since: str, expected: str) -> None:
    """A time that is none, or to come, is refused."""
    events, out = recorded
    said = run("--records", out, "--events", events, "--definitions", RETAIL, "--program", "--since", since)

    assert said.exit_code == 2
    assert expected in " ".join(said.output.split())
