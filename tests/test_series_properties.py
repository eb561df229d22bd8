"""Promises that hold for every history with series and transactional messages: late, repeated, lost and rebuilt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.arbitration.campaign import Campaign, Send, SeriesStep, Unless
from orchestrator.events import DAY, HOUR, SECOND
from orchestrator.moments.rules import EventMatch
from orchestrator.program import Program
from orchestrator.simulation import Simulation
from tests.builders import ORDER_PLACED, campaign, compare, program
from tests.test_engine_properties import (
    BARRIERS,
    BUDGET,
    IN_ORDER,
    LATE,
    PEOPLE,
    RIVALS,
    STRICT,
    Arrival,
    barriers_of,
    check_audit,
    check_windows,
    histories,
    known_of,
    play,
    said,
)
from tests.test_recall import CUTS, PIECES
from tests.test_recall import play as play_with_a_loss

FEWER = settings(BUDGET, max_examples=120)
KINDS = st.sampled_from(("cart", "cart", "cart", "emptied", "order", "message", "no", "yes", "profile"))
STOPS = (EventMatch((ORDER_PLACED,)), EventMatch(("cart.emptied",), "cart_id"))


def series(name: str, *after: int, unless: Unless | None = None) -> tuple[SeriesStep, ...]:
    """Return steps of e-mails and text messages in turn."""
    delays = (0, *after)
    return tuple(
        SeriesStep(
            f"{name}_{place}", Send(("email", "sms")[place % 2], f"{name}_{place}"), delay, unless if place else None
        )
        for place, delay in enumerate(delays)
    )


RESCUE = replace(
    campaign("rescue_series", "abandoned_cart", priority=90, window=4 * DAY, control_bp=3_000),
    series=series("rescue", HOUR, HOUR, 2 * HOUR, DAY, 6 * HOUR, unless=Unless(("message.sent",), within=12 * HOUR)),
    stop_when=STOPS,
    recheck_before_send=compare("messages_90d", "<", 4),
)
WINBACK = replace(
    campaign("winback_series", "lapsed", priority=40, window=9 * DAY, control_bp=3_000),
    series=series("winback", 3 * DAY, 3 * DAY),
    stop_when=STOPS[:1],
)
CONFIRMATION = Campaign(
    "confirmation", (), Send("email", "confirmation"), RESCUE.measure, 0, 0, message_class="transactional",
    on=(EventMatch((ORDER_PLACED,), "order_id"),),
)  # fmt: skip


def serial_program() -> Program:
    """Return the strict program with two series among the rivals, and a confirmation of every order."""
    return program(campaigns=[*RIVALS, RESCUE, WINBACK, CONFIRMATION], rules=STRICT)


def check_nothing_after_an_exit(simulated: Simulation, arrivals: Sequence[Arrival]) -> None:
    """Check that no later step stands that an exit should have ended, and that none is taken back without one.

    Told from events and triggers alone. Who comes too late to be accepted, or after the window, ends nothing.
    """
    definitions = simulated.program.campaigns
    ids = {decision.decision_id: decision for decision in simulated.decisions}
    taken_back = {trigger.trigger_id for trigger in simulated.triggers if trigger.action == "retract"}
    for trigger in simulated.triggers:
        series = definitions[trigger.campaign].series
        if trigger.action != "send" or not series or trigger.step == series[0].name:
            continue
        start = ids[ids[trigger.decision_id].continues or ""].decided_at
        exits = [
            arrival
            for arrival in arrivals
            if arrival.event.customer == trigger.customer_id
            and start < arrival.event.time <= trigger.decided_at
            and arrival.delay < 6 * HOUR
            and arrival.at < trigger.window_until
            and any(
                arrival.event.name in match.events
                and match.matching in (None, *(k for k, v in arrival.event.data.items() if v == trigger.moment_key))
                for match in definitions[trigger.campaign].stop_when
            )
        ]
        assert not exits or trigger.trigger_id in taken_back


def check_steps(simulated: Simulation) -> None:
    """Check that the steps of a slot come in their order, each settled once at most, within the slot."""
    slots = {one.decision_id: one for one in simulated.decisions if one.window_until is not None}
    settled: dict[str, list[str]] = {}
    for one in simulated.decisions:
        if one.kind != "step":
            continue
        slot = slots[one.continues or ""]
        assert one.campaign == slot.campaign
        assert one.arm in ("none", slot.arm)
        if one.arm != "none":
            assert slot.decided_at < one.decided_at < (slot.window_until or 0)
        if one.candidates[0].retry_at is None:
            settled.setdefault(slot.decision_id, []).append(one.step)
    for slot_id, names in settled.items():
        series = [step.name for step in simulated.program.campaigns[slots[slot_id].campaign or ""].series]
        assert names == series[1 : len(names) + 1]


def check_promises(simulated: Simulation, arrivals: Sequence[Arrival]) -> None:
    """Check everything that holds for every history with series in it."""
    check_audit(simulated)
    check_windows(simulated)
    check_steps(simulated)
    check_nothing_after_an_exit(simulated, arrivals)


@FEWER
@given(histories(LATE, KINDS), BARRIERS, st.sampled_from((0, 0, HOUR, 2 * DAY)), st.sampled_from((None, 5 * SECOND)))
def test_promises_hold(arrivals: list[Arrival], offsets: list[int | None], ahead: int, max_lag: int | None) -> None:
    """Windows never overlap with series in them, and no step goes out after an exit."""
    options: dict[str, Any] = {} if max_lag is None else {"max_lag": max_lag}
    simulated = play(arrivals, barriers_of(arrivals, offsets), serial_program(), ahead=ahead, **options)

    check_promises(simulated, arrivals)


@FEWER
@given(histories(IN_ORDER, KINDS), BARRIERS, BARRIERS)
def test_more_barriers_or_fewer_decide_the_same(
    arrivals: list[Arrival], few: list[int | None], many: list[int | None]
) -> None:
    """When everything arrives in order it does not matter how often the clock is looked at."""
    assert said(play(arrivals, barriers_of(arrivals, few), serial_program())) == said(
        play(arrivals, barriers_of(arrivals, many), serial_program())
    )


@FEWER
@given(histories(LATE, KINDS), BARRIERS, st.sampled_from((None, 5 * SECOND)))
def test_crash_and_resume_equals_no_crash(
    arrivals: list[Arrival], offsets: list[int | None], max_lag: int | None
) -> None:
    """How far a series has come survives as bytes."""
    options: dict[str, Any] = {} if max_lag is None else {"max_lag": max_lag}
    crashed = play(arrivals, barriers_of(arrivals, offsets), serial_program(), round_trip=True, **options)
    alive = play(arrivals, barriers_of(arrivals, offsets), serial_program(), round_trip=False, **options)

    assert said(crashed) == said(alive)
    for who in PEOPLE:
        assert known_of(crashed, who) == known_of(alive, who)


@FEWER
@given(histories(IN_ORDER, KINDS), BARRIERS, CUTS, PIECES)
def test_a_loss_does_not_show_where_nothing_was_late(
    arrivals: list[Arrival], offsets: list[int | None], cut: int, pieces: int
) -> None:
    """A series goes on where our own decisions say it was."""
    barriers = barriers_of(arrivals, offsets)
    lost = play_with_a_loss(arrivals, barriers, cut=cut, pieces=pieces, compiled=serial_program())

    assert said(lost) == said(play_with_a_loss(arrivals, barriers, cut=None, compiled=serial_program()))


@FEWER
@given(histories(LATE, KINDS), BARRIERS, CUTS, PIECES)
def test_promises_survive_the_loss_of_every_state(
    arrivals: list[Arrival], offsets: list[int | None], cut: int, pieces: int
) -> None:
    """Whatever came late."""
    barriers = barriers_of(arrivals, offsets)
    simulated = play_with_a_loss(arrivals, barriers, cut=cut, pieces=pieces, compiled=serial_program())

    check_audit(simulated)
    check_windows(simulated)
    check_steps(simulated)


def test_the_histories_reach_what_they_are_about() -> None:
    """Steps are sent, held back, put off, skipped and stopped, and transactional messages go out."""
    seen: Counter[str] = Counter()

    @FEWER
    @given(histories(LATE, KINDS), BARRIERS)
    def collect(arrivals: list[Arrival], offsets: list[int | None]) -> None:
        simulated = play(arrivals, barriers_of(arrivals, offsets), serial_program())
        for one in simulated.decisions:
            waits = one.kind == "step" and one.candidates[0].retry_at is not None
            seen[f"{one.kind} {one.reason}{' waits' if waits else ''}"] += one.kind in ("step", "exempt")

    collect()
    wanted = {
        "step chosen", "step control", "step stopped", "step quiet_hours waits", "step cap", "step no_consent",
        "step cancelled", "step not_eligible", "exempt chosen",
    }  # fmt: skip
    assert wanted - {name for name, times in seen.items() if times} == set(), seen
