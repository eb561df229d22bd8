"""What the control role knows: facts of the customers of its partitions, in a table of bytes, and their totals."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

from msgspec import msgpack

from orchestrator.audit import Promise
from orchestrator.runtime.partitioner import partition_of
from orchestrator.runtime.running_audit import (
    FOLLOWED,
    Facts,
    Log,
    Record,
    Trigger,
    begin,
    fold_decision,
    fold_trigger,
    fold_unusable,
)

log = logging.getLogger("orchestrator.control")

GRACE = 10_000
"""How long a trigger may be known without its decision, milliseconds: one transaction has both, they are read apart."""

_LOG_KEY = b"\x00partition "
"""Begins the keys of partitions, as no customer's id begins."""

_facts = msgpack.Decoder(Facts)
_log = msgpack.Decoder(Log)
_encode = msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is, and when it was written (milliseconds)."""

    topic: str
    partition: int
    offset: int
    written_at: int


@dataclass(slots=True)
class _Progress:
    """How far the decisions of a partition were read: the newest one's own instant, and when it was read."""

    written_at: int
    read_at: int


class Book:
    """Facts by customer; the table is Faust's, so a change is in its changelog, and totals are counted beside it."""

    def __init__(self, table: MutableMapping[bytes, bytes], partitions: int, now: Callable[[], int]) -> None:
        self.reasons: Counter[str] = Counter()
        self.campaigns: Counter[str] = Counter()
        self.redelivered = 0
        self._table = table
        self._partitions = partitions
        self._now = now
        self._recount(())

    @property
    def owned(self) -> Collection[int]:
        """The partitions whose customers are known here."""
        return self._progress.keys()

    def partition_of(self, customer: str) -> int:
        """Return the partition that a customer belongs to."""
        return partition_of(customer.encode(), self._partitions)

    def recent(self, customer: str) -> list[int]:
        """Return the offsets of a customer's newest decisions, oldest first."""
        return self._customer(customer.encode()).recent

    def decision(self, record: Record, place: Place) -> None:
        """Fold a decision."""
        key = record["customer_id"].encode()
        progress = self._progress.setdefault(place.partition, _Progress(0, 0))
        progress.written_at, progress.read_at = max(progress.written_at, place.written_at), self._now()
        facts = self._customer(key)
        before = facts.intervals
        found = fold_decision(facts, record, place.offset)
        if found is None:
            self.redelivered += 1
            return
        logged = self._log(place.partition)
        if begin(logged, record, place.offset):
            self._keep_log(place.partition, logged)
        self.reasons[record["reason"]] += 1
        self._decisions += 1
        self._intervals += facts.intervals - before
        self._fold(key, facts, found, place)

    def trigger(self, record: Record, place: Place) -> None:
        """Fold a trigger."""
        key = record["customer_id"].encode()
        facts = self._customer(key)
        found = fold_trigger(facts, record, place.offset, place.written_at)
        if found is None:
            self.redelivered += 1
            return
        self.campaigns[record["campaign"]] += 1
        self._triggers += 1
        self._fold(key, facts, found, place)

    def unusable(self, source: str, reason: str, place: Place) -> None:
        """Count a record of decisions or triggers that could not be used."""
        logged = self._log(place.partition)
        if not fold_unusable(logged, source, reason, place.offset):
            self.redelivered += 1
            return
        log.warning("%s[%d]@%d cannot be used: %s", place.topic, place.partition, place.offset, reason)
        self._unusable[reason] += 1
        self._keep_log(place.partition, logged)

    def recover(self, owned: Collection[int]) -> None:
        """Count the totals of these partitions anew, after their table was restored."""
        self._recount(owned)
        for key, value in self._table.items():
            if key.startswith(_LOG_KEY):
                number = int(key.removeprefix(_LOG_KEY))
                if number in self._progress:
                    self._take_log(number, _log.decode(value))
                continue
            if partition_of(key, self._partitions) in self._progress:
                self._take(key, _facts.decode(value))

    def violations(self) -> dict[str, int]:
        """Return how often each promise is broken as far as is known now."""
        found: Counter[str] = Counter(dict.fromkeys(FOLLOWED, 0))
        found.update(self._broken)
        found[Promise.TRIGGER_HAS_DECISION] += sum(1 for _ in self._overdue())
        return dict(found)

    def unusables(self) -> dict[str, int]:
        """Return how many records could not be used, by reason."""
        return dict(self._unusable)

    def report(self) -> dict[str, Any]:
        """Return the audit's counts, for a program to read."""
        violations = self.violations()
        return {
            "clean": not any(violations.values()) and not self._unusable,
            "partitions": sorted(self.owned),
            "customers": self._customers,
            "decisions": self._decisions,
            "triggers": self._triggers,
            "intervals": self._intervals,
            "violations": violations,
            "waiting": sum(map(len, self._waiting.values())),
            "unusable": self.unusables(),
        }

    def _fold(self, key: bytes, facts: Facts, found: list[Promise], place: Place) -> None:
        for promise in found:
            log.warning("%s is broken by %s[%d]@%d", promise, place.topic, place.partition, place.offset)
        self._broken.update(found)
        self._customers += key not in self._table
        self._wait(key, facts)
        self._table[key] = _encode(facts)

    def _wait(self, key: bytes, facts: Facts) -> None:
        waiting = facts.waiting
        if waiting:
            self._waiting[key] = waiting
        else:
            self._waiting.pop(key, None)

    def _overdue(self) -> Iterator[Trigger]:
        """Yield the triggers whose decision should have been read by now.

        Their partition's decisions were read past the instant they were written at, or nothing comes there any more.
        """
        now = self._now()
        for key, waiting in self._waiting.items():
            number = partition_of(key, self._partitions)
            progress, horizon = self._progress[number], self._horizons.get(number, 0)
            for trigger in waiting:
                passed = progress.written_at > trigger.written_at + GRACE
                idle = now > max(trigger.written_at, progress.read_at) + GRACE
                if trigger.decided_at >= horizon and (passed or idle):
                    yield trigger

    def _recount(self, owned: Collection[int]) -> None:
        self._progress = {number: _Progress(0, self._now()) for number in owned}
        self._horizons: dict[int, int] = {}
        self._waiting: dict[bytes, list[Trigger]] = {}
        self._broken: Counter[str] = Counter()
        self._unusable: Counter[str] = Counter()
        self._customers = self._decisions = self._triggers = self._intervals = 0

    def _take(self, key: bytes, facts: Facts) -> None:
        self._customers += 1
        self._decisions += facts.decisions
        self._triggers += facts.triggers
        self._intervals += facts.intervals
        self._broken.update(facts.broken)
        self._wait(key, facts)

    def _take_log(self, number: int, logged: Log) -> None:
        self._unusable.update(logged.unusable)
        if logged.horizon is not None:
            self._horizons[number] = logged.horizon

    def _customer(self, key: bytes) -> Facts:
        value = self._table.get(key)
        return Facts() if value is None else _facts.decode(value)

    def _log(self, number: int) -> Log:
        value = self._table.get(_LOG_KEY + b"%d" % number)
        return Log() if value is None else _log.decode(value)

    def _keep_log(self, number: int, logged: Log) -> None:
        if logged.horizon is not None:
            self._horizons[number] = logged.horizon
        self._table[_LOG_KEY + b"%d" % number] = _encode(logged)
