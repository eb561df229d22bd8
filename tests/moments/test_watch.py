"""Moments whose condition comes true: during another moment, and when a segment is entered or left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orchestrator.conditions import Age, Compare, Condition, InSegment, Literal, Read
from orchestrator.events import DAY
from orchestrator.features import Feature
from orchestrator.moments.rules import During, EventMatch, Membership, Moment
from orchestrator.program import Program, Segment
from tests.builders import (
    ABANDONED_CART,
    ANA,
    BIRTHDAY_WEEK,
    FEATURES,
    cart_add,
    cart_emptied,
    choices,
    compare,
    consent,
    ends,
    event,
    instant,
    order,
    policy,
    profile,
    program,
    reasons,
    simulation,
    unsubscribed,
)
from tests.builders import campaign as build_campaign

LAST = Feature("last_order", "last_time", ("order.placed",), unit="instant")
RECENT = Condition(
    "age(last_order) < 5d", Compare("<", Age(Read("feature", "last_order", unit="instant")), Literal(5 * DAY))
)
BUYERS = Segment("buyers", "Bought within five days", RECENT)
BUYS = Moment("buys", "Buys", Membership("buyers", entered=True), lasts=30 * DAY)
STOPS = Moment("stops", "Stops", Membership("buyers", entered=False), lasts=30 * DAY)
FIRST_DAYS = Condition("in_segment('buyers')", InSegment("buyers"))
PARTY = Moment("party", "Birthday of a buyer", During("birthday_week"), only_if=FIRST_DAYS)


def watched(*moments: Moment, answered: Iterable[str] | None = None) -> Program:
    """Return a program of moments, each answered by a campaign of its name unless only some are to be."""
    names = [moment.name for moment in moments] if answered is None else answered
    return program(
        moments=moments,
        campaigns=[build_campaign(f"about_{name}", name, priority=90 - place) for place, name in enumerate(names)],
        features=[*FEATURES, LAST],
        segments=[BUYERS],
        rules=policy(never_act_older_than=400 * DAY),
    )


# --- entered and left -------------------------------------------------------------------------------------------------


def test_entered_by_an_event_and_left_by_time() -> None:
    """To the instant at which the condition says so, without an event of the customer."""
    shop = simulation(watched(BUYS, STOPS))
    shop.feed(order("1d 09:00"))
    shop.advance(instant("20d 00:00"))

    assert [(over.moment, over.opened_at) for over in ends(shop)] == [
        ("buys", instant("1d 09:00")), ("stops", instant("6d 09:00")),
    ]  # fmt: skip


def test_staying_in_a_segment_is_not_entering_it() -> None:
    """A second order changes when they leave, and nothing else."""
    shop = simulation(watched(BUYS, STOPS))
    shop.feed(order("1d 09:00"), order("4d 09:00"))
    shop.advance(instant("20d 00:00"))

    assert [(over.moment, over.opened_at) for over in ends(shop)] == [
        ("buys", instant("1d 09:00")), ("stops", instant("9d 09:00")),
    ]  # fmt: skip


def test_leaving_again_undoes_entering() -> None:
    """What nobody answered in time is not true any more, and says so."""
    shop = simulation(watched(BUYS, STOPS, answered=()))
    shop.feed(order("1d 09:00"))
    shop.advance(instant("20d 00:00"))

    [over] = ends(shop)
    assert (over.moment, over.state, over.by) == ("buys", "cancelled", "left buyers")


def test_who_was_in_a_segment_when_its_moment_was_published_has_not_entered_it() -> None:
    """It opens only for what happens afterwards."""
    shop = simulation(program(features=[*FEATURES, LAST], moments=(), campaigns=()))
    shop.feed(order("1d 09:00"))
    shop.advance(instant("2d 00:00"))
    shop.publish(watched(BUYS, STOPS))
    shop.feed(order("2d 09:00"))
    shop.advance(instant("20d 00:00"))

    assert [over.moment for over in ends(shop)] == ["stops"]


def test_who_was_not_in_it_enters_it() -> None:
    """Known customers too."""
    shop = simulation(program(features=[*FEATURES, LAST], moments=(), campaigns=()))
    shop.feed(order("1d 09:00"))
    shop.advance(instant("9d 00:00"))
    shop.publish(watched(BUYS))
    shop.feed(order("9d 09:00"))
    shop.advance(instant("9d 10:00"))

    assert [over.moment for over in ends(shop)] == ["buys"]


def test_a_profile_may_change_who_is_in_a_segment() -> None:
    """Conditions that ask about the profile are looked at when it changes."""
    madrid = Condition("profile.city == 'Madrid'", Compare("==", Read("profile", "city"), Literal("Madrid")))
    compiled = program(
        moments=[replace(BUYS, shape=Membership("madrid", entered=True))],
        campaigns=[build_campaign("hola", "buys")],
        segments=[Segment("madrid", "In Madrid", madrid)],
    )
    shop = simulation(compiled)
    shop.feed(profile("1d 00:00", city="Sevilla"), profile("2d 00:00", city="Madrid"))
    shop.advance(instant("3d 00:00"))

    assert [trigger.opened_at for trigger in shop.triggers] == [instant("2d 00:00")]


def test_at_most_every() -> None:
    """Within the time since it last opened it does not open again, and says why."""
    shop = simulation(watched(replace(BUYS, at_most_every=30 * DAY)))
    shop.feed(*(order(f"{day}d 09:00") for day in (1, 10, 20, 31)))
    shop.advance(instant("40d 00:00"))

    assert [(over.state, over.by) for over in ends(shop)] == [
        ("acted", "about_buys"), ("unmet", "at_most_every"), ("unmet", "at_most_every"), ("acted", "about_buys"),
    ]  # fmt: skip


# --- during another ---------------------------------------------------------------------------------------------------


def test_it_opens_with_the_other_and_both_are_one_decision() -> None:
    """The better campaign wins, and the two moments are candidates of the same decision."""
    shop = simulation(watched(PARTY, BIRTHDAY_WEEK))
    shop.feed(profile(born="1980-07-04"), order("2017-06-27T09:00"))
    shop.advance(instant("2017-06-28T09:00"))

    [decision] = choices(shop)
    assert {candidate.moment: candidate.reason for candidate in decision.candidates} == {
        "party": "chosen", "birthday_week": "outranked",
    }  # fmt: skip
    assert decision.campaign == "about_party"


def test_it_opens_when_the_condition_comes_true_and_ends_with_the_other() -> None:
    """An order in the middle of the week opens it; the week's end ends it."""
    shop = simulation(watched(PARTY, BIRTHDAY_WEEK), known=False)
    shop.feed(profile(born="1980-07-04", consents=[]), order("2017-07-01T09:00"))
    shop.advance(instant("2017-08-01T00:00"))

    assert {(over.moment, over.state, over.opened_at) for over in ends(shop)} == {
        ("party", "expired", instant("2017-07-01T09:00")),
        ("birthday_week", "expired", instant("2017-06-28T09:00")),
    }


