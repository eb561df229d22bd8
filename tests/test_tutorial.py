"""The tutorial of docs/marketers.md, followed literally in a new folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
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

BLOCKS = re.compile(r"^```(console|yaml)\n(?:# ([\w./-]+\.yaml)\n)?(.*?)^```$", re.DOTALL | re.MULTILINE)
"""The commands of the page, and its YAML, with the name of the file if it is one."""

KAFKA = ("why CUSTOMER", "definitions ", "personas find --definitions", "personas propose")
"""How commands begin that ask running engines: without Kafka they must say that it is missing."""

NOT_HERE = ("git apply split.patch", "orchestrator demo --export year")
"""What takes what Kafka would have given, or minutes."""


@dataclass(frozen=True)
class Followed:
    """What became of the tutorial: its folder, what each command printed, and how long it took."""

    folder: Path
    said: dict[str, str]
    seconds: float


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    """Follow the tutorial in an empty folder, once; every command exits 0."""
    folder = tmp_path_factory.mktemp("empty")
    began = time.monotonic()
    said = {}
    for command in commands():
        ended = run(command, folder)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
        said[command] = ended.stdout
    return Followed(folder, said, time.monotonic() - began)


def commands() -> list[str]:
    """Return the commands of the tutorial in their order."""
    section = PAGE.read_text(encoding="utf-8").split(TITLE)[1].split("\n## ")[0]
    return [line for kind, _, text in BLOCKS.findall(section) if kind == "console" for line in typed(text)]


def typed(block: str) -> list[str]:
    """Return what one types of a block of the terminal; the other lines are answers."""
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody does who has activated .venv, in the shell."""
    here = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    here["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{here['PATH']}"
    return subprocess.run(
        command, shell=True, cwd=folder, env=here, capture_output=True, text=True, timeout=280, check=False
    )


def test_the_tutorial_works_as_it_is_written(followed: Followed) -> None:
    """All commands within the ten minutes, and what they are said to leave is there."""
    print(f"{MEASURED}the tutorial's {len(followed.said)} commands took {followed.seconds:.0f} s")
    assert followed.seconds < TEN_MINUTES
    assert json.loads((followed.folder / "last-quarter" / "result.json").read_text())["triggers"]["sent"] > 0
    assert "<svg" in (followed.folder / "last-quarter" / "report.html").read_text()
    told = "\n".join(followed.said.values())
    assert "2 passed, 0 failed" in told
    assert "What this change would have done" in told
    assert "How far everything has come" in told


def test_the_tutorial_shows_a_day_without_and_a_day_with_a_message(followed: Followed) -> None:
    """What the page says about the customer is what one reads."""
    before, after = (said for command, said in followed.said.items() if " why " in command)

    assert "cart_value = 6.39" in before
    assert "cart_rescue was triggered" not in before
    assert "25 February 2017 13:06  cart_rescue was triggered" in after


def test_the_rest_of_the_page_works_in_the_same_folder(followed: Followed, tmp_path: Path) -> None:
    """Whoever reads on writes each file and types each command; without Kafka those that need it say so."""
    folder = tmp_path / "folder"
    shutil.copytree(followed.folder, folder)
    said, asked_kafka, left_out = {}, [], []
    for kind, name, text in BLOCKS.findall(PAGE.read_text(encoding="utf-8").split(TITLE)[1].split("\n## ", 1)[1]):
        if name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        for command in typed(text) if kind == "console" else ():
            if command in NOT_HERE or "decided" in command:
                left_out.append(command)
                continue
            ended = run(command, folder)
            if command.removeprefix("orchestrator ").startswith(KAFKA):
                assert "ORCHESTRATOR_BOOTSTRAP_SERVERS is not set" in ended.stderr, command
                asked_kafka.append(command)
                continue
            assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
            said[command] = ended.stdout + ended.stderr

    assert "3 passed, 0 failed" in said["orchestrator test by-value"]
    assert "0 errors, 0 warnings" in said["orchestrator lint by-value"]
    reported = json.loads((folder / "backtest" / "result.json").read_text())
    assert reported["triggers"]["sent"] > 0
    assert len(said) >= 14
    assert (len(asked_kafka), len(left_out)) == (8, 4)


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


def test_the_job_of_the_page_works_in_a_clone(tmp_path: Path) -> None:
    """Its steps but the last, which tells the host of the repository, with the package that is installed here."""
    if shutil.which("git") is None:
        pytest.skip("there is no git here")
    (text,) = (text for _, name, text in BLOCKS.findall(PAGE.read_text(encoding="utf-8")) if name.endswith("plan.yaml"))
    steps = [step["run"] for step in yaml.safe_load(text)["jobs"]["plan"]["steps"] if "run" in step]
    install, *between, comment = steps
    origin, clone = tmp_path / "origin", tmp_path / "work" / "clone"
    commit = "git -c user.name=a -c user.email=a@b.c commit -q -a -m"
    for command, folder in (
        ("git init -q -b main && orchestrator init my-pack && git add . && " + commit + " pack", origin),
        (f"git clone -q {origin} .", clone),
        (f"sed -i.bak 's/>= 20/>= 40/' my-pack/moments.yaml && {commit} change", clone),
        *((step.replace("${{ github.base_ref }}", "main"), clone) for step in between),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        ended = run(command, folder)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"

    assert install == 'pip install -c constraints.txt ".[demo]"'
    assert "| cart_rescue |" in (clone / "plan.md").read_text(encoding="utf-8")
    assert "--body-file plan.md" in comment
