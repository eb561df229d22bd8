"""The loop keeps its promises in hundreds of schedules of faults, and the simulator notices when it would not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from confluent_kafka import TopicPartition

from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.loop import Loop, TimedOutError
from tests.simulator.__main__ import simulate
from tests.simulator.mutations import MUTATIONS, Mutation, notice
from tests.simulator.run import Run
from tests.simulator.schedule import (
    KILL,
    LIVE,
    REPLAY,
    REPLY,
    STALL,
    STOP,
    STRANGER,
    TRANSACTION,
    TWIN,
    Fault,
    Schedule,
    Shape,
    schedule,
)
from tests.simulator.shrink import describe, shrink
from tests.simulator.worker import Worker
from tests.simulator.world import PARTITIONS

SCHEDULES = 500
"""What fits into the tests that everybody runs; `python -m tests.simulator` runs more."""

SOON = 250
"""Within so many schedules the mutations tried here are noticed; bench figures of all are in docs/proofs."""

FOUND: dict[str, tuple[str, *tuple[Fault, ...]]] = {
    "stopped_between_the_question_and_the_restore": (
        REPLAY,
        Fault(STOP, 0, "committed", 1, after=True, amount=11_000),
        Fault(STOP, 1, "committed", 2, after=True, amount=11_000),
    ),
    "not_polled_within_the_interval": (LIVE, Fault(STALL, 0, "probe.applied", 3, amount=25_000)),
    "answered_too_late_though_committed": (REPLAY, Fault(REPLY, 0, "commit_transaction", 3, detail=(3, -1))),
    "killed_with_its_commit_on_the_way": (REPLAY, Fault(REPLY, 0, "commit_transaction", 3, detail=(3, 4_000))),
    "a_twin_between_offsets_and_end": (LIVE, Fault(TWIN, 0, "send_offsets", 4, after=True, amount=9_000)),
    "killed_between_two_stores": (REPLAY, Fault(KILL, 0, "store.write", 5, after=True, amount=500)),
}
"""Faults that found something once, in the loop or in the simulator, or that are the worst of their kind."""

NOTICED_SOON = tuple(
    mutation
    for mutation in MUTATIONS
    if mutation.name
    in {
        "no generation with the offsets",
        "position() instead of own next offsets",
        "store written before the commit",
        "store trusted, tail not replayed",
        "restore reads uncommitted records",
        "inputs read uncommitted",
        "commit in doubt taken for failed",
        "sweep ignores staged writes",
        "barrier ends with read_committed",
        "instant taken after the ends",
        "clock goes back",
        "barrier not waited for",
    }
)


def test_no_schedule_of_faults_breaks_a_promise() -> None:
    """Kills, zombies, rebalances, commits in doubt and slow topics change nothing of what comes out."""
    report = simulate(range(SCHEDULES), (LIVE, REPLAY))
    print("\n" + "\n".join(report.lines()))

    assert report.failed == []
    assert sum(report.faults.values()) > SCHEDULES
    assert report.counts["triggers"] > SCHEDULES


@pytest.mark.parametrize("mode", [LIVE, REPLAY])
def test_undisturbed_the_loop_does_what_the_oracle_expects(mode: str) -> None:
    """Without faults nothing aborts, nobody is fenced, and every output is as computed from the barriers."""
    for seed in range(20):
        result = Run(schedule(seed, mode).without_faults()).run()

        assert result.violations == ()
        assert result.counts["aborts"] == result.counts["fenced"] == 0


@pytest.mark.parametrize("name", FOUND)
def test_a_fault_of_note_breaks_nothing(name: str) -> None:
    """In many worlds and set-ups, the fault strikes and every promise is kept."""
    mode, *faults = FOUND[name]
    struck = 0
    for seed in range(12):
        result = Run(replace(schedule(seed, mode), faults=tuple(faults))).run()
        struck += sum(result.faults.values())

        assert result.violations == ()
    assert struck > 6


def test_a_worker_held_up_for_too_long_names_its_transaction_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """To Kafka it looks like one that was replaced; nobody replaced it, so it does not stay away."""
    ends: list[OperatorError] = []
    original = Run._exited

    def noted(self: Run, worker: Worker, error: OperatorError) -> None:
        ends.append(error)
        original(self, worker, error)

    monkeypatch.setattr(Run, "_exited", noted)
    held_up = Fault(STALL, 0, "flush", 3, after=True, amount=TRANSACTION + 2_000)
    result = Run(replace(schedule(1, LIVE), shape=Shape(workers=1), faults=(held_up,))).run()

    assert result.violations == ()
    assert [type(error) for error in ends] == [TimedOutError]
    assert all(
        word in str(ends[0]) for word in ("ORCHESTRATOR_TRANSACTION_TIMEOUT", "another worker", "ORCHESTRATOR_ORDINAL")
    )


def test_a_worker_without_partitions_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spare has nothing to restore; while the group has not answered, nobody is ready."""
    before: list[bool] = []
    after: list[tuple[int, bool]] = []
    start, stop = Loop.start, Loop.stop

    def started(self: Loop) -> None:
        start(self)
        before.append(self.ready)

    def stopped(self: Loop) -> None:
        after.append((len(self.partitions), self.ready))
        stop(self)

    monkeypatch.setattr(Loop, "start", started)
    monkeypatch.setattr(Loop, "stop", stopped)
    run = Run(replace(schedule(1, LIVE).without_faults(), shape=Shape(workers=PARTITIONS + 1)))

    assert run.run().violations == ()
    assert before == [False] * (PARTITIONS + 1)
    assert sorted(after) == [(0, True), *[(1, True)] * PARTITIONS]


