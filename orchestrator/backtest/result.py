"""What a back-test found: the records themselves, their aggregates as JSON, and the report."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import msgspec
from fastavro.write import Writer

from orchestrator.backtest.history import Seen
from orchestrator.backtest.life import Life
from orchestrator.backtest.pool import Partition
from orchestrator.events import FOREVER
from orchestrator.report.data import ReportData
from orchestrator.runtime.errors import USAGE, OperatorError

KINDS: Mapping[str, str] = {"decisions": "decision", "triggers": "campaign_trigger", "outcomes": "campaign_outcome"}
"""What is kept, and its schema."""

_SYNC = hashlib.md5(b"orchestrator backtest", usedforsecurity=False).digest()
"""A container's marker between blocks, usually drawn at random: the same run must leave the same bytes."""

_AT_ONCE = 64
"""Records of one partition that are in memory while all partitions are merged."""

_encoder = msgspec.msgpack.Encoder()

Sorted = tuple[int, str, int, dict[str, Any]]
"""An instant, a customer, a place among the customer's records, and a record."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one partition amounts to."""

    customers: int
    relevant: int


def keep(partition: Partition) -> Counted:
    """Decide a partition and leave its records in the job's folder, in the order of their instants."""
    kept: dict[str, list[tuple[int, str, int, msgspec.Struct]]] = {kind: [] for kind in KINDS}
    customers = relevant = 0
    for customer, placed, (life,) in partition.lives():
        customers += 1
        relevant += placed
        for kind, found in _emitted(life).items():
            kept[kind] += [(at, customer, place, record) for place, (at, record) in enumerate(found)]
    for kind, records in kept.items():
        records.sort(key=lambda one: one[:3])
        with (partition.job.folder / f"{kind}.{partition.number:05}").open("wb") as file:
            for one in records:
                data = _encoder.encode(one)
                file.write(len(data).to_bytes(4))
                file.write(data)
    return Counted(customers, relevant)


def _emitted(life: Life) -> dict[str, list[tuple[int, msgspec.Struct]]]:
    """Return the records of one customer by kind, each with its instant."""
    return {
        "decisions": [(one.decided_at, one) for one in life.decisions],
        "triggers": [(one.decided_at, one) for one in life.triggers],
        "outcomes": [(one.window_until, one) for one in life.outcomes],
    }


def kept(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Yield all records of a kind that the partitions left, by instant, then customer."""
    merged: Iterator[Sorted] = heapq.merge(*map(_read, sorted(folder.glob(f"{kind}.*"))), key=lambda one: one[:3])
    for one in merged:
        yield one[3]


def _read(path: Path) -> Iterator[Sorted]:
    """Yield what a partition left, a block at a time: there may be more partitions than files may be open."""
    at = 0
    while True:
        with path.open("rb") as file:
            file.seek(at)
            blocks = [file.read(int.from_bytes(size)) for _ in range(_AT_ONCE) if (size := file.read(4))]
            at = file.tell()
        if not blocks:
            return
        yield from map(msgspec.msgpack.decode, blocks)


def written(folder: Path, kind: str, schema: Any, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield records and write each into an Avro container, the same bytes for the same records."""
    with (folder / f"{kind}.avro").open("wb") as file:
        writer = Writer(file, fastavro.parse_schema(schema), codec="snappy", sync_marker=_SYNC)
        for record in records:
            writer.write(record)
            yield record
        writer.flush()


def read_records(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a kind that a back-test wrote; OperatorError where its file is damaged."""
    path = folder / f"{kind}.avro"
    try:
        with path.open("rb") as file:
            for record in fastavro.reader(file):
                assert isinstance(record, dict)
                yield record
    except Exception as error:  # a container that is cut short or none at all fails in any way it likes
        what = " ".join(str(error).split())[:200] or type(error).__name__
        message = f"'{path}' is not what a back-test wrote, or damaged: {what}; run the back-test again"
        raise OperatorError(message, exit_code=USAGE) from None


def between(start: int, end: int) -> Callable[[Mapping[str, Any]], bool]:
    """Return whether a record belongs to the time that is reported; an outcome belongs to where its window began."""
    if (start, end) == (-FOREVER, FOREVER):
        return lambda record: True  # noqa: ARG005 (a filter's signature)
    return lambda record: start <= record.get("decided_at", record.get("window_from", 0)) <= end


def figures(
    data: ReportData, seen: Seen, counted: Sequence[Counted], *, version: str, said: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the aggregates as a program reads them; nothing in it depends on the machine or on how often it ran."""
    sent = {campaign: sum(weeks) for campaign, weeks in data.triggers_by_week.items()}
    return {
        "definitions": version,
        "history": {
            **said,
            "records": dict(sorted(seen.records.items())),
            "unusable": [
                {"topic": topic, "reason": reason, "records": count, "example": seen.example[topic, reason]}
                for (topic, reason), count in sorted(seen.unusable.items())
            ],
            "events": seen.events,
            "events_of_interest": sum(one.relevant for one in counted),
            "customers": sum(one.customers for one in counted),
        },
        "decisions": {
            "all": data.decisions,
            "customers": data.customers,
            "first": data.first,
            "last": data.last,
            "kinds": dict(sorted(data.kinds.items())),
            "arms": dict(sorted(data.arms.items())),
            "reasons": dict(data.reasons),
        },
        "triggers": {"sent": data.sends, "retracted": data.retracts, "by_campaign": sent},
        "moments": {moment: dict(sorted(fates.items())) for moment, fates in data.moments.items()},
    }


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """Write what was found for programs."""
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
