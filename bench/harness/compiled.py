"""The compiled build beside the pure one: a copy of the package in a folder of its own, so that both can be run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.harness.machine import ROOT

BUILT_FROM = ("orchestrator", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def no_compiler() -> str | None:
    """Return why nothing can be compiled here, None where it can."""
    name = os.environ.get("CC", "gcc")
    return None if shutil.which(name) else f"no C compiler was found: {name}, the one that CC names or else gcc"


def copied(folder: Path, also: tuple[str, ...] = ()) -> Path:
    """Copy what the package is built from into a folder, without what was compiled in place; return the folder."""
    for name in (*BUILT_FROM, *also):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    return folder


def compiled(folder: Path, level: int = 3) -> Path:
    """Compile a copy of the package in a folder, optimised to a level; return the folder."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=copied(folder),
        env=os.environ | {"COMPILE_ORCHESTRATOR": "1", "COMPILE_ORCHESTRATOR_LEVEL": str(level)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"it could not be compiled:\n{done.stdout}\n{done.stderr}")
    return folder


def path_to(package: Path) -> str:
    """Return the PYTHONPATH with which a process started with -P imports a folder's package, and bench from here."""
    return f"{package}{os.pathsep}{ROOT}"
