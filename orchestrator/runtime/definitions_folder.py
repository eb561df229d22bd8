"""A folder of definitions: its files as text, or loaded, for the commands and the worker."""

from __future__ import annotations

from pathlib import Path

from orchestrator.definitions.catalogue import CATALOGUE, Catalogue
from orchestrator.definitions.load import load
from orchestrator.program import Definitions
from orchestrator.runtime.errors import USAGE, OperatorError

MAX_BYTES = 4 * 1024 * 1024
"""How large one file may be; what people write stays far below."""


def read_directory(folder: Path) -> dict[str, str]:
    """Return the texts of the YAML files that lie in a folder, not below it, by path."""
    # A mounted ConfigMap holds every file twice: once here, once in a hidden folder beneath.
    paths = sorted(path for path in folder.glob("*") if path.suffix in (".yaml", ".yml") and path.is_file())
    if not paths:
        raise OperatorError(f"no definitions: '{folder}' has no file that ends in .yaml", exit_code=USAGE)
    return {str(path): _read(path) for path in paths}


def load_folder(folder: Path, catalogue: Catalogue = CATALOGUE) -> Definitions:
    """Return the definitions in a folder over the events of a catalogue, or raise with all that is wrong with them."""
    definitions, problems = load(read_directory(folder), catalogue)
    if definitions is None:
        errors = [str(problem) for problem in problems if problem.severity == "error"]
        raise OperatorError(
            f"the definitions in '{folder}' have {len(errors)} errors, "
            "correct them, and try again with: orchestrator lint",
            details=errors,
        )
    return definitions


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise OperatorError(f"'{path}' is larger than {MAX_BYTES} bytes, split it", exit_code=USAGE)
        # Bytes that are not UTF-8 stay in the text as what YAML refuses, so they are reported with everything else.
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise OperatorError(f"cannot read '{path}': {error.strerror}", exit_code=USAGE) from error
