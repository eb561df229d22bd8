"""Scalars become values, or a problem that says how to write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.definitions.nodes import Place, Problems, Scalar
from orchestrator.definitions.values import PARSERS, WINDOW
from orchestrator.events import DAY, HOUR, MINUTE


def parse(kind: str, text: str) -> tuple[object, list[str]]:
    """Return what a text is as a type, and the problems noted."""
    problems = Problems()
    value = PARSERS[kind](Scalar(Place("a.yaml", 3, 7), text, quoted=False), problems)
    return value, [str(problem) for problem in problems.sorted()]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("duration", "30m", 30 * MINUTE),
        ("duration", "1h", HOUR),
        ("duration", "7d", 7 * DAY),
        ("duration", "2w", 14 * DAY),
        ("duration", "0s", 0),
        ("window", "window", WINDOW),
        ("window", "48h", 48 * HOUR),
        ("offset", "-5d", -5 * DAY),
        ("offset", "+3d", 3 * DAY),
        ("offset", "-12h", -12 * HOUR),
        ("days", "-6d", -6),
        ("days", "0d", 0),
        ("months", "12m", 12),
        ("money", "0.01", 1),
        ("money", "4.9", 490),
        ("money", "5", 500),
        ("percentage", "15%", 1500),
        ("percentage", "0.5%", 50),
        ("percentage", "100%", 10_000),
        ("multiple", "2.0", 2000),
        ("multiple", "1.25", 1250),
        ("count", "0", 0),
        ("time", "21:00", 1260),
        ("time", "9:05", 545),
        ("date", "2024-02-29", "2024-02-29"),
        ("name", "cart_rescue", "cart_rescue"),
        ("truth", "false", False),
        ("currency", "EUR", "EUR"),
        ("currency", "QQQ", "QQQ"),
        ("zone", "America/New_York", "America/New_York"),
    ],
)
def test_is_read_as(kind: str, text: str, value: object) -> None:
    """What people write is understood."""
    assert parse(kind, text) == (value, [])


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        ("duration", "90 days", "E020"),
        ("duration", "1.5h", "E020"),
        ("duration", "-1h", "E020"),
        ("duration", "12", "E020"),
        ("duration", "٣d", "E020"),
        ("days", "6", "E020"),
        ("months", "1y", "E020"),
        ("money", "4,90", "E021"),
        ("money", "5 USD", "E021"),
        ("money", "-5", "E021"),
        ("percentage", "15", "E022"),
        ("percentage", "101%", "E022"),
        ("time", "24:00", "E023"),
        ("time", "1260", "E023"),
        ("date", "2023-02-29", "E024"),
        ("date", "20230201", "E024"),
        ("count", "3.5", "E025"),
        ("multiple", "nan", "E025"),
        ("name", "Cart", "E026"),
        ("truth", "no", "E029"),
        ("currency", "JPY", "E029"),
        ("currency", "KWD", "E029"),
        ("zone", "America", "E028"),
        ("zone", "../../etc/passwd", "E028"),
    ],
)
def test_is_refused(kind: str, text: str, code: str) -> None:
    """What could be misread is not guessed at."""
    value, problems = parse(kind, text)

    assert value is None
    assert len(problems) == 1
    assert problems[0].startswith(f"a.yaml:3:7: {code} ")


def test_a_name_is_suggested() -> None:
    """The likely intention is part of the message."""
    assert parse("name", "Cart Rescue!")[1] == [
        "a.yaml:3:7: E026 'Cart Rescue!' is not a name, write it like cart_rescue: small letters, digits and _"
    ]


@given(st.sampled_from(sorted(PARSERS)), st.text(max_size=50))
def test_any_text_is_a_value_or_a_problem(kind: str, text: str) -> None:
    """Never both, never neither, never an exception."""
    value, problems = parse(kind, text)

    assert (value is None) == (len(problems) == 1)
