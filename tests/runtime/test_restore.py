"""Stores are brought up to date from the changelog: all of it, or the tail behind what they hold."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.events import FOREVER
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.erasures import ERASURE_KEY
from orchestrator.runtime.restore import Restorer
from orchestrator.runtime.state_store import META_KEY, Meta, StateStore, Stored, meta_to_bytes, pack

pytestmark = pytest.mark.broker

_names = count(1)
States = Mapping[bytes, tuple[int, bytes] | None]


class Clock:
    """A wall clock set by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


class Changelog:
    """A changelog of its own, written as workers do: one transaction per commit, the meta record last."""

    def __init__(self, bootstrap: str, partitions: int = 1) -> None:
        self.name = f"restore-{next(_names)}"
        self.config: dict[str, Any] = {"bootstrap.servers": bootstrap}
        admin = AdminClient(self.config)
        admin.create_topics([NewTopic(self.name, partitions, 1)])[self.name].result(20)
        self._producer = Producer({**self.config, "transactional.id": self.name})
        self._producer.init_transactions(20)
        self.commits = dict.fromkeys(range(partitions), 0)

    def commit(self, states: States, partition: int = 0) -> None:
        """Write one commit: customers to (due, state), None for an erased one."""
        self._producer.begin_transaction()
        for key, stored in states.items():
            self._producer.produce(self.name, None if stored is None else pack(Stored(*stored)), key, partition)
            self._producer.poll(0)
        self.commits[partition] += 1
        number = self.commits[partition]
        meta = Meta(number * 1_000, {"clickstream": number}, "v1")
        self._producer.produce(self.name, meta_to_bytes(meta), META_KEY, partition)
        self._producer.commit_transaction(20)

    def keep_slot(self, name: bytes, end: bytes | None) -> None:
        """Write until when the slot of somebody erased is held, None for no longer."""
        self._producer.begin_transaction()
        self._producer.produce(self.name, end, ERASURE_KEY + name, 0)
        self._producer.commit_transaction(20)

    def end(self, partition: int = 0) -> int:
        """Return the next offset."""
        restorer = Restorer(self.config, self.name)
        _, high = restorer.span(self.name, partition)
        restorer.close()
        return high


@pytest.fixture
def changelog(embedded: EmbeddedBroker) -> Changelog:
    """Return an empty changelog of one partition."""
    return Changelog(embedded.bootstrap)


@pytest.fixture
def restorer(changelog: Changelog) -> Iterator[Restorer]:
    """Return a restorer over the changelog."""
    restorer = Restorer(changelog.config, changelog.name, Clock())
    yield restorer
    restorer.close()


def restored(restorer: Restorer, *numbers: int, records: int = 10_000) -> dict[int, Meta]:
    """Return the meta records of partitions once they are up to date."""
    found: dict[int, Meta] = {}
    deadline = time.monotonic() + 30
    while set(found) != set(numbers):
        assert time.monotonic() < deadline, "the restore does not end"
        found |= restorer.advance(records, 0.2)
    assert restorer.left == 0
    return found


def content(store: StateStore) -> dict[bytes, tuple[int, bytes]]:
    """Return all customers of a store, whose timers must be theirs."""
    customers = {key: (stored.due, stored.state) for key, stored in store.customers()}
    assert store.due(0) == sorted((due, key) for key, (due, _) in customers.items() if due != FOREVER)
    return customers


def test_an_empty_changelog_is_restored_at_once(restorer: Restorer, tmp_path: Path) -> None:
    """A first start has nothing to read, and knows no position."""
    store = StateStore(tmp_path / "0")
    restorer.begin(0, store)

    assert restored(restorer, 0) == {0: Meta(-FOREVER, {}, "", 0, as_of=1_000_000)}
    assert content(store) == {}
    store.close()


def test_a_lost_store_is_rebuilt_from_the_beginning(changelog: Changelog, restorer: Restorer, tmp_path: Path) -> None:
    """The last word on every customer counts, an erased one is gone, and the meta record is the last commit's."""
    changelog.commit({b"ana": (5, b"a1"), b"bob": (6, b"b1"), b"cleo": (FOREVER, b"c1")})
    changelog.commit({b"ana": (9, b"a2"), b"bob": None})
    store = StateStore(tmp_path / "0")
    restorer.begin(0, store)
    assert restorer.left == changelog.end()

    meta = restored(restorer, 0)[0]

    assert content(store) == {b"ana": (9, b"a2"), b"cleo": (FOREVER, b"c1")}
    assert meta == Meta(2_000, {"clickstream": 2}, "v1", changelog.end(), as_of=1_000_000)
    assert store.meta() == meta
    store.close()


