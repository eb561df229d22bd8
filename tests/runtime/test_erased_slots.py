"""Of whom an end is kept after an erasure is not told by what is kept."""

from __future__ import annotations

from orchestrator.runtime.erased_slots import ErasedSlots, pack_end, unpack_ends


def kept(slots: ErasedSlots) -> dict[bytes, int]:
    """Return what another process finds in the store."""
    return unpack_ends((name, end) for name, end in slots.changes() if end is not None)


def test_an_end_is_found_again_by_another_process_with_the_same_salt() -> None:
    """And by none with another: names of a customer differ between installations."""
    slots = ErasedSlots("pepper", {})
    slots.keep(b"ana", 1_000)

    assert ErasedSlots("pepper", kept(slots)).inherit(b"ana") == 1_000
    assert ErasedSlots("salt", kept(slots)).inherit(b"ana") is None
    assert ErasedSlots("pepper", kept(slots)).inherit(b"bob") is None


def test_an_end_is_inherited_once() -> None:
    """From then on it is in the customer's own state."""
    slots = ErasedSlots("pepper", {})
    slots.keep(b"ana", 1_000)
    slots.settle()

    assert [slots.inherit(b"ana"), slots.inherit(b"ana"), len(slots)] == [1_000, None, 0]
    assert [end for _, end in slots.changes()] == [None]


def test_an_end_goes_when_it_has_passed() -> None:
    """The last one counts, where somebody was erased twice; what was read from the store goes as well."""
    slots = ErasedSlots("pepper", {b"stored": 500})
    slots.keep(b"ana", 900)
    slots.keep(b"ana", 1_000)

    assert [slots.drop(499), slots.drop(500), slots.drop(999), len(slots)] == [False, True, False, 1]
    assert [slots.drop(1_000), len(slots)] == [True, 0]
    assert {end for _, end in slots.changes()} == {None}
    assert pack_end(None) is None
