"""Each rule of the loop that the simulator can see, broken on purpose: how many schedules until it is noticed.

python -m tests.simulator.mutations [--only WORD] [--write]
"""

from __future__ import annotations

import argparse
import logging
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition

from orchestrator.events import FOREVER
from orchestrator.runtime.barriers import LiveBarriers
from orchestrator.runtime.erasures import Erasures
from orchestrator.runtime.inbox import Inbox
from orchestrator.runtime.loop import Loop
from orchestrator.runtime.partition import Partition
from orchestrator.runtime.reference_reader import ReferenceReader
from orchestrator.runtime.restore import Restorer
from tests.simulator.clients import FakeAdmin, FakeConsumer, FakeProducer
from tests.simulator.run import Run
from tests.simulator.schedule import LIVE, REPLAY, TRANSACTION, schedule
from tests.simulator.world import ROOT, topics

MOST = 10_000
"""Within how many schedules a mutation must be noticed."""

Replacement = tuple[type, str, Callable[..., Any]]
_Any = Any  # the private parts that mutations reach into


@dataclass(frozen=True, slots=True)
class Mutation:
    """One rule broken; `modes` are those in which it can matter."""

    name: str
    rule: str
    replacements: Callable[[], Sequence[Replacement]]
    modes: tuple[str, ...] = (LIVE, REPLAY)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Break the rule for a while."""
        with ExitStack() as stack:
            for owner, name, replacement in self.replacements():
                stack.enter_context(patch.object(owner, name, replacement))
            yield


class Noticed:
    """When a mutation was noticed."""

    def __init__(self, seed: int, mode: str, symptom: str, schedules: int, seconds: float) -> None:
        self.seed = seed
        self.mode = mode
        self.symptom = symptom
        self.schedules = schedules
        self.seconds = seconds


def notice(mutation: Mutation, most: int = MOST, first: int = 0) -> Noticed | None:
    """Return when a mutation is noticed, None when it is not."""
    started = time.process_time()
    with mutation.applied():
        for number in range(most):
            mode = mutation.modes[number % len(mutation.modes)]
            violations = Run(schedule(first + number, mode)).run().violations
            if violations:
                return Noticed(first + number, mode, violations[0], number + 1, time.process_time() - started)
    return None


# --- the mutations ----------------------------------------------------------------------------------------------------


def _no_offsets_when_only_time_moved() -> Sequence[Replacement]:
    original = FakeProducer.send_offsets_to_transaction
    clock = topics().clock.name

    def mutated(self: _Any, offsets: Sequence[TopicPartition], metadata: _Any, timeout: float = -1) -> None:
        known = self._kafka.group(metadata.group).offsets
        moved = [one for one in offsets if one.topic != clock and known.get((one.topic, one.partition)) != one.offset]
        original(self, offsets if moved else [], metadata, timeout)

    return [(FakeProducer, "send_offsets_to_transaction", mutated)]


def _positions_of_the_consumer() -> Sequence[Replacement]:
    original = FakeProducer.send_offsets_to_transaction

    def mutated(self: _Any, offsets: Sequence[TopicPartition], metadata: _Any, timeout: float = -1) -> None:
        original(self, self._process.consumer.position(offsets), metadata, timeout)

    return [(FakeProducer, "send_offsets_to_transaction", mutated)]


def _written_before_commit() -> Sequence[Replacement]:
    original = Loop._retrying

    def mutated(self: _Any, call: Callable[[], None]) -> None:
        if self._in_doubt:
            for partition in self.partitions.values():
                if partition._batch is not None:
                    partition._meta.changelog = partition._changelog
                    partition._meta.as_of = self._now()
                    partition._batch.put_meta(partition._meta)
                    partition.store.write(partition._batch)
        original(self, call)

    return [(Loop, "_retrying", mutated)]


def _slots_not_kept() -> Sequence[Replacement]:
    original = Erasures.keep
    return [(Erasures, "keep", lambda self, customer, at, _until: original(self, customer, at))]


def _taken_after_erasure() -> Sequence[Replacement]:
    return [(Partition, "_since_erasure", lambda _self, _key, events: events)]


def _end_before_committed() -> Sequence[Replacement]:
    ask, span = Loop._ask, Restorer.span

    def asked(self: _Any, numbers: Sequence[int]) -> None:
        ask(self, numbers)
        early = vars(self._restorer).setdefault("early", {})
        for number in numbers:
            early[number] = self._restorer._consumer.get_watermark_offsets(
                TopicPartition(self.config.changelog, number), timeout=1
            )

    def spanned(self: _Any, topic: str, number: int) -> tuple[int, int]:
        if topic == self._topic and number in vars(self).get("early", {}):
            early: tuple[int, int] = vars(self)["early"].pop(number)
            return early
        return span(self, topic, number)

    return [(Loop, "_ask", asked), (Restorer, "span", spanned)]


def _stable_end() -> Sequence[Replacement]:
    def mutated(self: _Any, topic: str, number: int) -> tuple[int, int]:
        found: tuple[int, int] = self._consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=1)
        return found

    return [(Restorer, "span", mutated)]


def _no_wait_for_pending_offsets() -> Sequence[Replacement]:
    def mutated(self: _Any, partitions: Sequence[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        del timeout
        offsets = self._group.offsets
        return [TopicPartition(w.topic, w.partition, offsets.get((w.topic, w.partition), -1001)) for w in partitions]

    return [(FakeConsumer, "committed", mutated)]


def _lost_is_nothing() -> Sequence[Replacement]:
    def mutated(self: _Any, consumer: _Any, lost: Sequence[TopicPartition]) -> None:
        del self, consumer, lost

    return [(Loop, "_on_lost", mutated)]


def _revoked_without_an_end() -> Sequence[Replacement]:
    def mutated(self: _Any, consumer: _Any, revoked: Sequence[TopicPartition]) -> None:
        del consumer
        self._let_go(revoked)

    return [(Loop, "_on_revoke", mutated)]


def _reads_while_it_restores() -> Sequence[Replacement]:
    def nothing(self: _Any, where: _Any) -> None:
        del self, where

    return [(FakeConsumer, "pause", nothing), (FakeConsumer, "seek", nothing)]


def _overlay_kept() -> Sequence[Replacement]:
    def back(self: _Any, numbers: Sequence[int]) -> None:
        del self, numbers

    return [(Loop, "_go_back", back)]


def _cache_kept() -> Sequence[Replacement]:
    """Read everything again after an abort, but keep customers in memory as they are."""
    go_back, init = Loop._go_back, Partition.__init__
    kept: dict[tuple[int, int], Any] = {}

    def back(self: _Any, numbers: Sequence[int]) -> None:
        for number in numbers:
            kept[id(self._deciding), number] = dict(self.partitions[number]._entries)
        go_back(self, numbers)

    def made(self: _Any, *parts: _Any) -> None:
        init(self, *parts)
        self._entries.update(kept.pop((id(self._deciding), self.number), {}))

    return [(Loop, "_go_back", back), (Partition, "__init__", made)]


def _generation_cached() -> Sequence[Replacement]:
    original = FakeConsumer.consumer_group_metadata

    def mutated(self: _Any) -> _Any:
        if "cached" not in vars(self):
            self.cached = original(self)
        return self.cached

    return [(FakeConsumer, "consumer_group_metadata", mutated)]


def _no_generation() -> Sequence[Replacement]:
    original = FakeConsumer.consumer_group_metadata

    def mutated(self: _Any) -> _Any:
        return original(self)._replace(member="", generation=-1, instance=None)

    return [(FakeConsumer, "consumer_group_metadata", mutated)]


def _sweep_ignores_staged() -> Sequence[Replacement]:
    original = Partition._due_up_to

    def mutated(self: _Any, clock: int) -> list[bytes]:
        dirty, self._dirty = self._dirty, set()
        self._due_heap.clear()
        try:
            return original(self, clock)
        finally:
            self._dirty = dirty

    return [(Partition, "_due_up_to", mutated)]


def _sweep_from_now() -> Sequence[Replacement]:
    """Begin the sweep after a restore later than at the last commit."""
    original = Partition.__init__

    def mutated(self: _Any, *parts: _Any) -> None:
        original(self, *parts)
        if self._rows_from > -FOREVER:
            self._rows_from += 4_000

    return [(Partition, "__init__", mutated)]


def _ends_ignored_by_restore() -> Sequence[Replacement]:
    original = Restorer._take

    def mutated(self: _Any, message: _Any) -> None:
        if message.error() is None:
            original(self, message)

    return [(Restorer, "_take", mutated)]


def _ends_ignored_by_inbox() -> Sequence[Replacement]:
    def mutated(self: _Any, topic: str, offset: int) -> None:
        if offset == FOREVER:
            self._reached[topic] = offset

    return [(Inbox, "reach", mutated)]


def _store_trusted() -> Sequence[Replacement]:
    original = Restorer.begin

    def mutated(self: _Any, number: int, store: _Any) -> None:
        original(self, number, store)
        restoring = self._restoring[number]
        if not restoring.fresh:
            restoring.end = restoring.position

    return [(Restorer, "begin", mutated)]


def _taken_for_done() -> Sequence[Replacement]:
    original = Loop._retrying

    def mutated(self: _Any, call: Callable[[], None]) -> None:
        try:
            original(self, call)
        except KafkaException as error:
            if not self._in_doubt or error.args[0].fatal():
                raise
            _new_producer(self)

    return [(Loop, "_retrying", mutated)]


def _taken_for_failed() -> Sequence[Replacement]:
    """Take a new producer, and decide everything since the store's last write again."""
    begin, recover = Restorer.begin, Loop._recover

    def mutated(self: _Any, error: KafkaException) -> None:
        if not self._in_doubt or error.args[0].fatal():
            recover(self, error)
            return
        self._in_doubt = self._in_transaction = False
        known = {number: partition.store.meta() for number, partition in self.partitions.items()}
        self._restorer.known = known
        self._go_back(sorted(self.partitions))
        _new_producer(self)

    def begun(self: _Any, number: int, store: _Any) -> None:
        begin(self, number, store)
        restoring = self._restoring[number]
        if vars(self).get("known", {}).pop(number, None) is not None:
            restoring.end = restoring.position

    return [(Loop, "_recover", mutated), (Restorer, "begin", begun)]


