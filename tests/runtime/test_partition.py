"""One partition: what a step changes, which timers it sees, and that neither commits nor the cache show in results."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from orchestrator.customer import STATE_VERSION, Customer, customer_from_bytes
from orchestrator.events import DAY, FOREVER, HOUR, MINUTE
from orchestrator.moments.rules import EventMatch, Moment, ProductState, Stage
from orchestrator.moments.rules import Sequence as Shape
from orchestrator.program import Definitions, Program
from orchestrator.reference import Product, Reference
from orchestrator.runtime.erasures import ERASURE_KEY, Erasure, unpack_erasures
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.partition import SCAN_ROWS
from orchestrator.runtime.state_store import Batch, Meta, Stored, pack
from tests.builders import ANA, TOPICS, instant, program
from tests.runtime.messages import (
    CLICKSTREAM,
    PROFILES,
    PURCHASES,
    Bench,
    bought,
    item_added,
    profile,
    to,
    viewed,
)

Record = tuple[str, bytes | None, bytes | None]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a partition that knows Ana at midnight."""
    bench = Bench(tmp_path / "0")
    bench.step("00:00", [to(ANA, PROFILES, profile())])
    bench.commit()
    yield bench
    bench.partition.close()


def test_timers_written_in_the_same_transaction_are_seen(bench: Bench) -> None:
    """A cart that is abandoned before the next commit is as abandoned as any other."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    bench.step("09:59", [])
    assert bench.sent.reasons == []

    bench.step("10:00", [])

    assert bench.sent.reasons == ["chosen"]
    assert [trigger["campaign"] for trigger in bench.sent.values("campaign-triggers")] == ["cart_rescue"]


def test_timers_of_earlier_commits_are_seen(bench: Bench) -> None:
    """They wait in the store."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    bench.commit()

    bench.step("10:00", [])

    assert bench.sent.reasons == ["chosen"]


def test_a_timer_that_was_read_ahead_and_then_moved_does_not_fire(bench: Bench) -> None:
    """What this transaction wrote counts, not what it read."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    bench.commit()
    bench.step("09:01", [])  # reads ahead
    bench.step("09:30", [to(ANA, PURCHASES, bought("09:30"))])

    bench.step("23:00", [])

    assert bench.sent.values("decisions") == []


def test_a_timer_that_was_moved_and_committed_does_not_fire(bench: Bench) -> None:
    """Its old row is gone from the store."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    bench.commit()
    bench.step("09:30", [to(ANA, CLICKSTREAM, item_added("09:30"))])
    bench.commit()

    bench.step("10:29", [])
    assert bench.sent.values("decisions") == []
    bench.step("10:30", [])
    assert bench.sent.reasons == ["chosen"]
    assert [due for due, _ in bench.store.due(0)] == [instant("10:30")]  # until the next commit
    bench.commit()
    assert [due for due, _ in bench.store.due(0)] == [instant("3d 10:30")]  # the end of the window


@pytest.mark.parametrize("customers", [SCAN_ROWS - 1, SCAN_ROWS, SCAN_ROWS + 1, 3 * SCAN_ROWS])
def test_any_number_of_timers_at_one_instant_fire_once(tmp_path: Path, customers: int) -> None:
    """However many rows are read at once, with other instants before and after."""
    bench = Bench(tmp_path / "0")
    names = [f"c{number:04}" for number in range(customers)]
    bench.step("00:00", [to(name, PROFILES, profile(customer=name)) for name in names])
    early, *same, late = names
    bench.step("09:05", [
        to(early, CLICKSTREAM, item_added("08:59", early)),
        *(to(name, CLICKSTREAM, item_added("09:00", name)) for name in same),
        to(late, CLICKSTREAM, item_added("09:01", late)),
    ])  # fmt: skip
    bench.commit()

    bench.step("10:00", [])
    decided = [decision["customer_id"] for decision in bench.sent.values("decisions")]
    bench.step("10:00:30", [])
    bench.commit()
    bench.step("10:01", [])

    assert decided == [early, *same]
    assert [decision["customer_id"] for decision in bench.sent.values("decisions")] == names
    bench.partition.close()


