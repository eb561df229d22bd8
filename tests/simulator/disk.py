"""Volumes: the real state store over an in-memory RocksDB that loses, when its process is killed, unflushed batches."""

from __future__ import annotations

from bisect import bisect_left, insort
from pathlib import Path
from random import Random
from typing import Any

from orchestrator.runtime.state_store import Batch, StateStore
from tests.simulator.process import Process

Change = tuple[bytes, bytes | None]


class Rows:
    """One partition's rows: what was flushed, and the batches since."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._flushed: dict[bytes, bytes] = {}
        self._batches: list[list[Change]] = []
        self.holder: Process | None = None

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        return self.values.get(key)

    def iter(self, options: Any) -> Cursor:
        """Return a cursor."""
        del options
        return Cursor(self.values, self._keys)

    def write(self, changes: Changes, options: Any) -> None:
        """Apply a batch."""
        del options
        self._batches.append(changes.all)
        self._apply(changes.all)

    def _apply(self, changes: list[Change]) -> None:
        for key, value in changes:
            if value is None:
                if self.values.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self.values:
                    insort(self._keys, key)
                self.values[key] = value

    def flush(self) -> None:
        """Keep everything written so far whatever comes."""
        self._flushed = dict(self.values)
        self._batches.clear()

    def close(self) -> None:
        """Flush and let go."""
        self.flush()
        self.holder = None

    def crash(self, random: Random) -> None:
        """Lose the last batches, each as a whole: the write-ahead log is off."""
        kept = self._batches[: random.randint(0, len(self._batches))]
        self.values = dict(self._flushed)
        self._keys = sorted(self.values)
        for changes in kept:
            self._apply(changes)
        self.flush()
        self.holder = None

    def clear(self) -> None:
        """Forget everything."""
        self.values, self._keys = {}, []
        self.flush()


class Cursor:
    """A cursor as RocksDB's: over the rows as they were when it was opened."""

    def __init__(self, values: dict[bytes, bytes], keys: list[bytes]) -> None:
        self._values = values
        self._keys = keys
        self._place = 0

    def seek(self, key: bytes) -> None:
        self._place = bisect_left(self._keys, key)

    def valid(self) -> bool:
        return self._place < len(self._keys)

    def key(self) -> bytes:
        return self._keys[self._place]

    def value(self) -> bytes:
        return self._values[self._keys[self._place]]

    def next(self) -> None:
        self._place += 1

    def status(self) -> None:
        return


class Changes:
    """What a write batch holds."""

    def __init__(self) -> None:
        self.all: list[Change] = []

    def put(self, key: bytes, value: bytes) -> None:
        self.all.append((key, value))

    def delete(self, key: bytes) -> None:
        self.all.append((key, None))


class SimulatedStore(StateStore):
    """The real store's rows and rules over a volume's rows, for one process."""

    def __init__(self, rows: Rows, process: Process) -> None:
        process.enter("store.open")
        assert rows.holder is None, "two stores of one partition are open in one volume"
        rows.holder = process
        self.path = Path("state")
        self._rows = rows
        self._process = process
        self._db = rows  # type: ignore[assignment]  # all that the store uses of RocksDB
        self._cache = None
        self.set_aside = None
        self._write_options = None  # type: ignore[assignment]  # the rows take none

    def batch(self) -> Batch:
        """Return an empty batch of changes."""
        batch = Batch.__new__(Batch)
        batch.changes = Changes()  # type: ignore[assignment]  # all that a batch uses of RocksDB's
        return batch

    def write(self, batch: Batch) -> None:
        """Apply a batch as a whole."""
        self._process.enter("store.write")
        super().write(batch)
        self._process.leave("store.write")

    def reset(self) -> None:
        """Forget everything."""
        self._rows.clear()

    def close(self) -> None:
        """Flush and let go, unless the process is gone."""
        self._process.enter("store.close")
        super().close()
