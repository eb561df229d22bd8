"""Definitions published to three workers under load: every decision carries the version in force at its instant."""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.published import read_all
from tests.kafka.broker import KafkaBroker
from tests.kafka.test_live import DEFINITIONS, MINUTE, SOON, Shop
from tests.kafka.workers import Run, wait_for
from tests.measured import MEASURED

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

WORKERS = 3


def pack(folder: Path, campaign: str) -> Path:
    """Return a folder with a pack whose one campaign is called so."""
    folder.mkdir()
    (folder / "all.yaml").write_text(DEFINITIONS.replace("cart_rescue\n", f"{campaign}\n", 1))
    return folder


@contextmanager
def carts(shop: Shop, filled: list[str]) -> Iterator[None]:
    """Fill carts all the time, each of another customer, until left."""
    stop = threading.Event()

    def fill() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            shop.agree(f"p{number}")
            shop.fill_cart(f"p{number}", now_ms() + SOON - MINUTE)
            filled.append(f"p{number}")

    filler = threading.Thread(target=fill)
    filler.start()
    try:
        yield
    finally:
        stop.set()
        filler.join()


def test_three_workers_change_over_and_back_at_the_same_instant(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Two versions and a rollback under load: nothing is decided twice, nothing is lost, nobody restarts."""
    run = Run(
        "changeover", kafka.bootstrap, tmp_path, f"published-{uuid.uuid4().hex[:6]}-",
        {"BARRIERS": "live", "COMMIT_INTERVAL": "200ms", "MAX_LAG": "60s", "DEFINITIONS": "topic"},
    )  # fmt: skip

    def told(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["definitions", *arguments], env=run.environment(0))
        assert result.exit_code == 0, result.output
        return result.output

    first, second = pack(tmp_path / "one", "first"), pack(tmp_path / "two", "second")
    filled: list[str] = []
    try:
        told("publish", str(first), "--in", "5s")
        shop = Shop(run)
        workers = [run.start(number) for number in range(WORKERS)]
        wait_for(lambda: len(run.members()) == WORKERS, "three workers in the group")

        def decides(campaign: str) -> bool:
            return any(one["campaign"] == campaign for one in run.records("decisions"))

        with carts(shop, filled):
            wait_for(lambda: decides("first"), "decisions by the first")
            told("publish", str(second), "--in", "5s", "--note", "another name")
            wait_for(lambda: decides("second"), "decisions by the second")
            told("rollback", "--in", "5s")
            back = read_all(run.settings, run.topics)[-1].effective_from
            wait_for(lambda: now_ms() > back + 4_000, "some time after the rollback")
        wait_for(lambda: {one["customer_id"] for one in run.records("decisions")} >= set(filled), "every cart")
        for worker in workers:
            worker.must_run()
            assert worker.stop() == 0
    finally:
        run.close()

    published = read_all(run.settings, run.topics)
    decisions = [one for one in run.records("decisions") if one["campaign"] is not None]
    per_version: Counter[str] = Counter()
    for one in decisions:
        begun = [had for had in published if had.effective_from <= one["decided_at"]]
        in_force = begun[-1] if begun else published[0]
        assert one["definitions_version"] == in_force.version, (one, [had.effective_from for had in published])
        assert one["campaign"] == ("second" if in_force is published[1] else "first")
        per_version[one["campaign"]] += 1
    print(f"{MEASURED}changeover under load: {len(filled)} carts, {dict(per_version)}, versions {len(published)}")
    assert len(published) == 3
    assert published[0].version == published[2].version
    assert per_version["first"] > 0
    assert per_version["second"] > 0
    assert Counter(one["customer_id"] for one in decisions) == Counter(filled)
    assert run.audit().clean
