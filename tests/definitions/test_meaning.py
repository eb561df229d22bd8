"""What lint says about meaning is true: a condition called impossible is never met, and honest packs are left alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.lint import write_pack
from orchestrator.conditions import Age, Among, And, Compare, Expression, InSegment, IsUnknown, Literal, Not, Or, Read
from orchestrator.conditions import Condition as Written
from orchestrator.definitions.load import load
from orchestrator.definitions.possible import Knowledge
from orchestrator.features import Feature
from orchestrator.program import Segment
from orchestrator.runtime.definitions_folder import read_directory

FEATURES = {
    "orders": Feature("orders", "count", ("order.placed",)),
    "kinds": Feature("kinds", "distinct", ("order.placed",), key="sku"),
    "spent": Feature("spent", "latest", ("order.placed",), field="total", unit="money"),
    "last": Feature("last", "last_time", ("order.placed",), unit="instant"),
    "tier": Feature("tier", "quantile", of="spent", unit="text", bands=(("high", 4), ("mid", 2), ("low", -9))),
}
VALUES = {
    "orders": st.integers(0, 5), "kinds": st.integers(0, 5), "spent": st.none() | st.integers(-2, 5),
    "last": st.none() | st.integers(0, 5), "tier": st.sampled_from((None, "high", "mid", "low")),
}  # fmt: skip
NOW = 5


@dataclass
class Values:
    """A view of nothing but values."""

    values: dict[str, Any]
    now: int = NOW

    def read(self, source: str, name: str, key: str | None) -> Any:  # noqa: ARG002 - the protocol's shape
        """Return the value of a name."""
        return self.values[name]

    def in_segment(self, name: str) -> bool | None:
        """Return what the segment's condition says."""
        return SEGMENTS[name].condition.holds(self)


def read(name: str) -> Read:
    """Return the expression that asks for a feature."""
    return Read("feature", name, None, FEATURES[name].unit)


NUMBERS = st.sampled_from((read("orders"), read("kinds"), read("spent"), Age(read("last"))))
FIXED = st.integers(-1, 5).map(Literal)
WORDS = st.sampled_from(("high", "mid", "low"))
OPERATORS = st.sampled_from(("==", "!=", "<", "<=", ">", ">="))
ATOMS: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Compare, OPERATORS, NUMBERS, FIXED),
    st.builds(Compare, OPERATORS, FIXED, NUMBERS),
    st.builds(Compare, OPERATORS, NUMBERS, NUMBERS),
    st.builds(Compare, st.sampled_from(("==", "!=")), st.just(read("tier")), WORDS.map(Literal)),
    st.builds(Among, st.just(read("tier")), st.lists(WORDS, min_size=1, max_size=2).map(tuple)),
    st.builds(Among, NUMBERS, st.lists(st.integers(-1, 5), min_size=1, max_size=3).map(tuple)),
    st.builds(IsUnknown, NUMBERS | st.just(read("tier")), st.booleans()),
)
SEGMENTS = {
    "many": Segment("many", "Many", Written("", Compare(">=", read("orders"), Literal(3)))),
    "few": Segment("few", "Few", Written("", Not(InSegment("many")))),
}
EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    ATOMS | st.sampled_from((InSegment("many"), InSegment("few"))),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda some: And(tuple(some))),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: Or(tuple(some))),
        inner.map(Not),
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(EXPRESSIONS, st.lists(st.fixed_dictionaries(VALUES), min_size=30, max_size=30))
def test_what_is_called_impossible_never_holds(expression: Expression, customers: list[dict[str, Any]]) -> None:
    """Whatever a customer's values are, unknown ones included; and what is called never false is never false."""
    knowledge = Knowledge(FEATURES, SEGMENTS)
    truths = {expression.value(Values(values)) for values in customers}

    assert knowledge.impossible(expression) is None or True not in truths
    assert not knowledge.never_false(expression) or False not in truths


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.builds(Compare, OPERATORS, st.just(read("orders")), FIXED), min_size=1, max_size=4))
def test_what_never_holds_is_called_impossible(comparisons: list[Compare]) -> None:
    """Of comparisons of one number with fixed ones nothing is missed."""
    both = And(tuple(comparisons))
    holds = any(both.value(Values({"orders": orders})) for orders in range(20))

    assert (Knowledge(FEATURES, SEGMENTS).impossible(both) is None) == holds


