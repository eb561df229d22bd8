"""One partition's log: records, control markers, open transactions and what a reader may see of them."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Message

Place = tuple[str, int]
"""Topic and partition."""

Headers = list[tuple[str, str | bytes | None]]

OPEN, COMMITTED, ABORTED, MARKER, REMOVED = range(5)


class Entry:
    """One offset of a log: a record in its transaction's state, or a marker."""

    __slots__ = ("at", "headers", "key", "message", "offset", "state", "value")

    def __init__(
        self, offset: int, key: bytes | None, value: bytes | None, headers: Headers | None, state: int, at: int
    ) -> None:
        self.offset = offset
        self.key = key
        self.value = value
        self.headers = headers
        self.state = state
        self.at = at
        self.message: Message | None = None


class PartitionLog:
    """The entries of one partition by offset."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.entries: list[Entry] = []
        self.start = 0
        self.open: dict[int, list[Entry]] = {}
        # While a partition's leader is slow, nobody is shown what came after the slowness began.
        self.slow_until = 0
        self.slow_end = 0

    @property
    def end(self) -> int:
        """The high watermark."""
        return len(self.entries)

    @property
    def stable(self) -> int:
        """The last stable offset: everything before it is committed or aborted."""
        if not self.open:
            return len(self.entries)
        return min(entries[0].offset for entries in self.open.values())

    def append(
        self, key: bytes | None, value: bytes | None, headers: Headers | None, at: int, owner: int | None = None
    ) -> int:
        """Append a record, of an open transaction when it has an owner; return its offset."""
        entry = Entry(len(self.entries), key, value, headers, COMMITTED if owner is None else OPEN, at)
        self.entries.append(entry)
        if owner is not None:
            self.open.setdefault(owner, []).append(entry)
        return entry.offset

    def mark(self, owner: int, at: int, *, committed: bool) -> None:
        """Write the marker that ends an owner's transaction here."""
        for entry in self.open.pop(owner, ()):
            entry.state = COMMITTED if committed else ABORTED
        self.entries.append(Entry(len(self.entries), None, None, None, MARKER, at))

    def slow_down(self, until: int) -> None:
        """Show readers nothing new until an instant."""
        self.slow_until, self.slow_end = until, len(self.entries)

    def shown(self, *, committed_only: bool, now: int) -> int:
        """Return the offset before which a reader is shown everything it may see now."""
        end = self.stable if committed_only else len(self.entries)
        return min(end, self.slow_end) if now < self.slow_until else end

    def compact(self, tombstones_until: int) -> None:
        """Remove every committed record that a later one of its key replaces, and tombstones as old as an instant.

        Offsets stay as they are.
        """
        newest: set[bytes | None] = set()
        for entry in reversed(self.entries[: self.stable]):
            if entry.state == COMMITTED:
                if entry.key in newest or (entry.value is None and entry.at <= tombstones_until):
                    entry.state = REMOVED
                newest.add(entry.key)

    def committed(self) -> list[Entry]:
        """Return what a reader of committed records sees."""
        stable = self.stable
        return [entry for entry in self.entries[:stable] if entry.state == COMMITTED]

    def message(self, entry: Entry) -> Message:
        """Return an entry as a client hands it out."""
        if entry.message is None:
            known: dict[str, Any] = {"topic": self.place[0], "partition": self.place[1], "offset": entry.offset}
            entry.message = Message(key=entry.key, value=entry.value, headers=entry.headers, **known)
        return entry.message
