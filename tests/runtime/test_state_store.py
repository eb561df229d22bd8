"""What a store holds is always what one commit left, whatever happens to its process or its disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.events import FOREVER
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.state_store import Meta, StateStore, Stored, meta_from_bytes, meta_to_bytes, pack, unpack

HERE = Path(__file__)
CUSTOMERS = 50


def write_commit(store: StateStore, number: int, size: int = 20) -> None:
    """Write one commit in which every customer and the meta record carry its number."""
    batch = store.batch()
    for customer in range(CUSTOMERS):
        state = number.to_bytes(4) + os.urandom(size)
        before = FOREVER if number == 0 else number * 1_000 + customer
        due = (number + 1) * 1_000 + customer
        batch.put(b"c%03d" % customer, pack(Stored(due, state)), due, before)
    batch.put_meta(Meta(number, {"clickstream": number}, "v1", number))
    store.write(batch)


def commit_in(store: StateStore) -> int | None:
    """Return the number of the one commit that a store holds, None for none; fails where it holds parts of several."""
    meta = store.meta()
    customers = list(store.customers())
    if meta is None:
        assert customers == []
        return None
    assert {int.from_bytes(stored.state[:4]) for _, stored in customers} == {meta.clock}
    assert len(customers) == CUSTOMERS
    assert store.due(0) == [(stored.due, key) for key, stored in customers]
    assert store.due(0)[0][0] == (meta.clock + 1) * 1_000
    return meta.clock


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mounted(folder):
        pytest.skip("needs the right to mount a small tmpfs (root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def mounted(folder: Path) -> bool:
    """Mount a tmpfs of 8 MB, and return whether that is allowed here."""
    if shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fill(disk: Path) -> Path:
    """Fill a small disk to the last byte, and return the file that does."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
        while True:
            filler.write(b"x" * 4_096)
    return path


# --- rows -------------------------------------------------------------------------------------------------------------


def test_a_customer_comes_back_as_stored(tmp_path: Path) -> None:
    """With the instant at which time alone changes something."""
    store = StateStore(tmp_path / "0")
    batch = store.batch()
    batch.put(b"ana", pack(Stored(5, b"state")), 5, FOREVER)
    store.write(batch)

    assert store.get(b"ana") == Stored(5, b"state")
    assert store.get(b"bob") is None
    assert store.due(0) == [(5, b"ana")]
    store.close()


@given(st.integers(-(2**62), 2**62), st.binary(max_size=100))
def test_packing_loses_nothing(due: int, state: bytes) -> None:
    """In the store and in the changelog alike."""
    assert unpack(pack(Stored(due, state))) == Stored(due, state)


@given(
    st.integers(-(2**62), 2**62),
    st.dictionaries(st.text(max_size=9), st.integers(-1_001, 2**62)),
    st.text(max_size=9),
    st.integers(0, 2**62),
)
def test_a_meta_record_comes_back(clock: int, positions: dict[str, int], definitions: str, changelog: int) -> None:
    """Whatever the topics are called."""
    meta = Meta(clock, positions, definitions, changelog)

    assert meta_from_bytes(meta_to_bytes(meta)) == meta


def test_a_new_store_has_no_meta_record(tmp_path: Path) -> None:
    """Its partition is restored from the beginning."""
    store = StateStore(tmp_path / "deep" / "er" / "0")

    assert store.meta() is None
    assert commit_in(store) is None
    store.close()


def test_a_moved_timer_is_one_timer(tmp_path: Path) -> None:
    """The row at the old instant goes with the batch that writes the new one."""
    store = StateStore(tmp_path / "0")
    for due, before in ((5, FOREVER), (9, 5), (9, 9), (2, 9)):
        batch = store.batch()
        batch.put(b"ana", pack(Stored(due, b"")), due, before)
        store.write(batch)
        assert store.due(0) == [(due, b"ana")]

    batch = store.batch()
    batch.delete(b"ana", 2)
    store.write(batch)

    assert store.due(0) == []
    assert store.get(b"ana") is None
    store.close()


