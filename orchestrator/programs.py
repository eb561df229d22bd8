"""`Programs`: which program is in force when, so that every worker changes over at the same instant of its clock."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import itemgetter

from orchestrator.events import FOREVER
from orchestrator.program import Program

_since = itemgetter(0)


class Programs:
    """Programs by the instant from which each is in force; what is published later is added while workers run.

    The earliest counts from the beginning of time: history is folded by it, and a first publication has no gap before.
    """

    def __init__(self, first: Program | None = None) -> None:
        self._versions: list[tuple[int, Program]] = [] if first is None else [(-FOREVER, first)]

    def __bool__(self) -> bool:
        return bool(self._versions)

    def put(self, effective_from: int, program: Program) -> None:
        """Add a program; another one of the same instant is replaced."""
        place = bisect_left(self._versions, effective_from, key=_since)
        there = place < len(self._versions) and self._versions[place][0] == effective_from
        self._versions[place : place + there] = [(effective_from, program)]

    def at(self, instant: int) -> Program:
        """Return the program in force at an instant; there must be one."""
        return self._versions[max(bisect_right(self._versions, instant, key=_since) - 1, 0)][1]

    def changes(self, after: int, until: int) -> list[int]:
        """Return the instants after one and not after another at which a program comes into force, in order."""
        inner = self._versions[1:]  # the earliest has no beginning
        since = bisect_right(inner, after, key=_since)
        return [instant for instant, _ in inner[since : bisect_right(inner, until, key=_since)]]