def test_it_lives_as_long_as_the_window_also_when_the_other_is_answered() -> None:
    """The other moment was acted on at once; its window goes on."""
    shop = simulation(watched(PARTY, BIRTHDAY_WEEK))
    shop.feed(profile(born="1980-07-04"), order("2017-07-03T09:00"))
    shop.advance(instant("2017-08-01T00:00"))

    assert [trigger.moment for trigger in shop.triggers] == ["birthday_week", "party"]
    assert shop.triggers[1].opened_at == instant("2017-07-03T09:00")


def test_a_condition_that_never_came_true_is_recorded_at_the_end_of_the_window() -> None:
    """Once, with what it saw."""
    shop = simulation(watched(PARTY, BIRTHDAY_WEEK))
    shop.feed(profile(born="1980-07-04"))
    shop.advance(instant("2017-08-01T00:00"))

    [party] = [over for over in ends(shop) if over.moment == "party"]
    assert (party.state, party.opened_at, party.by) == (
        "unmet",
        instant("2017-07-05T00:00"),
        "in_segment('buyers') = unknown",
    )


def test_what_ends_the_other_ends_it() -> None:
    """An emptied cart is no opportunity for anybody, whether the other was answered or not."""
    rich = Moment("rich", "Rich", During("abandoned_cart"), key="cart_id", only_if=compare("orders_lifetime", ">=", 0))
    shop = simulation(watched(replace(ABANDONED_CART, only_if=None), rich))
    shop.feed(profile(consents=[consent(granted=False)], at="01:00"), cart_add("09:00"), cart_emptied("11:00"))
    shop.advance(instant("12:00"))

    assert {(over.moment, over.state) for over in ends(shop)} == {
        ("rich", "cancelled"),
        ("abandoned_cart", "cancelled"),
    }


def test_what_only_its_own_definition_names_ends_it_alone() -> None:
    """`cancelled_by` of its own."""
    sober = replace(PARTY, cancelled_by=(EventMatch(("customer.unsubscribed",)),))
    shop = simulation(watched(sober, BIRTHDAY_WEEK), known=False)
    shop.feed(
        profile(born="1980-07-04", consents=[]), order("2017-06-27T09:00"), unsubscribed("2017-06-30T09:00", "push")
    )
    shop.advance(instant("2017-06-30T10:00"))

    assert [(over.moment, over.state) for over in ends(shop)] == [("party", "cancelled")]
    assert "birthday_week" in shop.customers[ANA].fires


def test_other_customers_and_events_cost_nothing() -> None:
    """While the other moment is not open, nothing waits for the condition."""
    shop = simulation(watched(PARTY, BIRTHDAY_WEEK))
    shop.feed(order("1d 09:00"), event("product.viewed", "1d 10:00", sku="BOOK"))
    shop.advance(instant("2d 00:00"))

    assert shop.customers[ANA].fires == {}
    assert reasons(shop) == []
