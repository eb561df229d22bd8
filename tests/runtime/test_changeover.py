"""Definitions that are published come into force at an instant of the clock, wherever the barriers are."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.program import Program
from tests.builders import ABANDONED_CART, CART_RESCUE, TOPICS, instant, program
from tests.runtime.messages import CLICKSTREAM, PROFILES, Bench, item_added, profile, to

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
