"""`orchestrator backfill` on a broker: a later feature is as if kept from the beginning, and nothing else moves."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from orchestrator.customer import customer_from_bytes
from orchestrator.demo.world import World
from orchestrator.events import MINUTE
from orchestrator.runtime.state_store import META_KEY, StateStore, pack, unpack
from orchestrator.runtime.topic_reader import read_topic
from tests.kafka.broker import KafkaBroker
from tests.kafka.test_rebuild import command
from tests.kafka.workers import RETAIL, Run, differences, wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

PREFIX = "backfill-"
"""Followed by a number of its own each time: a test that is run a second time begins anew."""
LATER = """
features:
  last_cart_at: { last_time: cart.item_added }
  orders_30d: { count: order.placed, over: 30d }
"""


def changelog(run: Run) -> dict[tuple[int, bytes], bytes]:
    """Return the last word on every key of the changelog."""
    last: dict[tuple[int, bytes], bytes] = {}
    for record in read_topic(run.client, run.topics.changelog.name):
        assert record.key is not None
        if record.value is None:
            last.pop((record.partition, record.key), None)
        else:
            last[record.partition, record.key] = record.value
    return last


def facts(run: Run) -> dict[bytes, dict[str, bytes]]:
    """Return the facts of every customer."""
    states = {key: value for (_, key), value in changelog(run).items() if key[:1] != META_KEY[:1]}
    return {
        key: {name: bytes(raw) for name, raw in customer_from_bytes(unpack(value).state).raw_facts.items()}
        for key, value in states.items()
    }


def test_a_feature_of_later_is_as_if_kept_from_the_beginning(kafka: KafkaBroker, tmp_path: Path) -> None:
    """In the changelog and in the stores; refused beside a worker; the same bytes a second time."""
    more = tmp_path / "more"
    shutil.copytree(RETAIL, more)
    (more / "later.yaml").write_text(LATER)
    prefix = f"{PREFIX}{uuid.uuid4().hex[:6]}-"
    run = Run("late", kafka.bootstrap, tmp_path, prefix, {"STATIC_MEMBERSHIP": "false", "PARTITIONS": "2"})
    kept = Run(
        "kept",
        kafka.bootstrap,
        tmp_path,
        prefix,
        {"STATIC_MEMBERSHIP": "false", "PARTITIONS": "2", "DEFINITIONS": str(more)},
    )
    try:
        empty = command(run, "backfill")
        assert (empty.returncode, "holds no state" in empty.stderr) == (1, True), empty
        world = World(7, households=40, days=60)
        run.replay(world.stream(), world.ends_at, barrier_every=60 * MINUTE)
        worker = run.start()
        wait_for(lambda: run.decided() > 0, "the first barriers")
        with worker.held():
            refused = command(run, "backfill")
        assert (refused.returncode, "are running" in refused.stderr) == (1, True), refused.stderr
        run.wait_until_finished(worker)
        assert worker.stop() == 0
        kept.finish()
        before, outputs, offsets = facts(run), run.outputs(), run.committed()

        unknown = command(run, "backfill", "last_crt_at")
        assert (unknown.returncode, "last_crt_at" in unknown.stderr) == (1, True), unknown.stderr
        done = command(run, "backfill", DEFINITIONS=str(more))
        assert done.returncode == 0, done.stderr
        print(f"\n{done.stdout}")

        after, wanted = facts(run), facts(kept)
        assert after == wanted
        names = {name.partition("~")[0] for own in after.values() for name in own}
        assert names - {name.partition("~")[0] for own in before.values() for name in own} == {
            "last_cart_at",
            "orders_30d",
        }
        assert all(own.items() <= after[key].items() for key, own in before.items())
        assert differences(run.outputs(), outputs) == ""
        assert run.committed() == offsets
        bytes_of_once = changelog(run)
        again = command(run, "backfill", "last_cart_at", "orders_30d", DEFINITIONS=str(more))
        assert "\n0 of " in again.stdout, again.stdout
        assert changelog(run) == bytes_of_once

        worker = run.start(DEFINITIONS=str(more))
        wait_for(lambda: "decides 2 partitions" in worker.log, "its stores")
        assert worker.stop() == 0
        stores = {key: state for path in run.state().rglob("CURRENT") for key, state in stored(path.parent)}
        assert stores == {key: value for (_, key), value in bytes_of_once.items() if key[:1] != META_KEY[:1]}
    finally:
        run.close()
        kept.close()


def stored(path: Path) -> list[tuple[bytes, bytes]]:
    """Return the customers of a store, as packed in the changelog."""
    store = StateStore(path)
    try:
        return [(key, pack(one)) for key, one in store.customers()]
    finally:
        store.close()
