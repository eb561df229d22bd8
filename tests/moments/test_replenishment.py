"""About to run out: one family at a time, from their own gaps pooled with the category's."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.events import DAY, HOUR
from orchestrator.moments.rules import Around, PickOne
from tests.builders import (
    ANA,
    REORDER,
    REPLENISHMENT,
    compare,
    ends,
    instant,
    line,
    order,
    program,
    reasons,
    simulation,
)

HAIR, SOAP, BOOK = line("SHAMPOO", 1_000, 400), line("SOAP", 300, 100), line("BOOK", 2_000, 900)
OPENS = "25d 09:00"  # thirty days of supply, five days before


def test_the_window_opens_before_the_family_runs_out() -> None:
    """After one order the category's usual days of supply say when."""
    shop = simulation()
    shop.feed(order("09:00", lines=[HAIR]))
    shop.advance(instant("25d 08:59"))
    assert shop.decisions == []

    shop.advance(instant(OPENS))
    [trigger] = shop.triggers
    assert (trigger.moment_key, trigger.opened_at) == ("hair", instant(OPENS))
    assert trigger.valid_until == instant("33d 09:00")


def test_what_does_not_run_out_is_not_reminded_of() -> None:
    """A book has no days of supply."""
    shop = simulation()
    shop.feed(order("09:00", lines=[BOOK]))
    shop.advance(instant("60d 00:00"))

    assert [trigger for trigger in shop.triggers if trigger.moment == REPLENISHMENT.name] == []


def test_buying_it_again_starts_the_wait_anew() -> None:
    """An order of the family ends the window that waits, one of another family does not."""
    shop = simulation()
    shop.feed(order("09:00", lines=[HAIR]), order("20d 09:00", lines=[SOAP]), order("24d 09:00", lines=[HAIR]))
    shop.advance(instant("40d 00:00"))

    assert shop.triggers == []


def test_of_many_due_the_one_worth_most_is_talked_about() -> None:
    """One opportunity, not two: the family with the higher margin is picked."""
    shop = simulation()
    shop.feed(order("09:00", lines=[SOAP, HAIR]))
    shop.advance(instant("26d 00:00"))

    assert [trigger.moment_key for trigger in shop.triggers] == ["hair"]
    assert [candidate.moment_key for candidate in shop.decisions[0].candidates] == ["hair"]


def test_pick_one_keeps_its_minimum_interval() -> None:
    """The second family is not talked about before the interval is over; its window has closed by then."""
    shop = simulation()
    shop.feed(order("09:00", lines=[SOAP, HAIR]))
    shop.advance(instant("60d 00:00"))
    assert len(shop.triggers) == 1

    shop = simulation()
    shop.feed(order("09:00", lines=[HAIR]), order("11d 09:00", lines=[SOAP]))
    shop.advance(instant("60d 00:00"))
    assert [(t.moment_key, t.opened_at) for t in shop.triggers] == [
        ("hair", instant(OPENS)),
        ("soap", instant("39d 09:00")),
    ]


def test_pick_one_keeps_one_open_at_a_time() -> None:
    """While one waits for its chance no other opens, and what was never picked leaves no trace."""
    brief = replace(REPLENISHMENT, pick_one=PickOne("expected_margin", 0))
    shop = simulation(program(moments=[brief], campaigns=[REORDER]), known=False)
    shop.feed(order("09:00", lines=[SOAP, HAIR]))
    shop.advance(instant("60d 00:00"))

    assert [(over.moment_key, over.state, over.reason) for over in ends(shop)] == [("hair", "expired", "no_consent")]


def test_what_is_no_longer_true_is_not_picked() -> None:
    """A condition is asked when the family would be picked, and the record says what it saw."""
    regulars = replace(REPLENISHMENT, only_if=compare("orders_lifetime", ">=", 2))
    shop = simulation(program(moments=[regulars], campaigns=[REORDER]))
    shop.feed(order("09:00", lines=[HAIR]))
    shop.advance(instant("60d 00:00"))

    assert [(over.state, over.reason) for over in ends(shop)] == [("unmet", "not_eligible")]


def test_never_sooner_than_half_of_the_way() -> None:
    """Where the family lasts less than the lead time, the reminder does not come the day after."""
    early = replace(REPLENISHMENT, shape=Around("reorder_due", -29 * DAY, 3 * DAY, None), pick_one=None)
    shop = simulation(program(moments=[early], campaigns=[REORDER]))
    shop.feed(order("09:00", lines=[HAIR]))
    shop.advance(instant("60d 00:00"))

    assert [trigger.opened_at for trigger in shop.triggers] == [instant("15d 09:00")]


def test_a_pick_that_nobody_looked_for_is_too_old() -> None:
    """After days without a worker, what could have been picked long ago is let go and said so."""
    shop = simulation(max_lag=5_000)
    shop.feed(order("09:00", lines=[HAIR]))
    shop.advance(instant("20d 00:00"))
    shop.advance(instant("27d 00:00"))
    assert [(over.state, over.reason) for over in ends(shop)] == [("expired", "too_old")]

    shop = simulation(max_lag=5_000)
    shop.feed(order("09:00", lines=[HAIR]))
    shop.advance(instant("20d 00:00"))
    shop.advance(instant(OPENS) + 23 * HOUR)
    assert reasons(shop) == ["chosen"]


def test_waiting_for_its_turn_is_not_too_old() -> None:
    """A family that was due for days while another had its turn is picked when the interval is over."""
    shop = simulation(max_lag=5_000)
    shop.feed(order("09:00", lines=[HAIR]), order("11d 09:00", lines=[SOAP]))
    for day in range(1, 60):
        shop.advance(instant(f"{day}d 12:00"))

    assert [trigger.moment_key for trigger in shop.triggers] == ["hair", "soap"]
    assert shop.customers[ANA].picked == {"replenishment_window": shop.triggers[1].opened_at}


def test_waiting_behind_an_open_one_is_not_too_old() -> None:
    """The next is picked when the open one is over, however long that took."""
    brief = replace(REPLENISHMENT, pick_one=PickOne("expected_margin", DAY))
    shop = simulation(program(moments=[brief], campaigns=[REORDER]), known=False, max_lag=5_000)
    shop.feed(order("09:00", lines=[HAIR]), order("2d 09:00", lines=[SOAP]))
    for day in range(1, 40):
        shop.advance(instant(f"{day}d 09:00:01"))

    assert [(over.moment_key, over.reason, over.opened_at) for over in ends(shop)] == [
        ("hair", "no_consent", instant(OPENS)),
        ("soap", "no_consent", instant("33d 09:00")),
    ]


def test_a_late_order_takes_the_reminder_back() -> None:
    """Who had bought it before the reminder need not be reminded."""
    shop = simulation()
    shop.feed(order("09:00", lines=[HAIR]))
    shop.advance(instant("25d 10:00"))
    shop.feed(order("25d 08:00", lines=[HAIR]))
    shop.advance(instant("25d 11:00"))

    assert [trigger.action for trigger in shop.triggers] == ["send", "retract"]
