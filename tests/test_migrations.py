"""States of every version stay readable, and their layout cannot change without a new version.

`python -m tests.test_migrations` writes the golden bytes and the layout of a version that has none yet.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import customer, migrations
from orchestrator.customer import STATE_VERSION, Customer, customer_from_bytes
from orchestrator.events import FOREVER
from orchestrator.migrations import MIGRATIONS, UnknownStateVersionError, decode, encode, migrate
from orchestrator.runtime import partition
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.state_store import Batch, Meta, StateStore, Stored, meta_from_bytes, meta_to_bytes, pack
from tests.builders import ANA
from tests.runtime.messages import CLICKSTREAM, PROFILES, Bench, item_added, profile, to
from tests.test_customer import contents, everything

GOLDEN = Path(__file__).parent / "golden"


def layout() -> str:
    """Return the fields of everything that is stored, one a line, in the order in which they are written."""
    stored = (
        customer.Customer,
        customer.Window,
        customer.Context,
        customer.Profile,
        customer.Answered,
        customer.Instance,
    )
    return "".join(
        f"{struct.__name__}.{name}: {struct.__annotations__[name]}\n"
        for struct in stored
        for name in struct.__struct_fields__
    )


@pytest.mark.parametrize("version", range(1, STATE_VERSION + 1))
def test_golden_bytes_of_every_version_are_read(version: int) -> None:
    """Whatever a version has written, this one makes the same customer of it."""
    golden = (GOLDEN / f"customer_v{version}.bin").read_bytes()

    assert golden[0] == version
    assert contents(customer_from_bytes(golden)) == contents(customer_from_bytes(everything(version).to_bytes()))


def test_the_layout_is_that_of_its_version() -> None:
    """A field more, less or elsewhere needs the next version: see the steps in migrations.py."""
    assert layout() == (GOLDEN / f"layout_v{STATE_VERSION}.txt").read_text()


def test_every_earlier_version_has_a_migration() -> None:
    """No step of the way is missing."""
    assert set(MIGRATIONS) == set(range(1, STATE_VERSION))


def earlier(one: Customer) -> bytes:
    """Return a state as a made-up version 0 wrote it: messages were their instants, all of them e-mails."""
    fields = decode(one.to_bytes()[1:])
    place = Customer.__struct_fields__.index("sent")
    fields[place] = [at for at, _ in fields[place]]
    return b"\x00" + encode(fields)


def from_version_0(payload: bytes) -> bytes:
    """Give the messages of version 0 their channel."""
    fields = decode(payload)
    place = Customer.__struct_fields__.index("sent")
    fields[place] = [(at, "email") for at in fields[place]]
    return encode(fields)


def test_an_earlier_version_is_migrated_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The customer is the same, and is written in today's version."""
    monkeypatch.setitem(migrations.MIGRATIONS, 0, from_version_0)

    back = customer_from_bytes(earlier(everything()))

    assert contents(back) == contents(customer_from_bytes(everything().to_bytes()))
    assert back.to_bytes()[0] == STATE_VERSION


def test_migrations_are_applied_one_after_the_other() -> None:
    """From any version to the wanted one."""
    table = {number: lambda payload, number=number: payload + b"%d" % number for number in range(1, 4)}

    assert migrate(b"", 1, 4, table) == b"123"
    assert migrate(b"", 3, 4, table) == b"3"
    assert migrate(b"same", 4, 4, table) == b"same"


def test_a_version_that_no_way_leads_from_is_refused() -> None:
    """It is not guessed at."""
    with pytest.raises(UnknownStateVersionError, match="has version 1, and this program cannot read versions before 3"):
        migrate(b"", 1, 3, {1: bytes})
    with pytest.raises(UnknownStateVersionError, match="has version 9, this program knows 3: run the newer program"):
        migrate(b"", 9, 3, {})


# --- in a worker ------------------------------------------------------------------------------------------------------


def keep_earlier(bench: Bench, *names: str) -> None:
    """Put customers of version 0 into a store, as an earlier program left them."""
    batch = Batch()
    for name in names:
        entry = Customer(sent=[(1, "email")], fires={"": 10**13})
        batch.put(name.encode(), pack(Stored(10**13, earlier(entry))), 10**13, FOREVER)
    bench.store.write(batch)


