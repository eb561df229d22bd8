"""What is kept of erased customers, under a salted hash and for a while: two instants, and nothing else.

When they were erased: an older event that comes from a lagging topic is not to bring them back. And until when a
campaign's window ran: who comes back meanwhile waits for that end, or two windows would overlap. An entry goes when the
inputs hold no older event any more, and nothing that is still to be decided could lie before that end.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from orchestrator.events import FOREVER

ERASURE_KEY: Final = b"\x00slot"
"""What the changelog's keys of such entries begin with, the hash behind it; no customer id starts with a zero byte."""

_END: Final = struct.Struct(">q")
_BOTH: Final = struct.Struct(">qq")
_HASH_BYTES: Final = 16


class Erasure(NamedTuple):
    """When a customer was erased, and until when their slot is held; -FOREVER where there is no such instant."""

    at: int
    held_until: int = -FOREVER


_NEVER: Final = Erasure(-FOREVER)


class Erasures:
    """One partition's entries, by hash, and those that changed since the last commit."""

    def __init__(self, salt: str, kept: Mapping[bytes, Erasure], retention: int) -> None:
        """Go on with what was kept; the inputs hold an event for `retention` milliseconds at most."""
        # Hashed once, so that a salt may have any length.
        self._salt = blake2b(salt.encode(), digest_size=32).digest()
        self._retention = retention
        self._kept = dict(kept)
        self._ends = [(self._end(erasure), name) for name, erasure in kept.items()]
        heapq.heapify(self._ends)
        self._changed: set[bytes] = set()
        self.latest = max((erasure.at for erasure in kept.values()), default=-FOREVER)
        """No entry's erasure is later: what happened since concerns nobody, and need not be looked up."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, customer: bytes, at: int, held_until: int = -FOREVER) -> None:
        """Remember that a customer is erased at an instant, and until when their slot is held."""
        name = self._hash(customer)
        before = self._kept.get(name, _NEVER)
        self._put(name, Erasure(max(before.at, at), max(before.held_until, held_until)))
        self.latest = max(self.latest, at)

    def erased_at(self, customer: bytes) -> int:
        """Return when a customer was erased last, -FOREVER for never."""
        return self._kept.get(self._hash(customer), _NEVER).at

    def inherit(self, customer: bytes) -> int:
        """Return until when the slot of somebody unknown is held, -FOREVER for nobody's; it is theirs from now on."""
        name = self._hash(customer)
        erasure = self._kept.get(name, _NEVER)
        if erasure.held_until > -FOREVER:
            if erasure.at > -FOREVER:
                self._put(name, Erasure(erasure.at))
            else:
                self._remove(name)
        return erasure.held_until

    def drop(self, until: int) -> bool:
        """Forget the entries that ended by an instant; return whether there was any."""
        dropped = False
        while self._ends and self._ends[0][0] <= until:
            _, name = heapq.heappop(self._ends)
            if name not in self._kept:
                continue
            end = self._end(self._kept[name])
            if end > until:  # kept anew meanwhile
                heapq.heappush(self._ends, (end, name))
            else:
                self._remove(name)
                dropped = True
        return dropped

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        """Return what changed since the last commit, as rows of hash and packed entry, None for what is gone."""
        return [(name, pack_erasure(self._kept.get(name))) for name in sorted(self._changed)]

    def settle(self) -> None:
        """Take note that what changed is committed."""
        self._changed.clear()

    def _put(self, name: bytes, erasure: Erasure) -> None:
        if name not in self._kept:
            heapq.heappush(self._ends, (self._end(erasure), name))
        self._kept[name] = erasure
        self._changed.add(name)

    def _remove(self, name: bytes) -> None:
        del self._kept[name]
        self._changed.add(name)

    def _end(self, erasure: Erasure) -> int:
        return max(erasure.at + self._retention, erasure.held_until)

    def _hash(self, customer: bytes) -> bytes:
        return blake2b(customer, digest_size=_HASH_BYTES, key=self._salt).digest()


def pack_erasure(erasure: Erasure | None) -> bytes | None:
    """Return an entry as a row's value."""
    return None if erasure is None else _BOTH.pack(*erasure)


def unpack_erasures(rows: Iterable[tuple[bytes, bytes]]) -> dict[bytes, Erasure]:
    """Return entries by hash from stored rows; those of the first version hold only until when the slot is held."""
    return {
        name: Erasure(*_BOTH.unpack(data)) if len(data) == _BOTH.size else Erasure(-FOREVER, *_END.unpack(data))
        for name, data in rows
    }
