"""From outcomes to a policy snapshot: the same bytes in whatever order they came, the truth within what is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from orchestrator.arbitration.campaign import After, Campaign, Measure, Offer, Send
from orchestrator.arbitration.policy import Policy
from orchestrator.events import DAY
from orchestrator.identity import identify
from orchestrator.learning.outcomes import Outcomes, half_of
from orchestrator.learning.plan import Model, plan
from orchestrator.program import Definitions
from orchestrator.valuation import COLD, EVERYBODY, PROVEN, START, STOPPED, records_of, snapshot_of

NOW = 200 * DAY


def campaign(name: str, window: int = 7 * DAY, **more: Any) -> Campaign:
    """Return a campaign with a large control group that may get small."""
    return Campaign(name, ("moment",), Send("email", name), Measure("margin", window), 2_000, 300, **more)


def definitions(*campaigns: Campaign, **policy: Any) -> Definitions:
    """Return definitions with these campaigns."""
    return Definitions("v1", campaigns={one.name: one for one in campaigns}, policy=Policy(**policy))


def outcome(number: int, campaign: str = "a", **more: Any) -> dict[str, Any]:
    """Return the record of a week's window that ended a while ago."""
    start = more.pop("start", 100 * DAY)
    return {
        "outcome_id": identify("outcome", campaign, number), "revision": 1, "customer_id": f"c{number % 997}",
        "campaign": campaign, "channel": "email", "arm": "treatment", "window_from": start,
        "window_until": start + 7 * DAY, "margin": 0, "revenue": 0, "cost": 0, "orders": 0, "earned_before": 0,
        "unsubscribed": False, "void": False, "responded": False, "control_bp": 2_000, "known_at": start + 8 * DAY,
        "eligible": (f"{campaign}@email",), "free_for": 5 * DAY, **more,
    }  # fmt: skip


def world(
    uplift: Mapping[tuple[str, str], float], each: int = 800, seed: int = 1, spread: float = 900.0
) -> Iterator[dict[str, Any]]:
    """Yield outcomes of customers whose own history explains most of what they earn, and who gain by (arm, leaf)."""
    chance = np.random.default_rng(seed)
    for (name, leaf), gain in uplift.items():
        for number in range(each):
            usual, control = chance.gamma(2.0, 500.0), number % 5 == 0
            margin = usual + chance.normal(0, spread) + (0 if control else gain)
            yield outcome(
                number, name, outcome_id=identify(name, leaf, number, seed), leaf=leaf, margin=int(margin),
                arm="control" if control else "treatment", earned_before=int(usual * 12), responded=margin > 1_000,
                start=int(chance.integers(0, 180)) * DAY, customer_id=f"{leaf}-{number}",
            )  # fmt: skip


UPLIFT = {("a", "g=1"): 300.0, ("a", "g=2"): 350.0, ("b", "g=1"): -400.0, ("b", "g=2"): 100.0}


def test_plan_is_the_same_to_the_byte_in_any_order() -> None:
    """Outcomes come from many partitions, some twice and some amended; what is learned of them does not tell how."""
    known = definitions(campaign("a"), campaign("b"), by=("g",))
    records = list(world(UPLIFT, each=300))
    amended = [{**record, "revision": 2, "margin": record["margin"] + 1} for record in records[::7]]
    shuffled = [*amended, *records[::-1], *records[:50]]

    first = plan(Outcomes([*records, *amended]), known, NOW, NOW + DAY)
    second = plan(Outcomes(shuffled), known, NOW, NOW + DAY)

    assert first == second
    assert records_of(first) == records_of(second)
    assert first.version == next(iter(records_of(first).values()))["version"]
    assert snapshot_of(records_of(first).values()) == first


def test_only_what_was_known_counts() -> None:
    """A plan as of an instant is the same when more has been read since, amendments too."""
    known = definitions(campaign("a"))
    early = [outcome(number, margin=number) for number in range(100)]
    late = [{**record, "revision": 2, "margin": 9_999, "known_at": NOW} for record in early[:10]]

    before = plan(Outcomes(early), known, 150 * DAY, NOW)
    after = plan(Outcomes([*early, *late, outcome(500, known_at=NOW)]), known, 150 * DAY, NOW)

    assert before == after


def test_what_became_known_later_does_not_show() -> None:
    """Nor do the names in it: a learner that has read further makes the same snapshot as of the same instant."""
    known = definitions(campaign("a"), by=("g",))
    records = list(world({("a", "g=1"): 300.0}, each=50))
    later = outcome(1, "gone", leaf="g=9", stage="gone", start=NOW, known_at=NOW + 1, eligible=("gone@sms", "z@sms"))

    assert plan(Outcomes([*records, later]), known, NOW, NOW + DAY) == plan(Outcomes(records), known, NOW, NOW + DAY)


def test_the_outcomes_of_the_erased_are_gone() -> None:
    """As if they had never been, whenever the tombstone is read; what is put after it counts."""
    known = definitions(campaign("a"))
    records = list(world({("a", ""): 300.0}, each=60))
    outcomes = Outcomes(records)
    outcomes.as_of(NOW)
    for erased in (records[3], records[4]):
        outcomes.remove(erased["outcome_id"])
    outcomes.remove("never seen")
    outcomes.put(records[4])

    assert len(outcomes) == 59
    assert plan(outcomes, known, NOW, NOW + DAY) == plan(Outcomes([*records[:3], *records[4:]]), known, NOW, NOW + DAY)


