"""Silence relative to the customer's own rhythm."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.events import DAY, HOUR
from orchestrator.moments.rules import EventMatch, Silence
from tests.builders import (
    ANA,
    LAPSED,
    ORDER_PLACED,
    WINBACK,
    ends,
    instant,
    order,
    program,
    reasons,
    simulation,
)


def test_a_regular_customer_lapses_after_twice_the_usual_gap() -> None:
    """Somebody who buys every thirty days is missed after sixty."""
    shop = simulation()
    shop.feed(*(order(f"{day}d 09:00") for day in (0, 30, 60, 90)))
    shop.advance(instant("150d 08:59:59"))
    assert shop.decisions == []

    shop.advance(instant("150d 09:00"))
    [trigger] = shop.triggers
    assert (trigger.campaign, trigger.opened_at) == ("winback", instant("150d 09:00"))
    assert trigger.valid_until == instant("180d 09:00")


def test_never_sooner_than_the_minimum_nor_later_than_the_maximum() -> None:
    """Twice the gap of somebody who buys daily is no silence, twice that of somebody who buys yearly is for ever."""
    for gap, expected in ((1, 45), (400, 365)):
        shop = simulation()
        shop.feed(*(order(f"{number * gap}d 09:00") for number in range(4)))
        shop.advance(instant(f"{3 * gap + 400}d 00:00"))

        started = instant(f"{3 * gap}d 09:00")
        assert [trigger.opened_at for trigger in shop.triggers][-1:] == [started + expected * DAY]


def test_a_single_order_is_no_rhythm() -> None:
    """Who bought once has not lapsed: the condition asks for two."""
    shop = simulation()
    shop.feed(order("09:00"))
    shop.advance(instant("400d 00:00"))

    assert reasons(shop) == ["closing: not_eligible"]
    assert ends(shop)[0].by == "orders_lifetime = 1"


def test_it_rearms_only_when_they_come_back() -> None:
    """After the answer there is no other before another order."""
    shop = simulation()
    shop.feed(order("09:00"), order("10:00"))
    shop.advance(instant("700d 00:00"))
    assert len(shop.triggers) == 1

    shop.feed(order("700d 09:00"))
    shop.advance(instant("1400d 00:00"))
    assert len(shop.triggers) == 2


def test_an_order_ends_an_open_silence() -> None:
    """Who came back by themselves is not won back."""
    shop = simulation(known=False)
    shop.feed(order("09:00"), order("10:00"), order("130d 00:00"))
    shop.advance(instant("130d 00:00"))

    assert [(over.state, over.opened_at, over.by) for over in ends(shop)] == [
        ("cancelled", instant("120d 10:00"), "order.placed")
    ]


def test_an_open_silence_goes_stale() -> None:
    """Unanswered for a month it is no news any more."""
    shop = simulation(known=False)
    shop.feed(order("09:00"), order("10:00"))
    shop.advance(instant("160d 00:00"))

    assert [(over.state, over.reason) for over in ends(shop)] == [("expired", "no_consent")]


def test_orders_that_arrive_in_another_order_make_the_same_rhythm() -> None:
    """The last order starts the silence and all of them make the gap, whichever comes first."""
    lapsing = program(moments=[LAPSED], campaigns=[WINBACK])
    history = [order(f"{day}d 09:00") for day in (0, 40, 80)] + [order("80d 10:00")]
    there, back = simulation(lapsing), simulation(lapsing)
    for one in history:
        there.feed(one)
        there.advance(max(one.time, there.clock))
    for one in [*history[:2], history[3], history[2]]:
        back.feed(one)
        back.advance(max(one.time, back.clock))
    for shop in (there, back):
        shop.advance(instant("400d 00:00"))

    assert there.triggers == back.triggers
    assert len(there.triggers) == 1


def test_a_late_order_within_the_silence_takes_it_back_and_begins_another() -> None:
    """They had come back before they were missed; from then on they are waited for again."""
    shop = simulation(program(moments=[LAPSED], campaigns=[WINBACK]))
    shop.feed(order("09:00"), order("10:00"))
    shop.advance(instant("120d 10:30"))
    shop.feed(order("120d 08:00"))
    shop.advance(instant("400d 00:00"))

    assert [(trigger.action, trigger.opened_at) for trigger in shop.triggers] == [
        ("send", instant("120d 10:00")),
        ("retract", instant("120d 10:00")),
        ("send", instant("240d 08:00")),
    ]


def test_a_late_order_starts_no_second_silence() -> None:
    """An order older than the silence that was answered does not make another of it."""
    quick = replace(LAPSED, shape=Silence(EventMatch((ORDER_PLACED,)), 2_000, "order_gap", HOUR, HOUR), only_if=None)
    shop = simulation(
        program(moments=[quick], campaigns=[replace(WINBACK, measure=replace(WINBACK.measure, window=1))])
    )
    shop.feed(order("09:00"))
    shop.advance(instant("10:00"))
    shop.feed(order("08:30"))
    shop.advance(instant("2d 00:00"))

    assert len(shop.triggers) == 1
    assert ANA in shop.customers
