"""One partition: its customers, its clock and what was changed since the last commit.

A step changes customers in memory only (the overlay). `stage` hands the overlay to the changelog inside the
transaction; `settle` writes it to the store once that transaction is committed. After an abort the partition is dropped
and restored.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from orchestrator.customer import STATE_VERSION, Customer, customer_from_bytes
from orchestrator.engine import advance
from orchestrator.events import ERASED, FOREVER, PROFILE, Event
from orchestrator.migrations import UnknownStateVersionError
from orchestrator.program import Program
from orchestrator.records import Effects
from orchestrator.reference import Reference
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.inbox import Inbox, Step
from orchestrator.runtime.intake import DeadLetter, Intake
from orchestrator.runtime.outbox import Outbox
from orchestrator.runtime.state_store import Batch, Meta, StateStore, Stored, pack

SCAN_ROWS = 128
"""Timers read from the store at once."""

MIGRATED_ROWS = 2_000
"""Customers looked at in one go when all states are migrated: so many fit a commit, and a turn of the loop."""

DECODED_FACTOR = 5
"""How much more memory a decoded customer takes than its bytes; measured by bench/state_layout.py."""


_NOBODY = Customer().to_bytes()


class Entry:
    """A customer in memory, and how the store has them."""

    __slots__ = ("customer", "due_stored", "size")

    def __init__(self, customer: Customer, due_stored: int, size: int) -> None:
        self.customer = customer
        self.due_stored = due_stored
        self.size = size


@dataclass(slots=True)
class Tally:
    """What one partition, or one worker, has done; counts since the start."""

    events: int = 0
    irrelevant: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)
    decisions: dict[str, int] = field(default_factory=dict)
    triggers: dict[str, int] = field(default_factory=dict)
    moments: dict[str, int] = field(default_factory=dict)
    outcomes: int = 0
    steps: int = 0
    loads: int = 0
    hits: int = 0


@dataclass(frozen=True, slots=True)
class Deciding:
    """What every partition of a process decides with; `max_lag` None means timers are never judged later than due."""

    program: Program
    reference: Reference
    intake: Intake
    outbox: Outbox
    max_lag: int | None
    records_barriers: bool


class Partition:
    """One partition that is being decided."""

    def __init__(
        self,
        number: int,
        store: StateStore,
        meta: Meta,
        inbox: Inbox,
        deciding: Deciding,
        tally: Tally,
        cache_bytes: int,
    ) -> None:
        self.number = number
        self.store = store
        self.inbox = inbox
        self.clock = meta.clock
        self.positions: Mapping[str, int] = meta.positions
        self.has_changes = False
        self._deciding = deciding
        self._tally = tally
        self._cache_bytes = cache_bytes
        self._cached_bytes = 0
        self._changelog = meta.changelog
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._dirty: set[bytes] = set()
        self._erased: set[bytes] = set()
        self._due_heap: list[tuple[int, bytes]] = []
        # Timers read ahead from the store, valid until the next settle: rows, and the instant up to which they are all.
        self._rows: list[tuple[int, bytes]] = []
        self._rows_until = -FOREVER
        self._rows_from = self.clock
        self._migrated_until: bytes | None = b""
        self._batch: Batch | None = None
        self._meta: Meta | None = None

    @property
    def changed_customers(self) -> int:
        """How many customers were changed since the last commit."""
        return len(self._dirty)

    @property
    def cached_customers(self) -> int:
        """How many customers are decoded in memory."""
        return len(self._entries)

    # --- a step -----------------------------------------------------------------------------------------------------

    def apply(self, step: Step) -> None:
        """Decide one step: every record up to its barrier, and everything that time alone brings up to its instant."""
        clock = step.barrier.time
        by_customer = self._events(step)
        due = self._due_up_to(clock)
        if not step.messages and not due and self._deciding.records_barriers:
            return  # live and idle: time went by and changed nothing, so there is nothing to keep
        before = self.clock
        lag = self._deciding.max_lag
        not_before = -FOREVER if lag is None else clock - lag
        for key, events in by_customer.items():
            if len(events) > 1:
                events.sort(key=Event.order)
            self._advance(key, events, clock, before, not_before)
        for key in due:
            if key not in by_customer:
                self._advance(key, [], clock, before, not_before)
        self.clock = clock
        self.positions = step.positions
        self.has_changes = True
        self._tally.steps += 1
        if self._deciding.records_barriers:
            self._deciding.outbox.note_barrier(self.number, step.barrier)

    def _events(self, step: Step) -> dict[bytes, list[Event]]:
        """Return the step's usable events by customer, in the order first met; bury the rest."""
        intake, outbox, tally = self._deciding.intake, self._deciding.outbox, self._tally
        relevant = self._deciding.program.relevant
        newest = step.barrier.newest
        by_customer: dict[bytes, list[Event]] = {}
        for topic, messages in step.messages:
            tally.events += len(messages)
            for message in messages:
                event = intake.read(topic, message, newest)
                if isinstance(event, DeadLetter):
                    letter = event
                elif event.name not in relevant:
                    tally.irrelevant += 1
                    continue
                else:
                    key: bytes = message.key()  # type: ignore[assignment]  # the intake checked it
                    known = by_customer.get(key)
                    if known is not None:
                        known.append(event)
                        continue
                    if key in self._entries or not intake.is_stranger(key, self.number):
                        by_customer[key] = [event]
                        continue
                    letter = DeadLetter("wrong_partition", "the producer does not partition by murmur2 of the key")
                outbox.bury(self.number, topic, message, letter)
                tally.dead_letters[letter.reason] = tally.dead_letters.get(letter.reason, 0) + 1
                self.has_changes = True
        return by_customer

    def _advance(self, key: bytes, events: list[Event], clock: int, before: int, not_before: int) -> None:
        entry = self._load(key)
        if events and any(event.name == ERASED for event in events):
            entry, events = self._erase(key, entry, events)
        deciding = self._deciding
        effects = advance(
            deciding.program,
            deciding.reference,
            key.decode(),
            entry.customer,
            events,
            clock,
            clock_before=before,
            not_before=not_before,
        )
        self._change(key, entry)
        if effects.decisions or effects.outcomes or effects.triggers or effects.active_changed:
            deciding.outbox.emit(self.number, key, effects)
            self._count(effects)

    def _change(self, key: bytes, entry: Entry) -> None:
        self._dirty.add(key)
        due = entry.customer.next_due
        if due != FOREVER:
            heapq.heappush(self._due_heap, (due, key))

    def _count(self, effects: Effects) -> None:
        tally = self._tally
        for decision in effects.decisions:
            reason = str(decision.reason)  # a plain text, whatever the engine counts with
            tally.decisions[reason] = tally.decisions.get(reason, 0) + 1
            for ended in decision.ended:
                tally.moments[ended.moment] = tally.moments.get(ended.moment, 0) + 1
        for trigger in effects.triggers:
            tally.triggers[trigger.campaign] = tally.triggers.get(trigger.campaign, 0) + 1
        tally.outcomes += len(effects.outcomes)

    def _erase(self, key: bytes, entry: Entry, events: list[Event]) -> tuple[Entry, list[Event]]:
        """Forget a customer: their state, timers and our compacted records; what comes after starts anew."""
        last = max(place for place, event in enumerate(events) if event.name == ERASED)
        customer = entry.customer
        outcomes = [window.decision_id for window in customer.closed]
        self._deciding.outbox.erase(self.number, key, outcomes)
        entry.customer = Customer()
        self._erased.add(key)
        # A tombstone says no time of its own, so among profiles the topic's order tells which came after it.
        tombstone = events[last].offset
        anew = [event for event in events[:last] if event.name == PROFILE and event.offset > tombstone]
        return entry, [*anew, *events[last + 1 :]]

    def _load(self, key: bytes) -> Entry:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            self._tally.hits += 1
            return entry
        stored = self.store.get(key)
        if stored is None:
            entry = Entry(Customer(), FOREVER, 0)
        else:
            self._tally.loads += 1
            entry = Entry(_decoded(stored.state), stored.due, len(stored.state))
        self._entries[key] = entry
        self._cached_bytes += entry.size
        return entry

    # --- timers -----------------------------------------------------------------------------------------------------

    def _due_up_to(self, clock: int) -> list[bytes]:
        """Return the customers with something due, in order; what this transaction wrote counts, not what it read."""
        due: dict[bytes, int] = {}
        while self._due_heap and self._due_heap[0][0] <= clock:
            at, key = heapq.heappop(self._due_heap)
            entry = self._entries[key]
            if entry.customer.next_due == at:
                due[key] = at
        while self._rows or self._rows_until <= clock:
            if not self._rows:
                self._read_ahead()
                if not self._rows:
                    break
            at, key = self._rows[-1]
            if at > clock:
                break
            self._rows.pop()
            if key not in self._dirty:
                due[key] = at
        return [key for key, _ in sorted(due.items(), key=lambda item: (item[1], item[0]))]

    def _read_ahead(self) -> None:
        rows = self.store.due(self._rows_from, limit=SCAN_ROWS)
        if len(rows) == SCAN_ROWS:
            # Rows of the last instant may go on beyond what was read: leave that instant for the next scan, unless
            # it fills the scan.
            last = rows[-1][0]
            whole = [row for row in rows if row[0] < last]
            if whole:
                rows, self._rows_until = whole, last - 1
            else:
                rows, self._rows_until = self.store.due(last, last), last
        else:
            self._rows_until = FOREVER
        self._rows = rows[::-1]
        self._rows_from = self._rows_until + 1

    # --- states of earlier versions ---------------------------------------------------------------------------------

    @property
    def may_hold_earlier_versions(self) -> bool:
        """Whether not every stored customer was looked at by `migrate` yet."""
        return self._migrated_until is not None

    def migrate(self) -> None:
        """Look at some more stored customers, and write those of an earlier version again with the next commit."""
        assert self._migrated_until is not None
        rows = self.store.versions(self._migrated_until, MIGRATED_ROWS)
        for key, version in rows:
            if version != STATE_VERSION and key not in self._dirty:
                self._change(key, self._load(key))
                self.has_changes = True
        self._migrated_until = rows[-1][0] + b"\x00" if len(rows) == MIGRATED_ROWS else None

    # --- a commit ---------------------------------------------------------------------------------------------------

    def stage(self, definitions: str) -> tuple[list[tuple[bytes, bytes | None]], Meta]:
        """Return the changelog records of this commit, one per changed customer, and its meta record."""
        batch = self.store.batch()
        records: list[tuple[bytes, bytes | None]] = []
        for key in self._dirty:
            entry = self._entries[key]
            customer = entry.customer
            due = customer.next_due
            state = customer.to_bytes()
            if key in self._erased and state == _NOBODY:
                batch.delete(key, entry.due_stored)
                records.append((key, None))
                continue
            data = pack(Stored(due, state))
            batch.put(key, data, due, entry.due_stored)
            records.append((key, data))
            self._cached_bytes += len(data) - entry.size
            entry.size = len(data)
        self._batch = batch
        self._meta = Meta(self.clock, dict(self.positions), definitions, state_version=STATE_VERSION)
        return records, self._meta

    def note_changelog(self, offset: int) -> None:
        """Note the changelog offset of the staged meta record."""
        self._changelog = offset + 1

    def settle(self) -> None:
        """Write what was staged to the store, after its transaction was committed."""
        assert self._batch is not None
        assert self._meta is not None
        self._meta.changelog = self._changelog
        self._batch.put_meta(self._meta)
        self.store.write(self._batch)
        for key in self._dirty:
            entry = self._entries[key]
            entry.due_stored = entry.customer.next_due
        self._batch = self._meta = None
        self._dirty.clear()
        self._erased.clear()
        self._due_heap.clear()
        self._rows, self._rows_until, self._rows_from = [], -FOREVER, self.clock
        self.has_changes = False
        while self._cached_bytes * DECODED_FACTOR > self._cache_bytes and self._entries:
            _, entry = self._entries.popitem(last=False)
            self._cached_bytes -= entry.size

    def close(self) -> None:
        """Let go of the store; what was not settled is lost on purpose, the transaction was not committed."""
        self._entries.clear()
        self._rows.clear()
        self.store.close()


def _decoded(state: bytes) -> Customer:
    try:
        return customer_from_bytes(state)
    except UnknownStateVersionError as error:
        raise OperatorError(str(error)) from error
    except (msgspec.MsgspecError, IndexError) as error:
        message = "a customer's state cannot be read: stop this worker and delete its state directory; it is restored"
        raise OperatorError(message) from error
