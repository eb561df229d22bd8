"""What is kept of erased customers: until when a campaign's window runs, under a salted hash, and nothing else.

Who comes back meanwhile waits for that end, or two windows would overlap. An entry goes when it is inherited, and when
nothing that is still to be decided could lie before its end.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterable, Mapping
from hashlib import blake2b

SLOT_KEY = b"\x00slot"
"""What the changelog's keys of such entries begin with, the hash behind it; no customer id starts with a zero byte."""

_UNTIL = struct.Struct(">q")
_HASH_BYTES = 16


class ErasedSlots:
    """One partition's entries, by hash, and those that changed since the last commit."""

    def __init__(self, salt: str, kept: Mapping[bytes, int]) -> None:
        # Hashed once, so that a salt may have any length.
        self._salt = blake2b(salt.encode(), digest_size=32).digest()
        self._until = dict(kept)
        self._ends = [(until, name) for name, until in kept.items()]
        heapq.heapify(self._ends)
        self._changed: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._until)

    def keep(self, customer: bytes, until: int) -> None:
        """Remember until when the slot of a customer is held who is erased now."""
        name = self._hash(customer)
        self._until[name] = until
        self._changed.add(name)
        heapq.heappush(self._ends, (until, name))

    def inherit(self, customer: bytes) -> int | None:
        """Return until when the slot of somebody unknown is held, None for nobody's; it is theirs from now on."""
        name = self._hash(customer)
        until = self._until.pop(name, None)
        if until is not None:
            self._changed.add(name)
        return until

    def drop(self, until: int) -> bool:
        """Forget the entries whose window ended by an instant; return whether there was any."""
        dropped = False
        while self._ends and self._ends[0][0] <= until:
            end, name = heapq.heappop(self._ends)
            if self._until.get(name) == end:
                del self._until[name]
                self._changed.add(name)
                dropped = True
        return dropped

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        """Return what changed since the last commit, as rows of hash and packed end, None for what is gone."""
        return [(name, pack_end(self._until.get(name))) for name in sorted(self._changed)]

    def settle(self) -> None:
        """Take note that what changed is committed."""
        self._changed.clear()

    def _hash(self, customer: bytes) -> bytes:
        return blake2b(customer, digest_size=_HASH_BYTES, key=self._salt).digest()


def pack_end(until: int | None) -> bytes | None:
    """Return an end as a row's value."""
    return None if until is None else _UNTIL.pack(until)


def unpack_ends(rows: Iterable[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """Return entries by hash from stored rows."""
    return {name: _UNTIL.unpack(data)[0] for name, data in rows}