def versions(bench: Bench) -> dict[str, int]:
    """Return the version in which each customer is stored."""
    return {key.decode(): version for key, version in bench.store.versions(b"", 1_000)}


def test_a_customer_who_is_met_is_stored_in_todays_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others stay as they are."""
    monkeypatch.setitem(migrations.MIGRATIONS, 0, from_version_0)
    bench = Bench(tmp_path / "0")
    keep_earlier(bench, "ana", "bob")

    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added())])
    bench.commit()

    assert versions(bench) == {"ana": STATE_VERSION, "bob": 0}
    assert customer_from_bytes(bench.store.get(b"ana").state).sent == [(1, "email")]  # type: ignore[union-attr]  # she is there
    bench.partition.close()


def test_all_customers_are_migrated_in_bounded_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once each, through the changelog, while events go on being decided; who is up to date is not written again."""
    monkeypatch.setitem(migrations.MIGRATIONS, 0, from_version_0)
    monkeypatch.setattr(partition, "MIGRATED_ROWS", 3)
    bench = Bench(tmp_path / "0")
    bench.step("08:00", [to("c4", PROFILES, profile(customer="c4"))])
    bench.commit()
    keep_earlier(bench, "c0", "c1", "c2", "c3", "c5", "c6")
    bench.changelog.clear()

    sizes: list[int] = []
    while bench.partition.may_hold_earlier_versions:
        bench.partition.migrate()
        if len(sizes) == 1:
            bench.step("09:00", [to("c6", CLICKSTREAM, item_added(customer="c6"))])
        sizes.append(bench.partition.changed_customers)
        bench.commit()

    assert sizes == [3, 3, 0]
    assert versions(bench) == dict.fromkeys((f"c{number}" for number in range(7)), STATE_VERSION)
    assert sorted(key for key, _ in bench.changelog) == [b"c0", b"c1", b"c2", b"c3", b"c5", b"c6"]
    assert sorted(key for _, key in bench.store.due(0)) == [b"c0", b"c1", b"c2", b"c3", b"c5", b"c6"]
    bench.partition.close()


def test_the_timers_of_a_migrated_customer_fire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before the commit that keeps them."""
    monkeypatch.setitem(migrations.MIGRATIONS, 0, from_version_0)
    bench = Bench(tmp_path / "0")
    bench.step("00:00", [to(ANA, PROFILES, profile()), to(ANA, CLICKSTREAM, item_added("00:00"))])
    bench.commit()
    stored = bench.store.get(b"ana")
    assert stored is not None
    batch = Batch()
    batch.put(b"ana", pack(Stored(stored.due, earlier(customer_from_bytes(stored.state)))), stored.due, stored.due)
    bench.store.write(batch)
    fresh = Bench.__new__(Bench)
    fresh.__dict__.update(bench.__dict__)
    fresh.partition = bench._partition(bench.store.meta() or Meta(0, {}), 1 << 20, live=False)

    fresh.partition.migrate()
    fresh.step("01:00", [])

    assert fresh.sent.reasons == ["chosen"]
    bench.partition.close()


def test_a_store_that_a_newer_program_wrote_is_refused_at_the_start(tmp_path: Path) -> None:
    """Before anything is decided: by its meta record, from the changelog as from the store."""
    newer = Meta(0, {}, state_version=STATE_VERSION + 1)
    store = StateStore(tmp_path / "0")
    batch = Batch()
    batch.put_meta(newer)
    store.write(batch)

    says = f"has version {STATE_VERSION + 1}, this program knows {STATE_VERSION}: run the newer program"
    with pytest.raises(OperatorError, match=says):
        store.meta()
    with pytest.raises(OperatorError, match=says):
        meta_from_bytes(meta_to_bytes(newer))
    store.close()


def test_a_meta_record_of_the_first_program_is_read() -> None:
    """It said nothing of versions."""
    assert meta_from_bytes(encode([5, {"clickstream": 3}, "v1", 9])) == Meta(5, {"clickstream": 3}, "v1", 9)


if __name__ == "__main__":
    for name, data in (
        (f"customer_v{STATE_VERSION}.bin", everything().to_bytes()),
        (f"layout_v{STATE_VERSION}.txt", layout().encode()),
    ):
        if not (GOLDEN / name).exists():
            (GOLDEN / name).write_bytes(data)
            print(f"written: {name}")