CART = """
features: { orders: { count: order.placed }, spent: { sum: order.placed.total } }
moments:
  - { moment: left, say: Left, starts_on: { event: cart.item_added }, unless: { event: order.placed, within: 1h },
      lasts: 6h, only_if: "orders >= 1 and spent >= 9" }
campaigns:
  - { campaign: first, when: left, priority: 80, send: { channel: email, template: t }, control: 10%,
      measure: { for: 3d } }
"""
SECOND = """
campaigns:
  - { campaign: second, when: left, priority: 50, send: { channel: email, template: t }, control: 10%,
      measure: { for: 3d } }
"""


def warnings(*texts: str) -> list[str]:
    """Return the codes of all problems in texts."""
    _, problems = load({f"{place}.yaml": text for place, text in enumerate(texts)})
    return [problem.code for problem in problems]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("", ""), ["W013"]),
        (("channel: email", "channel: sms"), []),
        (("template: t }", "template: t, purpose: service }"), []),
        (("priority: 50", "priority: 80"), []),
    ],
)
def test_a_campaign_is_outranked_only_where_the_other_is_always_possible(
    change: tuple[str, str], expected: list[str]
) -> None:
    """Who refuses e-mail may accept a text message; equals are told apart by what they earn."""
    assert warnings(CART, SECOND.replace(*change)) == expected


def test_a_better_campaign_that_something_keeps_back_outranks_nobody() -> None:
    """Its own condition, unless the other has the same."""
    back = CART.replace("priority: 80", "priority: 80, only_if: 'orders >= 2'")

    assert warnings(back, SECOND) == []
    assert warnings(back, SECOND.replace("priority: 50", "priority: 50, only_if: 'orders >= 2'")) == ["W013"]
    shut_out = back.replace("only_if: 'orders >= 2'", "exclude: { after: second, for: 7d }")
    assert warnings(shut_out, SECOND) == []


def test_quiet_hours_that_leave_an_hour_of_the_date_are_fine() -> None:
    """A window that only begins at night goes on in the morning."""
    text = """
moments:
  - { moment: birthday, say: Birthday, calendar: { date: profile.birth_date, at: "00:00" }, lasts: 10h }
campaigns:
  - { campaign: first, when: birthday, send: { channel: email, template: t }, control: 10%, measure: { for: 3d } }
policy: { contact: { quiet_hours: { from: "21:00", to: "09:00" } } }
"""

    assert warnings(text) == []
    assert warnings(text.replace("10h", "9h")) == ["E061"]


def test_caps_that_each_keep_something_are_fine() -> None:
    """A day, a week and a channel."""
    caps = "policy: { contact: { caps: [%s] } }"

    assert (
        warnings(CART, caps % "{ max: 1, per: 24h }, { max: 3, per: 7d }, { max: 1, per: 30d, channel: email }") == []
    )
    assert warnings(CART, caps % "{ max: 1, per: 24h }, { max: 1, per: 12h, channel: email }") == ["W014"]


def test_a_condition_of_very_many_alternatives_is_left_alone() -> None:
    """Lint is quick, or says nothing."""
    names = ", ".join(f"f{number}: {{ count: order.placed, over: {number + 1}d }}" for number in range(41))
    parts = " and ".join(f"(f{number} > 1 or f{number + 1} < 5)" for number in range(40))
    text = f'features: {{ {names} }}\nsegments: {{ s: {{ say: S, is: "{parts} and f0 < 0" }} }}'

    assert warnings(text) == []


def test_the_pack_of_five_hundred_moments_is_what_it_says(tmp_path: Path) -> None:
    """Here of fifteen: no two moments the same, and nothing wrong but features that are."""
    count = write_pack(tmp_path / "pack", 15)
    definitions, problems = load(read_directory(tmp_path / "pack"))

    assert definitions is not None, problems
    assert len(definitions.moments) == count == 15
    assert {problem.code for problem in problems} == {"W015"}


@pytest.mark.parametrize("pack", sorted(Path("bench/definitions").iterdir()), ids=lambda path: path.name)
def test_the_packs_of_the_benchmarks_mean_something(pack: Path) -> None:
    """No error in what is measured."""
    definitions, problems = load({str(path): path.read_text(encoding="utf-8") for path in pack.glob("*.yaml")})

    assert definitions is not None, problems
