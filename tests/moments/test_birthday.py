"""The birthday week: once a year, on the customer's own clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.moments.rules import EventMatch
from tests.builders import (
    ANA,
    BIRTHDAY_WEEK,
    CAMPAIGNS,
    cart_add,
    compare,
    ends,
    instant,
    profile,
    program,
    reasons,
    simulation,
)

FIRST = "2017-06-28T09:00"  # six days before the fourth of July, at nine
LAST = "2017-07-05T00:00"


def test_it_opens_six_days_before_at_nine() -> None:
    """The week ends on the birthday, when the customer's day ends."""
    shop = simulation()
    shop.feed(profile(born="1980-07-04"))
    shop.advance(instant("2017-06-28T08:59"))
    assert shop.decisions == []

    shop.advance(instant(FIRST))
    [trigger] = shop.triggers
    assert (trigger.campaign, trigger.opened_at, trigger.moment_key) == ("birthday_offer", instant(FIRST), "2017")
    assert trigger.valid_until == instant(LAST)


def test_the_customers_own_clock() -> None:
    """Nine in the morning is where the customer lives."""
    for zone, expected in (("Asia/Tokyo", "2017-06-28T00:00"), ("America/New_York", "2017-06-28T13:00")):
        shop = simulation()
        shop.feed(profile("01:00", born="1980-07-04", zone=zone))
        shop.advance(instant("2017-07-01T00:00"))

        assert [trigger.opened_at for trigger in shop.triggers] == [instant(expected)]


def test_every_year_once() -> None:
    """Next year it comes again, and again once."""
    shop = simulation()
    shop.feed(profile(born="1980-07-04"))
    shop.advance(instant("2020-03-01T00:00"))

    assert [trigger.moment_key for trigger in shop.triggers] == ["2017", "2018", "2019"]


def test_once_per_customer_and_year_also_when_the_zone_changes_twice() -> None:
    """Who travels around the world in their birthday week has one birthday."""
    shop = simulation()
    shop.feed(profile(born="1980-07-04", zone="Asia/Tokyo"))
    shop.advance(instant("2017-06-28T01:00"))
    shop.feed(profile("2017-06-28T02:00", born="1980-07-04", zone="Pacific/Honolulu"))
    shop.advance(instant("2017-06-29T00:00"))
    shop.feed(profile("2017-06-29T01:00", born="1980-07-04", zone="Asia/Tokyo"))
    shop.advance(instant("2017-12-31T00:00"))

    assert len(shop.triggers) == 1


def test_a_zone_that_changes_before_moves_the_week() -> None:
    """What waits is computed anew from the profile as it is now."""
    shop = simulation()
    shop.feed(profile(born="1980-07-04"), profile("2017-06-01T00:00", born="1980-07-04", zone="Asia/Tokyo"))
    shop.advance(instant("2017-07-01T00:00"))

    assert [trigger.opened_at for trigger in shop.triggers] == [instant("2017-06-28T00:00")]


def test_a_profile_that_comes_within_the_week_opens_it_then() -> None:
    """Whoever tells us their birthday in the week before it is congratulated."""
    shop = simulation()
    shop.feed(profile("2017-07-01T12:00", born="1980-07-04"))
    shop.advance(instant("2017-07-02T00:00"))

    assert [trigger.opened_at for trigger in shop.triggers] == [instant("2017-07-01T12:00")]


def test_an_unmet_condition_uses_the_year_up() -> None:
    """A birthday that nobody qualifies for is recorded once and comes again next year."""
    heroes = replace(BIRTHDAY_WEEK, only_if=compare("orders_lifetime", ">=", 9))
    shop = simulation(program(moments=[heroes], campaigns=CAMPAIGNS[-1:]))
    shop.feed(profile(born="1980-07-04"))
    shop.advance(instant("2018-12-31T00:00"))

    assert [(over.moment_key, over.state) for over in ends(shop)] == [("2017", "unmet"), ("2018", "unmet")]


def test_what_happens_before_the_week_cancels_nothing() -> None:
    """A date only comes: an event that would cancel it counts from its opening."""
    sober = replace(BIRTHDAY_WEEK, cancelled_by=(EventMatch(("cart.item_added",)),))
    shop = simulation(program(moments=[sober], campaigns=CAMPAIGNS[-1:]))
    shop.feed(profile(born="1980-07-04"), cart_add("2017-05-01T09:00"))
    shop.advance(instant("2017-06-30T00:00"))
    assert reasons(shop) == ["chosen"]

    shop = simulation(program(moments=[sober], campaigns=CAMPAIGNS[-1:]), known=False)
    shop.feed(profile(born="1980-07-04", consents=[]), cart_add("2017-06-29T09:00"))
    shop.advance(instant("2018-12-30T00:00"))
    assert [(over.moment_key, over.state) for over in ends(shop)] == [("2017", "cancelled"), ("2018", "expired")]


@pytest.mark.parametrize(
    "born",
    ["1900-01-01", "1970-01-01", "0001-01-01", "9999-12-31", "1980-02-30", "not a date", "", None],
)
def test_false_dates_never_fire(born: str | None) -> None:
    """Defaults of forgotten systems are nobody's birthday, and nothing breaks on them."""
    shop = simulation()
    shop.feed(profile(born=born))
    shop.advance(instant("2019-03-01T00:00"))

    assert shop.decisions == []
    assert shop.customers[ANA].fires == {}


def test_one_invalid_zone_stops_nobody_else() -> None:
    """A zone that does not exist falls back to the policy's, for that customer alone."""
    shop = simulation(known=False)
    shop.feed(profile(born="1980-07-04", zone="Not/AZone"), profile(customer="ben", born="1980-07-04", zone="UTC"))
    shop.advance(instant("2017-07-01T00:00"))

    assert sorted(trigger.customer_id for trigger in shop.triggers) == [ANA, "ben"]
