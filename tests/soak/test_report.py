"""The soak's page says what its figures say, and counts what repeats."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tests.soak.report import Result, reason_of

PROOFS = Path(__file__).resolve().parents[2] / "docs" / "proofs"


def test_the_page_is_made_of_its_figures() -> None:
    """What people read is what the JSON beside it says, to the byte."""
    found = msgspec.convert(json.loads((PROOFS / "soak.json").read_bytes()), Result, strict=False)

    assert (PROOFS / "soak.md").read_text(encoding="utf-8") == found.markdown()


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (
            '1: {"ts": "2026-11-22T03:34:38Z", "message": "decides 2 partitions: 0-1"}; '
            '{"ts": "2026-11-22T03:35:19Z", "message": "worker 1: open for 11.076 s", "instance": "one"}',
            "1: worker *n*: open for *n* s",
        ),
        ("-9: Killed", "-9: Killed"),
        ('1: {"ts": "2026-11-22T0', '1: {"ts": "*n*-*n*-*n*T*n*'),
        ("0: ", "0: "),
    ],
)
def test_equal_reasons_read_the_same(ended: str, reason: str) -> None:
    """The last message counts, without the numbers in which two of a kind differ."""
    assert reason_of(ended) == reason
