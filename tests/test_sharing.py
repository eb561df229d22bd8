"""What is defined twice is kept once, and every record still says the name its reader knows."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from orchestrator.customer import customer_from_bytes
from orchestrator.events import DAY, HOUR, Event
from orchestrator.moments.rules import Moment
from orchestrator.program import Program
from orchestrator.records import EndedMoment
from orchestrator.sharing import MARK, file_once
from orchestrator.simulation import Simulation
from tests.builders import (
    ABANDONED_CART,
    ANA,
    BIRTHDAY_WEEK,
    CAMPAIGNS,
    CART_RESCUE,
    FEATURES,
    LAPSED,
    MOMENTS,
    REFERENCE,
    REPLENISHMENT,
    WINBACK,
    campaign,
    cart_add,
    cart_emptied,
    choices,
    compare,
    ends,
    instant,
    line,
    order,
    profile,
    program,
    simulation,
)
from tests.test_recall import rebuilt

TEAMS = ("", "_b", "_c")


def reshaped(moment: Moment, **changes: Any) -> Any:
    """Return a moment's shape with some of it changed."""
    shape: Any = moment.shape
    return replace(shape, **changes)


def copies(teams: Iterable[str] = TEAMS) -> Program:
    """Return the pack once for each team: features, moments and campaigns, all under names of their own."""
    features, moments, campaigns = [], [], []
    for team in teams:
        features += [replace(feature, name=feature.name + team) for feature in FEATURES]
        about: dict[str, dict[str, Any]] = {
            "abandoned_cart": {"only_if": compare("cart_value" + team, ">=", 2_000, "money")},
            "lapsed": {
                "only_if": compare("orders_lifetime" + team, ">=", 2),
                "shape": reshaped(LAPSED, of="order_gap" + team),
            },
            "replenishment_window": {"shape": reshaped(REPLENISHMENT, date="reorder_due" + team)},
        }
        moments += [replace(one, name=one.name + team, **about.get(one.name, {})) for one in MOMENTS]
        campaigns += [replace(one, name=one.name + team, when=(one.when[0] + team,)) for one in CAMPAIGNS]
    return program(features=features, moments=moments, campaigns=campaigns)


def year(seed: int) -> list[Event]:
    """Return a year of carts and orders of families that run out."""
    chance, events, at = random.Random(seed), [], instant("09:00")
    for number in range(40):
        at += chance.randrange(1, 20) * DAY // 2 + chance.randrange(HOUR)
        events.append(cart_add(at, cart=f"c{number % 3}", total=chance.choice((500, 5_000)), event_id=f"i{number}"))
        if chance.random() < 0.5:
            bought = [line(chance.choice(("SHAMPOO", "SOAP", "BOOK")))]
            events.append(order(at + chance.randrange(2 * HOUR), f"o{number}", bought, event_id=f"o{number}"))
    return events


def run(compiled: Program, events: Iterable[Event]) -> Simulation:
    """Decide some events and everything that time brings for a year."""
    shop = simulation(compiled)
    shop.run(sorted(events, key=Event.order), to=instant("400d 00:00"), every=DAY)
    return shop


def named(over: Iterable[EndedMoment], moment: str) -> list[EndedMoment]:
    """Return what ended under one name."""
    return [one for one in over if one.moment == moment]


def test_copies_change_nothing_but_names() -> None:
    """A pack that is there three times sends what it sends once, at the same instants and for the same moments."""
    for seed in range(5):
        once, thrice = run(program(), year(seed)), run(copies(), year(seed))

        assert len(once.triggers) > 5
        assert [(t.campaign, t.moment_key, t.decided_at) for t in thrice.triggers] == [
            (t.campaign, t.moment_key, t.decided_at) for t in once.triggers
        ]
        assert [d.decided_at for d in thrice.decisions] == [d.decided_at for d in once.decisions]
        assert named(ends(thrice), "lapsed") == named(ends(once), "lapsed")


