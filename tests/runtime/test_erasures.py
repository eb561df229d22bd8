"""Of whom an erasure is remembered is not told by what is kept."""

from __future__ import annotations

from orchestrator.events import FOREVER
from orchestrator.runtime.erasures import Erasure, Erasures, pack_erasure, unpack_erasures

RETENTION = 5_000


def erasures(salt: str = "pepper", kept: dict[bytes, Erasure] | None = None) -> Erasures:
    """Return what a process goes on with."""
    return Erasures(salt, kept or {}, RETENTION)


def kept(erasures: Erasures) -> dict[bytes, Erasure]:
    """Return what another process finds in the store."""
    return unpack_erasures((name, row) for name, row in erasures.changes() if row is not None)


def test_an_entry_is_found_again_by_another_process_with_the_same_salt() -> None:
    """And by none with another: names of a customer differ between installations."""
    one = erasures()
    one.keep(b"ana", 400, 1_000)
    same, other = erasures("pepper", kept(one)), erasures("salt", kept(one))

    assert (same.latest, same.erased_at(b"ana"), same.inherit(b"ana")) == (400, 400, 1_000)
    assert (other.latest, other.erased_at(b"ana"), other.inherit(b"ana")) == (400, -FOREVER, -FOREVER)
    assert (same.erased_at(b"bob"), same.inherit(b"bob")) == (-FOREVER, -FOREVER)


def test_an_end_is_inherited_once_and_the_erasure_stays() -> None:
    """From then on the end is in the customer's own state; what lags of before may still come."""
    one = erasures()
    one.keep(b"ana", 400, 1_000)
    one.settle()

    assert [one.inherit(b"ana"), one.inherit(b"ana"), one.erased_at(b"ana")] == [1_000, -FOREVER, 400]
    assert list(kept(one).values()) == [Erasure(400)]


def test_an_entry_goes_when_the_inputs_hold_nothing_older_and_its_end_has_passed() -> None:
    """The last erasure counts, where somebody was erased twice; what was read from the store goes as well."""
    one = erasures(kept={b"stored": Erasure(-4_500)})
    one.keep(b"ana", 300)
    one.keep(b"ana", 400)
    one.keep(b"bob", 400, 9_000)

    assert [one.drop(499), one.drop(500), one.drop(5_399), len(one)] == [False, True, False, 2]
    assert [one.drop(5_400), one.erased_at(b"ana"), len(one)] == [True, -FOREVER, 1]
    assert [one.drop(8_999), one.drop(9_000), len(one)] == [False, True, 0]
    assert {row for _, row in one.changes()} == {None}
    assert pack_erasure(None) is None


def test_a_second_erasure_keeps_the_end_that_the_first_one_left() -> None:
    """Nobody came back in between, so nobody inherited it."""
    one = erasures()
    one.keep(b"ana", 400, 1_000)
    one.keep(b"ana", 500)

    assert list(kept(one).values()) == [Erasure(500, 1_000)]


def test_rows_of_the_first_version_hold_an_end_only() -> None:
    """When their customers were erased is not known any more; they go with their end."""
    rows = {b"hash of ana": (1_000).to_bytes(8, "big"), b"hash of bob": pack_erasure(Erasure(400, 1_000)) or b""}
    found = unpack_erasures(rows.items())
    one = erasures(kept=found)

    assert found == {b"hash of ana": Erasure(-FOREVER, 1_000), b"hash of bob": Erasure(400, 1_000)}
    assert (one.latest, one.drop(999), one.drop(1_000), len(one)) == (400, False, True, 1)


def test_an_end_of_the_first_version_that_is_inherited_leaves_nothing() -> None:
    """There is nothing else in its row."""
    one = erasures()
    one.keep(b"ana", -FOREVER, 1_000)
    again = erasures(kept=kept(one))

    assert (again.inherit(b"ana"), len(again), [row for _, row in again.changes()]) == (1_000, 0, [None])
