"""Intervals say how much is known, and are right about as often as they claim."""

import random
from typing import Any

import pytest

from orchestrator.learning.intervals import Interval
from orchestrator.learning.uplift import ENOUGH, compare, segments
from tests.measured import MEASURED


def outcome(number: int, customer: str, arm: str, margin: int, **changes: Any) -> dict[str, Any]:
    """Return an outcome record, as far as it is read here."""
    return {
        "outcome_id": f"o{number}",
        "revision": 0,
        "customer_id": customer,
        "campaign": "cart",
        "arm": arm,
        "margin": margin,
        "cost": 0,
        "void": False,
        "contaminated": False,
    } | changes


def both_arms(customers: int, treated: int = 500, control: int = 300, **changes: Any) -> list[dict[str, Any]]:
    """Return one window per customer and arm, with a little spread."""
    return [
        outcome(number * 2 + side, f"{arm}{number}", arm, margin + number % 2, **changes)
        for number in range(customers)
        for side, (arm, margin) in enumerate((("treatment", treated), ("control", control)))
    ]


def test_difference_of_the_arms() -> None:
    """The means, their difference and the numbers behind them."""
    (one,) = compare(both_arms(60)).campaigns

    assert one.treatment.interval is not None
    assert one.difference is not None
    assert (one.treatment.windows, one.control.customers) == (60, 60)
    assert one.treatment.interval.mean == 500.5
    assert one.difference.mean == pytest.approx(200)
    assert one.difference.low < 200 < one.difference.high
    assert not one.difference.covers_zero


def test_too_few_customers_are_not_enough_data() -> None:
    """Below thirty customers in control no interval is drawn, however many windows they have."""
    few = [outcome(number, f"c{number % (ENOUGH['control'] - 1)}", "control", number) for number in range(500)]
    (one,) = compare([*few, *both_arms(60)[::2]]).campaigns

    assert one.treatment.interval is not None
    assert one.control.interval is None
    assert one.difference is None


def test_declared_cost_is_left_out_because_a_replay_spends_nothing() -> None:
    """With the cost of offers nobody received, a campaign without effect would look harmful."""
    costly = [one | {"cost": 100 if one["arm"] == "treatment" else 0} for one in both_arms(60)]
    (one,) = compare(costly).campaigns

    assert one.difference is not None
    assert one.difference.mean == pytest.approx(200)


def test_newest_revision_replaces_the_older() -> None:
    """A return amends the outcome instead of adding one, in whatever order both are read."""
    outcomes = both_arms(60)
    amended = [one | {"revision": 1, "margin": 0} for one in outcomes]

    for records in ([*outcomes, *amended], [*amended, *outcomes]):
        (one,) = compare(records).campaigns
        assert one.treatment.windows == 60
        assert one.treatment.interval is not None
        assert one.treatment.interval.mean == 0


def test_void_windows_leave_and_contaminated_ones_stay() -> None:
    """What late data took back is not measured; what others disturbed is counted and kept."""
    results = compare([*both_arms(60), outcome(999, "x", "treatment", 10**9, void=True)])
    disturbed = compare(both_arms(60, contaminated=True))

    assert results.void == 1
    assert results.campaigns[0].treatment.windows == 60
    assert disturbed.contaminated == 120


def test_nothing_measured_yet() -> None:
    """No outcome is an answer too."""
    results = compare([])

    assert (results.campaigns, results.together, results.covering) == ((), None, (0, 0))


def test_net_takes_off_the_declared_cost() -> None:
    """Where messages were sent, what they and their offers cost is part of what they were worth."""
    costly = [one | {"cost": 40 if one["arm"] == "treatment" else 0} for one in both_arms(60)]
    (one,) = compare(costly, net=True).campaigns

    assert one.difference is not None
    assert one.difference.mean == pytest.approx(160)
    assert one.cost == 60 * 40


@pytest.mark.parametrize(("metric", "expected"), [("orders", 1), ("unsubscribed", 0.5)])
def test_other_metrics_are_compared_alike(metric: str, expected: float) -> None:
    """Orders as an objective, and unsubscribes as a guardrail."""
    outcomes = [
        one
        | {
            "orders": 2 if one["arm"] == "treatment" else 1,
            "unsubscribed": one["arm"] == "treatment" and number % 4 == 0,
        }
        for number, one in enumerate(both_arms(100))
    ]
    (one,) = compare(outcomes, metric).campaigns

    assert one.difference is not None
    assert one.difference.mean == pytest.approx(expected)