def _new_producer(loop: _Any) -> None:
    old = loop._producer
    config = {"transactional.id": old._id, "transaction.timeout.ms": TRANSACTION}
    loop._producer = FakeProducer(old._kafka, old._process, config)
    loop._producer.init_transactions(30)


def _uncommitted(group: str) -> Sequence[Replacement]:
    original = FakeConsumer.__init__

    def mutated(self: _Any, kafka: _Any, process: _Any, config: Mapping[str, Any]) -> None:
        wanted = config["group.id"] == group
        original(self, kafka, process, {**config, "isolation.level": "read_uncommitted"} if wanted else config)

    return [(FakeConsumer, "__init__", mutated)]


def _stable_barriers() -> Sequence[Replacement]:
    original = FakeAdmin.list_offsets

    def mutated(self: _Any, wanted: _Any, **more: _Any) -> Any:
        return original(self, wanted, **{**more, "isolation_level": IsolationLevel.READ_COMMITTED})

    return [(FakeAdmin, "list_offsets", mutated)]


def _instant_after_the_ends() -> Sequence[Replacement]:
    original = LiveBarriers.take

    def mutated(self: _Any, partitions: Sequence[int]) -> Any:
        if self._answers:
            self._time = self._now()
        return original(self, partitions)

    return [(LiveBarriers, "take", mutated)]


