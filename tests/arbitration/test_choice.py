"""The choice by value, alone: who wins in which world, how likely each was, and what holds for every snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import fsum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.arbitration.choice import Choice, Eligible, by_priority, by_value, method_for
from orchestrator.arbitration.policy import Policy
from orchestrator.valuation import COLD, EVERYBODY, PROVEN, START, STOPPED, ArmValue, LeafValue, PolicySnapshot
from tests.builders import snapshot, worth

POLICY = Policy()
ARMS = ("a@email", "b@email", "b+gift@email", "c@push", "d@email")


def choose(
    learned: PolicySnapshot | None, *arms: str, customer: str = "ana", stage: str = START, policy: Policy = POLICY
) -> Choice:
    """Return the choice among arms in order of priority."""
    values = LeafValue() if learned is None else learned.leaf(EVERYBODY)
    known = {arm: values.arms.get(arm, worth(state=COLD)) for arm in arms}
    options = [
        Eligible(f"{arm}/m//1", one.state, values.advantages(one, stage) if one.gain else ())
        for arm, one in known.items()
    ]
    return by_value(policy, learned, customer, options)


def test_the_first_is_chosen_before_anything_is_known() -> None:
    """By priority, and every other keeps its share of the decisions that explore."""
    choice = choose(None, "a@email", "b@email")

    assert (choice.winner, choice.by, choice.none_propensity) == (0, "priority", 0.0)
    assert choice.propensities == pytest.approx((0.975, 0.025))


def test_cold_arms_are_chosen_by_priority() -> None:
    """Whatever the snapshot believes of them already."""
    learned = snapshot({"a@email": worth(-5, state=COLD), "b@email": worth(900, state=COLD)})

    assert choose(learned, "a@email", "b@email").winner == 0


def test_worth_most_wins() -> None:
    """Not the first."""
    choice = choose(snapshot({"a@email": worth(100), "b@email": worth(101)}), "a@email", "b@email")

    assert choice == Choice(1, "expected_value", (0.0, 1.0), 0.0)


def test_of_equals_the_first_wins() -> None:
    """That is the one of higher priority."""
    assert choose(snapshot({"a@email": worth(100), "b@email": worth(100)}), "b@email", "a@email").winner == 0


def test_none_wins_when_nothing_is_worth_more_than_a_free_slot() -> None:
    """Also nothing at all is not enough."""
    choice = choose(snapshot({"a@email": worth(0), "b@email": worth(-3)}), "a@email", "b@email")

    assert choice == Choice(None, "expected_value", (0.0, 0.0), 1.0)


def test_something_is_sent_where_none_is_no_option() -> None:
    """The least harm."""
    learned = snapshot({"a@email": worth(-8), "b@email": worth(-3)})

    assert choose(learned, "a@email", "b@email", policy=Policy(none_is_an_option=False)).winner == 1


def test_a_long_window_must_pay_for_the_slot_it_holds() -> None:
    """What it earns less what a free slot would have earned in that time."""
    arms = {"a@email": worth(500, hold=0.5), "b@email": worth(200, hold=0.05)}
    learned = snapshot(arms, stages={START: [1_000.0]})

    assert choose(learned, "a@email", "b@email").winner == 1


def test_what_a_response_opens_counts() -> None:
    """More than what the campaign itself earns, and only in the stage where it opens something new."""
    arms = {"a@email": worth(10, lift=0.2, next="a"), "b@email": worth(50)}
    learned = snapshot(arms, stages={START: [100.0], "a": [900.0]})

    assert choose(learned, "a@email", "b@email").winner == 0
    assert learned.leaf(EVERYBODY).advantages(arms["a@email"], START) == [190.0]


def test_known_arms_leave_cold_ones_to_exploration() -> None:
    """What is proven is compared; what is not is tried now and then."""
    learned = snapshot({"a@email": worth(900, state=COLD), "b@email": worth(5)}, explore_bp=400)
    choice = choose(learned, "a@email", "b@email", "c@push")

    assert choice.propensities == pytest.approx((0.04 / 3, 0.96 + 0.04 / 3, 0.04 / 3))


def test_a_stopped_arm_keeps_the_floor_only() -> None:
    """So does an arm that did harm, however much it is worth in some world."""
    learned = snapshot({"a@email": worth(900, state=STOPPED)}, explore_bp=400)
    choice = choose(learned, "a@email")

    assert choice.propensities == pytest.approx((0.04,))
    assert choice.none_propensity == pytest.approx(0.96)


def test_each_is_as_likely_as_the_worlds_in_which_it_is_best() -> None:
    """None as well."""
    learned = snapshot({"a@email": worth(9, 1, -1, -1), "b@email": worth(5, 5, 5, -5)})
    choice = choose(learned, "a@email", "b@email")

    assert (choice.propensities, choice.none_propensity) == ((0.25, 0.5), 0.25)


def test_the_same_question_has_the_same_answer() -> None:
    """In whichever order the options come; another snapshot, customer or set of options asks anew."""
    learned = snapshot({arm: worth(*range(-8, 8)) for arm in ARMS}, explore_bp=500)
    asked = {customer: choose(learned, *ARMS, customer=customer) for customer in map(str, range(200))}
    newer = snapshot({arm: worth(*range(-8, 8)) for arm in ARMS}, explore_bp=500, version="s2")

    assert all(choose(learned, *ARMS, customer=customer) == choice for customer, choice in asked.items())
    assert any(choose(newer, *ARMS, customer=customer) != choice for customer, choice in asked.items())
    assert any((choose(learned, *ARMS[:4], customer=c).winner is None) != (asked[c].winner is None) for c in asked)


# --- whatever was learned ---------------------------------------------------------------------------------------------

MONEY = st.floats(-1e4, 1e4, width=32)


@st.composite
def snapshots(draw: st.DrawFn) -> PolicySnapshot:
    """Return any snapshot over some of the arms."""
    draws = draw(st.integers(1, 12))
    worlds = st.lists(MONEY, min_size=draws, max_size=draws)
    arms = {
        name: ArmValue(
            draw(worlds),
            hold=draw(st.floats(0, 1)),
            lift=draw(st.floats(-1, 1)),
            next=draw(st.sampled_from(["", "b"])),
            control_bp=draw(st.integers(0, 10_000)),
            state=draw(st.sampled_from([COLD, PROVEN, STOPPED])),
        )
        for name in draw(st.sets(st.sampled_from(ARMS)))
    }
    stages = {START: draw(worlds), "b": draw(worlds)}
    explore_bp = draw(st.integers(0, 10_000))
    leaf = LeafValue(arms, stages)
    return PolicySnapshot(0, 0, "v1", draws, explore_bp, {EVERYBODY: leaf}, version=draw(st.text("ab", max_size=3)))


@given(
    learned=st.none() | snapshots(),
    arms=st.lists(st.sampled_from(ARMS), min_size=1, max_size=5, unique=True),
    stage=st.sampled_from([START, "b", "gone"]),
    customer=st.text(max_size=3),
    none=st.booleans(),
)
@settings(max_examples=300)
def test_propensities_of_every_choice(
    learned: PolicySnapshot | None, arms: list[str], stage: str, customer: str, none: bool
) -> None:
    """Every eligible option keeps its floor, all of them and none are one, and what was chosen was possible."""
    policy = Policy(none_is_an_option=none)
    choice = choose(learned, *arms, customer=customer, stage=stage, policy=policy)

    explored = (policy.explore_start_bp if learned is None else learned.explore_bp) / 10_000
    assert len(choice.propensities) == len(arms)
    assert all(chance >= explored / len(arms) for chance in choice.propensities)
    assert fsum((*choice.propensities, choice.none_propensity)) == pytest.approx(1, abs=1e-12)
    assert (choice.none_propensity if choice.winner is None else choice.propensities[choice.winner]) > 0
    assert choice == choose(learned, *arms, customer=customer, stage=stage, policy=policy)


@given(learned=snapshots(), arms=st.lists(st.sampled_from(ARMS), min_size=1, max_size=5, unique=True))
def test_the_order_of_other_options_is_no_matter(learned: PolicySnapshot, arms: list[str]) -> None:
    """But for equals, and before anything is known, where priority says who comes first."""
    values = learned.leaf(EVERYBODY)
    known = [arm for arm in arms if values.arms.get(arm, worth(0, state=COLD)).state != COLD]
    worlds = [values.advantages(values.arms[arm], START) for arm in known if values.arms[arm].state == PROVEN]
    if not known or any(len(set(world)) < len(world) for world in zip(*worlds, strict=True)):
        return
    one, other = choose(learned, *arms), choose(learned, *reversed(arms))

    assert dict(zip(arms, one.propensities, strict=True)) == dict(zip(reversed(arms), other.propensities, strict=True))


def chi_square(counted: Counter[int | None], chances: Sequence[float], none: float, total: int) -> tuple[float, int]:
    """Return the statistic of what was counted against what is expected, and its degrees of freedom."""
    expected: dict[int | None, float] = {
        **{place: chance * total for place, chance in enumerate(chances)},
        None: none * total,
    }
    assert all(expected[place] > 0 for place in counted)
    there = {place: count for place, count in expected.items() if count > 0}
    return fsum((counted[place] - count) ** 2 / count for place, count in there.items()), len(there) - 1


@pytest.mark.parametrize("explore_bp", [0, 500, 3_000])
@pytest.mark.parametrize("draws", [7, 16, 32])
def test_frequencies_over_customers_are_the_propensities_written_down(draws: int, explore_bp: int) -> None:
    """Or whoever learns from them would weigh everything wrongly."""
    arms = {
        arm: worth(*((place * 37 + world * 61) % 97 - 40 for world in range(draws))) for place, arm in enumerate(ARMS)
    }
    learned = snapshot(arms, explore_bp=explore_bp)
    total = 20_000
    choices = [choose(learned, *ARMS, customer=f"c{number}") for number in range(total)]

    statistic, freedom = chi_square(
        Counter(choice.winner for choice in choices), choices[0].propensities, choices[0].none_propensity, total
    )
    assert len({choice.propensities for choice in choices}) == 1
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5  # four standard deviations; the customers are fixed


# --- two methods ------------------------------------------------------------------------------------------------------


def test_customers_are_split_between_methods_for_good() -> None:
    """In the shares asked for, by the customer alone."""
    policy = Policy(method="compare", compare={"priority": 2_000, "expected_value": 8_000})
    methods = Counter(method_for(policy, f"c{number}") for number in range(10_000))

    assert methods["priority"] + methods["expected_value"] == 10_000
    assert 1_880 < methods["priority"] < 2_120
    assert method_for(Policy(method="expected_value"), "ana") == "expected_value"
    assert method_for(Policy(), "ana") == "priority"


def test_by_priority_nothing_else_was_possible() -> None:
    """Which is why nothing can be learned from it about the others."""
    assert by_priority(3) == Choice(0, "priority", (1.0, 0.0, 0.0), 0.0)
