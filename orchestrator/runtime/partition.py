"""One partition: its customers, its clock and what was changed since the last commit.

A step changes customers in memory only (the overlay). `stage` hands the overlay to the changelog inside the
transaction; `settle` writes it to the store once that transaction is committed. After an abort the partition is dropped
and restored.
"""

from __future__ import annotations

import heapq
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from confluent_kafka import Message

from orchestrator.adoption import Adoption
from orchestrator.customer import STATE_VERSION, Customer, customer_from_bytes
from orchestrator.engine import advance
from orchestrator.events import ERASED, FOREVER, PROFILE, Event
from orchestrator.measurement import inherit_slot, may_overlap, slot_left
from orchestrator.migrations import UnknownStateVersionError
from orchestrator.moments.stock import awaited
from orchestrator.onlookers import Onlookers
from orchestrator.program import Program
from orchestrator.programs import Programs
from orchestrator.quotas import Quotas
from orchestrator.records import Effects
from orchestrator.reference import Reference
from orchestrator.runtime.census import Census
from orchestrator.runtime.erasures import ERASURE_KEY, Erasures, unpack_erasures
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.inbox import Inbox, Step
from orchestrator.runtime.intake import DeadLetter, Intake
from orchestrator.runtime.outbox import Outbox
from orchestrator.runtime.state_store import Batch, Meta, StateStore, Stored, pack
from orchestrator.runtime.tally import Tally
from orchestrator.sharing import refile

SCAN_ROWS = 128
"""Timers read from the store at once."""

MIGRATED_ROWS = 2_000
"""Customers looked at in one go when all states are migrated: so many fit a commit, and a turn of the loop."""

DECODED_FACTOR = 5
ENTRY_BYTES = 4_096
"""Memory that a decoded customer takes: so many times its bytes, and what the objects cost however little they hold.

Measured by bench/state_layout.py and bench/memory.py.
"""

CENSUS_SECONDS = 0.1
"""How seldom a process counts stored customers, a portion at a time: so that it takes 3 % of a core at most."""

TELLS_EVERY = 60_000
"""How often an idle partition keeps a barrier where something is learned, milliseconds."""

_DUE_BYTES = 8

_NOBODY = Customer().to_bytes()


class Entry:
    """A customer in memory, and how the store has them."""

    __slots__ = ("customer", "due", "due_stored", "held_stored", "size")

    def __init__(self, customer: Customer, due_stored: int, size: int) -> None:
        self.customer = customer
        self.due = due_stored
        self.due_stored = due_stored
        self.held_stored = customer.window is not None
        self.size = size


