"""One partition's customers, timers and meta record in RocksDB; what it holds is always what one commit left.

A store is written once per Kafka commit, after it, with one batch: so it never holds what a transaction aborted, and
after a crash it is a commit that Kafka has, only perhaps not the last. The tail of the changelog brings it up to date.
The write-ahead log is off, which is safe because everything shares one column family and the changelog is the log.

Rows: `c` + customer -> due instant and state; `t` + due instant + customer -> nothing; `m` -> the meta record;
`s` + hash -> what is kept of somebody who was erased.
"""

from __future__ import annotations

import logging
import shutil
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from rocksdict import BlockBasedOptions, Cache, Options, Rdict, RdictIter, ReadOptions, WriteBatch, WriteOptions

from orchestrator.customer import STATE_VERSION
from orchestrator.events import FOREVER
from orchestrator.migrations import newer
from orchestrator.runtime.errors import OperatorError

log = logging.getLogger("orchestrator.state")

_CUSTOMER: Final = b"c"
_TIMER: Final = b"t"
_META: Final = b"m"
_ERASED: Final = b"s"
_DUE: Final = struct.Struct(">q")

_DAMAGED: Final = "DAMAGED"
"""A file that marks a store in which reading found damage: opening alone does not look at every block."""

META_KEY: Final = b"\x00meta"
"""The changelog key of the meta record; no customer id starts with a zero byte."""


class Meta(msgspec.Struct, array_like=True):
    """What a commit says about its partition.

    `clock` is the last barrier's instant; `positions` the next offset of every input; `definitions` the version in
    force; `changelog` the changelog's offset after the commit, known only to the store; `state_version` the version in
    which customers were written last; `as_of` the wall clock's instant at which the store was up to date, known only to
    the store as well; `quotas` what was used of the caps that customers share.
    """

    clock: int
    positions: dict[str, int]
    definitions: str = ""
    changelog: int = 0
    state_version: int = 1
    as_of: int = 0
    quotas: dict[str, list[int]] = {}


_meta_decoder = msgspec.msgpack.Decoder(Meta)


def meta_to_bytes(meta: Meta) -> bytes:
    """Return a meta record as bytes."""
    return msgspec.msgpack.encode(meta)


def meta_from_bytes(data: bytes) -> Meta:
    """Return the meta record that bytes hold; raises OperatorError where a newer program has written the customers."""
    meta = _meta_decoder.decode(data)
    if meta.state_version > STATE_VERSION:
        # Said before anything is decided, not when the first of its customers comes along.
        raise OperatorError(newer(meta.state_version, STATE_VERSION))
    return meta


class Stored(NamedTuple):
    """A customer as stored: when time alone changes something next (FOREVER for never), and the state's bytes."""

    due: int
    state: bytes


def pack(stored: Stored) -> bytes:
    """Return the bytes of a stored customer, in the store and in the changelog alike."""
    return _DUE.pack(stored.due) + stored.state


def unpack(data: bytes) -> Stored:
    """Return the stored customer that bytes hold."""
    return Stored(_DUE.unpack_from(data)[0], data[8:])


