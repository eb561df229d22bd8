"""The image's steps, run without Docker: what it copies is enough to build the package and to run a command."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.helm import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `src`, `app` and `opt` as the image's stages make them, packages of others left out.

    The locked packages are those of this environment; installing them again would take a minute.
    """
    folder = tmp_path_factory.mktemp("image")
    built, final = (stage.split("\n", 1)[1] for stage in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:])
    for stage, name in ((built, "src"), (final, "app")):
        for line in re.findall(r"^COPY (?!--)(.+)$", stage, re.MULTILINE):
            *sources, target = line.split()
            for source in sources:
                copy(ROOT / source, folder / name / target, into=target.endswith("/"))
    command = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, *command, "--target", str(folder / "opt"), str(folder / "src")], check=True, timeout=200
    )
    return folder


def copy(source: Path, target: Path, *, into: bool) -> None:
    """Copy as Docker does: the contents of a folder, a file into a folder."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True) if into else target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target / source.name if into else target)


@pytest.mark.parametrize(
    "arguments", [["lint", "deploy/definitions/retail"], ["topics", "render", "--cluster", "c"], ["worker", "--help"]]
)
def test_commands_run_from_what_is_copied(image: Path, arguments: list[str]) -> None:
    """Topics, schemas and definitions are where commands look for them, and the package is whole."""
    program = "import sys, orchestrator; assert sys.argv.pop(1) in orchestrator.__file__"
    ended = subprocess.run(
        [sys.executable, "-c", f"{program}; from orchestrator.cli import main; main()", str(image / "opt"), *arguments],
        cwd=image / "app",
        env={"PYTHONPATH": str(image / "opt"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_constraints_lock_what_the_image_installs() -> None:
    """Every installation in it names them."""
    installs = re.findall(r"pip install [^\\\n]+", DOCKERFILE)

    assert installs
    assert [line for line in installs if "-c constraints.txt" not in line] == []


def test_the_image_can_ask_a_schema_registry() -> None:
    """The chart offers one, so that the image brings its client, locked as all is."""
    assert "ARG EXTRAS=[registry]\n" in DOCKERFILE
