"""Definitions that are published come into force at an instant of the clock, wherever the barriers are."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.customer import customer_from_bytes
from orchestrator.definitions.load import load
from orchestrator.program import Program
from orchestrator.runtime.barriers import Barrier
from tests.builders import ABANDONED_CART, CART_RESCUE, TOPICS, instant, program
from tests.runtime.messages import CLICKSTREAM, PROFILES, PURCHASES, Bench, bought, item_added, profile, to

CUSTOMERS = ("ana", "ben", "eva")
OLD, NEW = program(moments=[ABANDONED_CART], campaigns=[CART_RESCUE]), program(
    moments=[ABANDONED_CART], campaigns=[replace(CART_RESCUE, name="cart_rescue_2")]
)  # fmt: skip


def versioned(running: Program, version: str) -> Program:
    """Return a program with another version."""
    return Program(replace(running.definitions, version=version), TOPICS)


def run(folder: Path, steps: Iterable[str], effective_from: str = "10:30") -> Bench:
    """Return a partition that decided three carts, abandoned at ten, half past and eleven, in the given steps."""
    bench = Bench(folder, running=versioned(OLD, "old"))
    bench.programs.put(instant(effective_from), versioned(NEW, "new"))
    bench.step("00:00", [to(customer, PROFILES, profile(customer=customer)) for customer in CUSTOMERS])
    carts = {"ana": "09:00", "ben": "09:30", "eva": "10:00"}
    left = [(at, to(customer, CLICKSTREAM, item_added(at, customer))) for customer, at in carts.items()]
    for step in steps:
        bench.step(step, [record for at, record in left if instant(at) <= instant(step)])
        left = [(at, record) for at, record in left if instant(at) > instant(step)]
    return bench


def decided(bench: Bench) -> list[tuple[int, str, str]]:
    """Return when what was decided by which version."""
    decisions = bench.sent.values("decisions")
    return sorted(
        (one["decided_at"], one["campaign"], one["definitions_version"]) for one in decisions if one["campaign"]
    )


@pytest.mark.parametrize(
    "steps", [["12:00"], ["10:29", "10:31", "12:00"], ["10:30", "12:00"], ["09:45", "10:15", "11:15", "12:00"]]
)
def test_every_decision_carries_the_version_in_force_at_its_instant(tmp_path: Path, steps: list[str]) -> None:
    """What falls due at the very instant is the new one's; barriers do not show."""
    bench = run(tmp_path, steps)

    assert decided(bench) == [
        (instant("10:00"), "cart_rescue", "old"),
        (instant("10:30"), "cart_rescue_2", "new"),
        (instant("11:00"), "cart_rescue_2", "new"),
    ]
    bench.partition.close()


def test_barriers_do_not_show_in_any_byte(tmp_path: Path) -> None:
    """A step that spans the changeover decides as two would that meet there."""
    one, two = (
        run(tmp_path / str(number), steps) for number, steps in enumerate((["12:00"], ["10:20", "10:40", "12:00"]))
    )

    assert sorted(one.sent.raw, key=str) == sorted(two.sent.raw, key=str)
    for bench in (one, two):
        bench.partition.close()


def test_published_while_time_stood_still(tmp_path: Path) -> None:
    """A worker that restarts after the changeover goes on with the new ones."""
    bench = run(tmp_path, ["10:10"])
    bench.commit()
    bench.reopen()
    bench.step("12:00", [to("eva", CLICKSTREAM, item_added("10:20", "eva"))])

    assert decided(bench)[-1] == (instant("11:20"), "cart_rescue_2", "new")
    bench.partition.close()


SEGMENTS = """
features: { orders: { count: order.placed } }
segments: { buyers: { say: "Bought something", is: "orders >= 1" } }
moments:
  - moment: emptied
    say: "Emptied a cart"
    starts_on: { event: cart.emptied }
    unless: { event: order.placed, within: 1h }
    lasts: 1h
"""
FOR_ALL = """
  - moment: letter
    say: "Thursday morning"
    schedule: { every: thursday, at: "10:00", segment: buyers, spread: 4h }
    lasts: 6h
  - moment: buys
    say: "Is a buyer"
    entered: buyers
    lasts: 2d
    include_current: { max_per_hour: 4 }
"""


def compiled(text: str) -> Program:
    """Return a program of a pack."""
    definitions, problems = load({"x": text})
    assert definitions is not None, problems
    return Program(definitions, TOPICS)


def states_after(folder: Path, last: Iterable[Program], *, commits: bool, erased: bool = False) -> dict[bytes, bytes]:
    """Return what is stored once definitions that concern everybody came into force at half past ten and later."""
    bench = Bench(folder, running=compiled(SEGMENTS))
    for number, one in enumerate(last):
        bench.programs.put(instant("10:30") + number, one)
    records = [to(customer, PROFILES, profile(customer=customer)) for customer in CUSTOMERS]
    records += [to(customer, PURCHASES, bought("09:00", customer, event_id=customer)) for customer in CUSTOMERS]
    bench.step("10:00", records)
    if erased:
        bench.commit()
        bench.step("10:10", [to("ben", PROFILES, None)])
    bench.step("12:00")
    if commits:
        bench.commit()
        bench.reopen()
    while bench.partition.is_adopting:
        bench.partition.adopt()
    bench.commit()
    bench.partition.close()
    bench = Bench(folder)
    states = {key: stored.state for key, stored in bench.store.customers()}
    bench.partition.close()
    return states


def test_definitions_count_for_whoever_came_since_the_last_commit(tmp_path: Path) -> None:
    """Where commits happen to be, and crashes, does not show: neither in who comes in nor in when."""
    program = compiled(SEGMENTS + FOR_ALL)
    one, two = (states_after(tmp_path / str(commits), [program], commits=commits) for commits in (False, True))

    assert one == two
    for state in one.values():
        fires = customer_from_bytes(state).fires
        assert instant("12:00") < fires["buys"] <= instant("12:45"), "in the past, it would never be found again"
        assert fires["letter"] > instant("12:00")


def test_definitions_do_not_count_for_whoever_was_erased(tmp_path: Path) -> None:
    """Also before the erasure is committed: who is not in the segment of buyers may be somebody known, or nobody."""
    strangers = SEGMENTS.replace("orders >= 1", "orders == 0") + FOR_ALL
    one, two = (
        states_after(tmp_path / str(commits), [compiled(strangers)], commits=commits, erased=True)
        for commits in (False, True)
    )

    assert one == two
    assert set(one) == {b"ana", b"eva"}


def test_nothing_is_decided_until_definitions_count_for_everybody(tmp_path: Path) -> None:
    """However many barriers wait already."""
    bench = Bench(tmp_path, running=compiled(SEGMENTS))
    bench.programs.put(instant("10:30"), compiled(SEGMENTS + FOR_ALL))
    bench.step("12:00")
    bench.partition.inbox.add_barrier(Barrier(instant("12:01"), {}))

    assert bench.partition.next_step(lambda _: True) is None
    bench.partition.adopt()
    assert bench.partition.next_step(lambda _: True) is not None
    bench.partition.close()


def test_definitions_that_were_replaced_at_once_count_for_nobody(tmp_path: Path) -> None:
    """Those in force after a step count, whatever was in force within it."""
    states = states_after(tmp_path, [compiled(SEGMENTS + FOR_ALL), compiled(SEGMENTS)], commits=False)

    assert all(not {"buys", "letter"} & set(customer_from_bytes(state).fires) for state in states.values())