def test_a_stranger_in_the_group_stops_a_partition_and_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partition p is decided only by who has p of every input; to decide it nevertheless is noticed."""
    stranger = Fault(STRANGER, 0, nth=9_000, amount=30_000, detail=("clickstream",))
    runs = [Run(replace(schedule(seed, LIVE), faults=(stranger,))) for seed in range(6)]

    assert [violation for run in runs for violation in run.run().violations] == []

    def any_of_them(_: Loop, assigned: Sequence[TopicPartition]) -> list[int]:
        return sorted({where.partition for where in assigned})

    monkeypatch.setattr(Loop, "_whole_partitions", any_of_them)
    careless = [Run(replace(schedule(seed, LIVE), faults=(stranger,))) for seed in range(6)]

    assert [violation for run in careless for violation in run.run().violations] != []


@pytest.mark.parametrize("mode", [LIVE, REPLAY])
def test_a_seed_is_one_run(mode: str) -> None:
    """The same seed gives the same faults at the same places and the same result, threads or not."""
    for seed in range(12):
        first, second = (Run(schedule(seed, mode)).run() for _ in range(2))

        assert first == second


@pytest.mark.parametrize("mutation", NOTICED_SOON, ids=lambda mutation: mutation.name.replace(" ", "_"))
def test_a_broken_rule_is_noticed(mutation: Mutation) -> None:
    """Without one of its rules the loop breaks a promise within few schedules."""
    assert notice(mutation, SOON) is not None


def test_a_failing_schedule_shrinks_to_what_makes_it_fail() -> None:
    """Of many faults and records only those stay without which it would not fail."""
    fatal = Fault(KILL, 0, "flush", 3)
    others = tuple(Fault(KILL, 1, "consume", number) for number in range(5, 9))
    full = replace(schedule(3, REPLAY), faults=(*others[:2], fatal, *others[2:]))

    def failing(candidate: Schedule) -> str | None:
        return "made up: it fails" if fatal in candidate.faults and len(candidate.arrivals) > 1 else None

    small = shrink(full, failing)

    assert small.faults == (fatal,)
    assert len(small.arrivals) == 2
    assert small.shape == Shape()
    assert "kill worker 0, before flush number 3" in describe(small)
