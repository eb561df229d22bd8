"""The promises of every history, for moments of several events, during others, and of segments entered and left."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.definitions.load import load
from orchestrator.events import HOUR, MINUTE, SECOND
from orchestrator.program import Program
from tests.builders import TOPICS
from tests.test_engine_properties import (
    BARRIERS,
    BUDGET,
    IN_ORDER,
    LATE,
    PEOPLE,
    STRICT,
    Arrival,
    barriers_of,
    check_audit,
    check_ids,
    check_promises,
    check_windows,
    histories,
    known_of,
    play,
    said,
)
from tests.test_recall import CUTS, PIECES
from tests.test_recall import play as play_and_lose

TEXT = """
features:
  orders: { count: order.placed, over: 30d }
  last_order: { last_time: order.placed }
  spend: { sum: order.placed.total, over: 30d }
  tier: { quantile: spend, bands: { high: 0.9, low: 0 }, cut_points: { high: 20 } }
  stage: { stage: [new, active, hero, at_risk, lapsed], from: order.placed }
  kinds: { distinct: sku, from: order.placed, over: 30d }
  alive: { predict: p_alive, from: order.placed }
segments:
  buyers: { say: "Bought of late", is: "orders >= 1 and (age(last_order) < 20d or tier == 'high')" }
  drifting: { say: "Drifting away", is: "stage in ['at_risk', 'lapsed'] or kinds >= 2 and alive < 0.8" }
moments:
  - moment: full_cart
    say: "Two things"
    key: cart_id
    count: { event: cart.item_added, over: 3d, at_least: 2 }
    unless: { event: order.placed, within: 10m }
    cancelled_by: { event: cart.emptied, matching: cart_id }
    lasts: 2h
  - { moment: much, say: "Much", sum: { property: order.placed.total, over: 30d, at_least: 25 }, lasts: 7d,
      again: { at_most_every: 3d } }
  - moment: kept
    say: "Bought and kept"
    key: order_id
    sequence: [ { event: order.placed, first_per: sku }, { event: order.cancelled, matching: order_id, within: 40d },
                { wait: 1h } ]
    unless: { event: order.returned, matching: order_id, within: sequence }
    lasts: 2d
  - moment: both
    say: "A cart and a message"
    either_order: { of: [ { event: cart.item_added }, { event: message.sent } ], within: 1h }
    lasts: 1d
  - moment: left_cart
    say: "Left"
    key: cart_id
    starts_on: { event: cart.item_added }
    restarts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 30m }
    lasts: 8h
    again: { at_most_every: 1d }
  - { moment: left_for_good, say: "Left by a buyer", during: left_cart, only_if: "in_segment('buyers')", lasts: window }
  - { moment: birthday, say: "Birthday", calendar: { date: profile.birth_date, from: -6d }, lasts: window }
  - { moment: quiet_birthday, say: "Quiet", during: birthday, only_if: "age(last_order) >= 2d", lasts: window }
  - { moment: buys, say: "Buys", entered: buyers, lasts: 3d, cancelled_by: { event: customer.unsubscribed } }
  - { moment: stops, say: "Stops", left: buyers, lasts: 3d }
  - { moment: drifts, say: "Drifts", entered: drifting, lasts: 9d, again: { at_most_every: 10d } }
campaigns:
"""
FEW = settings(BUDGET, max_examples=60)
NAMES = ("full_cart", "much", "kept", "both", "left_cart", "left_for_good", "birthday", "quiet_birthday", "buys",
         "stops", "drifts")  # fmt: skip
CAMPAIGN = """
  - { campaign: about_%s, when: %s, priority: %d, send: { channel: email, template: t }, control: 30%%,
      measure: { objective: margin, for: %dh } }
