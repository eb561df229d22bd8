"""Which program is in force when."""

from orchestrator.program import Definitions, Program
from orchestrator.programs import Programs


def named(version: str) -> Program:
    """Return a program without anything in it."""
    return Program(Definitions(version), {})


def test_the_first_counts_from_the_beginning_and_each_until_the_next() -> None:
    """In whatever order they are told."""
    programs = Programs()
    for instant, version in ((200, "b"), (100, "a"), (300, "c")):
        programs.put(instant, named(version))

    assert [programs.at(instant).version for instant in (-5, 100, 199, 200, 299, 300)] == list("aaabbc")
    assert programs.changes(100, 300) == [200, 300]
    assert programs.changes(200, 299) == []
    assert programs.changes(-(2**62), 2**62) == [200, 300]


def test_the_same_instant_replaces() -> None:
    """As the compacted topic does."""
    programs = Programs()
    for version in ("a", "b"):
        programs.put(100, named(version))

    assert programs.at(100).version == "b"
    assert not programs.changes(0, 2**62)


def test_none_is_false() -> None:
    """A worker has to wait for one."""
    assert not Programs()
    assert Programs(named("a"))
