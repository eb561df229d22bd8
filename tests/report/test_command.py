"""`orchestrator report` on what a back-test wrote: no broker is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from tests.backtest.made import RETAIL, made, write


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


def test_a_folder_that_is_no_backtest(tmp_path: Path) -> None:
    """The message names the file that is missing and what to do."""
    said = run("--records", tmp_path)

    assert said.exit_code == 2
    assert "has no outcomes.avro; name what backtest --out wrote" in said.output


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
