"""Reference data: what is forgotten is what nobody asks for, and nothing is decided otherwise for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.definitions.load import load
from orchestrator.events import FOREVER, HOUR, MINUTE
from orchestrator.moments.stock import looks_back
from orchestrator.program import Program
from orchestrator.reference import Product, Reference
from orchestrator.runtime.barriers import NoBarriers
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.loop import Loop, LoopConfig
from orchestrator.simulation import Simulation
from orchestrator.valuation import START, LeafValue, records_of
from tests.builders import TOPICS, event, instant, line, order, snapshot, worth
from tests.builders import program as first_moments
from tests.moments.test_stock import TEXT
from tests.test_engine_properties import BUDGET

VERSIONS = st.builds(
    Product,
    st.sampled_from(("LAMP", "VASE")),
    st.integers(0, 20),
    category=st.sampled_from((None, "home", "gifts")),
    stock=st.integers(0, 3),
    launch_at=st.sampled_from((None, 5, 15, 25)),
)


def everything(reference: Reference, since: int) -> list[object]:
    """Return all that can be asked as of instants from one on."""
    return [
        [
            reference.changes(at, FOREVER),
            reference.count_changes(at, FOREVER),
            reference.cut_points("tier", at),
            *((reference.product(sku, at), reference.versions(sku, at + 1, FOREVER)) for sku in ("LAMP", "VASE")),
            *(reference.next_launch(category, after, at) for category in ("home", "gifts") for after in (0, 9, 20)),
        ]
        for at in range(since, 30)
    ]


@settings(BUDGET, max_examples=200)
@given(st.lists(st.lists(VERSIONS, max_size=6), max_size=4), st.lists(st.integers(0, 25), min_size=4, max_size=4))
def test_what_can_still_be_asked_for_is_kept(batches: list[list[Product]], instants: list[int]) -> None:
    """However often something is forgotten in between, and whatever is told late."""
    whole, short = Reference(), Reference()
    for batch, before in zip(batches, sorted(instants), strict=False):
        for version in batch:
            whole.put(version)
            short.put(version)
            for reference in (whole, short):
                reference.put_cut_points("tier", version.effective_from, {"gold": version.stock or 0})
        short.forget(before)

        assert everything(short, before) == everything(whole, before)


def test_a_product_whose_stock_changes_all_the_time_stays_small() -> None:
    """And what is asked of the time before is answered with the oldest that is left, not before there was any."""
    reference = Reference([Product("BOOK", 0, category="media")])
    for at in range(100, 10_000):
        reference.put(Product("LAMP", at, category="home", stock=at % 7))
        reference.put_cut_points("tier", at, {"gold": at})
        reference.forget(at - 10)

    assert [one.effective_from for one in reference.versions("LAMP", 0, FOREVER)] == list(range(9_989, 10_000))
    assert len(reference.changes(-FOREVER, FOREVER)) == 10
    assert reference.cut_points("tier", 9_988) is None
    assert [getattr(reference.product("LAMP", at), "effective_from", None) for at in (99, 100, 9_995)] == [
        None,
        9_989,
        9_995,
    ]
    assert reference.product("BOOK", 5) == Product("BOOK", 0, category="media")


WHO, SKUS = ("ana", "ben"), ("LAMP", "VASE")
HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from((0, MINUTE, 20 * MINUTE, 2 * HOUR, 13 * HOUR, 30 * HOUR)),
        st.sampled_from(("stock", "stock", "viewed", "viewed", "order", "time")),
        st.sampled_from(WHO),
        st.sampled_from(SKUS),
        st.integers(0, 12),
        st.sampled_from((0, 0, MINUTE, HOUR)),
    ),
    min_size=4,
    max_size=40,
)


@settings(BUDGET, max_examples=200)
@given(HAPPENINGS)
def test_forgetting_changes_no_decision(happenings: list[tuple[int, str, str, str, int, int]]) -> None:
    """Moments that wait for stock come to the same with what is left of it, also with events that are late."""
    definitions, _ = load({"x": TEXT})
    assert definitions is not None
    compiled = Program(definitions, TOPICS)
    plain, forgetful = (Simulation(compiled, Reference(), start=instant("08:00")) for _ in range(2))
    now = instant("09:00")
    for gap, kind, who, sku, number, late in [*happenings, (48 * HOUR, "time", "ana", "LAMP", 0, 0)]:
        now += gap
        told = event("product.viewed", now - late, who, sku=sku)
        if kind == "order":
            told = order(now - late, lines=[line(sku)], customer=who)
        for world in (plain, forgetful):
            if kind == "stock":
                world.reference.put(Product(sku, now, stock=number))
            elif kind != "time":
                world.feed(told)
            world.advance(now)
        forgetful.reference.forget(now - looks_back(compiled))

        assert forgetful.decisions == plain.decisions
        assert {who: one.to_bytes() for who, one in forgetful.customers.items()} == {
            who: one.to_bytes() for who, one in plain.customers.items()
        }


@pytest.mark.parametrize(("lag", "slowest", "restoring", "left"), [
    (MINUTE, 40 * HOUR, False, 20), (MINUTE, 10 * HOUR, False, 50), (MINUTE, 40 * HOUR, True, 50),
    (None, 40 * HOUR, False, 50),
])  # fmt: skip
def test_the_loop_forgets_by_its_slowest_partition(
    lag: int | None, slowest: int, restoring: bool, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live and when all of them are there; a replay keeps every version."""
    monkeypatch.setattr("orchestrator.runtime.loop.looks_back", lambda _: 10 * HOUR - MINUTE)
    reference = Reference(Product("LAMP", number * HOUR) for number in range(50))
    deciding: Any = SimpleNamespace(max_lag=lag, reference=reference)
    nothing: Any = None
    config = LoopConfig(["clickstream"], None, "changelog", "w0", commit_interval=1_000)
    producer: Any = SimpleNamespace(produce=None)
    loop = Loop(config, nothing, producer, nothing, nothing, NoBarriers(), deciding, nothing, nothing, now_ms)
    for number, reached in enumerate((50 * HOUR, slowest)):
        partition: Any = SimpleNamespace(reached=reached, program=first_moments(), has_changes=False)
        loop.partitions[number] = partition
    if restoring:
        loop._restoring[7] = nothing

    loop.commit()

    assert len(reference.versions("LAMP", 0, FOREVER)) == left


