"""The simulation: a barrier is when things happen, and the driver leaves no trace in what is decided."""

from __future__ import annotations

import pytest

from orchestrator.events import DAY, HOUR, MINUTE
from orchestrator.simulation import Simulation
from tests.builders import ANA, REFERENCE, cart_add, instant, order, profile, program, reasons, simulation


def test_nothing_happens_before_the_barrier() -> None:
    """What has arrived waits for the step to end."""
    shop = simulation()
    shop.feed(cart_add("09:00"), order("12:00"))
    assert not shop.customers[ANA].fires

    shop.advance(instant("09:30"))
    assert reasons(shop) == ["closing: cancelled"]


def test_events_of_a_step_are_applied_in_order_of_time() -> None:
    """However they arrived."""
    shop = simulation()
    shop.feed(order("09:30"), cart_add("09:00"))
    shop.advance(instant("12:00"))

    assert shop.decisions == []


def test_the_clock_never_goes_back() -> None:
    """A barrier before the last one is a mistake of whoever moves the clock; the same instant again is not."""
    shop = simulation(start="09:00")
    shop.advance(instant("09:00"))

    with pytest.raises(AssertionError, match="never goes back"):
        shop.advance(instant("08:59"))


def test_customers_do_not_meet() -> None:
    """What is decided for one is the same whether or not there are others."""
    alone, crowd = simulation(), simulation()
    for shop, people in ((alone, [ANA]), (crowd, ["a", ANA, "z"])):
        for who in people:
            shop.feed(profile("08:00", who), cart_add("09:00", customer=who, event_id=f"{who}-1"))
        shop.advance(instant("10:00"))

    assert [trigger.customer_id for trigger in crowd.triggers] == ["a", ANA, "z"]
    assert [trigger for trigger in crowd.triggers if trigger.customer_id == ANA] == alone.triggers


def test_run_takes_a_barrier_at_every_multiple() -> None:
    """Events arrive at their own times; the end is the last barrier, whatever the multiple."""
    history = [profile("08:00"), cart_add("09:00"), order("1d 09:00")]
    outcomes = []
    for every in (MINUTE, HOUR, DAY):
        shop = Simulation(program(), REFERENCE)
        shop.run(history, to=instant("9d 00:30"), every=every)
        assert shop.clock == instant("9d 00:30")
        outcomes.append((shop.decisions, shop.triggers, shop.outcomes))

    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert len(outcomes[0][1]) == 1


def test_run_without_a_start_steps_from_the_first_event_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for the end of the history to decide all of it in one step."""
    steps: list[int] = []
    advance = Simulation.advance

    def noted(shop: Simulation, to: int) -> None:
        steps.append(to)
        advance(shop, to)

    monkeypatch.setattr(Simulation, "advance", noted)
    shop = Simulation(program(), REFERENCE)

    shop.run([profile("08:00"), cart_add("09:00"), order("12:00")], to=instant("12:30"), every=HOUR)

    assert steps == [instant(f"{hour:02}:00") for hour in (9, 10, 11, 12)] + [instant("12:30")]
