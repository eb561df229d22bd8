"""Conditions: what they mean, in which units, and that no text breaks or stalls the parser."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.conditions import Condition
from orchestrator.definitions.expressions import MAX_LENGTH, Declared, Scope, compile_condition
from orchestrator.definitions.nodes import Place, Problems, Scalar
from orchestrator.events import DAY

FEATURES = {
    "orders": Declared("number"),
    "spend": Declared("money"),
    "tenure": Declared("duration"),
    "last": Declared("instant"),
    "tier": Declared("text"),
    "cart_value": Declared("money", "cart_id"),
    "family": Declared("number", "product_family"),
}
SEGMENTS = frozenset({"heroes"})
GENERAL = Scope(FEATURES, SEGMENTS)
IN_CART = Scope(FEATURES, SEGMENTS, moment=True, key="cart_id")
IN_FAMILY = Scope(FEATURES, SEGMENTS, moment=True, key="product_family")
IN_SKU = Scope(FEATURES, SEGMENTS, moment=True, key="sku")
VOCABULARY = (
    "and or not in is unknown true ( ) [ ] , . == != < >= orders spend tenure last tier cart_value family age "
    "in_segment profile city moment key cart_id event total product stock machine 'high' '1990-01-01' 3 4.999 30d 12x "
    "-1 feature attributes \n & ‘"
)
ON_EVENT = Scope(event={"machine": "truth", "channel": "text", "total": "money", "lines": "lines"})


@dataclass
class Facts:
    """A view over fixed values; what is absent is unknown."""

    values: Mapping[tuple[str, str, str | None], Any] = field(default_factory=dict)
    segments: Mapping[str, bool] = field(default_factory=dict)
    now: int = 100 * DAY

    def read(self, source: str, name: str, key: str | None) -> Any:
        """Return the value, None when it is unknown."""
        return self.values.get((source, name, key))

    def in_segment(self, name: str) -> bool | None:
        """Return the truth, None when it is unknown."""
        return self.segments.get(name)


def compiled(text: str, scope: Scope = GENERAL, quoted: bool = True) -> tuple[Condition | None, list[str]]:
    """Return the condition and the problems of a text that stands at line 4, column 10."""
    problems = Problems()
    condition = compile_condition(Scalar(Place("a.yaml", 4, 10), text, quoted), scope, problems)
    return condition, [str(problem) for problem in problems.sorted()]


def holds(text: str, scope: Scope = GENERAL, **features: Any) -> bool | None:
    """Return whether a text holds for some features."""
    condition, problems = compiled(text, scope)
    assert condition is not None, problems
    return condition.holds(Facts({("feature", name, None): value for name, value in features.items()}))


class TestMeaning:
    """What is written is what is meant."""

    @pytest.mark.parametrize(
        ("text", "truth"),
        [
            ("orders == 3", True),
            ("orders != 3", False),
            ("not orders == 3", False),
            ("orders < 3 or orders <= 3", True),
            ("orders > 3 or orders >= 3 and orders == 9", False),
            ("(orders > 3 or orders >= 3) and tier == 'high'", True),
            ("not (orders > 3 or tier == 'low')", True),
            ("not not orders == 3", True),
            ("tier in ['mid', 'high']", True),
            ("orders in [1, 2]", False),
            ('tier == "high"', True),
            ("orders >= 2.5", True),
            ("orders > -1", True),
            ("3 == orders", True),
            ("orders is unknown", False),
            ("orders is not unknown", True),
            ("spend is unknown", True),
            ("true", True),
        ],
    )
    def test_logic(self, text: str, truth: bool) -> None:
        """`and` binds tighter than `or`, `not` tighter than both."""
        assert holds(text, orders=3, tier="high") is truth

    def test_unknown_stays_unknown_unless_the_rest_decides(self) -> None:
        """Kleene's rules."""
        assert holds("orders == 0 or tenure < 30d", orders=0) is True
        assert holds("orders == 0 or tenure < 30d", orders=1) is None

    def test_durations(self) -> None:
        """Lengths of time are milliseconds."""
        assert holds("tenure < 30d", tenure=30 * DAY - 1) is True
        assert holds("tenure < 30d", tenure=30 * DAY) is False

    def test_age_counts_from_now(self) -> None:
        """The view says what time it is."""
        assert holds("age(last) >= 2w", last=86 * DAY) is True
        assert holds("age(last) >= 2w", last=86 * DAY + 1) is False

    def test_numbers_beside_money_are_major_units(self) -> None:
        """On either side, in lists, with decimals."""
        assert holds("spend >= 20", spend=2000) is True
        assert holds("20 > spend", spend=1999) is True
        assert holds("spend in [9.99, 12]", spend=999) is True

    def test_a_keyed_feature_without_a_key_is_the_moments_own(self) -> None:
        """The view knows which; the explanation stays readable."""
        condition, _ = compiled("cart_value >= 20", IN_CART)

        assert condition is not None
        assert condition.saw(Facts({("feature", "cart_value", None): 1240})) == "cart_value = 12.40"

    def test_a_keyed_feature_with_a_key(self) -> None:
        """A fixed one or the moment's."""
        facts = Facts({("feature", "family", "soap"): 3, ("moment", "product_family", None): "soap"})
        for text in ("family['soap'] >= 3", "family[moment.product_family] >= 3"):
            condition, problems = compiled(text, IN_FAMILY)

            assert condition is not None, problems
            assert condition.holds(facts) is True

    def test_profile_and_its_attributes(self) -> None:
        """Attributes are text."""
        facts = Facts({("profile", "city", None): "Madrid", ("profile", "loyalty", None): "gold"})
        condition, problems = compiled("profile.city == 'Madrid' and profile.attributes['loyalty'] == 'gold'")

        assert condition is not None, problems
        assert condition.holds(facts) is True

    def test_birth_dates_are_compared_with_dates(self) -> None:
        """As text, which sorts like dates."""
        condition, problems = compiled("profile.birth_date >= '1990-01-01'")

        assert condition is not None, problems
        assert condition.holds(Facts({("profile", "birth_date", None): "1990-06-01"})) is True

    def test_products_in_a_moment_about_a_sku(self) -> None:
        """The view knows which product it is about."""
        condition, problems = compiled("product.stock > 0 and product.price < 9.50", IN_SKU)

        assert condition is not None, problems
        assert condition.holds(Facts({("product", "stock", None): 1, ("product", "price", None): 949})) is True

    def test_segments(self) -> None:
        """Membership is true, false or unknown."""
        condition, _ = compiled("in_segment('heroes')")

        assert condition is not None
        assert [condition.holds(Facts(segments=known)) for known in ({"heroes": True}, {})] == [True, None]

    def test_events_by_their_properties(self) -> None:
        """The prefix `event.` may be left out."""
        condition, problems = compiled("not machine and event.total >= 5", ON_EVENT)

        assert condition is not None, problems
        assert condition.holds(Facts({("event", "machine", None): False, ("event", "total", None): 500})) is True

    def test_the_text_is_kept_as_written(self) -> None:
        """Explanations quote it."""
        condition, _ = compiled("orders  >= 2")

        assert condition is not None
        assert condition.text == "orders  >= 2"


