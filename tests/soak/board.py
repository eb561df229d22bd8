"""A few bytes that a worker and the soak share: where the loop is, and where it is to die or to freeze."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import time
from pathlib import Path

_SIZE = 128
_POINT = slice(0, 24)
_COMMITS = struct.Struct("<Qd")  # how many, and when the first was; the monotonic clock is the machine's
_COMMITS_AT = 32
_ORDER = slice(64, 96)


class Board:
    """One life's shared file; it outlives the process, however that ends."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._bytes = mmap.mmap(file.fileno(), _SIZE)

    @property
    def point(self) -> str:
        """The named point that the loop passed last."""
        return self._text(_POINT) or "starting"

    @property
    def commits(self) -> int:
        """How many transactions this life has committed."""
        return int(_COMMITS.unpack_from(self._bytes, _COMMITS_AT)[0])

    @property
    def first_commit_at(self) -> float:
        """When the first one was committed, on the monotonic clock."""
        return float(_COMMITS.unpack_from(self._bytes, _COMMITS_AT)[1])

    def order(self, number: signal.Signals, point: str) -> None:
        """Have the worker send itself a signal when it next passes a point."""
        self._put(_ORDER, f"{int(number)} {point}")

    def cancel(self) -> None:
        """Take an order back that was not carried out."""
        self._put(_ORDER, "")

    def passed(self, point: str) -> None:
        """Note a point, and carry out the order for it; called by the worker."""
        self._put(_POINT, point)
        if point == "committed":
            _COMMITS.pack_into(self._bytes, _COMMITS_AT, self.commits + 1, self.first_commit_at or time.monotonic())
        number, _, where = self._text(_ORDER).partition(" ")
        if where == point:
            self.cancel()
            os.kill(os.getpid(), int(number))

    def _text(self, where: slice) -> str:
        return bytes(self._bytes[where]).rstrip(b"\0").decode()

    def _put(self, where: slice, text: str) -> None:
        self._bytes[where] = text.encode().ljust(where.stop - where.start, b"\0")
