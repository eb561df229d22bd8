"""The virtual environment of the Quix Streams peer: it asks for other versions of the clients than we do."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

from bench.harness.machine import ROOT
from bench.peers.jvm import UnavailableError

_FOLDER = ROOT / ".cache" / "bench-venv"


def python() -> str:
    """Return its interpreter, making it first where it is not there, or raise UnavailableError."""
    interpreter = str(_FOLDER / "bin" / "python")
    if not Path(interpreter).exists():
        try:
            venv.create(_FOLDER, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UnavailableError(f"no virtual environment: {error}") from None
    if subprocess.run([interpreter, "-c", "import quixstreams"], capture_output=True, check=False).returncode != 0:
        install = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "quixstreams"]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["it gave no reason"]
            raise UnavailableError(f"pip could not install quixstreams: {said[-1]}")
    return interpreter


def versions() -> str:
    """Return the versions of Quix Streams and of the client it uses."""
    code = "from importlib.metadata import version as v; print(v('quixstreams'), v('confluent-kafka'))"
    done = subprocess.run([python(), "-c", code], capture_output=True, text=True, check=False)
    quix, client = done.stdout.split()
    return f"{quix}, on confluent-kafka {client}"
