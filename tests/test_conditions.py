"""Three-valued logic: only the final answer decides, and there an unknown fails closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import pytest

from orchestrator.conditions import (
    Age,
    Among,
    And,
    Compare,
    Condition,
    Expression,
    InSegment,
    IsUnknown,
    Literal,
    Not,
    Or,
    Read,
    readable,
    walk,
)
from orchestrator.events import DAY, HOUR, MINUTE

TRUE, FALSE, UNKNOWN = Literal(fixed=True), Literal(fixed=False), Literal(None)
NAMES: dict[bool | None, Literal] = {True: TRUE, False: FALSE, None: UNKNOWN}


@dataclass
class Known:
    """A view over fixed values."""

    values: Mapping[str, Any] = field(default_factory=dict)
    segments: Mapping[str, bool | None] = field(default_factory=dict)
    now: int = 10 * DAY

    def read(self, source: str, name: str, key: str | None) -> Any:
        return self.values.get(name if key is None else f"{source}.{name}[{key}]")

    def in_segment(self, name: str) -> bool | None:
        return self.segments.get(name)


NOTHING = Known()

KLEENE_AND: list[tuple[bool | None, bool | None, bool | None]] = [
    (True, True, True), (True, False, False), (True, None, None),
    (False, True, False), (False, False, False), (False, None, False),
    (None, True, None), (None, False, False), (None, None, None),
]  # fmt: skip
KLEENE_OR: list[tuple[bool | None, bool | None, bool | None]] = [
    (True, True, True), (True, False, True), (True, None, True),
    (False, True, True), (False, False, False), (False, None, None),
    (None, True, True), (None, False, None), (None, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right", "expected"), KLEENE_AND)
def test_and(left: bool | None, right: bool | None, expected: bool | None) -> None:
    """False wins over unknown, unknown over true."""
    assert And((NAMES[left], NAMES[right])).value(NOTHING) is expected


@pytest.mark.parametrize(("left", "right", "expected"), KLEENE_OR)
def test_or(left: bool | None, right: bool | None, expected: bool | None) -> None:
    """True wins over unknown, unknown over false."""
    assert Or((NAMES[left], NAMES[right])).value(NOTHING) is expected


@pytest.mark.parametrize(("operand", "expected"), [(True, False), (False, True), (None, None)])
def test_not(operand: bool | None, expected: bool | None) -> None:
    """The opposite of unknown is unknown."""
    assert Not(NAMES[operand]).value(NOTHING) is expected


def test_the_order_of_operands_does_not_matter() -> None:
    """Three operands in any order give one answer, and de Morgan holds with unknowns."""
    for operands in permutations([TRUE, FALSE, UNKNOWN]):
        assert And(operands).value(NOTHING) is False
        assert Or(operands).value(NOTHING) is True
    for left, right, expected in KLEENE_AND:
        negated = Or((Not(NAMES[left]), Not(NAMES[right])))
        assert Not(negated).value(NOTHING) is expected


def test_zero_or_unknown_is_true_when_it_is_zero() -> None:
    """`orders == 0 or tenure < 30` needs no tenure of somebody who never ordered."""
    either = Or((compare("orders", "==", 0), compare("tenure", "<", 30)))

    assert either.value(Known({"orders": 0})) is True
    assert either.value(Known({"orders": 1})) is None
    assert either.value(Known({"orders": 1, "tenure": 29})) is True


def compare(name: str, operator: str, value: Any) -> Expression:
    """Return a comparison of a feature with a fixed value."""
    return Compare(operator, Read("feature", name), Literal(value))


@pytest.mark.parametrize(
    ("operator", "truths"),
    [("==", "010"), ("!=", "101"), ("<", "100"), ("<=", "110"), (">", "001"), (">=", "011")],
)
def test_comparisons(operator: str, truths: str) -> None:
    """Below, at and above; unknown on either side is unknown."""
    for number, truth in enumerate(truths, 4):
        assert compare("x", operator, 5).value(Known({"x": number})) is (truth == "1")
    assert compare("x", operator, 5).value(NOTHING) is None
    assert compare("x", operator, None).value(Known({"x": 5})) is None


def test_values_of_different_types_tell_nothing() -> None:
    """Data that is not what was declared is unknown, and stops nobody."""
    assert compare("x", "<", 5).value(Known({"x": "five"})) is None
    assert compare("x", "==", 5).value(Known({"x": "five"})) is False


def test_among() -> None:
    """One of several, or unknown."""
    among = Among(Read("feature", "tier"), ("high", "mid"))

    assert among.value(Known({"tier": "mid"})) is True
    assert among.value(Known({"tier": "low"})) is False
    assert among.value(NOTHING) is None


def test_is_unknown_is_never_unknown() -> None:
    """It is the one question about not knowing that has an answer."""
    asked = Read("feature", "x")

    assert IsUnknown(asked).value(NOTHING) is True
    assert IsUnknown(asked).value(Known({"x": 0})) is False
    assert IsUnknown(asked, negated=True).value(NOTHING) is False
    assert IsUnknown(asked, negated=True).value(Known({"x": 0})) is True


def test_age_is_the_time_since() -> None:
    """It is counted from now, and unknown without an instant."""
    assert Age(Read("feature", "at")).value(Known({"at": 4 * DAY})) == 6 * DAY
    assert Age(Read("feature", "at")).value(NOTHING) is None


def test_segments_may_be_unknown() -> None:
    """A segment over unknown values has no members and no outsiders."""
    assert InSegment("heroes").value(Known(segments={"heroes": True})) is True
    assert InSegment("heroes").value(NOTHING) is None


def test_a_key_may_be_read_first() -> None:
    """`family_orders[moment.product_family]` asks for the key, then for the value; without a key there is none."""
    keyed = Read("feature", "family_orders", Read("moment", "product_family"))

    assert keyed.value(Known({"product_family": "hair", "feature.family_orders[hair]": 3})) == 3
    assert keyed.value(NOTHING) is None
    assert [str(node) for node in walk(keyed)] == ["family_orders[...]", "moment.product_family"]


def test_what_it_saw_is_readable() -> None:
    """A record names every value a condition read, once, in the words of a marketer."""
    value = Read("feature", "cart_value", unit="money")
    condition = Condition(
        "...", And((Compare(">", value, Literal(1)), Compare("<", value, Literal(9)), InSegment("heroes")))
    )

    assert condition.saw(Known({"cart_value": 1_240}, {"heroes": False})) == (
        "cart_value = 12.40, in_segment('heroes') = false"
    )
    assert condition.reads == (value, value)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "money", "unknown"),
        (1_205, "money", "12.05"),
        (-1_205, "money", "-12.05"),
        (-5, "money", "-0.05"),
        (36 * HOUR, "duration", "1.5d"),
        (90 * MINUTE, "duration", "1.5h"),
        (20 * DAY, "duration", "20d"),
        (30_000, "duration", "30s"),
        (1_488_358_800_000, "instant", "2017-03-01T09:00+00:00"),
        (True, "", "true"),
        (3, "number", "3"),
        ("high", "text", "high"),
    ],
)
def test_readable(value: Any, unit: str, text: str) -> None:
    """Money has two decimals, durations the largest unit that fits."""
    assert readable(value, unit) == text
