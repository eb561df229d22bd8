"""Promises that hold for every history, whatever was learned: values choose among what the rules allow, and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.arbitration.campaign import After, Offer
from orchestrator.arbitration.context import ELIGIBLE
from orchestrator.events import DAY, HOUR, MINUTE
from orchestrator.identity import draw
from orchestrator.program import Program
from orchestrator.records import Candidate, Decision
from orchestrator.reference import Reference
from orchestrator.simulation import Simulation
from orchestrator.valuation import COLD, EVERYBODY, PROVEN, START, STOPPED, ArmValue, LeafValue, PolicySnapshot, arm_of
from tests import test_recall
from tests.builders import MOMENTS, PRODUCTS, campaign, compare, program
from tests.test_engine_properties import (
    BEGIN,
    BUDGET,
    PEOPLE,
    RIVALS,
    STRICT,
    Arrival,
    check_audit,
    check_ids,
    check_instances,
    check_windows,
    event_of,
    play,
    said,
)
from tests.test_recall import CUTS, PIECES

OFTEN = compare("orders_lifetime", ">=", 1)
WINDOWS = {"cart_rescue": 2 * DAY, "winback": 14 * DAY, "reorder_reminder": 5 * DAY, "birthday_offer": 10 * DAY}
CAMPAIGNS = [
    *(
        replace(
            one,
            control_floor_bp=one.control_bp // 4,
            leads_to=("follow_up",) if one.name == "cart_rescue" else (),
            measure=replace(one.measure, window=WINDOWS.get(one.name, DAY)),
        )
        for one in RIVALS
    ),
    replace(
        campaign("gift", "abandoned_cart", priority=20, window=20 * DAY, control_bp=2_000),
        offer=Offer(("none", "pct_10", "pct_20"), {"pct_10": OFTEN}, costs={"pct_20": (0, 2_000)}),
    ),
    replace(
        campaign("follow_up", "abandoned_cart", priority=90, window=DAY, control_bp=1_000),
        after=After("cart_rescue", "responded", 30 * DAY),
    ),
]
SHARES = {one.name: (one.control_floor_bp, one.control_bp) for one in CAMPAIGNS}
ARMS = [
    arm_of(one.name, offer, one.send.channel)
    for one in CAMPAIGNS
    for offer in (one.offer.choices if one.offer is not None else ("",))
]


def by_value(interrupt_above: float = 0.0, **rules: Any) -> Program:
    """Return rivals with offers, follow-ons, control groups, a hold-out, caps and quiet hours, chosen by value."""
    rules = {"method": "expected_value", "by": ("orders_lifetime",), "split_on": ("messages_90d",), **rules}
    strict = replace(STRICT, interrupt_above=interrupt_above, **rules)
    return program(moments=MOMENTS, campaigns=CAMPAIGNS, rules=strict)


def learned(chance: Random, since: int, version: str) -> PolicySnapshot:
    """Return any snapshot in force since an instant."""
    draws = chance.choice((1, 4))

    def worlds(low: int, high: int) -> list[float]:
        return [float(chance.randrange(low, high)) for _ in range(draws)]

    def leaf() -> LeafValue:
        arms = {
            name: ArmValue(
                worlds(-1_500, 4_000),
                hold=chance.choice((0.0, 0.1, 0.3)),
                lift=chance.choice((0.0, 0.2)),
                next=chance.choice(("", "cart_rescue")),
                control_bp=chance.choice((0, 700, 9_000)),
                state=chance.choice((PROVEN, PROVEN, PROVEN, PROVEN, COLD, STOPPED)),
            )
            for name in ARMS
            if chance.randrange(8)
        }
        return LeafValue(arms, {START: worlds(0, 2_000), "cart_rescue": worlds(0, 4_000)})

    leaves = {EVERYBODY: leaf(), "orders_lifetime=0": leaf()}
    return PolicySnapshot(since, since, "v1", draws, chance.choice((0, 200, 2_000)), leaves, version=version)


def reference_of(seed: int) -> Reference:
    """Return what is known: nothing, a snapshot from the beginning on or from later, and perhaps another one."""
    chance, reference = Random(seed), Reference(PRODUCTS)
    for number in range(chance.choice((0, 1, 1, 2, 2))):
        since = BEGIN + chance.randrange(-1, 3) * DAY + number * chance.randrange(1, 60) * DAY
        reference.put_policy(learned(chance, since, f"s{number}"))
    return reference


def lively(seed: int, delays: Sequence[int]) -> tuple[list[Arrival], list[int]]:
    """Return a history of eighty events in which much happens at once, and barriers for it."""
    chance, time = Random(seed), BEGIN
    found = [Arrival(event_of("yes", who, time, 0)) for who in PEOPLE]
    kinds = ("cart", "cart", "cart", "cart", "order", "order", "emptied", "return", "yes", "profile", "message", "no")
    for _ in range(80):
        time += chance.choice((MINUTE, HOUR, 3 * HOUR, 8 * HOUR, DAY, 5 * DAY))
        kind = chance.choice(kinds[: chance.choice((8, 10, 12))])
        found.append(Arrival(event_of(kind, chance.choice(PEOPLE), time, chance.randrange(3)), chance.choice(delays)))
    return found, sorted(one.at + chance.choice((0, HOUR)) for one in found if chance.randrange(3))


IN_TIME = st.integers(0, 10**6).map(lambda seed: lively(seed, (0,)))
SOME_LATE = st.integers(0, 10**6).map(lambda seed: lively(seed, (0, 0, 0, HOUR, 5 * HOUR, 2 * DAY)))
Lively = tuple[list[Arrival], list[int]]
REFERENCES = st.integers(0, 10**6).map(reference_of)


def taken(simulated: Simulation) -> Iterable[tuple[Decision, Candidate]]:
    """Yield the decisions that took the slot, each with what it chose."""
    for decision in simulated.decisions:
        if decision.kind == "choice" and decision.window_until is not None:
            yield decision, next(one for one in decision.candidates if one.reason in ("chosen", "control"))


def check_choices(simulated: Simulation) -> None:
    """Check what every record of a choice says of itself."""
    policy = simulated.program.policy
    for decision in simulated.decisions:
        if decision.kind != "choice":
            continue
        eligible = [one for one in decision.candidates if one.reason in ELIGIBLE]
        assert all(one.propensity == 0 for one in decision.candidates if one.reason not in ELIGIBLE)
        assert all(check.passed for one in eligible for check in one.checks)
        assert bool(decision.chosen_by) is bool(eligible)
        if not eligible:
            continue
        snapshot = simulated.reference.policy(decision.decided_at)
        assert decision.policy_version == ("" if snapshot is None else snapshot.version)
        assert sum(one.propensity for one in eligible) + decision.none_propensity == pytest.approx(1)
        explore_bp = policy.explore_start_bp if snapshot is None else snapshot.explore_bp
        if decision.reason != "none_better" and not interrupted(simulated, decision):
            assert all(one.propensity >= explore_bp / 10_000 / len(eligible) for one in eligible)
    for decision, winner in taken(simulated):
        floor, start = SHARES[winner.campaign]
        assert floor <= decision.control_bp <= start
        assert (decision.arm == "control") is (draw("control", decision.decision_id) < decision.control_bp)
        assert winner.propensity > 0
        assert decision.features.keys() <= {"messages_90d"}


def interrupted(simulated: Simulation, decision: Decision) -> bool:
    """Return whether a decision cut in on another."""
    return any(
        one.kind == "interruption" and (one.customer_id, one.decided_at) == (decision.customer_id, decision.decided_at)
        for one in simulated.decisions
    )


def check_outcomes(simulated: Simulation) -> None:
    """Check that outcomes repeat what their decisions say."""
    by_id = {decision.decision_id: (decision, winner) for decision, winner in taken(simulated)}
    for outcome in simulated.outcomes:
        decision, winner = by_id[outcome.decision_id]
        assert (outcome.leaf, outcome.stage, outcome.policy_version) == (
            decision.leaf,
            decision.stage,
            decision.policy_version,
        )
        assert arm_of(outcome.campaign, outcome.offer, outcome.channel) in outcome.eligible
        assert outcome.propensity >= winner.propensity
        assert outcome.known_at >= outcome.window_until


@BUDGET
@given(SOME_LATE, REFERENCES)
def test_promises_hold_whatever_was_learned(history: Lively, reference: Reference) -> None:
    """No window overlaps, no rule is broken, every chance is on record, and control keeps its floor."""
    simulated = play(*history, by_value(), reference=reference)

    check_audit(simulated)
    check_windows(simulated)
    check_instances(simulated)
    check_ids(simulated)
    check_choices(simulated)
    check_outcomes(simulated)


@BUDGET
@given(IN_TIME, IN_TIME, REFERENCES)
def test_more_barriers_or_fewer_choose_the_same(history: Lively, others: Lively, reference: Reference) -> None:
    """A snapshot is in force from its instant on, however often the clock is looked at."""
    one = play(*history, by_value(), reference=reference)
    other = play(history[0], others[1], by_value(), reference=reference)

    assert said(one) == said(other)


@BUDGET
@given(SOME_LATE, REFERENCES, st.sampled_from((0.0, 1.5)))
def test_a_state_that_went_through_bytes_chooses_the_same(history: Lively, reference: Reference, above: float) -> None:
    """As a worker that keeps nobody in memory."""
    crashed = play(*history, by_value(above), reference=reference, round_trip=True)

    assert said(crashed) == said(play(*history, by_value(above), reference=reference, round_trip=False))


@BUDGET
@given(IN_TIME, CUTS, PIECES, REFERENCES, st.sampled_from((0.0, 1.5)))
def test_a_loss_of_every_state_does_not_show(
    history: Lively, cut: int, pieces: int, reference: Reference, above: float
) -> None:
    """Outcomes after it tell how their windows were chosen before it: our own decisions say so."""
    compiled = by_value(above)
    lost = test_recall.play(*history, cut=cut, pieces=pieces, compiled=compiled, reference=reference)

    assert said(lost) == said(test_recall.play(*history, cut=None, compiled=compiled, reference=reference))


@BUDGET
@given(SOME_LATE, REFERENCES, st.sampled_from((1.0, 2.5)))
def test_one_window_at_a_time_also_where_others_may_cut_in(history: Lively, reference: Reference, above: float) -> None:
    """The one that is cut short ends there, and both are marked."""
    simulated = play(*history, by_value(above), reference=reference)

    check_audit(simulated)
    check_choices(simulated)
    check_outcomes(simulated)
    cuts = [decision for decision in simulated.decisions if decision.kind == "interruption"]
    marked = {outcome.decision_id for outcome in simulated.outcomes if outcome.interrupted}
    assert {decision.voids for decision in cuts} <= marked
    for decision in cuts:
        of = [outcome for outcome in simulated.outcomes if outcome.decision_id == decision.voids]
        assert {outcome.window_until for outcome in of} == {decision.decided_at}


@BUDGET
@given(SOME_LATE, REFERENCES)
def test_priority_is_what_it_was_whatever_was_learned(history: Lively, reference: Reference) -> None:
    """Byte for byte, but for what is told to who would learn."""
    plain = by_value(method="priority", by=(), split_on=())

    assert said(play(*history, plain, reference=reference)) == said(play(*history, plain))


def test_a_window_that_begins_at_this_very_instant_is_not_cut_short() -> None:
    """It would have no length: met in a history in which two moments opened at one instant, in two steps."""
    history = lively(538494029, (0, 0, 0, HOUR, 5 * HOUR, 2 * DAY))
    both = by_value(2.5, method="compare", compare={"priority": 5_000, "expected_value": 5_000})

    check_audit(play(*history, both, reference=reference_of(826372015)))


def test_looks_that_nobody_wrote_down_go_on_after_a_loss() -> None:
    """A day after the last one, as without it: met in a history in which nothing was worth sending for days."""
    history, reference, compiled = lively(731380976, (0,)), reference_of(513326531), by_value(2.5)
    undisturbed = said(test_recall.play(*history, cut=None, compiled=compiled, reference=reference))

    for cut in (18, 19, 20):
        lost = test_recall.play(*history, cut=cut, compiled=compiled, reference=reference)
        assert said(lost) == undisturbed


def test_the_histories_reach_every_way_to_choose() -> None:
    """The generator is worth something: none that is better, exploration, cold starts, look-ahead, interruptions."""
    seen: Counter[str] = Counter()

    @BUDGET
    @given(SOME_LATE, REFERENCES)
    def collect(history: Lively, reference: Reference) -> None:
        simulated = play(*history, by_value(1.5), reference=reference)
        for decision in simulated.decisions:
            seen[decision.kind] += 1
            seen[decision.chosen_by] += 1
            seen[f"stage {decision.stage}"] += 1
            seen.update(one.reason for one in decision.candidates)
            seen.update("ahead" for one in decision.candidates if "holding the slot over" in one.saw)
            seen.update(f"with {one.offer}" for one in decision.candidates if one.reason == "chosen")
        seen.update(f"interrupted {outcome.arm}" for outcome in simulated.outcomes if outcome.interrupted)

    collect()
    wanted = {
        "priority", "expected_value", "explore", "none_better", "outranked", "already_answered", "interruption",
        "interrupted treatment", "interrupted control", "ahead", "stage cart_rescue", "with pct_10", "with pct_20",
    }  # fmt: skip
    assert wanted - set(seen) == set(), seen
