"""Static members restarted one after the other: nobody else stops for it, and nothing is lost or sent twice."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.runtime.clock import now_ms
from tests.kafka.broker import KafkaBroker
from tests.kafka.test_live import DEFINITIONS, MINUTE, SOON, Shop
from tests.kafka.workers import Run, Worker, wait_for
from tests.measured import MEASURED

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

WORKERS = range(3)
A_ROUND = 2
"""Customers of every partition who fill a cart while one worker is away."""


def generation(kafka: KafkaBroker, run: Run) -> int:
    """Return the newest generation of a run's group that the broker has told of."""
    told = re.findall(rf"Stabilized group {run.settings.group} generation (\d+)", kafka.log.read_text(errors="replace"))
    return max(map(int, told), default=0)


def test_a_rolling_restart_of_static_members_changes_no_generation(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Whoever comes back within the session has its partitions again, and decides what was due meanwhile, once."""
    definitions = tmp_path / "definitions"
    definitions.mkdir()
    (definitions / "all.yaml").write_text(DEFINITIONS)
    live = {"BARRIERS": "live", "DEFINITIONS": str(definitions), "COMMIT_INTERVAL": "200ms", "MAX_LAG": "30s"}
    name = f"rolling{now_ms()}"  # a rerun must not meet the members of before
    run = Run(name, kafka.bootstrap, tmp_path, f"{name}-", {**live, "STATIC_MEMBERSHIP": "true"})
    try:
        shop = Shop(run)
        partitions = range(run.topics.partitions)
        rounds = [[name for p in partitions for name in shop.customers(p, A_ROUND)] for _ in WORKERS]
        workers: dict[int, Worker] = {ordinal: run.start(ordinal) for ordinal in WORKERS}
        wait_for(lambda: sorted(map(bool, run.members().values())) == [True] * len(WORKERS), "three members")
        wait_for(lambda: all(run.committed()["customer-profiles", p] > 0 for p in partitions), "every partition")
        before, owned = generation(kafka, run), run.members()

        gaps = []
        for ordinal, customers in zip(WORKERS, rounds, strict=True):
            asked_at = time.monotonic()
            assert workers[ordinal].stop() == 0
            due = now_ms() + SOON
            for customer in customers:
                shop.fill_cart(customer, due - MINUTE)
            filled = run.committed()
            mine = owned[f"{run.settings.group}-{ordinal}"]
            workers[ordinal] = run.start(ordinal)
            wait_for(
                lambda filled=filled, mine=mine: all(  # type: ignore[misc]  # of this round
                    run.committed()["clickstream", p] > filled["clickstream", p] for p in mine
                ),
                "its next commit",
            )
            gaps.append(time.monotonic() - asked_at)
            expected = set(customers)
            wait_for(
                lambda expected=expected: expected <= {one["customer_id"] for one in run.records("decisions")},  # type: ignore[misc]
                "everybody's decision",
            )
        after = generation(kafka, run)

        assert before > 0
        assert (after, run.members()) == (before, owned)
        everybody = sorted(name for customers in rounds for name in customers)
        decided = Counter(one["customer_id"] for one in run.records("decisions"))
        assert sorted(decided.elements()) == everybody
        treated = [one["customer_id"] for one in run.records("decisions") if one["arm"] == "treatment"]
        assert sorted(one["customer_id"] for one in run.records("triggers")) == sorted(treated)
        assert run.audit().violations == ()
        told = ", ".join(f"{gap:.1f}" for gap in gaps)
        print(
            f"{MEASURED}"
            f"rolling restart of {len(WORKERS)} static members: generation {before} before and {after} after; 0 of "
            f"{len(everybody)} decisions lost, 0 repeated; from SIGTERM to the worker's next commit {told} s"
        )
    finally:
        run.close()