"""


def shapes() -> Program:
    """Return a program with one moment of every shape there is, and a campaign for each."""
    campaigns = (CAMPAIGN % (name, name, place, place + 1) for place, name in enumerate(NAMES))
    definitions, problems = load({"x.yaml": TEXT + "".join(campaigns)})
    assert definitions is not None, problems
    return Program(replace(definitions, policy=STRICT), TOPICS)


COMPILED = shapes()


@FEW
@given(histories(LATE), BARRIERS, st.sampled_from((0, HOUR)), st.sampled_from((None, 5 * SECOND)))
def test_promises_hold(arrivals: list[Arrival], offsets: list[int | None], ahead: int, max_lag: int | None) -> None:
    """Late, out of order, read ahead of the clock, in a replay and live."""
    options: dict[str, Any] = {} if max_lag is None else {"max_lag": max_lag}

    check_promises(play(arrivals, barriers_of(arrivals, offsets), COMPILED, ahead=ahead, **options))


@FEW
@given(histories(LATE), BARRIERS, st.data())
def test_a_repeated_event_changes_nothing(
    arrivals: list[Arrival], offsets: list[int | None], data: st.DataObject
) -> None:
    """Whatever is delivered twice, nothing is counted twice and no sequence goes on twice."""
    soon = st.sampled_from((0, SECOND, 10 * MINUTE, HOUR))
    repeated = [
        replace(arrival, delay=arrival.delay + data.draw(soon))
        for arrival in arrivals
        if arrival.event.id and arrival.delay <= 4 * HOUR and data.draw(st.booleans())
    ]

    assert said(play(arrivals, barriers_of(arrivals, offsets), COMPILED)) == said(
        play([*arrivals, *repeated], barriers_of(arrivals, offsets), COMPILED)
    )


@FEW
@given(histories(IN_ORDER), BARRIERS, BARRIERS)
def test_more_barriers_or_fewer_decide_the_same(
    arrivals: list[Arrival], few: list[int | None], many: list[int | None]
) -> None:
    """When everything arrives in order it does not matter how often the clock is looked at."""
    assert said(play(arrivals, barriers_of(arrivals, few), COMPILED)) == said(
        play(arrivals, barriers_of(arrivals, many), COMPILED)
    )


@FEW
@given(histories(LATE), BARRIERS, st.sampled_from((None, 5 * SECOND)))
def test_crash_and_resume_equals_no_crash(
    arrivals: list[Arrival], offsets: list[int | None], max_lag: int | None
) -> None:
    """A state that went through bytes after every step decides what one decides that never left memory."""
    options: dict[str, Any] = {} if max_lag is None else {"max_lag": max_lag}
    crashed = play(arrivals, barriers_of(arrivals, offsets), COMPILED, round_trip=True, **options)
    alive = play(arrivals, barriers_of(arrivals, offsets), COMPILED, round_trip=False, **options)

    assert said(crashed) == said(alive)
    for who in PEOPLE:
        assert known_of(crashed, who) == known_of(alive, who)


@FEW
@given(histories(LATE), BARRIERS, CUTS, PIECES)
def test_promises_survive_the_loss_of_every_state(
    arrivals: list[Arrival], offsets: list[int | None], cut: int, pieces: int
) -> None:
    """Rebuilt from the inputs and our own decisions, no windows overlap and no id is repeated."""
    simulated = play_and_lose(arrivals, barriers_of(arrivals, offsets), cut=cut, pieces=pieces, compiled=COMPILED)

    check_audit(simulated)
    check_windows(simulated)
    check_ids(simulated)


def test_the_histories_reach_every_shape() -> None:
    """The generator is worth something here too: every moment opens, ends and is answered in some history."""
    seen: Counter[tuple[str, str]] = Counter()

    @BUDGET
    @given(histories(LATE), BARRIERS)
    def collect(arrivals: list[Arrival], offsets: list[int | None]) -> None:
        simulated = play(arrivals, barriers_of(arrivals, offsets), COMPILED)
        seen.update((over.moment, over.state) for decision in simulated.decisions for over in decision.ended)

    collect()
    assert {moment for moment, state in seen if state == "acted"} == set(NAMES), seen
