"""Records as nobody should send them crash nothing, and every one is accounted for."""

from __future__ import annotations

from pathlib import Path

from bench.mutated import run


def test_mutated_records_crash_nothing_and_are_all_accounted_for(tmp_path: Path) -> None:
    """Twenty thousand of them; a million is `python -m bench.mutated`."""
    found = run(20_000, 7, tmp_path / "0")
    print(f"\n{found}")

    assert found["first crash"] == ""
    assert found["unaccounted for"] == 0
    assert found["largest state"] < 65_536
    assert min(found[kind] for kind in ("decided", "duplicates", "irrelevant", "dead letters")) > 200
    assert set(found["dead letters by reason"]) == {
        "undecodable", "unknown_schema", "missing_customer", "invalid_value", "too_old", "too_far_ahead", "too_large"
    }  # fmt: skip