def _clock_goes_back() -> Sequence[Replacement]:
    original = Inbox.next_step

    def mutated(self: _Any, clock: int, references_reached: _Any) -> Any:
        step = original(self, clock, references_reached)
        if step is not None and step.advances and self._last.time < clock:
            return step._replace(barrier=self._last)
        return step

    added = Inbox.add_barrier

    def add(self: _Any, barrier: _Any) -> None:
        if not self._barriers or not self._may_cut:
            self._last = barrier
        added(self, barrier)

    return [(Inbox, "next_step", mutated), (Inbox, "add_barrier", add)]


def _references_not_waited_for() -> Sequence[Replacement]:
    def mutated(self: _Any, ends: Mapping[str, int]) -> bool:
        del ends
        return bool(self)

    return [(ReferenceReader, "reached", mutated), (ReferenceReader, "read_all", ReferenceReader.poll)]


def _barrier_not_waited_for() -> Sequence[Replacement]:
    """Cut a step where the reading stands when its barrier comes."""

    def mutated(self: _Any, clock: int, references_reached: _Any) -> Any:
        del references_reached
        if not self._barriers:
            return None
        barrier = self._barriers.popleft()
        kept = type(barrier)(max(clock, barrier.time), barrier.ends, barrier.horizon)
        reached = {topic: min(at, barrier.ends.get(topic, 0)) for topic, at in self._reached.items()}
        return self._cut(kept, reached, advances=True)

    return [(Inbox, "next_step", mutated)]