def test_every_name_is_on_the_records() -> None:
    """Each team finds its own moment and its own campaign, with the reason."""
    shop = run(copies(), [cart_add("09:00", total=5_000)])
    (decision,) = choices(shop)

    assert {(c.campaign, c.moment) for c in decision.candidates} == {
        ("cart_rescue", "abandoned_cart"),
        ("cart_rescue_b", "abandoned_cart_b"),
        ("cart_rescue_c", "abandoned_cart_c"),
    }
    assert [(one.moment, one.state, one.reason, one.by) for one in decision.ended] == [
        ("abandoned_cart", "acted", "chosen", "cart_rescue"),
        ("abandoned_cart_b", "acted", "already_answered", "cart_rescue"),
        ("abandoned_cart_c", "acted", "already_answered", "cart_rescue"),
    ]
    assert shop.triggers[0].content == {"cart_id": "c1"}


def test_each_says_what_its_own_condition_saw() -> None:
    """The value is the same, the feature's name is the team's."""
    shop = run(copies(), [cart_add("09:00", total=500)])

    assert [(one.moment, one.by) for one in ends(shop)] == [
        ("abandoned_cart", "cart_value = 5.00"),
        ("abandoned_cart_b", "cart_value_b = 5.00"),
        ("abandoned_cart_c", "cart_value_c = 5.00"),
    ]


def test_a_fact_and_a_moment_are_kept_once() -> None:
    """State does not grow with the number of copies."""
    once, thrice = simulation(), simulation(copies())
    for shop in (once, thrice):
        shop.feed(order("08:00"), cart_add("09:00"))
        shop.advance(instant("09:30"))
    one, three = once.customers[ANA], thrice.customers[ANA]

    assert len(three.raw_facts) == len(one.raw_facts)
    assert len(three.fires) == len(one.fires)
    assert all(name.startswith(MARK) for name in three.raw_facts)


def test_what_differs_is_kept_apart() -> None:
    """Another duration, another condition or another calendar is another moment; two quantiles never are one."""
    later = replace(ABANDONED_CART, name="later", shape=reshaped(ABANDONED_CART, within=2 * HOUR))
    larger = replace(ABANDONED_CART, name="larger", only_if=compare("cart_value", ">=", 9_000, "money"))
    leap = replace(BIRTHDAY_WEEK, name="leap", shape=reshaped(BIRTHDAY_WEEK, feb_29="mar_1"))
    compiled = program(moments=(*MOMENTS, later, larger, leap))

    assert compiled.filed.filed_as == {}
    assert list(compiled.moments) == [one.name for one in (*MOMENTS, later, larger, leap)]


def test_names_made_from_content_stay() -> None:
    """A later version must find what this one has filed: the names may not change."""
    filed = copies().filed

    assert filed.filed_as["abandoned_cart_b"] == "=089d83a63c527039"
    assert filed.features["orders_lifetime_b"].name == "=5fee8c50a925800c"


def test_one_campaign_for_two_names_is_one_answer() -> None:
    """A campaign that lists both names of a moment answers it once."""
    twin = replace(ABANDONED_CART, name="twin")
    both = replace(CART_RESCUE, when=("abandoned_cart", "twin"))
    shop = run(program(moments=(ABANDONED_CART, twin), campaigns=(both,)), [cart_add("09:00")])

    assert len(shop.triggers) == 1
    assert sorted((one.moment, one.reason) for one in ends(shop)) == [
        ("abandoned_cart", "chosen"),
        ("twin", "already_answered"),
    ]


def test_a_late_purchase_takes_back_what_was_answered_under_another_name() -> None:
    """The moment was never true, whatever it is called."""
    first = campaign("first", "twin", priority=99)
    twin = replace(ABANDONED_CART, name="twin")
    shop = simulation(program(moments=(ABANDONED_CART, twin), campaigns=(CART_RESCUE, first)))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:30"))
    shop.feed(order("09:30"))
    shop.advance(instant("11:00"))

    assert [(trigger.action, trigger.moment) for trigger in shop.triggers] == [("send", "twin"), ("retract", "twin")]