def test_timers_spread_over_many_scans_fire_in_order(tmp_path: Path) -> None:
    """Each once, at the first step that reaches it, however the scans fall."""
    bench = Bench(tmp_path / "0")
    names = [f"c{number:04}" for number in range(400)]
    bench.step("00:00", [to(name, PROFILES, profile(customer=name)) for name in names])
    start = instant("09:00")
    added = [start + (number // 3) * 1_000 for number in range(400)]
    bench.step("09:30", [
        to(name, CLICKSTREAM, item_added(at, name)) for name, at in zip(names, added, strict=True)
    ])  # fmt: skip
    bench.commit()

    for seconds in range(0, 140, 7):
        before = len(bench.sent.values("decisions"))
        bench.step(start + HOUR + seconds * 1_000, [])
        new = bench.sent.values("decisions")[before:]
        assert [(d["decided_at"], d["customer_id"]) for d in new] == [
            (at + HOUR, name)
            for name, at in zip(names, added, strict=True)
            if seconds - 7 < (at - start) // 1_000 <= seconds
        ]
    assert len(bench.sent.values("decisions")) == 400
    bench.partition.close()


def test_an_idle_step_of_a_live_worker_keeps_nothing(tmp_path: Path) -> None:
    """Time goes by without a transaction; what is kept are the barriers that were used."""
    bench = Bench(tmp_path / "0", live=True)
    bench.step("00:00", [])
    assert not bench.partition.has_changes

    bench.step("09:00", [to(ANA, PROFILES, profile())])

    assert bench.partition.has_changes
    assert [barrier["time"] for barrier in bench.sent.values("clock")] == [instant("09:00")]
    bench.partition.close()


def test_where_something_is_learned_an_idle_partition_tells_once_a_minute_how_far_it_is(tmp_path: Path) -> None:
    """What is learned as of an instant waits for all partitions to have come to it."""
    running = program()
    by_value = replace(running.definitions, policy=replace(running.policy, method="expected_value"))
    bench = Bench(tmp_path / "0", live=True, running=Program(by_value, running.definitions.topics))
    bench.step("09:00", [to(ANA, PROFILES, profile())])
    for minutes in range(1, 8):
        bench.step(instant("09:00") + minutes * MINUTE // 2, [])

    told = [barrier["time"] - instant("09:00") for barrier in bench.sent.values("clock")]
    assert told == [0, MINUTE, 2 * MINUTE, 3 * MINUTE]
    bench.partition.close()


def test_a_dead_letter_alone_is_a_change(bench: Bench) -> None:
    """It is written with the offset that it was read at, once."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, b"json")])

    assert bench.partition.has_changes
    assert [letter["reason"] for letter in bench.sent.dead_letters] == ["undecodable"]
    assert bench.partition.positions[CLICKSTREAM] == 1


# --- erasure ----------------------------------------------------------------------------------------------------------


def test_a_tombstone_erases_state_timer_and_changelog(bench: Bench) -> None:
    """Nothing fires for somebody who is gone."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    bench.commit()

    bench.step("09:30", [to(ANA, PROFILES, None)])
    bench.commit()
    bench.step("23:00", [])

    assert (ANA.encode(), None) in bench.changelog
    assert list(bench.store.customers()) == []
    assert bench.store.due(0) == []
    assert bench.sent.values("decisions") == []
    assert bench.sent.records["active-campaign"] == [(0, ANA.encode(), None)]


def test_an_erasure_takes_back_outcomes(bench: Bench) -> None:
    """Their topic is compacted and holds the customer's id."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    bench.step("5d 00:00", [])
    (outcome,) = bench.sent.values("campaign-outcomes")

    bench.step("5d 01:00", [to(ANA, PROFILES, None)])

    assert bench.sent.records["campaign-outcomes"][-1] == (0, outcome["outcome_id"].encode(), None)


def test_whoever_comes_back_starts_anew(bench: Bench) -> None:
    """Within the same step as in a later one: by the order of the profiles, as a tombstone has no time of its own."""
    again = profile("08:00")
    bench.step("09:30", [
        to(ANA, CLICKSTREAM, item_added("09:00")), to(ANA, PROFILES, None), to(ANA, PROFILES, again)
    ])  # fmt: skip
    bench.step("10:30", [])
    assert bench.sent.values("decisions") == []

    bench.step("11:00", [to(ANA, CLICKSTREAM, item_added("11:00"))])
    bench.step("12:00", [])

    assert bench.sent.reasons == ["chosen"]


def test_an_erasure_of_somebody_unknown_leaves_only_that_it_was(bench: Bench) -> None:
    """And tombstones, in case there ever was something; what is known of them may be on its way in another topic."""
    bench.step("09:00", [to("nobody", PROFILES, None)])
    bench.commit()

    assert (b"nobody", None) in bench.changelog
    assert _kept(bench) == [Erasure(instant("09:00"))]
    assert [key for key, _ in bench.store.customers()] == [ANA.encode()]


def test_an_erasure_within_the_transaction_that_created_the_customer(bench: Bench) -> None:
    """Neither row nor timer is left of somebody who came and went between two commits."""
    bench.step(
        "09:00", [to("bob", PROFILES, profile(customer="bob")), to("bob", CLICKSTREAM, item_added(customer="bob"))]
    )
    bench.step("09:10", [to("bob", PROFILES, None)])
    bench.commit()

    assert [key for key, _ in bench.store.customers()] == [ANA.encode()]
    assert bench.store.due(0) == []


def _kept(bench: Bench) -> list[Erasure]:
    """Return what is stored of erased customers."""
    return list(unpack_erasures(bench.store.erasures()).values())


def _again(bench: Bench, at: str) -> None:
    """Ana comes back with a profile and fills another cart."""
    bench.step(at, [to(ANA, PROFILES, profile(at)), to(ANA, CLICKSTREAM, item_added(at))])


@pytest.mark.parametrize("committed", [True, False], ids=["later", "in_the_same_transaction"])
def test_whoever_comes_back_while_a_window_runs_waits_for_its_end(bench: Bench, *, committed: bool) -> None:
    """The slot stays held, without a word about what holds it; with its end, everything open is decided."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    bench.step("10:00", [])  # a window until 3d 10:00
    bench.commit()
    bench.step("10:30", [to(ANA, PROFILES, None)])
    if committed:
        bench.commit()
        bench.reopen()

    _again(bench, "2d 21:00")
    bench.step("2d 22:00", [])
    bench.commit()
    held = bench.sent.values("decisions")[-1]
    bench.step("3d 10:10", [])
    bench.commit()

    assert (held["reason"], [one["saw"] for one in held["candidates"]]) == ("slot_held", ["(erased)"])
    assert bench.sent.reasons == ["chosen", "slot_held", "chosen"]
    assert bench.sent.values("decisions")[-1]["decided_at"] >= instant("3d 10:00")
    assert bench.sent.values("campaign-outcomes") == []
    assert _kept(bench) == [Erasure(instant("10:30"))]


def test_of_an_erasure_two_instants_are_kept_and_nobodys_name(bench: Bench) -> None:
    """In the store as in the changelog; they go once nothing that comes late can lie before them."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    bench.step("10:00", [])
    bench.commit()

    bench.step("10:30", [to(ANA, PROFILES, None)])
    bench.commit()
    kept = bench.store.erasures()
    written = bench.changelog[-1]
    bench.step("5d 10:00", [])
    bench.commit()

    ((name, row),) = kept
    assert written == (ERASURE_KEY + name, row)
    assert unpack_erasures(kept) == {name: Erasure(instant("10:30"), instant("3d 10:00"))}
    assert ANA.encode() not in name
    assert list(bench.store.customers()) == []
    assert bench.changelog[-1] == (ERASURE_KEY + name, None)
    assert bench.store.erasures() == []


def test_a_second_erasure_keeps_what_the_first_one_left(bench: Bench) -> None:
    """Whether they came back in between or not."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    bench.step("10:00", [])
    for at in ("10:30", "10:31", "10:33"):
        bench.step(at, [to(ANA, PROFILES, None)])
        bench.commit()
        if at == "10:31":
            bench.step("10:32", [to(ANA, PROFILES, profile("10:32"))])
            bench.commit()

    assert _kept(bench) == [Erasure(instant("10:33"), instant("3d 10:00"))]


@pytest.mark.parametrize("committed", [True, False], ids=["later", "in_the_same_transaction"])
def test_what_lags_does_not_bring_an_erased_customer_back(bench: Bench, *, committed: bool) -> None:
    """No state, no timer, no decision; what happens after the erasure begins anew, and what lags still counts not."""
    bench.step("09:30", [to(ANA, PROFILES, None), to("bob", PROFILES, None)])
    if committed:
        bench.commit()
        bench.reopen()

    bench.step("09:35", [
        to(ANA, CLICKSTREAM, item_added("09:00")),
        to(ANA, PURCHASES, bought("09:30")),
        to("bob", CLICKSTREAM, item_added("09:31", "bob")),
    ])  # fmt: skip
    bench.commit()
    assert [key for key, _ in bench.store.customers()] == [b"bob"]
    assert bench.tally.erased_events == 2

    bench.step("09:40", [to(ANA, PROFILES, profile("-1d 00:00"))])  # a profile is later, whatever its time says
    bench.step("09:45", [to(ANA, CLICKSTREAM, item_added("09:20", cart="lost"))])
    bench.commit()
    assert [key for key, _ in bench.store.customers()] == [ANA.encode(), b"bob"]
    bench.step("10:40", [])
    assert (bench.sent.reasons, bench.tally.erased_events) == (["no_consent"], 3)  # of Bob, who has no profile

    bench.step("11:00", [to(ANA, CLICKSTREAM, item_added("11:00"))])
    bench.step("12:00", [])
    assert bench.sent.reasons[1:] == ["chosen"]


def test_an_event_of_the_erasures_own_step_is_older_than_it(bench: Bench) -> None:
    """Also at the very instant: topics are not read to the same point."""
    bench.step("09:30", [to("bob", CLICKSTREAM, item_added("09:30", "bob")), to("bob", PROFILES, None)])
    bench.commit()

    assert [key for key, _ in bench.store.customers()] == [ANA.encode()]
    assert bench.tally.erased_events == 1


def test_an_old_event_does_not_keep_a_timer_from_firing(bench: Bench) -> None:
    """Of somebody who has come back, and who is due in the step in which it comes."""
    bench.step("09:30", [to(ANA, PROFILES, None)])
    _again(bench, "09:40")

    bench.step("10:40", [to(ANA, CLICKSTREAM, item_added("09:00", cart="old"))])

    assert (bench.sent.reasons, bench.tally.erased_events) == (["chosen"], 1)


def test_an_idle_live_partition_forgets_the_end_as_well(tmp_path: Path) -> None:
    """Time alone takes it away: nothing has to happen to anybody."""
    bench = Bench(tmp_path / "0", live=True)
    bench.step("00:00", [to(ANA, PROFILES, profile())])
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    bench.step("10:00", [])
    bench.step("10:30", [to(ANA, PROFILES, None)])
    bench.commit()

    bench.step("3d 09:00", [])
    assert not bench.partition.has_changes
    bench.step("5d 10:00", [])
    assert bench.partition.has_changes
    bench.commit()

    assert bench.store.erasures() == []
    bench.partition.close()


# --- what is counted, and what cannot be read -------------------------------------------------------------------------


def test_counts_are_by_plain_words(bench: Bench) -> None:
    """Metrics and the demo's page compare and write them as text."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00")), to(ANA, CLICKSTREAM, b"json")])
    bench.step("5d 00:00", [])

    tally = bench.tally
    assert tally.decisions["chosen"] == 1
    assert tally.triggers == {"cart_rescue": 1}
    assert tally.dead_letters == {"undecodable": 1}
    assert (tally.events, tally.outcomes) == (3, 1)
    counts = (tally.decisions, tally.triggers, tally.dead_letters, tally.moments)
    assert {type(word) for count in counts for word in count} == {str}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        pytest.param(b"\x63" + Customer().to_bytes()[1:], "run the newer program", id="of_a_newer_program"),
        pytest.param(b"\x01\xc1", "delete its state directory", id="garbled"),
        pytest.param(b"", "delete its state directory", id="empty"),
    ],
)
def test_a_state_that_cannot_be_read_says_what_to_do(bench: Bench, state: bytes, says: str) -> None:
    """And names no customer."""
    batch = Batch()
    batch.put(b"bob", pack(Stored(FOREVER, state)), FOREVER, FOREVER)
    bench.store.write(batch)

    with pytest.raises(OperatorError, match=says) as caught:
        bench.step("09:00", [to("bob", CLICKSTREAM, item_added(customer="bob"))])
    assert "bob" not in str(caught.value)


# --- whatever the cache and the commits -------------------------------------------------------------------------------


def test_a_cache_that_holds_nobody_is_emptied_at_every_commit(tmp_path: Path) -> None:
    """Within a transaction everybody who was changed stays."""
    bench = Bench(tmp_path / "0", cache_bytes=1)
    bench.step("00:00", [to(name, PROFILES, profile(customer=name)) for name in ("ana", "bob", "cleo")])
    assert bench.partition.cached_customers == 3

    bench.commit()

    assert bench.partition.cached_customers == 0
    bench.partition.close()


def test_the_cache_keeps_whoever_was_met_last(tmp_path: Path) -> None:
    """It is bounded by bytes, whatever the number of customers."""
    bench = Bench(tmp_path / "0", cache_bytes=200_000)
    for number in range(200):
        name = f"c{number}"
        bench.step(instant("00:00") + number * 1_000, [to(name, PROFILES, profile(customer=name))])
        bench.commit()

    assert 10 < bench.partition.cached_customers < 100
    loads = bench.tally.loads
    bench.step("01:00", [to("c199", CLICKSTREAM, item_added("00:59", "c199"))])
    assert bench.tally.loads == loads
    bench.step("01:01", [to("c0", CLICKSTREAM, item_added("00:59", "c0"))])
    assert bench.tally.loads == loads + 1
    bench.partition.close()


NAMES = ("ana", "bob", "cleo", "dan")


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, list[Record]]]:
    """Draw steps: how long after the one before, and what was read."""
    now = instant("00:00")
    steps: list[tuple[int, list[Record]]] = [
        (now, [to(name, PROFILES, profile(customer=name, birth_date="1980-03-05")) for name in NAMES])
    ]
    for _ in range(draw(st.integers(2, 12))):
        now += draw(st.sampled_from([MINUTE, 20 * MINUTE, HOUR, 5 * HOUR, DAY, 4 * DAY, 40 * DAY]))
        records = []
        for _ in range(draw(st.integers(0, 5))):
            name = draw(st.sampled_from(NAMES))
            at = now - draw(st.sampled_from([0, MINUTE, 30 * MINUTE, 3 * HOUR, 2 * DAY]))
            kind = draw(st.sampled_from(["add", "add", "buy", "cancel", "profile", "erase", "broken"]))
            number = draw(st.integers(0, 2))
            records.append(_record(kind, name, at, number))
        steps.append((now, records))
    return steps


def _record(kind: str, name: str, at: int, number: int) -> Record:
    if kind == "add":
        return to(name, CLICKSTREAM, item_added(at, name, cart=f"c{number}", event_id=f"{name}{at}{number}"))
    if kind == "buy":
        return to(name, PURCHASES, bought(at, name, f"{name}-{number}", event_id=f"{name}{at}"))
    if kind == "cancel":
        return to(name, PURCHASES, bought(at, name, f"{name}-{number}", event="order.cancelled"))
    if kind == "profile":
        return to(name, PROFILES, profile(at, name, time_zone=("UTC", "Europe/Madrid", "Nowhere")[number]))
    if kind == "erase":
        return to(name, PROFILES, None)
    return to(name, CLICKSTREAM, b"broken")


def _plain(customer: Customer) -> dict[str, Any]:
    """Return a customer's state as values; the order of its sections tells when it was written, and nothing else."""
    state = {name: getattr(customer, name) for name in customer.__struct_fields__ if not name.startswith("raw_")}
    for section in ("raw_facts", "raw_instances"):
        state[section] = {name: msgpack.decode(raw) for name, raw in getattr(customer, section).items()}
    return state | {"closed": customer.closed}


def _played(
    history: Sequence[tuple[int, list[Record]]], commits: Sequence[bool], cache_bytes: int
) -> tuple[object, object, object]:
    """Return everything sent, and what the store holds at the end."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "0", cache_bytes=cache_bytes)
        for (now, records), commit in zip(history, commits, strict=True):
            bench.step(now, records)
            if commit:
                bench.commit()
        bench.commit()
        customers = {
            key: (stored.due, _plain(customer_from_bytes(stored.state)))
            for key, stored in bench.store.customers()
            if stored.state != Customer().to_bytes()
        }
        timers = bench.store.due(0)
        bench.partition.close()
    assert [key for _, key in timers] == [
        key for key, (due, _) in sorted(customers.items(), key=lambda item: (item[1][0], item[0])) if due != FOREVER
    ]
    assert all(one <= another for one, another in pairwise(timers))
    return bench.sent.raw, customers, timers


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(), st.data())
def test_neither_the_cache_nor_the_commits_show_in_the_results(
    history: list[tuple[int, list[Record]]], data: st.DataObject
) -> None:
    """A tiny cache with a commit after every step, and a huge one with commits now and then, emit the same bytes."""
    rarely = data.draw(st.lists(st.booleans(), min_size=len(history), max_size=len(history)))

    often = _played(history, [True] * len(history), 1)

    assert often == _played(history, rarely, 1 << 30)
    assert often == _played(history, [False] * len(history), 1)


def test_a_commit_says_where_it_stands(bench: Bench) -> None:
    """The meta record has the clock, every input's position, the definitions and the changelog's offset."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    bench.commit()

    positions = {PROFILES: 1, CLICKSTREAM: 1, PURCHASES: 0, "email-engagement": 0}
    assert bench.store.meta() == Meta(instant("09:00"), positions, "v1", 3, STATE_VERSION)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("commits", [False, True])
def test_a_change_of_stock_reaches_who_looked_before(tmp_path: Path, commits: bool, restarts: bool) -> None:
    """Who waits for a product is found in memory, in what one transaction wrote, and in the store after a restart."""
    reference = Reference([Product("LAMP", stock=60)])
    bench = Bench(tmp_path / "0", running=Program(_nearly_gone(), TOPICS), reference=reference)
    bench.step("09:00", [to(ANA, PROFILES, profile())])
    bench.step("09:30", [to(ANA, CLICKSTREAM, viewed("09:10"))])
    if commits or restarts:
        bench.commit()
    if restarts:
        bench.restart()
    reference.put(Product("LAMP", instant("10:00"), stock=6))
    bench.step("10:20", [])
    bench.step("11:00", [])
    bench.commit()

    stored = bench.store.get(ANA.encode())
    assert stored is not None
    instances = customer_from_bytes(stored.state).instances("nearly_gone")
    bench.partition.close()
    assert [(key, one.due) for key, one in instances.items()] == [("LAMP", instant("10:30"))]


def _nearly_gone() -> Definitions:
    either = Shape(
        (Stage(EventMatch(("product.viewed",)), DAY),),
        ordered=False,
        wait=30 * MINUTE,
        unless=None,
        then=ProductState(1, 10),
        then_within=DAY,
    )
    moment = Moment("nearly_gone", "Nearly gone", either, key="sku", lasts=12 * HOUR)
    return Definitions("v1", moments={moment.name: moment})


def test_what_nobody_asks_for_is_dropped_by_its_name(bench: Bench) -> None:
    """Events that no definition asks for are counted and not read; the last one tells how far the topic is."""
    looks = [to(ANA, CLICKSTREAM, viewed(at)) for at in ("08:00", "08:10", "08:20")]
    bench.step("09:00", [looks[0], to(ANA, CLICKSTREAM, item_added("08:05")), *looks[1:]])

    assert bench.tally.irrelevant == 3
    assert bench.partition.event_times == {CLICKSTREAM: instant("08:20")}
    bench.step("10:05")
    assert bench.sent.reasons == ["chosen"]
