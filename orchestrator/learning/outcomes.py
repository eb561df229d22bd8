"""`Outcomes`: what the learner remembers, a row per outcome and revision in columns, in whatever order they came."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.identity import fingerprint
from orchestrator.valuation import arm_of

Array = npt.NDArray[Any]

_ROW = np.dtype(
    [
        ("id_high", "u8"), ("id_low", "u8"), ("revision", "i4"), ("customer", "u8"),
        ("campaign", "i4"), ("arm", "i4"), ("leaf", "i4"), ("stage", "i4"), ("eligible", "i4"),
        ("treated", "?"), ("responded", "?"), ("unsubscribed", "?"), ("void", "?"),
        ("start", "i8"), ("end", "i8"), ("known_at", "i8"), ("free_for", "i8"),
        ("margin", "i8"), ("revenue", "i8"), ("cost", "i8"), ("earned_before", "i8"), ("orders", "i4"),
        ("control_bp", "i4"), ("none", "f4"),
    ]
)  # fmt: skip
"""What is kept of an outcome; names are numbers, in the order in which they were first met."""

_CHUNK = 4_096


def half_of(customer: str) -> int:
    """Return which of two halves a customer is in, for good: what is found on one is estimated on the other."""
    return fingerprint(f"half/{customer}") & 1


class Names:
    """Names as numbers, and back."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}

    def __getitem__(self, name: Any) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    def ranks(self, used: Array, known: Collection[Any]) -> tuple[list[Any], Array]:
        """Return the names that are used and those known beside in their own order, and the place there of each number.

        Not all names that were met: what was read of later instants must not show.
        """
        names = list(self.numbers)
        ordered = sorted({*(names[number] for number in np.unique(used)), *known})
        place = {name: number for number, name in enumerate(ordered)}
        return ordered, np.array([place.get(name, -1) for name in names] or [0], dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Columns:
    """Outcomes as of an instant: the newest revision of each that was known, sorted by id, names as places in lists."""

    rows: Array
    campaigns: Sequence[str]
    arms: Sequence[str]
    leaves: Sequence[str]
    stages: Sequence[str]
    sets: Sequence[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.rows)


class Outcomes:
    """Outcome records, gathered in any order and as often as they come: `as_of` sorts before anything is summed."""

    def __init__(self, records: Iterable[Mapping[str, Any]] = ()) -> None:
        self._rows = np.empty(0, _ROW)
        self._fresh: list[tuple[Any, ...]] = []
        self._chunks: list[Array] = []
        self._removed: set[tuple[int, int]] = set()
        self._campaigns, self._arms, self._leaves, self._stages, self._sets = (Names() for _ in range(5))
        for record in records:
            self.put(record)

    def put(self, record: Mapping[str, Any]) -> None:
        """Take in one revision of an outcome; the same again changes nothing."""
        get = record.get
        campaign, stage = record["campaign"], get("stage") or ""
        high, low = _id_of(record["outcome_id"])
        if (high, low) in self._removed:
            self._sorted()
        self._fresh.append(
            (
                high, low, record["revision"], fingerprint(record["customer_id"]),
                self._campaigns[campaign],
                self._arms[arm_of(campaign, get("offer") or "", get("channel") or "")],
                self._leaves[get("leaf") or ""],
                self._stages[stage],
                self._sets[tuple(get("eligible") or ())],
                record["arm"] == "treatment", bool(get("responded")), record["unsubscribed"],
                record["void"] or bool(get("interrupted")),
                record["window_from"], record["window_until"], get("known_at") or 0, get("free_for") or 0,
                record["margin"], record["revenue"], record["cost"], get("earned_before") or 0, record["orders"],
                get("control_bp") or 0, get("none_propensity") or 0.0,
            )
        )  # fmt: skip
        if len(self._fresh) == _CHUNK:
            self._pack()

    def remove(self, outcome_id: str) -> None:
        """Let go of an outcome, for its customer was erased; what is put after that counts."""
        self._removed.add(_id_of(outcome_id))

    def forget(self, before: int) -> None:
        """Let go of revisions that others had followed at an instant: no plan is made for a time before it any more."""
        rows = self._sorted()
        known = rows["known_at"] <= before
        same = _same_id(rows)
        followed = np.zeros(len(rows), dtype=bool)
        followed[:-1] = same[1:] & known[1:]
        self._rows = rows[~followed]

    def __len__(self) -> int:
        rows = self._sorted()
        return int(len(rows) - _same_id(rows).sum())

    def as_of(self, instant: int, campaigns: Collection[str] = (), arms: Collection[str] = ()) -> Columns:
        """Return what was known at an instant, without what was taken back; further campaigns and arms may be named."""
        rows = self._sorted()
        rows = rows[rows["known_at"] <= instant]
        newest = np.ones(len(rows), dtype=bool)
        newest[:-1] = ~_same_id(rows)[1:]
        rows = rows[newest]
        rows = rows[~rows["void"]].copy()
        named = {}
        for column, names, known in (
            ("campaign", self._campaigns, campaigns),
            ("arm", self._arms, arms),
            ("leaf", self._leaves, ("",)),
            ("stage", self._stages, ("",)),
            ("eligible", self._sets, ()),
        ):
            named[column], place = names.ranks(rows[column], known)
            rows[column] = place[rows[column]]
        return Columns(rows, named["campaign"], named["arm"], named["leaf"], named["stage"], named["eligible"])

    def _pack(self) -> None:
        self._chunks.append(np.array(self._fresh, _ROW))
        self._fresh = []

    def _sorted(self) -> Array:
        """Return all rows by id and revision, each once."""
        if self._fresh:
            self._pack()
        if self._chunks:
            rows = np.concatenate([self._rows, *self._chunks])
            self._chunks = []
            rows = rows[np.lexsort((rows["revision"], rows["id_low"], rows["id_high"]))]
            again = _same_id(rows)
            again[1:] &= rows["revision"][1:] == rows["revision"][:-1]
            self._rows = rows[~again]
        if self._removed:
            ids = zip(self._rows["id_high"].tolist(), self._rows["id_low"].tolist(), strict=True)
            self._rows = self._rows[[one not in self._removed for one in ids]]
            self._removed = set()
        return self._rows


def _same_id(rows: Array) -> Array:
    """Return whether each row is about the same outcome as the one before it."""
    same = np.zeros(len(rows), dtype=bool)
    same[1:] = (rows["id_high"][1:] == rows["id_high"][:-1]) & (rows["id_low"][1:] == rows["id_low"][:-1])
    return same


def _id_of(text: str) -> tuple[int, int]:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != 16:  # not one of ours: recorded by somebody else, or in a test
        data = blake2b(text.encode(), digest_size=16).digest()
    return int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")
