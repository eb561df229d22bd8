"""Sub-personas are found where they are, by how much is measured honestly, and where there are none, none are found."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.personas import PLANTED, UNITS, first, permuted, within, world
from orchestrator.definitions.expressions import Declared, Scope
from orchestrator.events import DAY, HOUR
from orchestrator.learning.cuts import Cut, readable, sayable
from orchestrator.learning.intervals import discoveries, e_value, errors_wide
from orchestrator.learning.personas import EXTREMELY, NOT, SOMEWHAT, Limits, Persona, find
from orchestrator.learning.uplift import compare
from orchestrator.learning.windows import features_of, windows_of
from tests.definitions.test_expressions import Facts, compiled
from tests.learning.test_uplift import outcome
from tests.measured import MEASURED

GAP = Cut("order_gap", ">=", 60 * DAY, "duration", False)


def test_planted_sub_persona_is_found() -> None:
    """A campaign that works for customers who order rarely is split by how often they order, and by nothing else."""
    made = world(1)
    found = find(made.windows, UNITS)
    rescue = found.campaigns["rescue"]

    assert rescue.split is not None
    assert rescue.split.cut.feature == "order_gap"
    assert float(rescue.split.cut.value) == pytest.approx(PLANTED, rel=0.25)
    rare, others = rescue.parts
    assert (rare.label, others.label) == (EXTREMELY, NOT)
    assert rare.worth.low > others.worth.mean
    assert not found.campaigns["birthday"].parts
    assert not found.campaigns["winback"].parts


def test_half_that_measures_has_no_say() -> None:
    """Money of the other half may be anything: which condition is put forward stays the same."""
    made = world(2)
    windows = made.windows["rescue"]
    chance = np.random.default_rng(3)
    shuffled = np.where(windows.learning, windows.gained, chance.permutation(windows.gained))
    one, other = (
        find({"rescue": given}, UNITS).campaigns["rescue"].split
        for given in (windows, replace(windows, gained=shuffled))
    )

    assert one is not None and other is not None
    assert one.cut == other.cut


def test_permuted_labels_find_nothing() -> None:
    """Whoever was treated by chance alone is no sub-persona; the whole proof is `python -m bench.personas`."""
    made = world(4).windows
    found = [find(permuted(made, np.random.default_rng(seed)), UNITS).splits for seed in range(20)]

    print(f"{MEASURED}sub-personas in 20 permutations: {sum(found)}")
    assert sum(found) == 0


def test_interval_covers_what_was_planted() -> None:
    """What is said of those who were found is true of them at least as often as promised."""
    covered = []
    for seed in range(20):
        made = world(100 + seed)
        for leaf in find({"rescue": made.windows["rescue"]}, UNITS).campaigns["rescue"].leaves:
            truth = made.truth["rescue"][within(made.windows["rescue"], leaf.path)].mean()
            covered.append(leaf.worth.low <= truth <= leaf.worth.high)

    print(f"{MEASURED}intervals of sub-personas that cover the truth: {np.mean(covered):.1%} of {len(covered)}")
    assert len(covered) > 20
    assert np.mean(covered) >= 0.93


def test_difference_that_is_not_worth_it_is_no_split() -> None:
    """With a least difference, parts that differ by less for all one knows stay together."""
    windows = {"rescue": world(1).windows["rescue"]}

    assert find(windows, UNITS, Limits(difference=100)).splits == 1
    assert find(windows, UNITS, Limits(difference=900)).splits == 0


def test_no_part_is_smaller_than_asked_for() -> None:
    """Two hundred treated and a hundred in control in each part, at least."""
    windows = {"rescue": world(1).windows["rescue"]}
    enough = int(within(windows["rescue"], (GAP,)).sum())

    assert find(windows, UNITS, Limits(control=enough)).splits == 0


def test_few_windows_are_not_enough_data() -> None:
    """A campaign with too few customers is named, and nothing is said of it."""
    found = find({"rescue": first(world(1).windows["rescue"], 500)}, UNITS)

    assert found.too_few == ("rescue",)
    assert not found.campaigns


def test_order_of_records_never_matters() -> None:
    """The same records in another order give the same answer to the last digit."""
    outcomes, known = lives(3_000, effect=900)
    forward, backward = (find(windows_of(given, known)) for given in (outcomes, outcomes[::-1]))

    assert forward == backward


def test_share_of_control_that_shrank_is_no_difference() -> None:
    """Customers whose control group was larger early, when everybody bought more, are no sub-persona by that."""
    chance = np.random.default_rng(5)
    outcomes: list[dict[str, Any]] = []
    known: dict[str, dict[str, float | str]] = {}
    for number in range(12_000):
        early = number < 6_000
        control = chance.random() < (0.5 if early else 0.1)
        season = 3_000 if early else 1_000
        outcomes.append(
            outcome(
                number,
                f"c{number}",
                "control" if control else "treatment",
                int(chance.exponential(season)),
                decision_id=f"d{number}",
                control_bp=5_000 if early else 1_000,
            )
        )
        known[f"d{number}"] = {"visits": float(chance.poisson(3)), "tier": str(chance.choice(["high", "low"]))}
    (cart,) = find(windows_of(outcomes, known)).campaigns.values()

    assert not cart.parts
    assert cart.worth.covers_zero


def test_campaign_as_a_whole_is_measured_as_the_report_does() -> None:
    """The half that measures, given to the report, has the same uplift."""
    outcomes, known = lives(3_000, effect=400)
    windows = windows_of(outcomes, known)["cart"]
    (cart,) = find({"cart": windows}).campaigns.values()
    # The slope that takes the customers' history out is that of all, so that the halves are adjusted alike.
    half = [one for one, learning in zip(sorted(outcomes, key=_by_id), windows.learning, strict=True) if not learning]
    (reported,) = compare(half, net=True).campaigns

    assert reported.difference is not None
    assert cart.worth.mean == pytest.approx(reported.difference.mean, abs=15)
    assert cart.worth.high - cart.worth.low == pytest.approx(
        reported.difference.high - reported.difference.low, rel=0.05
    )


def test_words_and_truths_split_as_well() -> None:
    """A tier is compared with its values, and what is true or false reads as a condition does."""
    outcomes, known = lives(8_000, effect=900)
    found = find(windows_of(outcomes, known), {"app": "truth"})
    split = found.campaigns["cart"].split

    assert split is not None and found.splits
    assert str(split.cut) == "tier == 'high'"
    assert {str(Cut("app", ">=", 1.0, "truth")), str(Cut("app", ">=", 1.0, "truth").others)} == {"app", "not app"}


def test_windows_that_do_not_count_are_left_out() -> None:
    """What late data took back and what another campaign cut short is not measured; the newest revision is."""
    rows = [
        outcome(1, "a", "treatment", 500, decision_id="d1"),
        outcome(1, "a", "treatment", 300, decision_id="d1", revision=1, cost=10),
        outcome(2, "b", "control", 500, decision_id="d2", void=True),
        outcome(3, "c", "control", 500, decision_id="d3", interrupted=True),
        outcome(4, "d", "control", 100, decision_id="d4"),
    ]
    decisions: list[dict[str, Any]] = [
        {"decision_id": "d1", "features": {"visits": 3.0, "tier": "high"}},
        {"decision_id": "d4", "features": {"visits": 2.0}},
    ]
    windows = windows_of(rows, features_of(decisions))["cart"]

    assert list(windows.gained) == [290, 100]
    assert list(windows.words["tier"]) == ["high", ""]
    assert list(windows.numbers["visits"]) == [3.0, 2.0]


def test_e_value_is_the_interval_read_the_other_way() -> None:
    """The 95 % interval excludes 0 exactly where the e-value reaches 20."""
    for customers in (100, 1_000, 50_000):
        assert e_value(customers, errors_wide(customers)) == pytest.approx(20)


def test_conditions_that_were_compared_and_not_put_forward_count() -> None:
    """The more conditions were compared, the more it takes to be believed."""
    assert discoveries([50.0, 1.0]) == [True, False]
    assert discoveries([50.0, 1.0] + [0.0] * 10)[:2] == [False, False]


@pytest.mark.parametrize(
    ("cut", "text", "others"),
    [
        (Cut("order_gap", ">=", 60 * DAY, "duration"), "order_gap >= 60d", "order_gap < 60d"),
        (GAP, "order_gap >= 60d", "(order_gap < 60d or order_gap is unknown)"),
        (Cut("gap", "<", 90 * HOUR, "duration", False), "gap < 90h", "(gap >= 90h or gap is unknown)"),
        (Cut("spend_365d", ">=", 120_050.0, "money"), "spend_365d >= 1200.50", "spend_365d < 1200.50"),
        (Cut("spend_365d", "<", 5_000.0, "money"), "spend_365d < 50", "spend_365d >= 50"),
        (Cut("p_alive", ">=", 0.85), "p_alive >= 0.85", "p_alive < 0.85"),
        (Cut("orders", ">=", 12.0), "orders >= 12", "orders < 12"),
        (Cut("tier", "==", "high", "text", False), "tier == 'high'", "(tier != 'high' or tier is unknown)"),
        (Cut("tier", "==", "", "text"), "tier is unknown", "tier is not unknown"),
    ],
)  # fmt: skip
def test_cut_reads_as_in_definitions(cut: Cut, text: str, others: str) -> None:
    """A condition on one feature, and that of everybody else, who may have no value."""
    assert str(cut) == text
    assert str(cut.others) == others
    assert cut.others.others == cut


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (61.7 * DAY, "duration", 62 * DAY), (40.2 * HOUR, "duration", 40 * HOUR), (123_456.0, "money", 120_000),
        (1_234.0, "number", 1_200), (0.8512, "number", 0.85), (0.0, "number", 0.0), (7.0, "number", 7.0),
        (-12.6, "number", -13.0), (400 * DAY, "duration", 400 * DAY),
    ],
)  # fmt: skip
def test_cut_points_are_what_people_would_choose(value: float, unit: str, expected: float) -> None:
    """Quantiles are rounded to two digits, lengths of time to whole days or hours."""
    assert readable(value, unit) == pytest.approx(expected)


def test_text_that_conditions_cannot_say_is_not_tried() -> None:
    """There is no way to write a quote in a text, so such a value splits nobody."""
    assert sayable("Ready-made meals, 500 g")
    assert not sayable("men's")
    assert not sayable('5" screens')


def lives(count: int, effect: int) -> tuple[list[dict[str, Any]], dict[str, dict[str, float | str]]]:
    """Return outcomes, and what was known at their decisions: the campaign works in the high tier."""
    chance = np.random.default_rng(count)
    outcomes: list[dict[str, Any]] = []
    known: dict[str, dict[str, float | str]] = {}
    for number in range(count):
        tier, control = str(chance.choice(["high", "low", "mid"])), chance.random() < 0.3
        size = chance.lognormal(0, 0.5)
        gained = int(chance.exponential(800) * size) + (effect if tier == "high" and not control else 0)
        outcomes.append(
            outcome(
                number,
                f"c{number}",
                "control" if control else "treatment",
                gained,
                decision_id=f"d{number}",
                earned_before=int(size * chance.gamma(6, 800)),
                control_bp=3_000,
            )
        )
        known[f"d{number}"] = {"tier": tier, "visits": float(chance.poisson(5)), "app": float(chance.random() < 0.4)}
    return outcomes, known


def changing(*, timed: bool, features: bool = False) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return outcomes and decisions of 24,000 windows: half from before features were asked for, the others gain 600.

    What is written down later is chance. With `features`, the tier was asked for all along, and visits only later.
    """
    chance = np.random.default_rng(8)
    outcomes: list[dict[str, Any]] = []
    decisions: list[dict[str, Any]] = []
    for number in range(24_000):
        late, control = number >= 12_000, chance.random() < 0.3
        gained = int(chance.exponential(1_000)) + (600 if late and not control else 0)
        when = {"window_from": number, "definitions_version": "v1"} if timed else {}
        arm = "control" if control else "treatment"
        outcomes.append(
            outcome(number, f"c{number % 8_000}", arm, gained, decision_id=f"d{number}", control_bp=3_000, **when)
        )
        known: dict[str, float | str] = {
            "visits": float(chance.poisson(3)),
            "tier": str(chance.choice(["high", "low"])),
        }
        known = {
            name: value
            for name, value in known.items()
            if (late and chance.random() < 0.6) or (name == "tier" and features)
        }
        decisions.append({"decision_id": f"d{number}", "features": known})
    return outcomes, decisions


