"""What every run must keep, checked from the brokers' logs, the group's offsets and the volumes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from orchestrator.audit import Located, audit
from orchestrator.runtime.erasures import ERASURE_KEY, Erasures, unpack_erasures
from orchestrator.runtime.intake import sources_of
from orchestrator.runtime.state_store import META_KEY, Meta, StateStore, meta_from_bytes, unpack
from tests.simulator.disk import SimulatedStore
from tests.simulator.oracle import NOBODY, Expected, Output, Used, expect
from tests.simulator.process import Process
from tests.simulator.schedule import LIVE
from tests.simulator.worker import ERASURE_SALT, GROUP, MAX_LAG
from tests.simulator.world import LASTS, OPENS_AT, PARTITIONS, codec, topics

if TYPE_CHECKING:
    from tests.simulator.run import Run

LATE = 15_000
"""How late a timer may fire once no fault happens any more, milliseconds."""


def check(run: Run) -> list[str]:
    """Return every violation of a run that has finished."""
    return _Checks(run).all()


class _Checks:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._kafka = run.kafka
        self._found: list[str] = []

    def all(self) -> list[str]:
        live = self._run.mode == LIVE
        barriers = [self._barriers(number) for number in range(PARTITIONS)]
        expected = expect(self._kafka, barriers, MAX_LAG if live else None)
        self._audit()
        self._outputs(expected)
        self._states(expected)
        self._offsets(barriers)
        if live:
            self._truth(barriers)
            self._timers(expected)
        self._run.counts["decisions"] = sum(
            count for output, count in expected.outputs.items() if output[0] == topics().decisions.name
        )
        self._run.counts["triggers"] = sum(
            count for output, count in expected.outputs.items() if output[0] == topics().triggers.name
        )
        self._run.counts["inherited"] = expected.inherited
        self._run.counts["erased events"] = expected.dropped
        self._run.counts["records"] = expected.records
        return self._found

    def _barriers(self, number: int) -> list[Used]:
        clock = topics().clock
        decode = codec().decoder(clock)
        found = []
        for entry in self._kafka.logs[clock.name, number].committed():
            assert entry.value is not None
            record = decode(entry.value)
            found.append(Used(record["time"], record["ends"], record["horizon"]))
        return found

    def _audit(self) -> None:
        declared = topics()
        read: list[list[Located]] = []
        for topic in (declared.decisions, declared.triggers):
            decode = codec().decoder(topic)
            read.append(
                [
                    (decode(entry.value), (topic.name, number, entry.offset))
                    for number in range(PARTITIONS)
                    for entry in self._kafka.logs[topic.name, number].committed()
                    if entry.value is not None
                ]
            )
        for violation in audit(read[0], read[1]).violations:
            self._found.append(f"audit: {violation.kind}: {violation.detail}")

    def _outputs(self, expected: Expected) -> None:
        declared = topics()
        written: Counter[Output] = Counter()
        for topic in (
            declared.triggers,
            declared.decisions,
            declared.outcomes,
            declared.active,
            declared.dead_letters,
        ):
            for number in range(PARTITIONS):
                for entry in self._kafka.logs[topic.name, number].committed():
                    written[topic.name, number, entry.key, entry.value, tuple(entry.headers or ())] += 1
        for name, count in Counter(output[0] for output in (written - expected.outputs).elements()).items():
            self._found.append(f"output: {count} too many in {name}")
        for name, count in Counter(output[0] for output in (expected.outputs - written).elements()).items():
            self._found.append(f"output: {count} missing in {name}")

    def _states(self, expected: Expected) -> None:
        """Compare the changelog with the oracle's customers, and every volume with the changelog."""
        changelog = topics().changelog.name
        for number in range(PARTITIONS):
            fold: dict[bytes, bytes] = {}
            slots: dict[bytes, bytes] = {}
            meta: Meta | None = None
            ends = 0
            for entry in self._kafka.logs[changelog, number].committed():
                assert entry.key is not None
                if entry.key == META_KEY:
                    assert entry.value is not None
                    meta, ends = meta_from_bytes(entry.value), entry.offset
                elif entry.key.startswith(ERASURE_KEY):
                    slots[entry.key] = entry.value or b""
                elif entry.value is None:
                    fold.pop(entry.key, None)
                else:
                    fold[entry.key] = entry.value
            states = {key: unpack(value).state for key, value in fold.items()}
            known = {key: state for key, state in states.items() if state != NOBODY}
            wanted = {key: state for (of, key), state in expected.states.items() if of == number}
            if known != wanted and _decoded(known) != _decoded(wanted):
                self._found.append(f"state: the changelog of partition {number} is not what the inputs make of it")
            self._erasures(number, slots, expected)
            self._volumes(number, fold, slots, meta, ends)

    def _erasures(self, number: int, rows: dict[bytes, bytes], expected: Expected) -> None:
        """Compare what is kept of erased customers; the end of a slot may stay when no late event reaches it."""
        kept = Erasures(
            ERASURE_SALT,
            unpack_erasures((key[len(ERASURE_KEY) :], value) for key, value in rows.items() if value),
            topics().retention,
        )
        erased_at, slots_left = expected.erased_at[number], expected.slots_left[number]
        if any(kept.erased_at(key) != at for key, at in erased_at.items()):
            self._found.append(f"state: an erasure is not remembered in the changelog of partition {number}")
        if any(kept.inherit(key) != until for key, until in slots_left.items()):
            self._found.append(f"state: a slot of somebody erased is not held in the changelog of partition {number}")
        self._run.counts["erasures"] += len(erased_at)
        self._run.counts["slots left"] += len(slots_left)

    def _volumes(
        self, number: int, fold: dict[bytes, bytes], slots: dict[bytes, bytes], meta: Meta | None, ends: int
    ) -> None:
        # A volume may be of long ago; the one whose meta record is the last must be the changelog's fold.
        for worker in self._run.workers:
            rows = worker.volume.partitions.get(number)
            if rows is None or rows.holder is not None:
                continue
            store = SimulatedStore(rows, Process())
            kept = store.meta()
            rows.holder = None
            if kept is None or meta is None or kept.changelog <= ends:
                continue
            customers = dict(store.customers())
            if customers != {key: unpack(value) for key, value in fold.items()}:
                self._found.append(f"store: the volume of {worker.name} is not the changelog's fold in {number}")
            if {ERASURE_KEY + name: data for name, data in store.erasures()} != {k: v for k, v in slots.items() if v}:
                self._found.append(f"store: the slots of erased customers in {worker.name} are not those of {number}")
            due = sorted((stored.due, key) for key, stored in customers.items() if stored.due < 2**62)
            if StateStore.due(store, 0) != due:
                self._found.append(f"store: the timers of {worker.name} are not its customers' in {number}")
            if (kept.clock, kept.positions) != (meta.clock, meta.positions):
                self._found.append(f"store: the meta record of {worker.name} is not the changelog's in {number}")

    def _offsets(self, barriers: list[list[Used]]) -> None:
        group = self._kafka.group(GROUP)
        for place, before, after in group.went_back:
            self._found.append(f"offsets: {place} went back from {before} to {after}")
        for number in range(PARTITIONS):
            for topic in sources_of(topics()):
                committed = group.offsets.get((topic.name, number), 0)
                read = max((used.ends.get(topic.name, 0) for used in barriers[number]), default=0)
                if committed != read:
                    self._found.append(f"offsets: {topic.name}/{number} at {committed}, its barriers at {read}")
                left = [e for e in self._kafka.logs[topic.name, number].committed() if e.offset >= committed]
                if left:
                    self._found.append(f"offsets: {len(left)} records of {topic.name}/{number} were never decided")

    def _truth(self, barriers: list[list[Used]]) -> None:
        """No barrier may leave out a record that was there at its instant, committed by then or not."""
        for number, used in enumerate(barriers):
            if any(later.time < earlier.time for earlier, later in pairwise(used)):
                self._found.append(f"barrier: the clock of partition {number} went back")
            for topic in sources_of(topics()):
                entries = self._kafka.logs[topic.name, number].entries
                for barrier in used:
                    end = barrier.ends[topic.name]
                    if end < len(entries) and entries[end].at < barrier.time:
                        self._found.append(f"barrier: {barrier.time - OPENS_AT} ends too early in {topic.name}")
                        return

    def _timers(self, expected: Expected) -> None:
        calm = OPENS_AT + LASTS + 20_000 + 25_000
        for number, due, clock in expected.overdue:
            if clock > calm and due < clock - LATE and clock - calm > LATE:
                self._found.append(f"timer: {clock - due} ms late in partition {number}")
        for number, due in expected.next_due.items():
            if due < self._run.clock.now - LATE:
                self._found.append(f"timer: lost in partition {number}, due {(due - OPENS_AT) / 1_000:g} s")


def _decoded(states: dict[bytes, bytes]) -> dict[bytes, object]:
    """Return states as values: the order of a state's keys depends on when it was last written."""
    return {key: msgspec.msgpack.decode(state[1:]) for key, state in states.items()}
