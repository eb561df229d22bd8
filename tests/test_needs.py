"""What a condition needs: given it, the condition holds; and it is said with the value that is there."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.conditions import Among, And, Compare, Expression, IsUnknown, Literal, Not, Or, Read
from orchestrator.needs import needs
from orchestrator.view import CustomerView

NAMES = "abcdef"


class Values:
    """A view that knows values by the name of a feature."""

    now = 0

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def read(self, source: str, name: str, key: str | None) -> Any:
        """Return the value, None where it is unknown."""
        del source, key
        return self.values.get(name)


def view(**values: Any) -> CustomerView:
    """Return a view of values; conditions ask for nothing else."""
    return cast("CustomerView", Values(values))


def read(name: str, unit: str = "number") -> Read:
    """Return the node that reads a feature."""
    return Read("feature", name, unit=unit)


@pytest.mark.parametrize(
    ("expression", "said", "value"),
    [
        (Compare(">=", read("cart", "money"), Literal(2_000)), "cart must be >= 20.00; it is 18.00", 2_000),
        (Compare("<", Literal(2_000), read("cart", "money")), "cart must be > 20.00; it is 18.00", 2_001),
        (Not(Compare("<", read("cart", "money"), Literal(2_000))), "cart must be >= 20.00; it is 18.00", 2_000),
        (Compare("==", read("tier"), Literal("high")), "tier must be == high; it is low", "high"),
        (Among(read("tier"), ("high", "top")), "tier must be one of high, top; it is low", "high"),
        (IsUnknown(read("tier")), "tier must not be known", None),
        (IsUnknown(read("other"), negated=True), "other must be known", None),
        (Compare(">", read("other"), Literal(3)), "other must be > 3; it is unknown", 4),
    ],
)
def test_a_need_says_what_must_be_and_what_is(expression: Expression, said: str, value: Any) -> None:
    """With the nearest value that does, where there is one."""
    (need,) = needs(expression, view(cart=1_800, tier="low"))

    assert (need.text, need.value) == (said, value)


def test_of_alternatives_the_one_that_needs_least_is_told() -> None:
    """Nobody has to fulfil both."""
    more = And((Compare(">", read("a"), Literal(5)), Compare(">", read("b"), Literal(5))))
    less = Compare(">", read("c"), Literal(5))

    assert [need.text for need in needs(Or((more, less)), view(a=1, b=1, c=1))] == ["c must be > 5; it is 1"]


def test_what_holds_needs_nothing() -> None:
    """Nor does what is false where false is wanted."""
    condition = Compare(">", read("a"), Literal(5))

    assert needs(condition, view(a=6)) == ()
    assert needs(condition, view(a=5), wanted=False) == ()


def conditions(names: str) -> st.SearchStrategy[Expression]:
    """Return conditions in which every feature is asked for once at most, so that no two needs contradict."""
    if len(names) == 1:
        compared = st.builds(
            Compare,
            st.sampled_from(["==", "<", "<=", ">", ">="]),
            st.just(read(names)),
            st.builds(Literal, st.integers(0, 9)),
        )
        return st.one_of(compared, st.builds(Not, compared.filter(lambda one: one.operator != "==")))
    half = len(names) // 2
    both = st.tuples(conditions(names[:half]), conditions(names[half:]))
    return st.one_of(st.builds(And, both), st.builds(Or, both), st.builds(Not, st.builds(Or, both)))


@given(conditions(NAMES), st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9)))
@settings(derandomize=True, max_examples=200)
def test_with_what_it_needs_a_condition_holds(condition: Expression, values: dict[str, int]) -> None:
    """Whatever is known and unknown before; unless any other value would do, and none is named."""
    needed = needs(condition, view(**values))
    given_them = values | {need.read.name: need.value for need in needed if need.read is not None}

    if all(need.value is not None for need in needed):
        assert condition.value(view(**given_them)) is True
    assert bool(needed) is (condition.value(view(**values)) is not True)
