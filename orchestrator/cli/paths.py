"""Files that a command is to write: whether they can be written is said before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class _OutFile(click.Path):
    """A file whose folder is there and may be written to."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = path.parent
        if not folder.is_dir():
            self.fail(f"'{path}' cannot be written: there is no folder '{folder}'.", param, ctx)
        if not os.access(folder, os.W_OK):
            self.fail(f"'{path}' cannot be written: '{folder}' may not be written to.", param, ctx)
        return path


OUT_FILE = _OutFile()
"""The type of an option that names a file to write."""

OUT_FOLDER = click.Path(file_okay=False, writable=True, path_type=Path)
"""The type of an option that names a folder to write into, which need not be there."""
