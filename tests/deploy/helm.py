"""Helm for tests: one on the machine, or one built once from the Go module proxy into `.cache/bin`."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "chart"
BIN = ROOT / ".cache" / "bin"
VERSION = "v3.22.0"
KUBERNETES = "1.34.0"
BUILD_SECONDS = 900.0
"""Two minutes on two free cores; once."""

Document = dict[str, Any]


class RefusedError(Exception):
    """Helm did not render, for the reason given."""


@functools.cache
def find() -> tuple[Path | None, str]:
    """Return where helm is, built now if need be, and else why there is none."""
    if (built := BIN / "helm").exists():
        return built, ""
    if named := shutil.which("helm"):
        return Path(named), ""
    go = shutil.which("go")
    if go is None:
        return None, "there is no helm, and no go to build it with"
    BIN.mkdir(parents=True, exist_ok=True)
    command = [go, "install", "-p", "2", f"helm.sh/helm/v3/cmd/helm@{VERSION}"]
    environment = os.environ | {"GOBIN": str(BIN), "GOFLAGS": "-trimpath"}
    try:
        subprocess.run(command, env=environment, capture_output=True, check=True, timeout=BUILD_SECONDS, cwd=BIN)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        return None, f"helm could not be built: {error} {said.decode(errors='replace')[-300:]}"
    return built, ""


def binary() -> Path:
    """Return helm, or skip the test by name."""
    path, reason = find()
    if path is None:
        pytest.skip(reason)
    return path


def run(*arguments: str) -> str:
    """Return what helm prints, or raise with what it says is wrong."""
    ended = subprocess.run([str(binary()), *arguments], capture_output=True, text=True, check=False, timeout=60)
    if ended.returncode != 0:
        raise RefusedError(ended.stderr + ended.stdout)
    return ended.stdout


def template(values: Path | None = None, *, sets: Sequence[str] = (), name: str = "journey-orchestrator") -> str:
    """Return the manifests of the chart for a file of values, and single ones as `--set-json` takes them."""
    arguments = ["template", name, str(CHART), "--namespace", "journey", "--kube-version", KUBERNETES]
    if values is not None:
        arguments += ["--values", str(values)]
    for text in sets:
        arguments += ["--set-json", text]
    return run(*arguments)


def documents(text: str) -> list[Document]:
    """Return the manifests of a text."""
    return [document for document in yaml.safe_load_all(text) if document]