def test_what_is_kept_of_erased_customers_is_restored(changelog: Changelog, restorer: Restorer, tmp_path: Path) -> None:
    """As long as it is kept: it is a row of its own, not a customer."""
    changelog.commit({b"ana": (5, b"a1")})
    changelog.keep_slot(b"one", b"12345678")
    changelog.keep_slot(b"two", b"12345678")
    changelog.keep_slot(b"two", None)
    store = StateStore(tmp_path / "0")

    restorer.begin(0, store)
    restored(restorer, 0)

    assert store.erasures() == [(b"one", b"12345678")]
    assert content(store) == {b"ana": (5, b"a1")}
    store.close()


def test_only_the_tail_behind_a_store_is_read(changelog: Changelog, restorer: Restorer, tmp_path: Path) -> None:
    """Its old timers go with what moved them."""
    changelog.commit({b"ana": (5, b"a1"), b"bob": (6, b"b1")})
    store = StateStore(tmp_path / "0")
    restorer.begin(0, store)
    restored(restorer, 0)
    read = restorer.records
    changelog.commit({b"ana": (9, b"a2"), b"dan": (7, b"d1")})
    changelog.commit({b"bob": None})

    restorer.begin(0, store)
    meta = restored(restorer, 0)[0]

    assert restorer.records - read == 5
    assert content(store) == {b"ana": (9, b"a2"), b"dan": (7, b"d1")}
    assert meta.clock == 3_000
    store.close()


def test_a_store_that_is_up_to_date_reads_nothing(changelog: Changelog, restorer: Restorer, tmp_path: Path) -> None:
    """A worker that stopped in good order goes on at once."""
    changelog.commit({b"ana": (5, b"a1")})
    store = StateStore(tmp_path / "0")
    restorer.begin(0, store)
    first = restored(restorer, 0)
    read = restorer.records

    restorer.begin(0, store)

    assert restored(restorer, 0) == first
    assert restorer.records == read
    store.close()


def test_a_store_ahead_of_its_changelog_is_rebuilt(changelog: Changelog, restorer: Restorer, tmp_path: Path) -> None:
    """The changelog was created anew: what the store holds belongs to another one."""
    changelog.commit({b"ana": (5, b"a1")})
    store = StateStore(tmp_path / "0")
    batch = store.batch()
    batch.put(b"old", pack(Stored(1, b"old")), 1, FOREVER)
    batch.put_meta(Meta(9_000, {"clickstream": 99}, "v0", 1_000_000))
    store.write(batch)

    restorer.begin(0, store)
    meta = restored(restorer, 0)[0]

    assert content(store) == {b"ana": (5, b"a1")}
    assert meta.clock == 1_000
    store.close()


@pytest.mark.parametrize("away", [101, -101], ids=["away_for_long", "the_clock_was_set_back"])
def test_a_store_that_is_too_old_is_restored_from_scratch(changelog: Changelog, tmp_path: Path, away: int) -> None:
    """Compaction may have removed the tombstone of somebody erased, who would live on in it."""
    clock = Clock()
    restorer = Restorer(changelog.config, changelog.name, clock, max_age=100)
    store = StateStore(tmp_path / "0")
    changelog.commit({b"ana": (5, b"a1"), b"bob": (6, b"b1")})
    restorer.begin(0, store)
    restored(restorer, 0)
    _plant(store, b"erased")  # whose tombstone is no longer there
    changelog.commit({b"ana": (9, b"a2")})

    clock.now += away
    restorer.begin(0, store)
    restored(restorer, 0)

    assert content(store) == {b"ana": (9, b"a2"), b"bob": (6, b"b1")}
    restorer.close()
    store.close()