def lives(seed: int, customers: int, effect: float = 0.0) -> list[dict[str, Any]]:
    """Return windows of customers of very different size, who have windows in both arms, and their history."""
    draw = random.Random(seed)
    outcomes: list[dict[str, Any]] = []
    for customer in range(customers):
        size = draw.lognormvariate(5, 0.7)
        for _ in range(draw.randrange(1, 7)):
            campaign, share = draw.choice((("cart", 0.1), ("birthday", 0.5)))
            arm = "control" if draw.random() < share else "treatment"
            spent = draw.expovariate(1 / size) + (effect if arm == "treatment" else 0)
            before = int(sum(draw.expovariate(1 / size) for _ in range(4)))
            record = outcome(len(outcomes), f"c{customer}", arm, int(spent), campaign=campaign, earned_before=before)
            outcomes.append(record)
    return outcomes


def test_intervals_cover_a_true_zero_at_least_as_often_as_they_say() -> None:
    """Without any effect, 95 % cover 0, for one campaign and for all together."""
    worlds = 200
    found = [compare(lives(seed, 150)) for seed in range(worlds)]
    one = sum(results.campaigns[0].difference is None or results.campaigns[0].difference.covers_zero
              for results in found)  # fmt: skip
    together = sum(results.together is None or results.together.covers_zero for results in found)

    print(f"{MEASURED}covered: one campaign {one / worlds:.1%}, all together {together / worlds:.1%}")
    assert one / worlds >= 0.95
    assert together / worlds >= 0.95


