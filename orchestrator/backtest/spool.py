"""Events on their way from readers to the partitions they belong to: files of batches, one per reader and partition."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.events import Event

Placed = tuple[int, Event]
"""An event and the step that it belongs to."""

_BATCH = 256
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[tuple[int, str, str, int, str, int, int, dict[str, Any]]])


class SpoolWriter:
    """Writes one reader's events, by partition."""

    def __init__(self, folder: Path, reader: int) -> None:
        self._folder = folder
        self._reader = reader
        self._waiting: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)

    def put(self, partition: int, step: int, event: Event) -> None:
        """Keep an event for its partition."""
        waiting = self._waiting[partition]
        waiting.append((step, event.name, event.customer, event.time, event.id, event.topic, event.offset, event.data))
        if len(waiting) == _BATCH:
            self._flush(partition)

    def close(self) -> None:
        """Write what waits."""
        for partition in list(self._waiting):
            self._flush(partition)

    def _flush(self, partition: int) -> None:
        batch = _encoder.encode(self._waiting.pop(partition, []))
        # Opened each time: there may be more partitions than a process may have open files.
        with (self._folder / f"{partition:05}.{self._reader:05}").open("ab") as file:
            file.write(len(batch).to_bytes(4))
            file.write(batch)


def read_spool(folder: Path, partition: int) -> dict[str, list[Placed]]:
    """Return all events of a partition by customer, in no particular order."""
    customers: dict[str, list[Placed]] = {}
    for path in sorted(folder.glob(f"{partition:05}.*")):
        with path.open("rb") as file:
            while size := file.read(4):
                for step, name, customer, *rest in _decoder.decode(file.read(int.from_bytes(size))):
                    event: Any = Event(name, customer, *rest)  # type: ignore[arg-type]  # the decoder checked them
                    known = customers.get(customer)
                    if known is None:
                        customers[customer] = [(step, event)]
                    else:
                        known.append((step, event))
    return customers


def partitions_in(folder: Path) -> list[int]:
    """Return the partitions that have events."""
    return sorted({int(path.name.partition(".")[0]) for path in folder.iterdir()})
