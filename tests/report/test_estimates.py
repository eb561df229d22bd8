"""Intervals say how much is known, and are right about as often as they claim."""

import random
from typing import Any

import pytest

from orchestrator.report.estimates import ENOUGH, compare


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
    (one,) = compare(both_arms(40)).campaigns

    assert one.treatment.interval is not None
    assert one.difference is not None
    assert (one.treatment.windows, one.control.customers) == (40, 40)
    assert one.treatment.interval.mean == 500.5
    assert one.difference.mean == pytest.approx(200)
    assert one.difference.low < 200 < one.difference.high
    assert not one.difference.covers_zero


def test_too_few_customers_are_not_enough_data() -> None:
    """Below thirty customers in an arm no interval is drawn, however many windows they have."""
    few = [outcome(number, f"c{number % (ENOUGH - 1)}", "control", number) for number in range(500)]
    (one,) = compare([*few, *both_arms(40)[::2]]).campaigns

    assert one.treatment.interval is not None
    assert one.control.interval is None
    assert one.difference is None


def test_declared_cost_is_left_out_because_a_replay_spends_nothing() -> None:
    """With the cost of offers nobody received, a campaign without effect would look harmful."""
    costly = [one | {"cost": 100 if one["arm"] == "treatment" else 0} for one in both_arms(40)]
    (one,) = compare(costly).campaigns

    assert one.difference is not None
    assert one.difference.mean == pytest.approx(200)


def test_newest_revision_replaces_the_older() -> None:
    """A return amends the outcome instead of adding one, in whatever order both are read."""
    outcomes = both_arms(40)
    amended = [one | {"revision": 1, "margin": 0} for one in outcomes]

    for records in ([*outcomes, *amended], [*amended, *outcomes]):
        (one,) = compare(records).campaigns
        assert one.treatment.windows == 40
        assert one.treatment.interval is not None
        assert one.treatment.interval.mean == 0


def test_void_windows_leave_and_contaminated_ones_stay() -> None:
    """What late data took back is not measured; what others disturbed is counted and kept."""
    results = compare([*both_arms(40), outcome(999, "x", "treatment", 10**9, void=True)])
    disturbed = compare(both_arms(40, contaminated=True))

    assert results.void == 1
    assert results.campaigns[0].treatment.windows == 40
    assert disturbed.contaminated == 80


def test_nothing_measured_yet() -> None:
    """No outcome is an answer too."""
    results = compare([])

    assert (results.campaigns, results.together, results.covering) == ((), None, (0, 0))


def test_intervals_cover_a_true_zero_about_as_often_as_they_say() -> None:
    """Without any effect, with customers of very different size who have windows in both arms, 95 % cover 0."""
    covered = together = 0
    worlds = 300
    for seed in range(worlds):
        draw = random.Random(seed)
        outcomes: list[dict[str, Any]] = []
        for customer in range(150):
            size = draw.lognormvariate(5, 0.7)
            for number in range(draw.randrange(1, 7)):
                campaign, share = draw.choice((("cart", 0.1), ("birthday", 0.5)))
                arm = "control" if draw.random() < share else "treatment"
                spent = int(draw.expovariate(1 / size))
                number = len(outcomes)
                outcomes.append(outcome(number, f"c{customer}", arm, spent, campaign=campaign))
        results = compare(outcomes)
        covered += results.campaigns[0].difference is not None and results.campaigns[0].difference.covers_zero
        together += results.together is not None and results.together.covers_zero

    print(f"covered: one campaign {covered / worlds:.1%}, all together {together / worlds:.1%}")
    assert 0.91 <= covered / worlds <= 0.985
    assert 0.91 <= together / worlds <= 0.985
