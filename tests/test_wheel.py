"""What is installed works away from the repository: the wheel has everything in it, as the source distribution has."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from bench.harness.compiled import copied
from orchestrator.runtime import settings

ROOT = Path(__file__).resolve().parents[1]
SHIPPED: tuple[str, ...] = runpy.run_path(str(ROOT / "setup.py"), run_name="listed")["SHIPPED"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what a wheel holds that was built from a source distribution, as an installer does both."""
    pytest.importorskip("setuptools", reason="setuptools is not here: no wheel can be built without downloading it")
    folder = tmp_path_factory.mktemp("wheel")
    source = copied(folder / "clone", also=SHIPPED)
    with tarfile.open(built("sdist", source)) as packed:
        packed.extractall(folder / "sdist", filter="data")
    (unpacked,) = (folder / "sdist").iterdir()
    with zipfile.ZipFile(built("wheel", unpacked)) as packed:
        packed.extractall(folder / "site-packages")
    return folder / "site-packages"


def built(kind: str, source: Path) -> Path:
    """Build a distribution with the setuptools that is here; return its path."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}('made'))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=source,
        env={name: value for name, value in os.environ.items() if name != "COMPILE_ORCHESTRATOR"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return source / "made" / done.stdout.splitlines()[-1]


def test_the_wheel_is_enough_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """A pack is begun, checked and back-tested, and the packs that are shipped are whole, with their own inputs."""
    packs = installed / "orchestrator" / "shipped" / "deploy" / "definitions"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    program = "import sys, orchestrator; assert sys.argv.pop(1) in orchestrator.__file__"
    for command in (
        "init my-pack",
        "lint my-pack",
        "test my-pack",
        "demo --households 3 --days 20 --export history",
        "backtest my-pack --events history --out out --processes 1",
        f"lint {packs / 'retail'}",
        f"test {packs / 'telco'}",
        "topics render --cluster c",
    ):
        code = f"{program}; from orchestrator.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, str(installed), *command.split()],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "out" / "report.html").is_file()


def test_everything_that_is_shipped_arrives_unchanged(installed: Path) -> None:
    """No file is lost on the way from the clone to the wheel."""
    expected = {
        path.relative_to(ROOT): path.read_bytes()
        for name in SHIPPED
        for path in (ROOT / name, *(ROOT / name).rglob("*"))
        if path.is_file()
    }
    folder = installed / "orchestrator" / "shipped"

    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == expected


@pytest.mark.parametrize("name", SHIPPED)
def test_a_clone_has_it_at_its_top(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one copy in the repository, found from every folder."""
    monkeypatch.chdir(tmp_path)

    assert settings.shipped(name) == ROOT / name


def test_the_working_directory_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes a topics.yaml of their own and goes there means it."""
    (tmp_path / "topics.yaml").write_text("version: 1\n")
    monkeypatch.chdir(tmp_path)

    assert settings.shipped("topics.yaml") == Path("topics.yaml")


def test_a_build_without_what_is_shipped_fails_at_once(tmp_path: Path) -> None:
    """It does not leave a wheel that fails at whoever installs it."""
    pytest.importorskip("setuptools", reason="setuptools is not here: no wheel can be built without downloading it")
    with pytest.raises(AssertionError, match=r"no wheel is whole without: topics\.yaml, schemas, deploy/definitions"):
        built("wheel", copied(tmp_path / "clone"))