MUTATIONS = (
    Mutation(
        "no offsets in timer-only transactions",
        "offsets travel in every transaction",
        _no_offsets_when_only_time_moved,
        (LIVE,),
    ),
    Mutation("no generation with the offsets", "offsets carry the member's generation", _no_generation),
    Mutation("generation asked for once and kept", "the generation is asked for at every commit", _generation_cached),
    Mutation("position() instead of own next offsets", "we keep our own next offsets", _positions_of_the_consumer),
    Mutation("store written before the commit", "a store is written after its transaction", _written_before_commit),
    Mutation("store trusted, tail not replayed", "the changelog's tail brings a store up to date", _store_trusted),
    Mutation(
        "end captured before committed(), as read_committed has it",
        "committed() first, then the changelog's end",
        _end_before_committed,
    ),
    Mutation(
        "changelog's end as read_committed has it", "the changelog's end is asked for read_uncommitted", _stable_end
    ),
    Mutation("committed() does not wait", "committed() waits for pending transactions", _no_wait_for_pending_offsets),
    Mutation(
        "restore reads uncommitted records",
        "a restore reads read_committed",
        lambda: _uncommitted("orchestrator-restore"),
    ),
    Mutation("restore stops at the last record", "a restore ends by position, past markers", _ends_ignored_by_restore),
    Mutation("inputs read uncommitted", "inputs are read read_committed", lambda: _uncommitted("engine"), (LIVE,)),
    Mutation("reads on while it restores", "nothing is read before the state is there", _reads_while_it_restores),
    Mutation("lost partitions are kept", "lost: abort and drop", _lost_is_nothing),
    Mutation("revoked without commit or abort", "revoked: commit, then let go", _revoked_without_an_end),
    Mutation("overlay kept after an abort", "after an abort everything in memory is dropped", _overlay_kept),
    Mutation("hot cache kept after an abort", "changed customers leave the cache after an abort", _cache_kept),
    Mutation("commit in doubt taken for done", "in doubt: a new process finds out", _taken_for_done),
    Mutation("commit in doubt taken for failed", "in doubt: a new process finds out", _taken_for_failed),
    Mutation(
        "slots of erased customers not kept", "the end of a window outlives its customer's erasure", _slots_not_kept
    ),
    Mutation(
        "events of erased customers are taken",
        "a lagging topic does not bring an erased customer back",
        _taken_after_erasure,
    ),
    Mutation("sweep ignores staged writes", "a sweep sees what the same transaction wrote", _sweep_ignores_staged),
    Mutation("sweep cursor too far after a restore", "the sweep goes on from the last commit", _sweep_from_now),
    Mutation(
        "ends past markers are not told", "end-of-partition events move a step on", _ends_ignored_by_inbox, (LIVE,)
    ),
    Mutation(
        "barrier ends with read_committed", "a barrier's ends are asked for read_uncommitted", _stable_barriers, (LIVE,)
    ),
    Mutation("instant taken after the ends", "the instant first, then the ends", _instant_after_the_ends, (LIVE,)),
    Mutation("clock goes back", "T never goes back", _clock_goes_back, (LIVE,)),
    Mutation("barrier not waited for", "a step ends where its barrier says", _barrier_not_waited_for),
    Mutation(
        "reference data not waited for", "no clock passes reference data that is not loaded", _references_not_waited_for
    ),
)