class TestProblems:
    """Exact places; the files in bad/ hold one of each kind."""

    def test_quotes_count_in_the_column(self) -> None:
        """The column is where the word stands in the file."""
        assert compiled("ordes > 2", quoted=True)[1] == [
            "a.yaml:4:11: E031 unknown name 'ordes', did you mean 'orders'?"
        ]
        assert compiled("ordes > 2", quoted=False)[1] == [
            "a.yaml:4:10: E031 unknown name 'ordes', did you mean 'orders'?"
        ]

    def test_several_at_once(self) -> None:
        """Types are checked in every part."""
        _, problems = compiled("ordes > 2 and tenure < 3 and spend == 'much'")

        assert [problem.split()[1] for problem in problems] == ["E031", "E032", "E032"]

    @pytest.mark.parametrize(
        ("text", "scope"),
        [
            ("profile.city == 'Madrid'", ON_EVENT),
            ("in_segment('heroes')", ON_EVENT),
            ("orders > 3", ON_EVENT),
            ("lines == 3", ON_EVENT),
            ("moment.key == 'x'", ON_EVENT),
            ("product.stock > 3", IN_CART),
            ("moment.key == 'x'", Scope(FEATURES, moment=True)),
            ("cart_value > 3", GENERAL),
            ("cart_value > 3", IN_FAMILY),
            ("family[orders] > 3", GENERAL),
            ("profile.attributes['city'] == 'x'", GENERAL),
            ("age(tenure) > 3d", GENERAL),
            ("orders is unknown is unknown", GENERAL),
            ("orders > 3 orders", GENERAL),
            ("orders == not true", GENERAL),
            ("'high'", GENERAL),
            ("", GENERAL),
            ("()", GENERAL),
            ("orders > ʼ3ʼ", GENERAL),
            ("__import__('os')", GENERAL),
        ],
    )
    def test_is_refused(self, text: str, scope: Scope) -> None:
        """What makes no sense here does not load."""
        condition, problems = compiled(text, scope)

        assert condition is None
        assert problems

    def test_too_long(self) -> None:
        """A condition is small; anything else is a feature or a segment."""
        assert compiled("orders > 1 or " * 500)[1] == [
            "a.yaml:4:11: E033 a condition of 7000 characters is too long, use features"
        ]


class TestHostileText:
    """No text raises, recurses without end or takes long."""

    @given(st.text(max_size=200))
    @example("(" * MAX_LENGTH)
    @example("not " * (MAX_LENGTH // 4))
    @example("age(" * (MAX_LENGTH // 4))
    @example("family[" * (MAX_LENGTH // 7))
    @example("orders in [" * (MAX_LENGTH // 11))
    @example("'" * MAX_LENGTH)
    @example("9" * MAX_LENGTH)
    @example("a." * (MAX_LENGTH // 2))
    @settings(deadline=None)
    def test_any_text(self, text: str) -> None:
        """A condition or problems."""
        condition, problems = compiled(text)

        assert (condition is None) == bool(problems)

    @given(
        st.lists(
            st.sampled_from(VOCABULARY.split(" ")),
            max_size=30,
        ),
        st.sampled_from([GENERAL, IN_CART, IN_FAMILY, IN_SKU, ON_EVENT]),
    )
    @settings(max_examples=500, deadline=None)
    def test_any_words_of_the_language(self, words: list[str], scope: Scope) -> None:
        """A condition that can be asked, or problems."""
        condition, problems = compiled(" ".join(words), scope)

        assert (condition is None) == bool(problems)
        if condition is not None:
            assert condition.holds(Facts()) in (True, False, None)
            condition.saw(Facts())

    def test_the_longest_takes_milliseconds(self) -> None:
        """Time grows with the length, not faster."""
        text = " or ".join(["orders in [1, 2, 3] and not tier == 'x'"] * (MAX_LENGTH // 44))
        start = time.perf_counter()

        condition, problems = compiled(text)

        assert condition is not None, problems
        assert time.perf_counter() - start < 0.5
