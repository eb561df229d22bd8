"""The compiled build: the same sources, and the same bytes; only where there is a C compiler."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.harness.compiled import compiled, copied, no_compiler, path_to

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package compiled; not optimised, which takes half of the time."""
    if (reason := no_compiler()) is not None:
        pytest.skip(reason)
    return compiled(tmp_path_factory.mktemp("compiled") / "package", level=0)


def what_comes_out(package: Path) -> dict[str, Any]:
    """Return what comes out of some journeys, decided by the package of a folder."""
    done = subprocess.run(
        [sys.executable, "-P", str(ROOT / "tests" / "what_comes_out.py")],
        env=os.environ | {"PYTHONPATH": path_to(package)},
        cwd=package,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(600)
def test_the_compiled_build_leaves_the_same_bytes(fast: Path, tmp_path: Path) -> None:
    """Everything that is sent and stored, of honest events and of mutated records, is equal to the last byte."""
    expected, found = what_comes_out(copied(tmp_path / "package")), what_comes_out(fast)

    assert (expected.pop("compiled"), found.pop("compiled")) == (False, True)
    assert found == expected
    assert found["mutated"]["crashes"] == 0


@pytest.mark.parametrize("pack", ["retail", "retail_plus"])
def test_the_compiled_build_passes_the_packs_own_tests(fast: Path, pack: str) -> None:
    """The journeys that marketers have written down."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "test", str(ROOT / "deploy" / "definitions" / pack)],
        cwd=fast,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compiled_build_passes_the_engines_tests(fast: Path) -> None:
    """Series that are pinned in a state, and whatever else somebody has thought of."""
    code = (
        "import sys, orchestrator.engine, pytest; assert not orchestrator.engine.__file__.endswith('.py'); "
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:rerunfailures",
        "-c",
        str(ROOT / "pyproject.toml"),
    ]
    tests = [str(ROOT / "tests" / name) for name in ("arbitration", "moments", "test_engine.py")]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *options, *tests],
        env=os.environ | {"PYTHONPATH": path_to(fast)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )

    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr


def test_no_module_with_types_of_msgspec_is_compiled() -> None:
    """Compiled, they would lose how they are laid out: their options do not reach msgspec."""
    modules = runpy.run_path(str(ROOT / "setup.py"), run_name="listed")["COMPILED"]

    paths = [ROOT / "orchestrator" / f"{name}.py" for name in modules]
    assert [path for path in paths if "(msgspec.Struct" in path.read_text(encoding="utf-8")] == []


def test_without_being_asked_for_nothing_is_compiled() -> None:
    """A fresh clone needs no C compiler."""
    known = {name: text for name, text in os.environ.items() if name != "COMPILE_ORCHESTRATOR"}
    code = "import runpy; print(runpy.run_path('setup.py', run_name='listed')['extensions']())"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=known, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
