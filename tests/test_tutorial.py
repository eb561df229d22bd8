"""The tutorial of docs/marketers.md, followed literally in a new folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.cli.init import starter
from tests.measured import MEASURED
from tests.test_marketers_page import PAGE, pack

TEN_MINUTES = 600
TITLE = "## From an empty folder to a back-tested campaign, in ten minutes"


def commands() -> list[str]:
    """Return the commands of the tutorial in their order."""
    section = PAGE.read_text(encoding="utf-8").split(TITLE)[1].split("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    """Every command exits 0, all of them within the ten minutes, and what they are said to leave is there."""
    here = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    here["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{here['PATH']}"
    began = time.monotonic()
    said = {}
    for command in commands():
        ended = subprocess.run(
            command, shell=True, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=280, check=False
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
        said[command] = ended.stdout
    seconds = time.monotonic() - began

    print(f"{MEASURED}the tutorial's {len(said)} commands took {seconds:.0f} s")
    assert seconds < TEN_MINUTES
    assert json.loads((tmp_path / "last-quarter" / "result.json").read_text())["triggers"]["sent"] > 0
    assert "<svg" in (tmp_path / "last-quarter" / "report.html").read_text()
    told = "\n".join(said.values())
    assert "2 passed, 0 failed" in told
    assert "What this change would have done" in told
    assert "How far everything has come" in told


def test_the_page_shows_the_files_that_init_writes() -> None:
    """What is explained is what one has."""
    shown = {name.removeprefix("my-pack/"): text for name, text in pack().items()}

    assert shown == starter()


def test_init_writes_a_pack_that_lints_and_passes(tmp_path: Path) -> None:
    """Into a folder that is not there, or empty."""
    folder = tmp_path / "new" / "pack"
    runner = CliRunner()

    assert runner.invoke(main, ["init", str(folder)]).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(starter())
    linted = runner.invoke(main, ["lint", str(folder)])
    assert (linted.exit_code, "0 errors, 0 warnings" in linted.stderr) == (0, True)
    assert runner.invoke(main, ["test", str(folder)]).exit_code == 0


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """Somebody's work may lie there."""
    (tmp_path / "mine.yaml").write_text("features: {}\n")

    ended = CliRunner().invoke(main, ["init", str(tmp_path)])

    assert ended.exit_code == 2
    assert "is there already and not empty" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize("name", ["lint", "test", "plan"])
def test_the_job_of_the_page_checks_and_plans(name: str) -> None:
    """The example is YAML, and its commands are commands."""
    (text,) = re.findall(
        r"```yaml\n# \.github/workflows/plan\.yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    steps = yaml.safe_load(text)["jobs"]["plan"]["steps"]

    assert any(f"orchestrator {name} " in step.get("run", "") for step in steps)