# --- what campaigns are worth -----------------------------------------------------------------------------------------


def in_force(reference: Reference, at: int) -> str | None:
    """Return the version of the snapshot in force at an instant."""
    found = reference.policy(at)
    return None if found is None else found.version


def test_the_newest_policy_that_counts_is_in_force() -> None:
    """In whichever order they became known; another one from the same instant on takes its place."""
    reference = Reference()
    for version, since in (("b", 20), ("a", 10), ("c", 30), ("other b", 20)):
        reference.put_policy(snapshot({}, since=since, version=version))

    assert [in_force(reference, at) for at in (9, 10, 19, 20, 30, 99)] == [None, "a", "a", "other b", "c", "c"]


def test_policies_that_others_followed_are_forgotten() -> None:
    """The one in force stays, and so do those to come."""
    reference = Reference()
    for since in (10, 20, 30, 40):
        reference.put_policy(snapshot({}, since=since, version=f"from {since}"))
    reference.forget(35)

    assert [in_force(reference, at) for at in (15, 25, 35, 45)] == [None, None, "from 30", "from 40"]


@given(st.permutations(range(6)), st.integers(0, 5))
def test_a_policy_counts_once_all_of_it_is_there(order: list[int], repeated: int) -> None:
    """Its leaves come in any order and more than once, beside those of another version; a part of one says nothing."""
    arms = {"a@email": worth(1.5, -2.25, hold=0.25, lift=0.5, next="a", control_bp=700)}
    values = LeafValue(arms, {START: (0.5, 4.0)})
    whole = [snapshot(arms, leaves={"x=1": values, "x=2": values}, since=since) for since in (10, 20)]
    records = [record for one in whole for record in records_of(one).values()]
    order = [*order[:repeated], *order]
    reference = Reference()
    for place, number in enumerate(order):
        reference.take("policy_leaf", records[number])
        seen = set(order[: place + 1])
        assert (reference.policy(15) is not None) is ({0, 1, 2} <= seen)
        assert (reference.policy(25) is not None) is (bool({0, 1, 2} <= seen) or {3, 4, 5} <= seen)

    found = reference.policy(25)
    assert found is not None
    assert found.leaf("x=1").advantages(found.leaf("x=1").arms["a@email"], START) == values.advantages(
        arms["a@email"], START
    )


def test_half_a_policy_is_forgotten_when_another_took_its_place() -> None:
    """Its other half will not come any more."""
    first, second = (
        list(records_of(snapshot({}, leaves={"x=1": LeafValue()}, since=since)).values()) for since in (10, 20)
    )
    reference = Reference()
    for record in (first[0], *second):
        reference.take("policy_leaf", record)
    reference.forget(30)
    reference.take("policy_leaf", first[1])

    assert reference.policy(15) is None