def test_a_store_of_the_last_days_is_built_upon(changelog: Changelog, tmp_path: Path) -> None:
    """As is one that is old, but behind which nothing was written."""
    clock = Clock()
    restorer = Restorer(changelog.config, changelog.name, clock, max_age=100)
    store = StateStore(tmp_path / "0")
    changelog.commit({b"ana": (5, b"a1")})
    restorer.begin(0, store)
    restored(restorer, 0)

    clock.now += 100
    changelog.commit({b"ana": (9, b"a2")})
    restorer.begin(0, store)
    read = restorer.records
    restored(restorer, 0)
    clock.now += 1_000
    restorer.begin(0, store)
    restored(restorer, 0)

    assert restorer.records - read == 2
    restorer.close()
    store.close()


def test_an_interrupted_restore_leaves_a_store_as_old_as_it_was(changelog: Changelog, tmp_path: Path) -> None:
    """What was read last may have been written long before."""
    clock = Clock()
    restorer = Restorer(changelog.config, changelog.name, clock)
    store = StateStore(tmp_path / "0")
    changelog.commit({b"ana": (5, b"a1")})
    restorer.begin(0, store)
    restored(restorer, 0)
    changelog.commit({b"c%05d" % number: (5, b"x") for number in range(9_000)})

    clock.now += 100
    restorer.begin(0, store)
    while restorer.records < 7_000:
        restorer.advance(500, 0.2)
    restorer.drop(0)
    meta = store.meta()

    assert meta is not None
    assert (meta.changelog > 5_000, meta.as_of) == (True, 1_000_000)
    restorer.close()
    store.close()


def _plant(store: StateStore, customer: bytes) -> None:
    batch = store.batch()
    batch.put(customer, pack(Stored(7, b"x")), 7, FOREVER)
    store.write(batch)


def test_a_large_changelog_is_read_in_steps(changelog: Changelog, restorer: Restorer, tmp_path: Path) -> None:
    """The caller goes on being heard between them, and sees how much is left."""
    for round_ in range(2):
        changelog.commit({b"c%05d" % n: (n + 1 + round_, b"%d" % round_) for n in range(6_500)})
    store = StateStore(tmp_path / "0")
    restorer.begin(0, store)

    lefts = [restorer.left]
    while not restorer.advance(1_000, 0.2):
        lefts.append(restorer.left)

    assert len(lefts) > 10
    assert lefts == sorted(lefts, reverse=True)
    assert content(store) == {b"c%05d" % n: (n + 2, b"1") for n in range(6_500)}
    store.close()


def test_an_interrupted_restore_goes_on_where_it_stood(
    changelog: Changelog, restorer: Restorer, tmp_path: Path
) -> None:
    """A partition that was taken away and comes back, or a worker that was killed, does not begin again."""
    changelog.commit({b"c%05d" % n: (n + 1, b"0") for n in range(12_000)})
    changelog.commit({b"c%05d" % n: (n + 2, b"1") for n in range(0, 12_000, 2)})
    store = StateStore(tmp_path / "0")
    restorer.begin(0, store)
    while restorer.records < 7_000:
        restorer.advance(500, 0.2)
    restorer.drop(0)
    store.close()
    read = restorer.records
    store = StateStore(tmp_path / "0")

    restorer.begin(0, store)
    restored(restorer, 0)

    assert restorer.records - read < 18_002 - 5_000 + 1
    assert content(store) == {b"c%05d" % n: (n + 1 + (n + 1) % 2, b"%d" % ((n + 1) % 2)) for n in range(12_000)}
    store.close()


def test_partitions_are_restored_side_by_side(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Each is ready as soon as it is up to date; one that was dropped is not waited for."""
    changelog = Changelog(embedded.bootstrap, partitions=3)
    for number in range(3):
        changelog.commit({b"c%d" % number: (5, b"%d" % number)}, number)
    restorer = Restorer(changelog.config, changelog.name)
    stores = [StateStore(tmp_path / str(number)) for number in range(3)]
    for number, store in enumerate(stores):
        restorer.begin(number, store)

    restorer.drop(1)
    found = restored(restorer, 0, 2)

    assert {number: meta.clock for number, meta in found.items()} == {0: 1_000, 2: 1_000}
    assert [content(store) for store in stores] == [{b"c0": (5, b"0")}, {}, {b"c2": (5, b"2")}]
    restorer.close()
    for store in stores:
        store.close()
