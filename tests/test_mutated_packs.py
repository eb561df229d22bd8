"""Definitions as nobody should write them end in a list of problems or a program; nothing of them is executed."""

from __future__ import annotations

import os

from tests.mutated_packs import run, watched

PACKS = 200


def test_mutated_packs_are_problems_or_programs_in_bounded_time() -> None:
    """Two hundred of them; a hundred thousand are `python -m tests.mutated_packs`."""
    found = run(PACKS, seed=7)
    print(f"\n{found}")

    assert found.failures == []
    assert found.refused + found.programs == PACKS
    assert min(found.refused, found.programs, found.run, *found.kinds.values()) > 0
    assert found.slowest < 30


def test_the_watch_sees_what_is_executed() -> None:
    """It would notice code, processes and files."""
    with watched() as seen:
        exec(compile("1", "x", "exec"))
        os.system("true")

    assert [event.partition(" ")[0] for event in seen] == ["compile", "exec", "os.system"]