@pytest.mark.parametrize(("timed", "features"), [(True, False), (True, True), (False, False)])
def test_time_before_features_were_asked_for_is_no_sub_persona(timed: bool, features: bool) -> None:
    """What has changed since would look like a difference between who is known and who is not."""
    outcomes, decisions = changing(timed=timed, features=features)
    found = find(windows_of(outcomes, features_of(decisions)))

    assert found.splits == 0
    assert not found.too_few


def test_campaign_from_before_features_were_asked_for_is_not_enough_data() -> None:
    """It is named, so that nobody looks for it in vain."""
    rows = [outcome(n, f"c{n}", "treatment", 1, decision_id=f"d{n}", campaign="old" if n else "new") for n in range(9)]
    found = find(windows_of(rows, {"d0": {"visits": 1.0}}))

    assert found.too_few == ("new", "old")


def test_what_one_version_asked_for_another_need_not_have() -> None:
    """A feature that is no longer among those of `split_on` is not unknown since, and between two versions neither."""
    rows = [
        outcome(n, f"c{n}", "treatment", 1, decision_id=f"d{n}", window_from=n, definitions_version="abca"[n // 3])
        for n in range(12)
    ]
    known = {f"d{n}": {"visits": 1.0} for n in range(12)}
    tiers = {0, 2, 6, 8}  # asked for in the first version and in the third, and unknown once in each
    windows = windows_of(rows, features_of([
        {"decision_id": name, "features": {**of, **({"tier": "high"} if int(name[1:]) in tiers else {})}}
        for name, of in known.items()
    ]))["cart"]  # fmt: skip
    by_start = dict(zip(sorted(f"o{n}" for n in range(12)), windows.asked["tier"], strict=True))

    assert {n for n in range(12) if by_start[f"o{n}"]} == {0, 1, 2, 6, 7, 8}
    assert "visits" not in windows.asked


def partly_known(seed: int, effect_of: str) -> tuple[list[dict[str, Any]], dict[str, dict[str, float | str]]]:
    """Return windows of a campaign that works with one group: in four of ten the tier, rank and app are unknown."""
    chance = np.random.default_rng(seed)
    outcomes: list[dict[str, Any]] = []
    known: dict[str, dict[str, float | str]] = {}
    for number in range(12_000):
        control, unknown = chance.random() < 0.3, chance.random() < 0.4
        tier, rank = str(chance.choice(["high", "low", "it's", ""])), float(chance.integers(1, 9))
        app = float(chance.random() < 0.5)
        hit = {
            "unknown": unknown,
            "high": not unknown and tier == "high",
            "rank": not unknown and rank >= 5,
            "app": not unknown and app == 1,
        }
        gained = int(chance.exponential(800)) + (900 if hit[effect_of] and not control else 0)
        arm = "control" if control else "treatment"
        outcomes.append(outcome(number, f"c{number}", arm, gained, decision_id=f"d{number}", control_bp=3_000))
        known[f"d{number}"] = {"visits": 1.0} if unknown else {"visits": 1.0, "tier": tier, "rank": rank, "app": app}
    return outcomes, known


@pytest.mark.parametrize("effect_of", ["unknown", "high", "rank", "app"])
def test_engine_finds_exactly_those_who_were_measured(effect_of: str) -> None:
    """The conditions of a split, as they are proposed, are true in the engine of the customers of their part alone."""
    outcomes, known = partly_known(1, effect_of)
    windows = windows_of(outcomes, known)
    persona = find(windows, {"app": "truth"}).campaigns["cart"]
    scope = Scope({name: Declared(of) for name, of in (("tier", "text"), ("rank", "number"), ("app", "truth"))})
    ids = sorted(known, key=lambda name: f"o{name[1:]}")
    halves = [known[name] for name, learning in zip(ids, windows["cart"].learning, strict=True) if not learning]

    assert persona.parts
    leaves = persona.leaves
    for leaf in leaves:
        text = " and ".join(map(str, leaf.path))
        condition, problems = compiled(text, scope)
        assert condition is not None, problems
        read: list[dict[tuple[str, str, str | None], Any]] = [
            {("feature", name, None): bool(of) if name == "app" else of for name, of in one.items()} for one in halves
        ]
        assert sum(condition.holds(Facts(one)) is True for one in read) == leaf.windows, text
    assert sum(leaf.windows for leaf in leaves) == len(halves)


def test_long_texts_are_no_values() -> None:
    """They were cut when they were written down, so that no customer has exactly that."""
    outcomes, known = lives(8_000, effect=900)
    long = {name: {**of, "tier": str(of["tier"]) * 22} for name, of in known.items()}

    assert find(windows_of(outcomes, known)).splits
    assert not find(
        windows_of(outcomes, {name: {**of, "tier": str(of["tier"])[:64]} for name, of in long.items()})
    ).splits


def _by_id(record: dict[str, Any]) -> str:
    return str(record["outcome_id"])


def test_labels() -> None:
    """Extremely is above the campaign's mean, somewhat above 0, and neither is not."""
    made = find(world(7).windows, UNITS).campaigns["rescue"]
    leaves: list[Persona] = list(made.leaves)

    assert {leaf.label for leaf in leaves} <= {EXTREMELY, SOMEWHAT, NOT}
    assert all((leaf.label == NOT) == (leaf.worth.low <= 0) for leaf in leaves)