def test_timers_are_read_in_order_from_an_instant_to_another(tmp_path: Path) -> None:
    """As many as asked for; customers who wait for nothing have none, and overdue ones come first."""
    store = StateStore(tmp_path / "0")
    batch = store.batch()
    for customer, due in ((b"d", 300), (b"a", 200), (b"c", 200), (b"b", 2**40), (b"e", FOREVER), (b"f", -5)):
        batch.put(customer, pack(Stored(due, b"")), due, FOREVER)
    batch.put_meta(Meta(1, {}))
    store.write(batch)

    assert store.due(-FOREVER) == [(0, b"f"), (200, b"a"), (200, b"c"), (300, b"d"), (2**40, b"b")]
    assert store.due(200, 200) == [(200, b"a"), (200, b"c")]
    assert store.due(201) == [(300, b"d"), (2**40, b"b")]
    assert store.due(0, limit=2) == [(0, b"f"), (200, b"a")]
    assert store.due(200, 300, 2) == [(200, b"a"), (200, b"c")]
    store.close()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 6))), max_size=30))
def test_timers_follow_their_customers(moves: list[tuple[int, int | None]]) -> None:
    """However often they are moved, forgotten and set again, in one batch or in many."""
    with tempfile.TemporaryDirectory() as folder:
        store = StateStore(Path(folder) / "0")
        _follow(store, moves)
        store.close()


def _follow(store: StateStore, moves: list[tuple[int, int | None]]) -> None:
    dues: dict[bytes, int] = {}
    batch = store.batch()
    for place, (number, due) in enumerate(moves):
        customer = b"c%d" % number
        before = dues.get(customer, FOREVER)
        if due is None:
            batch.delete(customer, before)
            dues.pop(customer, None)
        else:
            batch.put(customer, pack(Stored(due, b"")), due, before)
            dues[customer] = due
        if place % 3 == 0:
            store.write(batch)
            batch = store.batch()
    store.write(batch)

    assert store.due(0) == sorted((due, customer) for customer, due in dues.items())
    assert dict(store.customers()) == {customer: Stored(due, b"") for customer, due in dues.items()}


# --- commits ----------------------------------------------------------------------------------------------------------


def test_a_store_that_was_closed_has_its_last_commit(tmp_path: Path) -> None:
    """A worker that stops in good order restores nothing."""
    for number in range(3):
        store = StateStore(tmp_path / "0")
        assert commit_in(store) == (number - 1 if number else None)
        write_commit(store, number)
        store.close()

    store = StateStore(tmp_path / "0")
    assert commit_in(store) == 2
    store.close()


def test_a_store_that_was_reset_is_new(tmp_path: Path) -> None:
    """The changelog it was built from is gone."""
    store = StateStore(tmp_path / "0")
    write_commit(store, 0)

    store.reset()

    assert commit_in(store) is None
    write_commit(store, 0)
    assert commit_in(store) == 0
    store.close()


def writer(folder: Path) -> None:
    """Write commit after commit, flush every seventh, and say which was written and which was flushed."""
    store = StateStore(folder)
    meta = store.meta()
    number = 0 if meta is None else meta.clock + 1
    while True:
        write_commit(store, number, size=20_000)
        if number % 7 == 0:
            store.flush()
            sys.stdout.write(f"flushed {number}\n")
        sys.stdout.write(f"written {number}\n")
        sys.stdout.flush()
        number += 1


def test_a_writer_that_is_killed_leaves_a_whole_commit(tmp_path: Path) -> None:
    """The last one that was flushed, or a later one; the changelog has the rest."""
    last = -1
    for round_ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.runtime.test_state_store", str(tmp_path / "0")],
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE.parents[2],
        )
        assert process.stdout is not None
        said = [process.stdout.readline().split() for _ in range(10 + 17 * round_)]
        process.send_signal(signal.SIGKILL)
        said += [line.split() for line in process.stdout.read().splitlines() if len(line.split()) == 2]
        process.wait()
        process.stdout.close()

        store = StateStore(tmp_path / "0")
        found = commit_in(store)
        flushed = max((int(number) for what, number in said if what == "flushed"), default=last)
        written = max(int(number) for what, number in said if what == "written")
        assert found is not None
        assert store.set_aside is None
        assert flushed <= found <= written + 1  # it may have been killed before it could say so
        store.close()
        last = found


# --- what goes wrong --------------------------------------------------------------------------------------------------


def filled(folder: Path) -> Path:
    """Return a store's folder with one commit in a file."""
    store = StateStore(folder)
    write_commit(store, 0, size=2_000)
    store.close()
    return folder


def garble(folder: Path, pattern: str, at: slice = slice(None)) -> None:
    """Overwrite part of the files of a pattern."""
    files = list(folder.glob(pattern))
    assert files
    for file in files:
        data = bytearray(file.read_bytes())
        data[at] = b"\x13" * len(data[at])
        file.write_bytes(data)