@dataclass(frozen=True, slots=True)
class Deciding:
    """What every partition of a process decides with.

    `max_lag` None means timers are never judged later than due; `erasure_salt` hides of whom an erasure is remembered,
    for as long as the inputs hold an event, `retention` milliseconds; with `traces` triggers carry a trace context.
    """

    programs: Programs
    reference: Reference
    intake: Intake
    outbox: Outbox
    max_lag: int | None
    records_barriers: bool
    erasure_salt: str = ""
    retention: int = FOREVER
    traces: bool = False


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
        self.reached = meta.clock
        """The instant up to which everything is decided; an idle partition's clock stays behind it."""
        self.next_due = FOREVER
        """The earliest instant at which something waits, as far as it is known; never later than it is."""
        self.ends: Mapping[str, int] = {}
        """By topic, the newest end that a barrier told; a consumer's watermarks answer to its own thread only."""
        self.event_times: dict[str, int] = {}
        """By topic, the event time of the last record that was decided."""
        self.census = Census()
        self.positions: Mapping[str, int] = meta.positions
        self.quotas = Quotas(meta.quotas, number, deciding.intake.partitions)
        self.has_changes = False
        self._deciding = deciding
        self.program = deciding.programs.at(self.clock)
        """What is in force at the clock."""
        self._asked = _names(self.program.relevant)
        self._tally = tally
        self._cache_bytes = cache_bytes
        self._cached_bytes = 0
        self._changelog = meta.changelog
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._dirty: set[bytes] = set()
        self._erased: set[bytes] = set()
        self._erasing: set[bytes] = set()  # by the step that is being decided
        self._erasures = Erasures(deciding.erasure_salt, unpack_erasures(store.erasures()), deciding.retention)
        self._read: dict[tuple[int, int], Message] = {}  # with traces, the records of a step by topic and offset
        self._due_heap: list[tuple[int, bytes]] = []
        # Timers read ahead from the store, valid until the next settle: rows, and the instant up to which they are all.
        self._rows: list[tuple[int, bytes]] = []
        self._rows_until = -FOREVER
        self._rows_from = self.clock
        self._migrated_until: bytes | None = b""
        self._adoption: Adoption | None = None
        self._adopted_until = b""
        self._definitions_before = meta.definitions
        self._begin_adoption(self.program, meta.definitions)
        self._batch: Batch | None = None
        self._meta: Meta | None = None
        self._onlookers = self._find_onlookers() if self.program.stock_moments else None
        self._stock_told = self.clock - self.program.stock_disorder

    @property
    def changed_customers(self) -> int:
        """How many customers were changed since the last commit."""
        return len(self._dirty)

    @property
    def cached_customers(self) -> int:
        """How many customers are decoded in memory."""
        return len(self._entries)

    @property
    def cached_bytes(self) -> int:
        """How many bytes the customers that are decoded in memory have when they are stored."""
        return self._cached_bytes

    # --- a step -----------------------------------------------------------------------------------------------------

    def next_step(self, references_reached: Callable[[Mapping[str, int]], bool]) -> Step | None:
        """Return the next step, None while it is not there or new definitions do not count for everybody yet."""
        return None if self.is_adopting else self.inbox.next_step(self.clock, references_reached)

    def apply(self, step: Step) -> None:
        """Decide one step: every record up to its barrier, and everything that time alone brings up to its instant."""
        clock, lag, programs = step.barrier.time, self._deciding.max_lag, self._deciding.programs
        not_before = -FOREVER if lag is None else clock - lag
        since = max(self.clock, not_before)
        self._follow(programs.at(since))
        changes = programs.changes(since, clock)
        by_customer = self._events(step, [self.program, *map(programs.at, changes)])
        for instant in changes:  # what is before it is decided as if a barrier had come just then
            earlier = _take_before(by_customer, instant)
            self._decide(earlier, self._due(earlier, instant - 1), instant - 1, not_before)
            self._follow(programs.at(instant))
        due = self._due(by_customer, clock)
        idle = not (step.messages or by_customer or due or changes or self._is_awaited(clock))
        idle = idle and self._deciding.records_barriers
        if idle and not self._forget_erasures(clock):
            self._note_progress(clock)
            return  # live and idle: time went by and changed nothing, so there is nothing to keep
        self._decide(by_customer, due, clock, not_before)
        self.positions = step.positions
        self.has_changes = True
        self._read.clear()
        self._tally.steps += 1
        self._tally.step_records.add(sum(len(messages) for _, messages in step.messages))
        if self._deciding.records_barriers:
            self._deciding.outbox.note_barrier(self.number, step.barrier)
        self._note_progress(clock)

    def _is_awaited(self, clock: int) -> bool:
        """Return whether it is time to tell how far an idle partition is: what is learned waits for all of them."""
        return clock - self.clock >= TELLS_EVERY and self.program.policy.learns

    def _follow(self, program: Program) -> None:
        """Decide with a program from here on."""
        if program is self.program:
            return
        self._begin_adoption(program, self.program.version)
        self.program = program
        self._asked = _names(program.relevant)
        if self._onlookers is None:
            self._stock_told = self.clock - program.stock_disorder
        self._onlookers = self._find_onlookers() if program.stock_moments else None

    def _due(self, by_customer: dict[bytes, list[Event]], clock: int) -> Sequence[bytes]:
        """Return whom time alone moves up to an instant; a product's changes are events, and become some of theirs."""
        if self._onlookers is not None:
            self._tell_of_stock(self._onlookers, clock, by_customer)
        return self._due_up_to(clock)

    def _decide(
        self, by_customer: Mapping[bytes, list[Event]], due: Sequence[bytes], clock: int, not_before: int
    ) -> None:
        """Bring everybody who has events or is due up to an instant."""
        before = self.clock
        if self.quotas.count:
            self.quotas.forget(self.program.shared_caps, before - self.program.longest_late)
        for key, events in by_customer.items():
            if len(events) > 1:
                events.sort(key=Event.order)
            self._advance(key, events, clock, before, not_before)
        for key in due:
            if key not in by_customer:
                self._advance(key, (), clock, before, not_before)
        self._forget_erasures(clock)
        self.clock = clock

    def _events(self, step: Step, programs: Sequence[Program]) -> dict[bytes, list[Event]]:
        """Return the step's events that one of the programs can use, by customer, in the order met; bury the rest."""
        intake, outbox, tally = self._deciding.intake, self._deciding.outbox, self._tally
        relevant, asked = self.program.relevant, self._asked
        if len(programs) > 1:
            relevant = relevant.union(*(program.relevant for program in programs))
            asked = _names(relevant)
        newest, traces = step.barrier.newest, self._deciding.traces
        by_customer: dict[bytes, list[Event]] = {}
        self._erasing.clear()
        for topic, messages in step.messages:
            tally.events += len(messages)
            glance = intake.glance(topic)
            last = messages[-1]  # it is read in any case: its time tells how far the topic is
            for message in messages:
                if glance is not None and message is not last:
                    name = glance(message.value() or b"")
                    if name is not None and name not in asked:
                        tally.irrelevant += 1
                        continue
                event = intake.read(topic, message, newest)
                if isinstance(event, DeadLetter):
                    letter = event
                elif event.name not in relevant:
                    tally.irrelevant += 1
                    continue
                else:
                    key: bytes = message.key()  # type: ignore[assignment]  # the intake checked it
                    if event.name == ERASED:
                        self._erasing.add(key)
                    if traces:
                        self._read[event.topic, event.offset] = message
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
            if type(event) is Event and event.name != PROFILE:
                self.event_times[topic] = event.time
        return by_customer

    def _advance(self, key: bytes, events: Sequence[Event], clock: int, before: int, not_before: int) -> None:
        entry = self._load(key)
        erased = key in self._erasing and any(event.name == ERASED for event in events)
        if erased:
            events = self._erase(key, entry, events)
        if events and events[0].time <= self._erasures.latest:
            events = self._since_erasure(key, events)
            if not (events or erased or entry.customer.next_due <= clock):
                return
        deciding = self._deciding
        if self._erasures and events and (not entry.size or key in self._erased):
            until = self._erasures.inherit(key)
            if may_overlap(self.program, until, before):
                inherit_slot(self.program, entry.customer, until)
        if events and events[0].time < before:
            self._count_late(events, before)
        effects = advance(
            self.program,
            deciding.reference,
            key.decode(),
            entry.customer,
            events,
            clock,
            clock_before=before,
            not_before=not_before,
            quotas=self.quotas,
        )
        self._change(key, entry, effects.next_due)
        if self._onlookers is not None:
            self._onlookers.note(key, awaited(self.program, entry.customer))
        self._tally.duplicates += effects.repeated
        if effects.decisions or effects.outcomes or effects.triggers or effects.active_changed:
            causes = None
            if deciding.traces:
                read = (self._read.get((event.topic, event.offset)) for event in reversed(events))
                causes = [message for message in read if message is not None]
            deciding.outbox.emit(self.number, key, effects, causes)
            self._count(effects)

    def _find_onlookers(self) -> Onlookers[bytes]:
        """Return who waits for which product, from all states: those stored, and those changed since."""
        onlookers, program = Onlookers[bytes](), self.program
        for key, stored in self.store.customers():
            if key not in self._entries and key not in self._erased:
                onlookers.note(key, awaited(program, _filed(_decoded(stored.state), program)))
        for key, entry in self._entries.items():
            onlookers.note(key, awaited(program, _filed(entry.customer, program)))
        return onlookers

    def _tell_of_stock(self, onlookers: Onlookers[bytes], clock: int, by_customer: dict[bytes, list[Event]]) -> None:
        """Add every change of a product, as an event, to the customers it reaches."""
        since, until = self._stock_told, clock - self.program.stock_disorder
        onlookers.sweep(since)
        if until > since:
            onlookers.tell(self._deciding.reference, since, until, by_customer)
            self._stock_told = until

    def _change(self, key: bytes, entry: Entry, due: int) -> None:
        self._dirty.add(key)
        entry.due = due
        if due != FOREVER:
            heapq.heappush(self._due_heap, (due, key))

    def _count(self, effects: Effects) -> None:
        tally = self._tally
        for decision in effects.decisions:
            reason = str(decision.reason)  # a plain text, whatever the engine counts with
            tally.decisions[reason] = tally.decisions.get(reason, 0) + 1
            for ended in decision.ended:
                end = ended.moment, ended.state
                tally.moment_ends[end] = tally.moment_ends.get(end, 0) + 1
        for trigger in effects.triggers:
            tally.triggers[trigger.campaign] = tally.triggers.get(trigger.campaign, 0) + 1
        tally.outcomes += len(effects.outcomes)

    def _count_late(self, events: Sequence[Event], before: int) -> None:
        """Count the events before the clock of the step before; profiles, the first topic, say since when it is so."""
        deciding, late = self._deciding, self._tally.late
        for event in events:
            if event.time < before and event.topic > 0:
                in_time = event.time >= before - self.program.accept_late(event.name)
                kind = deciding.intake.topic_names[event.topic], "accepted" if in_time else "too_late"
                late[kind] = late.get(kind, 0) + 1

    def _note_progress(self, clock: int) -> None:
        self.reached = clock
        self.next_due = min(
            self._due_heap[0][0] if self._due_heap else FOREVER,
            self._rows[-1][0] if self._rows else self._rows_until,
        )

    def take_census(self) -> None:
        """Count some more stored customers, unless that was done just now; only between commits."""
        now = time.monotonic()
        if self.census.counting and now - self._tally.counted_at >= CENSUS_SECONDS:
            self.census.count_some(self.store)
            if self.census.counting:  # else it was little, and the next partition need not wait
                self._tally.counted_at = now

    def _erase(self, key: bytes, entry: Entry, events: Sequence[Event]) -> Sequence[Event]:
        """Forget a customer: their state, timers and our compacted records; return what comes after, a new beginning.

        Only when it was outlives it, for what other topics still hold of them, and until when their slot is held, or
        somebody who comes back at once would be written to again.
        """
        last = max(place for place, event in enumerate(events) if event.name == ERASED)
        customer = entry.customer
        outcomes = [window.decision_id for window in customer.closed]
        self._deciding.outbox.erase(self.number, key, outcomes)
        self._erasures.keep(key, events[last].time, slot_left(customer))
        entry.customer = Customer()
        self._erased.add(key)
        # A tombstone says no time of its own, so among profiles the topic's order tells which came after it.
        tombstone = events[last].offset
        anew = [event for event in events[:last] if event.name == PROFILE and event.offset > tombstone]
        return [*anew, *events[last + 1 :]]

    def _since_erasure(self, key: bytes, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events without those from before their customer's erasure: a topic that lags still had them.

        A profile is a new beginning whatever its time says: it comes from the tombstone's topic, hence after it.
        """
        erased_at = self._erasures.erased_at(key)
        since = [event for event in events if event.time > erased_at or event.name == PROFILE]
        self._tally.erased_events += len(events) - len(since)
        return since

    def _forget_erasures(self, clock: int) -> bool:
        """Forget the erasures that do not matter after an instant; return whether any was."""
        return bool(self._erasures) and self._erasures.drop(clock - self.program.longest_late)

    def _load(self, key: bytes) -> Entry:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            self._tally.hits += 1
            return entry
        stored = self.store.get(key)
        if stored is None:
            self._tally.strangers += 1
            entry = Entry(Customer(), FOREVER, 0)
        else:
            self._tally.loads += 1
            entry = Entry(_decoded(stored.state), stored.due, _DUE_BYTES + len(stored.state))
        self._entries[key] = entry
        self._cached_bytes += entry.size
        return entry

    # --- timers -----------------------------------------------------------------------------------------------------

    def _due_up_to(self, clock: int) -> list[bytes]:
        """Return the customers with something due, in order; what this transaction wrote counts, not what it read."""
        due: dict[bytes, int] = {}
        late = self._tally.timer_lateness
        while self._due_heap and self._due_heap[0][0] <= clock:
            at, key = heapq.heappop(self._due_heap)
            entry = self._entries[key]
            if entry.due == at:
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
        for at in due.values():
            late.add((clock - at) / 1000)
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

    # --- customers from before the definitions ----------------------------------------------------------------------

    @property
    def is_adopting(self) -> bool:
        """Whether new definitions do not count for everybody yet; until they do, nothing is decided."""
        return self._adoption is not None

    def _begin_adoption(self, program: Program, before: str) -> None:
        """Let a program count for everybody before the next step, where it concerns customers who do nothing."""
        if before == program.version:
            return
        if self._adoption is None:  # else what was in force before that one is what a restart has to know
            self._definitions_before = before
        self._adoption = None
        if program.schedules or program.inclusive:
            self._adopted_until = b""
            self._adoption = Adoption(program, self._deciding.reference, self._deciding.intake.partitions)

    def adopt(self) -> None:
        """Let new definitions count for some more customers, with the next commit.

        As of the clock after the step that brought them, which is what a restart finds: nothing is decided meanwhile.
        """
        assert self._adoption is not None
        since = self._adopted_until
        stored = [key for key, _ in self.store.versions(since, MIGRATED_ROWS)]
        until = stored[-1] + b"\x00" if len(stored) == MIGRATED_ROWS else None
        changed = (key for key in self._dirty if key >= since and (until is None or key < until))
        for key in sorted({*stored, *changed}):
            entry = self._load(key)
            if self._adoption.adopt(key.decode(), entry.customer, self.clock):
                self._change(key, entry, entry.customer.next_due)
                self.has_changes = True
        if until is None:
            self._adoption = None
        else:
            self._adopted_until = until

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
                entry = self._load(key)
                self._change(key, entry, entry.customer.next_due)
                self.has_changes = True
        self._migrated_until = rows[-1][0] + b"\x00" if len(rows) == MIGRATED_ROWS else None

    # --- a commit ---------------------------------------------------------------------------------------------------

    def stage(self, definitions: str) -> tuple[list[tuple[bytes, bytes | None]], Meta]:
        """Return the changelog records of this commit, one per change, and its meta record."""
        batch = self.store.batch()
        records: list[tuple[bytes, bytes | None]] = []
        counted_to = self.census.counted_to
        customers = timers = slots = size = 0
        for key in self._dirty:
            entry = self._entries[key]
            customer, due = entry.customer, entry.due
            state = customer.to_bytes()
            counted = counted_to is None or key < counted_to
            if key in self._erased and state == _NOBODY:
                batch.delete(key, entry.due_stored)
                records.append((key, None))
                self._cached_bytes -= entry.size
                if counted and entry.size:
                    customers -= 1
                    timers -= entry.due_stored != FOREVER
                    slots -= entry.held_stored
                    size -= entry.size - _DUE_BYTES
                entry.size = 0
                entry.due_stored = due
                entry.held_stored = False
                continue
            if counted:
                held = customer.window is not None
                timers += (due != FOREVER) - (entry.due_stored != FOREVER)
                slots += held - entry.held_stored
                size += len(state) - entry.size
                if entry.size:
                    size += _DUE_BYTES
                else:
                    customers += 1
                entry.held_stored = held
            else:
                entry.held_stored = customer.window is not None
            data = pack(Stored(due, state))
            batch.put(key, data, due, entry.due_stored)
            entry.due_stored = due
            records.append((key, data))
            self._cached_bytes += len(data) - entry.size
            entry.size = len(data)
        for name, row in self._erasures.changes():
            batch.put_erasure(name, row)
            records.append((ERASURE_KEY + name, row))
        self.census.add(customers, timers, slots, size)
        self._batch = batch
        self._meta = Meta(
            self.clock,
            dict(self.positions),
            definitions if self._adoption is None else self._definitions_before,
            state_version=STATE_VERSION,
            quotas=self.quotas.uses,
        )
        return records, self._meta

    def note_changelog(self, offset: int) -> None:
        """Note the changelog offset of the staged meta record."""
        self._changelog = offset + 1

    def settle(self, as_of: int) -> None:
        """Write what was staged to the store, after its transaction, begun at an instant, was committed."""
        assert self._batch is not None
        assert self._meta is not None
        self._meta.changelog = self._changelog
        self._meta.as_of = as_of
        self._batch.put_meta(self._meta)
        self.store.write(self._batch)
        self._batch = self._meta = None
        self._dirty.clear()
        self._erased.clear()
        self._erasures.settle()
        self._due_heap.clear()
        self._rows, self._rows_until, self._rows_from = [], -FOREVER, self.clock
        self.has_changes = False
        entries = self._entries
        while entries and self._cached_bytes * DECODED_FACTOR + len(entries) * ENTRY_BYTES > self._cache_bytes:
            _, entry = self._entries.popitem(last=False)
            self._cached_bytes -= entry.size

    def close(self) -> None:
        """Let go of the store; what was not settled is lost on purpose, the transaction was not committed."""
        self._entries.clear()
        self._rows.clear()
        self.store.close()


def _names(relevant: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.encode() for name in relevant)


def _take_before(by_customer: dict[bytes, list[Event]], instant: int) -> dict[bytes, list[Event]]:
    """Take the events before an instant out of those of a step."""
    earlier = {key: [event for event in events if event.time < instant] for key, events in by_customer.items()}
    for key, events in list(by_customer.items()):
        events[:] = [event for event in events if event.time >= instant]
        if not events:
            del by_customer[key]
    return {key: events for key, events in earlier.items() if events}


def _filed(customer: Customer, program: Program) -> Customer:
    """Return a customer whose facts are filed under a program's names."""
    if customer.filed_by is not program.filed:
        refile(customer, program.filed)
    return customer


def _decoded(state: bytes) -> Customer:
    try:
        return customer_from_bytes(state)
    except UnknownStateVersionError as error:
        raise OperatorError(str(error)) from error
    except (msgspec.MsgspecError, IndexError) as error:
        message = "a customer's state cannot be read: stop this worker and delete its state directory; it is restored"
        raise OperatorError(message) from error