def test_a_name_without_a_campaign_says_so() -> None:
    """What nobody answers under one name may be waiting for the slot under another."""
    twin = replace(ABANDONED_CART, name="twin")
    other = campaign("other", "abandoned_cart", priority=10, window=9 * DAY)
    shop = simulation(program(moments=(ABANDONED_CART, twin), campaigns=(other,)))
    shop.feed(cart_add("09:00", cart="c1"))
    shop.advance(instant("10:30"))
    shop.feed(cart_add("11:00", cart="c2"))
    shop.advance(instant("4d 00:00"))

    assert [(one.moment, one.reason) for one in ends(shop) if one.moment_key == "c2"] == [
        ("abandoned_cart", "slot_held"),
        ("twin", "no_definition"),
    ]


def test_a_copy_comes_and_goes_and_what_is_known_stays() -> None:
    """The hour that runs goes on, and so do counts, whichever of the copies is defined."""
    only_b = copies(["_b"])
    shop = simulation(copies([""]))
    shop.feed(order("07:00", "o1"), order("08:00", "o2"), cart_add("09:00"))
    shop.advance(instant("09:10"))
    for compiled in (copies(["", "_b"]), copies(), only_b):
        shop.publish(compiled)
        shop.feed(cart_emptied("08:59", cart="c9"))
        shop.advance(shop.clock + 60_000)

    state = customer_from_bytes(shop.customers[ANA].to_bytes())
    assert state.fact(only_b.features["orders_lifetime_b"].name) == 2
    assert list(state.instances("abandoned_cart_b")) == ["c1"]
    assert not [name for name in (*state.raw_facts, *state.fires, *state.over) if name.startswith(MARK)]

    shop.advance(instant("10:30"))
    assert [trigger.campaign for trigger in shop.triggers] == ["cart_rescue_b"]


def test_two_that_become_one_join_what_they_know() -> None:
    """States that two definitions kept apart, as earlier releases did, become one; nothing that waits is lost."""
    apart = replace(ABANDONED_CART, name="twin", lasts=47 * HOUR)
    joined = replace(ABANDONED_CART, name="twin")
    shop = simulation(program(moments=(ABANDONED_CART, apart)))
    shop.feed(cart_add("09:00", cart="c1"), cart_add("09:05", cart="c2"))
    shop.advance(instant("09:10"))
    shop.publish(program(moments=(ABANDONED_CART, joined)))
    shop.advance(instant("11:00"))

    assert len(shop.triggers) == 1
    assert {one.moment for one in ends(shop)} == {"abandoned_cart", "twin"}


def test_what_is_not_referred_to_needs_no_definition() -> None:
    """Contents are compared also where a feature or a host is missing, for definitions are checked elsewhere."""
    filed = file_once({}, {}, {"lapsed": LAPSED, "again": replace(LAPSED, name="again")})

    assert set(filed.names.values()) == {("lapsed", "again")}


def moment_names(compiled: Program) -> list[str]:
    """Return the names under which moments are filed."""
    return [name for name in compiled.moments if name.startswith(MARK)]


def test_answers_compete_across_names() -> None:
    """The better campaign wins, whichever name of the moment it asks for."""
    twin: Moment = replace(ABANDONED_CART, name="twin")
    better = campaign("better", "twin", priority=99)
    compiled = program(moments=(ABANDONED_CART, twin, LAPSED), campaigns=(CART_RESCUE, better, WINBACK))
    shop = run(compiled, [cart_add("09:00")])

    assert len(moment_names(compiled)) == 1
    assert [(trigger.campaign, trigger.moment) for trigger in shop.triggers] == [("better", "twin")]


def test_what_was_lost_is_rebuilt_for_copies_as_well() -> None:
    """From the inputs and our own decisions, whatever names these say."""
    for seed in range(3):
        events = sorted([profile(), *year(seed)], key=Event.order)
        cut, end = instant("100d 00:00"), instant("200d 00:00")
        shop = Simulation(copies(), REFERENCE)
        before = [event for event in events if event.time <= cut]
        shop.run(before, to=cut, every=DAY)
        again = rebuilt(shop, before)
        again.decisions, again.triggers, again.outcomes = list(shop.decisions), list(shop.triggers), list(shop.outcomes)
        for one in (shop, again):
            one.run([event for event in events if cut < event.time <= end], to=end, every=DAY)

        assert len(again.triggers) > 3
        assert again.triggers == shop.triggers