def test_what_was_taken_back_does_not_count() -> None:
    """A decision that late truth took back is no evidence."""
    outcomes = Outcomes([outcome(1), {**outcome(2), "revision": 1}, {**outcome(2), "revision": 2, "void": True}])

    assert len(outcomes) == 2
    assert len(outcomes.as_of(NOW)) == 1


def test_windows_that_another_cut_short_are_left_out() -> None:
    """So is the one that cut in: neither had the time that the others of its campaign have."""
    outcomes = Outcomes([outcome(1), {**outcome(2), "interrupted": True}])

    assert len(outcomes.as_of(NOW)) == 1


def test_followed_revisions_can_be_forgotten() -> None:
    """What others had followed before is let go of, and no later plan changes."""
    known = definitions(campaign("a"))
    outcomes = Outcomes(world({("a", ""): 100.0}, each=200))
    outcomes.put({**outcome(1), "revision": 1})
    outcomes.put({**outcome(1), "revision": 2, "margin": 700})
    before = plan(outcomes, known, NOW, NOW)

    outcomes.forget(NOW)

    assert plan(outcomes, known, NOW, NOW) == before


def test_the_truth_is_within_what_is_unknown() -> None:
    """Of many cells, about 95 % have their true uplift within two deviations of the mean."""
    chance = np.random.default_rng(5)
    truth = {(arm, f"g={leaf}"): float(chance.normal(0, 250)) for arm in "abcdefgh" for leaf in range(8)}
    known = definitions(*map(campaign, "abcdefgh"), by=("g",))

    snapshot = plan(Outcomes(world(truth, each=300)), known, NOW, NOW)
    draws = {(arm, leaf): np.array(snapshot.leaf(leaf).arms[f"{arm}@email"].gain) for arm, leaf in truth}
    inside = [abs(draws[cell].mean() - gain) < 1.96 * draws[cell].std() for cell, gain in truth.items()]
    errors = [draws[cell].mean() - gain for cell, gain in truth.items()]

    assert np.mean(inside) >= 0.88  # 64 cells of one world: three standard errors below
    assert np.std(errors) < 0.6 * np.std(list(truth.values()))


def test_an_arm_without_enough_evidence_is_cold() -> None:
    """At least 50 treated, 15 of them responding, and 30 in control, 5 of them buying by themselves."""
    known = definitions(campaign("a"))
    treated = [outcome(number, responded=number < 15) for number in range(50)]
    control = [outcome(100 + number, arm="control", responded=number < 5) for number in range(30)]

    def state(records: list[dict[str, Any]]) -> str:
        return plan(Outcomes(records), known, NOW, NOW).leaf(EVERYBODY).arms["a@email"].state

    assert state([*treated, *control]) == PROVEN
    assert state([*treated[1:], *control]) == COLD
    assert state([*treated, *control[1:]]) == COLD
    assert state([]) == COLD


def test_an_arm_that_does_harm_is_stopped_where_it_does() -> None:
    """Its upper bound is below nothing in one leaf; in the other it goes on."""
    snapshot = plan(
        Outcomes(world({**UPLIFT, ("b", "g=1"): -900.0}, each=3_000)),
        definitions(campaign("a"), campaign("b"), by=("g",)), NOW, NOW,
    )  # fmt: skip

    assert snapshot.leaf("g=1").arms["b@email"].state == STOPPED
    assert snapshot.leaf("g=2").arms["b@email"].state == PROVEN


def test_control_and_exploration_come_down_with_evidence() -> None:
    """The share of control falls to its floor, and so does exploration once there was time to learn."""
    known = definitions(campaign("a"))

    early = plan(Outcomes(world({("a", ""): 100.0}, each=100)), known, 30 * DAY, NOW)
    late = plan(Outcomes(world({("a", ""): 100.0}, each=12_000)), known, NOW, NOW)

    assert early.leaf("").arms["a@email"].control_bp == 2_000
    assert early.explore_bp == 500
    assert late.leaf("").arms["a@email"].control_bp == 300
    assert late.explore_bp == 100


@pytest.mark.parametrize("gain", [-900.0, -100.0, 0.0, 100.0, 900.0])
def test_control_never_falls_below_a_tenth_before_enough_of_it_is_known(gain: float) -> None:
    """However sure the worth seems: with 240 control outcomes a tenth or more, with 1,200 it may be the floor."""
    few, many = (
        plan(Outcomes(world({("a", ""): gain}, each=each)), definitions(campaign("a")), NOW, NOW).leaf("")
        for each in (1_200, 6_000)
    )

    assert few.arms["a@email"].control_bp >= 1_000
    assert 300 <= many.arms["a@email"].control_bp < 1_000


