"""The changelog and every store are lost amid a stream: rebuilt, the group goes on and keeps its promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from orchestrator.demo.world import World
from orchestrator.events import MINUTE
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.topic_admin import apply
from orchestrator.runtime.topic_reader import topic_spans
from tests.kafka.broker import KafkaBroker
from tests.kafka.test_live import MINUTE as ONE_MINUTE
from tests.kafka.test_live import SOON, Live
from tests.kafka.workers import ROOT, Run, differences, wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

HOUSEHOLDS, DAYS = 100, 120
PREFIX = "rebuild-"


@pytest.fixture(scope="module")
def undisturbed(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Return a run that has decided everything."""
    run = Run("undisturbed", kafka.bootstrap, tmp_path_factory.mktemp("rebuild"), PREFIX)
    world = World(7, households=HOUSEHOLDS, days=DAYS)
    run.replay(world.stream(), world.ends_at, barrier_every=15 * MINUTE)
    run.finish()
    yield run
    run.close()


def command(run: Run, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Return what an `orchestrator` command with the settings of a run printed."""
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=ROOT,
        env={**os.environ, **run.environment(0, **more)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def lose_everything(run: Run) -> None:
    """Delete the changelog and every store, and create the changelog anew."""
    admin = AdminClient(run.client)
    name = run.topics.changelog.name
    admin.delete_topics([name])[name].result(30)
    wait_for(lambda: name not in admin.list_topics(timeout=10).topics, "the end of the changelog")
    apply(admin, run.topics)
    shutil.rmtree(run.state())


def test_after_the_loss_of_everything_a_rebuild_goes_on(undisturbed: Run, kafka: KafkaBroker, tmp_path: Path) -> None:
    """A worker refuses to begin anew; rebuilt, it writes what the undisturbed run writes, and the audit is clean."""
    # A static member is counted as running until its session ends, a minute after it has stopped.
    run = Run("lost", kafka.bootstrap, tmp_path, PREFIX, {"STATIC_MEMBERSHIP": "false"})
    try:
        half = run.barriers() // 2
        worker = run.start(crash={"SMALL_BATCHES": "200"})
        wait_for(lambda: run.decided() >= half, "half of the stream")
        with worker.held():  # or a quick machine comes to the end meanwhile
            refused = command(run, "rebuild")
        assert (refused.returncode, "are running" in refused.stderr) == (1, True), refused.stderr
        assert worker.stop() == 0
        assert not run.finished
        held = command(run, "rebuild")
        assert (held.returncode, "holds a state" in held.stderr) == (1, True), held.stderr
        lose_everything(run)

        worker = run.start()
        assert worker.wait() == 1
        assert "'Disaster recovery'" in worker.log
        rebuilt = command(run, "rebuild")
        assert rebuilt.returncode == 0, rebuilt.stderr
        print(f"\n{rebuilt.stdout}")
        run.finish()

        assert run.audit().violations == ()
        assert differences(run.outputs(), undisturbed.outputs()) == ""
    finally:
        run.close()


class Lost(Live):
    """A live worker with topics of its own, which leaves its group as soon as it stops."""

    def another(self, name: str, inputs: str = "lost-", **more: str) -> Run:
        return super().another(name, inputs, STATIC_MEMBERSHIP="false", **more)


def test_a_live_group_whose_offsets_have_expired_as_well_is_rebuilt(kafka: KafkaBroker, tmp_path: Path) -> None:
    """The barriers it used say where it stood: slots stay held, and what waited goes out in time."""
    live = Lost(kafka, tmp_path)
    try:
        first, second = live.shop.customers(3, 5), live.shop.customers(2, 2)
        opened = now_ms() + SOON
        for customer in first:
            live.shop.fill_cart(customer, opened - ONE_MINUTE)
        wait_for(lambda: live.decided(*first), "the first carts")
        due = now_ms() + 25_000
        for customer in second:
            live.shop.fill_cart(customer, due - ONE_MINUTE)
        ends = topic_spans(live.run.client, "lost-clickstream")
        wait_for(
            lambda: all(live.run.committed()["clickstream", number] >= ends[number].end for number in (2, 3)),
            "the other carts to be read",
        )
        erased = first[0]
        live.shop.send("customer-profiles", erased, None)
        places = topic_spans(live.run.client, "lost-customer-profiles")[3]
        wait_for(lambda: live.run.committed()["customer-profiles", 3] >= places.end, "the erasure")
        assert live.worker.stop() == 0
        admin = AdminClient(live.run.client)
        for asked in admin.delete_consumer_groups([live.run.settings.group]).values():
            asked.result(30)
        lose_everything(live.run)

        rebuilt = command(live.run, "rebuild")
        assert rebuilt.returncode == 0, rebuilt.stderr
        print(f"\n{rebuilt.stdout}")
        live.worker = live.run.start()
        wait_for(lambda: live.decided(*second), "the other carts, after the loss")
        live.shop.fill_cart(erased, opened + 1)  # what lags of somebody erased is nothing
        live.shop.agree(erased)
        for customer in first:
            live.shop.fill_cart(customer, now_ms() if customer == erased else opened + 1)
        # A cart is left for a minute.
        wait_for(lambda: all(len(live.why(customer)) == 2 for customer in first), "the first again", patience=180)

        assert {live.why(customer)[1] for customer in first} == {"slot_held"}
        assert [one["saw"] for one in live.decisions(erased)[1]["candidates"]] == ["(erased)"]
        assert [one["decided_at"] for customer in second for one in live.decisions(customer)] == [due, due]
        assert live.run.audit().violations == ()
    finally:
        live.close()