UNSEEN = (
    (
        "commit, not abort, when partitions are lost",
        "the generation in the offsets refuses such a commit, so nothing comes of it",
        "tests/kafka/test_broker_facts.py: a member that is gone cannot commit offsets in a transaction",
    ),
    (
        "a transactional id per start instead of per ordinal",
        "the generation fences zombies by itself; the id only ends the dead twin's transaction at once",
        "tests/kafka/test_broker_facts.py: a zombie is fenced and its records are never shown",
    ),
    (
        "no pause while restoring, or no seek after it, but not both",
        "each makes up for the other: what is read too early is dropped, and read again",
        "the mutation of both, above",
    ),
    (
        "partition p decided while p of another input is somebody else's",
        "range assignment over one subscription never splits p; it takes a stranger in the group",
        "tests/test_simulator.py: a stranger in the group stops a partition, and breaks nothing",
    ),
    (
        "a store is built upon however old it is",
        "no run lasts until a volume comes back behind an erasure whose tombstone was compacted away; 10,000 did not",
        "tests/runtime/test_restore.py: a store that is too old is restored from scratch",
    ),
    (
        "an open iterator keeps the store locked",
        "RocksDB itself is outside: the simulator's store has the same rows over memory",
        "tests/runtime/test_state_store.py",
    ),
)
"""Rules that the simulator cannot see: what was tried, why nothing comes of it here, and what tests it instead."""


def main() -> int:
    """Try every mutation; the exit code is 1 when one was not noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.mutations", description=__doc__)
    parser.add_argument("--only", default="", help="mutations whose name has this word")
    parser.add_argument("--most", type=int, default=MOST)
    parser.add_argument("--write", action="store_true", help="renew docs/proofs/mutations.md")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # of stores that are restored from scratch
    rows: list[tuple[Mutation, Noticed | None]] = []
    for mutation in MUTATIONS:
        if arguments.only in mutation.name:
            rows.append((mutation, notice(mutation, arguments.most)))
            print(_row(*rows[-1]), flush=True)
    if arguments.write:
        _write(ROOT / "docs" / "proofs" / "mutations.md", rows)
    return 0 if all(noticed is not None for _, noticed in rows) else 1


def _row(mutation: Mutation, noticed: Noticed | None) -> str:
    if noticed is None:
        return f"| {mutation.rule} | {mutation.name} | – | not noticed | – |"
    symptom = noticed.symptom.replace("|", "/").split("; set them back")[0]
    return f"| {mutation.rule} | {mutation.name} | {noticed.mode} {noticed.seed} | {symptom} | {noticed.schedules:,} |"


def _write(path: Path, rows: Sequence[tuple[Mutation, Noticed | None]]) -> None:
    noticed = sum(found is not None for _, found in rows)
    lines = [
        "# The loop's rules, broken one at a time",
        "",
        f"Written by `python -m tests.simulator.mutations --write` on {time.strftime('%Y-%m-%d')}, "
        f"{platform.machine()}, Python {platform.python_version()}.",
        "",
        "The simulator runs the real loop over fake brokers. Each rule below was broken on purpose, and schedules",
        f"were run from seed 0 until one was violated: {noticed} of {len(rows)} are noticed.",
        "",
        "| rule | broken: | first seed | symptom | schedules needed |",
        "|---|---|---|---|---|",
        *(_row(mutation, found) for mutation, found in rows),
        "",
        "## What the simulator cannot see",
        "",
        "| broken | why nothing comes of it here | what tests it instead |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in UNSEEN),
        "",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