def test_looking_at_an_a_a_test_again_and_again_finds_nothing() -> None:
    """Of campaigns without effect that are looked at 20 times, at most 5 % ever seem to have one."""
    worlds, alarms = 80, 0
    for seed in range(worlds):
        outcomes = lives(1_000 + seed, 400)
        looks = (compare(outcomes[: len(outcomes) * look // 20]).together for look in range(1, 21))
        alarms += any(look is not None and not look.covers_zero for look in looks)

    print(f"{MEASURED}false alarms under 20 looks: {alarms / worlds:.1%}")
    assert alarms / worlds <= 0.05


def test_own_history_makes_the_interval_narrower_and_not_different() -> None:
    """What customers had earned before explains a part of what they earn: less noise, the same mean."""
    outcomes = lives(7, 3_000, effect=30)
    without = [{**one, "earned_before": None} for one in outcomes]
    plain, adjusted = (compare(records).campaigns[0] for records in (without, outcomes))

    assert plain.difference is not None
    assert adjusted.difference is not None
    assert plain.own_history == 0
    assert adjusted.own_history > 0.1
    assert adjusted.difference.high - adjusted.difference.low < plain.difference.high - plain.difference.low
    assert adjusted.difference.low < 30 < adjusted.difference.high
    assert adjusted.treatment == plain.treatment


def season(seed: int, periods: tuple[tuple[int, int, int], ...]) -> list[dict[str, Any]]:
    """Return windows of a campaign that earns nothing, each period of a number, an average and a share."""
    draw, outcomes = random.Random(seed), list[dict[str, Any]]()
    for windows, earned, share in periods:
        for _ in range(windows):
            number = len(outcomes)
            arm = "control" if draw.random() < share / 10_000 else "treatment"
            margin = int(draw.gauss(earned, 50))
            outcomes.append(outcome(number, f"c{number}", arm, margin, control_bp=share))
    return outcomes


def test_a_control_group_that_shrinks_makes_no_uplift_of_the_season() -> None:
    """The share falls from 30 to 5 % before Christmas, when all spend twice as much: without effect there is none."""
    windows = [season(seed, ((2_000, 500, 3_000), (2_000, 1_000, 500))) for seed in range(8)]
    pooled = [compare([{**one, "control_bp": 0} for one in each]).campaigns[0].difference for each in windows]
    weighted = [compare(each).campaigns[0].difference for each in windows]

    print(f"{MEASURED}seasonal bias, pooled and weighted: {_mean(pooled):.0f} and {_mean(weighted):.1f} of 1,000")
    assert all(one is not None and not one.covers_zero for one in pooled)
    assert all(one is not None and one.covers_zero for one in weighted)
    assert abs(_mean(weighted)) < 10


def test_shares_that_nobody_wrote_down_are_those_of_their_versions() -> None:
    """Windows are compared within a version of the definitions; those of a few windows go with a neighbour."""
    windows = [
        one | {"definitions_version": f"v{one['control_bp']}", "control_bp": 0, "window_from": number}
        for number, one in enumerate(season(3, ((2_000, 500, 3_000), (8, 500, 4_000), (2_000, 1_000, 500))))
    ]
    (one,) = compare(windows).campaigns
    (pooled,) = compare([{**each, "definitions_version": "v"} for each in windows]).campaigns

    assert one.difference is not None
    assert pooled.difference is not None
    assert abs(one.difference.mean) < 20 < 200 < pooled.difference.mean


def _mean(found: list[Interval | None]) -> float:
    return sum(one.mean for one in found if one is not None) / len(found)


def test_one_share_weighs_nothing() -> None:
    """Where control's share never changed, it makes no difference whether it was written down."""
    windows = season(3, ((2_000, 500, 1_000),))
    (known,) = compare(windows).campaigns
    (unknown,) = compare([{**one, "control_bp": 0} for one in windows]).campaigns

    assert known.difference is not None
    assert unknown.difference is not None
    assert known.difference.mean == pytest.approx(unknown.difference.mean)
    assert known.difference.high == pytest.approx(unknown.difference.high)


def test_order_of_arrival_changes_nothing() -> None:
    """Sums are made in the order of the outcomes' ids, to the last bit."""
    windows = season(5, ((500, 500, 1_000), (500, 700, 500)))
    shuffled = random.Random(1).sample(windows, len(windows))

    assert compare(shuffled) == compare(windows)


@pytest.mark.parametrize(
    ("metric", "expected"), [("conversions", 0.5), ("new_category", 2), ("retention", 1), ("revenue", 70)]
)
def test_every_objective(metric: str, expected: float) -> None:
    """A conversion is a window with any order; the others are what the outcome says."""
    quiet = {"orders": 0, "new_categories": 0, "revenue": 30, "retained": False}
    outcomes = [
        one
        | quiet
        | ({"orders": number % 4, "new_categories": 2, "revenue": 100, "retained": True} if not number % 2 else {})
        for number, one in enumerate(both_arms(200))
    ]
    (one,) = compare(outcomes, metric).campaigns

    assert one.metric == metric
    assert one.difference is not None
    assert one.difference.mean == pytest.approx(expected)


def test_none_of_few_is_not_none_of_all() -> None:
    """Of fifty customers nobody unsubscribed: the interval says that it could be some in a hundred."""
    quiet = [one | {"unsubscribed": False} for one in both_arms(60)]
    (one,) = compare(quiet, "unsubscribed").campaigns

    assert one.difference is not None
    assert one.difference.mean == 0
    assert one.difference.high > 0.02
    assert one.standing == "not known yet"
    assert one.more_customers


def test_among_segments_without_any_effect_nearly_none_is_found() -> None:
    """With forty groups the best looks good; what is called found is false at most once in ten, whoever peeks."""
    alarms = 0
    for seed in range(40):
        draw = random.Random(seed)
        windows = [
            outcome(
                number, f"c{number}", draw.choice(("treatment", "control")), int(draw.expovariate(1 / 500)),
                leaf=f"a={number % 20};b={number % 7}",
            )
            for number in range(4_000)
        ]  # fmt: skip
        alarms += bool(compare(windows, groups=segments).found)

    assert alarms <= 4


def test_a_true_effect_is_found_among_many() -> None:
    """One segment in twenty for whom it works."""
    draw = random.Random(1)
    windows = [
        outcome(
            number, f"c{number}", arm, int(draw.expovariate(1 / 500)) + 400 * (arm == "treatment" and number % 20 == 3),
            leaf=f"a={number % 20}",
        )
        for number in range(8_000)
        for arm in [draw.choice(("treatment", "control"))]
    ]  # fmt: skip

    assert [one.group for one in compare(windows, groups=segments).found] == ["a=3"]


def test_more_customers_are_named_until_a_tenth_of_the_mean_can_be_seen() -> None:
    """The answer shrinks as they come, and with as many the interval is about as narrow as promised."""
    few, many = (compare(lives(3, customers)).campaigns[0] for customers in (300, 3_000))

    assert few.more_customers is not None
    assert many.more_customers is not None
    assert few.more_customers > many.more_customers > 0
    assert few.more_customers + 300 == pytest.approx(many.more_customers + 3_000, rel=0.35)