def test_a_control_group_that_starts_smaller_than_a_tenth_does_not_grow() -> None:
    """Who declares 5 % has 5 % until there is enough."""
    small = Campaign("a", ("moment",), Send("email", "a"), Measure("margin", 7 * DAY), 500, 300)
    leaf = plan(Outcomes(world({("a", ""): 900.0}, each=1_200)), definitions(small), NOW, NOW).leaf("")

    assert leaf.arms["a@email"].control_bp == 500


def test_a_free_slot_is_worth_what_slots_earn() -> None:
    """In twelve days, of which seven were the window's, 300 was earned: for the horizon that many times as much."""
    snapshot = plan(Outcomes(world({("a", ""): 300.0}, each=6_000)), definitions(campaign("a")), NOW, NOW)
    leaf = snapshot.leaf("")

    value = np.mean(leaf.stages[START])

    assert value == pytest.approx(np.mean(leaf.arms["a@email"].gain) * Policy().horizon / (12 * DAY), rel=0.02)
    assert value == pytest.approx(300.0 * Policy().horizon / (12 * DAY), rel=0.25)


def test_a_longer_window_uses_up_more_of_the_slot() -> None:
    """The slot has a price: what it could have brought while the window holds it."""
    known = definitions(campaign("a"), campaign("b", window=28 * DAY))
    leaf = plan(Outcomes(world({("a", ""): 300.0, ("b", ""): 300.0}, each=1_500)), known, NOW, NOW).leaf("")
    short, long = leaf.arms["a@email"], leaf.arms["b@email"]

    assert short.hold < long.hold < 0.1
    assert leaf.stages[START][0] > 0
    assert np.mean(leaf.advantages(short, START)) > np.mean(leaf.advantages(long, START)) + 100


def test_a_follow_on_adds_to_what_opens_it() -> None:
    """A response to the first step is worth what the second brings: the stage after it is worth more."""
    second = campaign("b", after=After("a", "responded", 90 * DAY))
    records = list(world({("a", ""): 10.0}, each=1_500))
    records += [{**record, "stage": "a"} for record in world({("b", ""): 900.0}, each=1_500)]

    series = definitions(campaign("a", leads_to=("b",)), second)
    leaf = plan(Outcomes(records), series, NOW, NOW).leaf("")
    alone = plan(Outcomes(records), series, NOW, NOW, Model(follow_ons=False)).leaf("")
    first = leaf.arms["a@email"]

    assert first.next == "a"
    assert first.lift > 0.2
    assert np.mean(leaf.stages["a"]) > np.mean(leaf.stages[START]) + 500
    assert np.mean(leaf.advantages(first, START)) > np.mean(alone.advantages(alone.arms["a@email"], START)) + 100


def test_a_campaign_begins_where_its_parent_is() -> None:
    """What a campaign grew from is its prior: without a single outcome it is proven, and expected to do as well."""
    records = list(world({("a", "g=1"): 600.0, ("a", "g=2"): 0.0, ("c", "g=1"): 0.0}, each=2_000))
    known = definitions(campaign("a"), campaign("b", grew_from="a"), campaign("c"), campaign("d"), by=("g",))

    snapshot = plan(Outcomes(records), known, NOW, NOW)
    one, two = (snapshot.leaf(leaf).arms["b@email"] for leaf in ("g=1", "g=2"))

    assert one.state == PROVEN
    assert np.mean(one.gain) == pytest.approx(600, abs=200)
    assert np.mean(one.gain) > np.mean(two.gain) + 200
    assert snapshot.leaf("g=1").arms["d@email"].state == COLD


def test_offers_are_arms() -> None:
    """A campaign with offers has an arm for each; those never tried are there, and cold."""
    with_offers = campaign("a", offer=Offer(("none", "pct_10")))
    snapshot = plan(Outcomes([outcome(1, offer="pct_10")]), definitions(with_offers), NOW, NOW)

    assert sorted(snapshot.leaf("").arms) == ["a+none@email", "a+pct_10@email"]


@pytest.mark.parametrize("left", [("b",), ()])
def test_outcomes_of_campaigns_that_are_gone_stop_nobody(left: tuple[str, ...]) -> None:
    """They are left out, also where nothing is left of all that was tried."""
    snapshot = plan(Outcomes(world(UPLIFT, each=300)), definitions(*map(campaign, left)), NOW, NOW)

    assert snapshot.outcomes == 1_200
    assert {arm for leaf in snapshot.leaves.values() for arm in leaf.arms} == {f"{name}@email" for name in left}


def test_nothing_at_all_is_a_plan_too() -> None:
    """Before the first outcome every arm is cold, with the full control group and all of the exploration."""
    snapshot = plan(Outcomes(), definitions(campaign("a")), NOW, NOW)
    arm = snapshot.leaf("anything").arms["a@email"]

    assert (snapshot.outcomes, snapshot.explore_bp, arm.state, arm.control_bp) == (0, 500, COLD, 2_000)
    assert snapshot.leaf("").stages[START][0] == 0


def test_customers_fall_into_two_halves() -> None:
    """Half of the customers each, the same for ever."""
    halves = [half_of(f"c{number}") for number in range(2_000)]

    assert 900 < sum(halves) < 1_100
    assert half_of("ana") == half_of("ana")