class StateStore:
    """The RocksDB directory of one partition."""

    def __init__(self, path: Path, cache: Cache | None = None) -> None:
        """Open the directory, creating it; one that is damaged is set aside, to be restored from the changelog."""
        self.path = path
        self._cache = cache
        self.set_aside: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if (path / _DAMAGED).exists():
                self._move_aside()
            try:
                self._db = Rdict(str(path), _options(cache))
            except Exception as error:
                if not _is_damage(path, error):
                    raise
                self._move_aside()
                self._db = Rdict(str(path), _options(cache))
        except Exception as error:
            raise OperatorError(_what_to_do(path, error)) from error
        self._write_options = WriteOptions()
        self._write_options.disable_wal = True  # type: ignore[assignment,method-assign]  # a property, whatever the stub says

    def get(self, customer: bytes) -> Stored | None:
        """Return a customer as stored, None when unknown."""
        data = self._read(_CUSTOMER + customer)
        return None if data is None else unpack(data)

    def meta(self) -> Meta | None:
        """Return the meta record of the last commit, None in a new store."""
        data = self._read(_META)
        return None if data is None else meta_from_bytes(data)

    def due(self, since: int, until: int = FOREVER, limit: int | None = None) -> list[tuple[int, bytes]]:
        """Return timers (due instant, customer) from `since` to `until`, earliest first, up to `limit` of them.

        The scan starts at `since`, not at the first key: what fired before left tombstones there.
        """
        rows: list[tuple[int, bytes]] = []
        # An open iterator keeps the store locked even after close(), so it never leaves this function.
        cursor = self._db.iter(ReadOptions())
        cursor.seek(_TIMER + _DUE.pack(max(since, 0)))
        while cursor.valid() and len(rows) != limit:
            key = cursor.key()
            if key[:1] != _TIMER:
                break
            due = _DUE.unpack_from(key, 1)[0]
            if due > until:
                break
            rows.append((due, key[9:]))
            cursor.next()
        self._check(cursor)
        return rows

    def batch(self) -> Batch:
        """Return an empty batch of changes."""
        return Batch()

    def write(self, batch: Batch) -> None:
        """Apply a batch as a whole."""
        try:
            self._db.write(batch.changes, self._write_options)
        except Exception as error:
            raise OperatorError(_what_to_do(self.path, error)) from error

    def customers(self) -> Iterator[tuple[bytes, Stored]]:
        """Yield every customer as stored; for reports and tests."""
        cursor = self._db.iter(ReadOptions())
        cursor.seek(_CUSTOMER)
        while cursor.valid() and cursor.key()[:1] == _CUSTOMER:
            yield cursor.key()[1:], unpack(cursor.value())
            cursor.next()
        self._check(cursor)

    def erasures(self) -> list[tuple[bytes, bytes]]:
        """Return what is kept of erased customers: hashes and packed instants."""
        rows: list[tuple[bytes, bytes]] = []
        cursor = self._db.iter(ReadOptions())
        cursor.seek(_ERASED)
        while cursor.valid() and cursor.key()[:1] == _ERASED:
            rows.append((cursor.key()[1:], cursor.value()))
            cursor.next()
        self._check(cursor)
        return rows

    def versions(self, since: bytes, limit: int) -> list[tuple[bytes, int]]:
        """Return customers and the version of their states in order of key, from a key on, up to `limit` of them."""
        rows: list[tuple[bytes, int]] = []
        cursor = self._db.iter(ReadOptions())
        cursor.seek(_CUSTOMER + since)
        while cursor.valid() and len(rows) != limit and (key := cursor.key())[:1] == _CUSTOMER:
            state = unpack(cursor.value()).state
            rows.append((key[1:], state[0] if state else 0))
            cursor.next()
        self._check(cursor)
        return rows

    def reset(self) -> None:
        """Forget everything, to be restored from the beginning of the changelog."""
        self._db.close()
        Rdict.destroy(str(self.path), _options(None))
        self._db = Rdict(str(self.path), _options(self._cache))

    def flush(self) -> None:
        """Make everything written so far survive the process."""
        self._db.flush()

    def close(self) -> None:
        """Flush and let go of the directory; what cannot be flushed is in the changelog, so that is no failure."""
        try:
            self._db.close()
        except Exception as error:
            log.warning("%s", _what_to_do(self.path, error))

    def _read(self, key: bytes) -> bytes | None:
        try:
            return self._db.get(key)
        except Exception as error:
            raise self._failed(error) from error

    def _check(self, cursor: RdictIter) -> None:
        """Raise when a scan ended at damage: it looks like the end of the rows."""
        try:
            cursor.status()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OperatorError:
        if _is_damage(self.path, error):
            with suppress(OSError):
                (self.path / _DAMAGED).touch()
        return OperatorError(_what_to_do(self.path, error))

    def _move_aside(self) -> None:
        self.set_aside = _free_name(self.path)
        shutil.move(self.path, self.set_aside)


class Batch:
    """Changes to a store that are written as a whole."""

    def __init__(self) -> None:
        self.changes = WriteBatch(raw_mode=True)

    def put(self, customer: bytes, data: bytes, due: int, due_before: int) -> None:
        """Keep a customer's packed bytes, and move the timer from `due_before` to `due`; FOREVER means no timer."""
        self.changes.put(_CUSTOMER + customer, data)
        self.move_timer(customer, due, due_before)

    def delete(self, customer: bytes, due_before: int) -> None:
        """Forget a customer and their timer."""
        self.changes.delete(_CUSTOMER + customer)
        self.move_timer(customer, FOREVER, due_before)

    def move_timer(self, customer: bytes, due: int, due_before: int) -> None:
        """Replace one customer's timer row."""
        if due == due_before:
            return
        if due_before != FOREVER:
            self.changes.delete(_TIMER + _DUE.pack(max(due_before, 0)) + customer)
        if due != FOREVER:
            self.changes.put(_TIMER + _DUE.pack(max(due, 0)) + customer, b"")

    def put_erasure(self, name: bytes, data: bytes | None) -> None:
        """Keep what is kept of somebody erased, or forget it."""
        if data is None:
            self.changes.delete(_ERASED + name)
        else:
            self.changes.put(_ERASED + name, data)

    def put_meta(self, meta: Meta) -> None:
        """Keep the meta record."""
        self.changes.put(_META, meta_to_bytes(meta))


def _options(cache: Cache | None) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(16 * 1024 * 1024)
    options.set_max_write_buffer_number(3)
    options.set_max_background_jobs(2)
    options.set_max_open_files(256)
    if cache is not None:
        table = BlockBasedOptions()
        table.set_block_cache(cache)
        options.set_block_based_table_factory(table)
    return options


def _free_name(path: Path) -> Path:
    number = 1
    while (candidate := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return candidate


def _is_damage(path: Path, error: Exception) -> bool:
    text = _without(path, error)
    return path.is_dir() and (text.startswith("Corruption") or "No such file" in text)


def _what_to_do(path: Path, error: Exception) -> str:
    text = _without(path, error)
    if "No space" in text:
        return f"no space left for state in {path}: free some or enlarge the volume, then start again; nothing is lost"
    if "lock" in text.lower() and "LOCK" in text:
        return f"another process holds the state in {path}: stop it, or set another ORCHESTRATOR_STATE_DIR"
    if _is_damage(path, error):
        return f"the state in {path} is damaged ({text}): start again, it is set aside and restored from the changelog"
    return f"the state in {path} cannot be used ({text}): check the volume and its permissions"


def _without(path: Path, error: Exception) -> str:
    """Return what RocksDB says on one line and without our path, in which any word may occur."""
    return " ".join(str(error).replace(f"{path}/", "").replace(str(path), "it").split())