@pytest.mark.parametrize(
    ("pattern", "how"),
    [("CURRENT", "garble"), ("MANIFEST-*", "garble"), ("*.sst", "garble"), ("MANIFEST-*", "lose"), ("*.sst", "lose")],
)
def test_a_damaged_store_is_set_aside(tmp_path: Path, pattern: str, how: str) -> None:
    """It is kept for whoever wants to know why, and the partition is restored from the changelog."""
    folder = filled(tmp_path / "0")
    if how == "garble":
        garble(folder, pattern)
    else:
        for file in folder.glob(pattern):
            file.unlink()

    store = StateStore(folder)

    assert store.set_aside == tmp_path / "0.damaged-1"
    assert commit_in(store) is None
    write_commit(store, 0)
    store.close()
    assert StateStore(folder).set_aside is None


def test_damage_that_shows_only_when_reading_is_set_aside_at_the_next_start(tmp_path: Path) -> None:
    """Opening does not look at every block; the worker would fail at the same customer for ever."""
    folder = filled(tmp_path / "0")
    garble(folder, "*.sst", slice(1_000, 3_000))
    store = StateStore(folder)
    assert store.set_aside is None

    with pytest.raises(OperatorError, match=r"is damaged .* start again, it is set aside and restored"):
        for customer in range(CUSTOMERS):
            store.get(b"c%03d" % customer)
    store.close()

    again = StateStore(folder)
    assert again.set_aside == tmp_path / "0.damaged-1"
    assert commit_in(again) is None
    again.close()


def test_damage_among_the_timers_is_no_end_of_them(tmp_path: Path) -> None:
    """RocksDB ends a scan at damage as it does at the last row; timers would be lost in silence."""
    store = StateStore(tmp_path / "0")
    batch = store.batch()
    for number in range(5_000):
        batch.move_timer(b"c%05d" % number, number, FOREVER)
    store.write(batch)
    store.close()
    garble(tmp_path / "0", "*.sst", slice(20_000, 22_000))
    store = StateStore(tmp_path / "0")

    with pytest.raises(OperatorError, match="is damaged"):
        store.due(0)
    store.close()


def test_a_second_damaged_store_gets_another_name(tmp_path: Path) -> None:
    """Nothing that was set aside is overwritten."""
    for number in (1, 2):
        garble(filled(tmp_path / "0"), "CURRENT")
        store = StateStore(tmp_path / "0")
        assert store.set_aside == tmp_path / f"0.damaged-{number}"
        store.close()


def test_a_store_that_somebody_else_holds_is_refused(tmp_path: Path) -> None:
    """Also in a folder whose name has the word in it."""
    folder = tmp_path / "block" / "0"
    holder = StateStore(folder)

    with pytest.raises(OperatorError, match=r"another process holds the state in .*: stop it, or set another"):
        StateStore(folder)
    holder.close()
    garble(filled(folder), "CURRENT")
    assert StateStore(folder).set_aside is not None


def test_a_store_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    """It is not set aside: nobody knows what it is."""
    (tmp_path / "0").write_text("a file")

    with pytest.raises(OperatorError, match=r"cannot be used .* check the volume and its permissions"):
        StateStore(tmp_path / "0")
    assert (tmp_path / "0").read_text() == "a file"


def test_no_space_left_is_said_in_one_line(small_disk: Path) -> None:
    """Nothing is lost: once there is room, the store has a whole commit and the changelog the rest."""
    store = StateStore(small_disk / "0")
    write_commit(store, 0)
    store.flush()

    with pytest.raises(OperatorError, match=r"no space left for state in .*: free some or enlarge") as caught:
        for number in range(1, 100):
            write_commit(store, number, size=200_000)
    store.close()

    assert "\n" not in str(caught.value)
    try:
        again = StateStore(small_disk / "0")
    except OperatorError as error:
        assert "no space left" in str(error)  # there is not even room to open it
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        again = StateStore(small_disk / "0")
    assert again.set_aside is None
    assert commit_in(again) is not None
    again.close()


def test_a_full_disk_damages_nothing(small_disk: Path) -> None:
    """A store that cannot be opened for want of room is not mistaken for a damaged one."""
    filled(small_disk / "0")
    filler = fill(small_disk)

    with pytest.raises(OperatorError, match="no space left"):
        StateStore(small_disk / "1")
    try:
        StateStore(small_disk / "0").close()
    except OperatorError as error:
        assert "no space left" in str(error)
    filler.unlink()

    store = StateStore(small_disk / "0")
    assert store.set_aside is None
    assert commit_in(store) == 0
    store.close()


if __name__ == "__main__":
    writer(Path(sys.argv[1]))
