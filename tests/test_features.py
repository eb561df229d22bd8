"""Facts per customer: what each kind folds, what it reads, and how much it keeps."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import msgspec
import pytest

from orchestrator.conditions import Condition, Not, Read
from orchestrator.events import DAY, FOREVER, HOUR, Event
from orchestrator.features import Feature, keys_of, line_margin, pooled_gap
from tests.builders import REFERENCE, cart_add, event, instant, line, message, order

NOW = instant("9d 00:00")


def fold(feature: Feature, *events: Event, state: Any = None) -> Any:
    """Return the state after events, each of which finds it as it was stored."""
    for one in events:
        state = feature.fold(state, one, REFERENCE, 3_000)
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state))
    return state


def value(feature: Feature, *events: Event, key: str | None = None, now: int = NOW) -> Any:
    """Return what a feature reads after events."""
    return feature.read(fold(feature, *events), key, now, REFERENCE)


def test_count_and_sum() -> None:
    """How often, and how much in all; nothing yet is zero."""
    count = Feature("orders", "count", ("order.placed",))
    spend = Feature("spend", "sum", ("order.placed",), field="total")
    events = [order("09:00", lines=[line(price=500)]), order("1d 09:00", lines=[line(price=700), line(price=1)])]

    assert (value(count), value(spend)) == (0, 0)
    assert (value(count, *events), value(spend, *events)) == (2, 1_201)


def test_a_window_forgets() -> None:
    """Over thirty days counts what is at most thirty days old, in buckets of one day."""
    recent = Feature("recent", "count", ("order.placed",), over=30 * DAY)
    events = [order("00:00"), order("10d 00:00")]

    assert [value(recent, *events, now=instant(f"{day}d 00:00")) for day in (10, 29, 30, 39, 40)] == [2, 2, 1, 1, 0]


def test_a_window_keeps_few_buckets() -> None:
    """A year of daily orders leaves about thirty buckets behind."""
    recent = Feature("recent", "count", ("order.placed",), over=30 * DAY)
    state = fold(recent, *(order(f"{day}d 09:00") for day in range(365)))

    assert len(state) <= 32


def test_a_late_event_falls_into_its_own_bucket() -> None:
    """Order of arrival does not matter to a window."""
    recent = Feature("recent", "sum", ("order.placed",), field="total", over=30 * DAY)
    events = [order(f"{day}d 09:00") for day in (0, 3, 3, 7)]

    states = {repr(fold(recent, *arrival)) for arrival in permutations(events)}
    assert len(states) == 1


def test_latest_is_by_event_time() -> None:
    """A value that arrives late does not replace a newer one; a missing value replaces nothing."""
    latest = Feature("cart_value", "latest", ("cart.item_added",), field="cart_total", key="cart_id")
    events = [cart_add("09:00", total=10), cart_add("09:05", total=30), cart_add("09:02", total=20)]

    assert value(latest, *events, key="c1") == 30
    assert value(latest, *events, cart_add("09:09", total=None), key="c1") == 30
    assert value(latest, *events, key="c2") is None


def test_first_and_last_time() -> None:
    """Whatever arrives in which order; unknown before the first."""
    first = Feature("first", "first_time", ("order.placed",))
    last = Feature("last", "last_time", ("order.placed",))
    events = [order("1d 09:00"), order("09:00"), order("2d 09:00")]

    assert value(first) is None
    for arrival in permutations(events):
        assert (value(first, *arrival), value(last, *arrival)) == (instant("09:00"), instant("2d 09:00"))


def test_keys_that_were_touched_last_are_kept() -> None:
    """A keyed feature is bounded, and forgets whom it has not seen for longest."""
    latest = Feature("cart_value", "latest", ("cart.item_added",), field="cart_total", key="cart_id", max_keys=3)
    carts = ["a", "b", "c", "a", "d"]
    state = fold(latest, *(cart_add(f"{hour:02d}:00", cart=cart) for hour, cart in enumerate(carts)))

    assert list(state) == ["c", "a", "d"]


def test_median_gap() -> None:
    """The middle of the last gaps; before there are enough, what the definition says."""
    gap = Feature("order_gap", "median_gap", ("order.placed",), min_samples=3, otherwise=60 * DAY)
    days = [0, 10, 40, 45, 100]

    events = [order(f"{day}d 09:00") for day in days]
    assert [value(gap, *events[:count]) for count in range(6)] == [
        60 * DAY, 60 * DAY, 60 * DAY, 60 * DAY, 10 * DAY, 20 * DAY,
    ]  # fmt: skip
    assert len({value(gap, *arrival) for arrival in permutations(events)}) == 1


def test_median_gap_keeps_ten() -> None:
    """The rhythm is that of the last ten orders."""
    gap = Feature("order_gap", "median_gap", ("order.placed",))
    events = [
        *(order(f"{day}d 09:00") for day in range(0, 300, 30)),
        *(order(f"{day}d 09:00") for day in range(300, 310)),
    ]

    assert len(fold(gap, *events)) == 10
    assert value(gap, *events) == DAY


def test_next_order_date() -> None:
    """Own gaps pooled with the category's: the more of them, the more they say."""
    due = Feature("reorder_due", "next_order_date", ("order.placed",), key="product_family", min_samples=2)
    first, second, third = (order(f"{day}d 09:00", lines=[line("SHAMPOO")]) for day in (0, 20, 40))

    assert value(due, key="hair") is None
    assert value(due, first, key="hair") == instant("30d 09:00")
    assert value(due, first, second, key="hair") == instant("20d 09:00") + pooled_gap(1, 2_995_732, 30.0)
    assert instant("46d 09:00") < value(due, first, second, third, key="hair") < instant("67d 09:00")


def test_pooled_gap() -> None:
    """exp((sum of log own gaps + 3 x log of the category's) / (n + 3)), to the minute."""
    assert pooled_gap(0, 0, 30.0) == 30 * DAY
    assert pooled_gap(3, 3 * 2_302_585, 40.0) == pytest.approx(20 * DAY, abs=60_000)
    assert pooled_gap(1, 2_302_585, 30.0) % 60_000 == 0


def test_what_does_not_run_out_is_not_kept() -> None:
    """A family without days of supply costs nothing."""
    due = Feature("reorder_due", "next_order_date", ("order.placed",), key="product_family")

    assert fold(due, order("09:00", lines=[line("BOOK"), line("UNKNOWN")])) is None


def test_the_same_shopping_trip_is_no_gap() -> None:
    """Two orders on one day are one, worth what both earned."""
    due = Feature("reorder_due", "next_order_date", ("order.placed",), key="product_family")
    once, again = (order(at, lines=[line("SHAMPOO")]) for at in ("09:00", "18:00"))

    assert fold(due, once) == {"hair": [0, 0, once.time // 1000, 400]}
    assert fold(due, once, again) == {"hair": [0, 0, once.time // 1000, 800]}


@pytest.mark.parametrize("trip", [("09:00", "09:20", "10:00"), ("1d 08:40", "1d 09:10", "1d 09:30")])
def test_a_shopping_trip_is_the_same_whichever_order_is_heard_of_first(trip: tuple[str, ...]) -> None:
    """When it began and what it earned; also where the day of a trip ends between two orders, or nothing was before."""
    due = Feature("reorder_due", "next_order_date", ("order.placed",), key="product_family")
    for before in ((), ("0d 09:00",), ("-30d 09:00",), ("-30d 09:00", "0d 09:00")):
        told = [
            fold(due, *(order(at, lines=[line("SHAMPOO", 100 * int(at[-2:]) + 900)]) for at in (*before, *orders)))
            for orders in permutations(trip)
        ]
        assert all(one == told[0] for one in told)


def test_what_version_3_kept_of_a_trip_goes_on() -> None:
    """It did not keep the trip before: what would move the beginning is not counted, what comes after is."""
    due = Feature("reorder_due", "next_order_date", ("order.placed",), key="product_family")
    state = {"hair": [1, 2_995_732, instant("20d 09:00") // 1000, 400]}
    earlier, later, next_trip = (order(at, lines=[line("SHAMPOO")]) for at in ("20d 08:50", "20d 10:00", "30d 09:00"))

    assert fold(due, earlier, state=state) == state
    assert fold(due, later, state=state)["hair"][3] == 800
    assert fold(due, next_trip, state=state)["hair"][4] == instant("20d 09:00") // 1000


def test_where_folds_only_what_it_admits() -> None:
    """The condition is asked of the event; unknown means no."""
    by_people = Condition("not machine", Not(Read("event", "machine")))
    opened = Feature("opened", "count", ("message.opened",), where=by_people)
    people = event("message.opened", "09:00", machine=False)
    machine = event("message.opened", "09:00", machine=True)
    nobody = event("message.opened", "09:00")

    assert value(opened, people, machine, nobody) == 1


def test_keys_of_an_order_are_those_of_its_lines() -> None:
    """Each family once, in the order met; what no product knows has none."""
    bought = order("09:00", lines=[line("SOAP"), line("SHAMPOO"), line("SOAP"), line("UNKNOWN")])

    assert keys_of(bought, "product_family", REFERENCE) == ("soap", "hair")
    assert keys_of(bought, "category", REFERENCE) == ("care",)
    assert keys_of(bought, "sku", REFERENCE) == ("SOAP", "SHAMPOO", "UNKNOWN")
    assert keys_of(bought, "cart_id", REFERENCE) == ()


def test_keys_of_a_view_are_those_of_its_product() -> None:
    """Browsing carries a sku, and through it a category and a family; an own category comes first."""
    viewed = event("product.viewed", "09:00", sku="SOAP")

    assert keys_of(viewed, "product_family", REFERENCE) == ("soap",)
    assert keys_of(event("product.viewed", "09:00", sku="SOAP", category="gifts"), "category", REFERENCE) == ("gifts",)
    assert keys_of(message("09:00"), "sku", REFERENCE) == ()


def test_margin_of_a_line() -> None:
    """Its own, else the product's rate, else the program's; in whole minor units."""
    assert line_margin(line("SHAMPOO", 1_000, 123), NOW, REFERENCE, 3_000) == 123
    assert line_margin(line("SHAMPOO", 1_000, None), NOW, REFERENCE, 3_000) == 400
    assert line_margin(line("UNKNOWN", 1_001, None), NOW, REFERENCE, 3_000) == 300


def test_states_are_bounded() -> None:
    """A thousand events of one customer leave less than a kilobyte behind, per feature without a key."""
    features = [
        Feature("a", "count", ("order.placed",), over=90 * DAY),
        Feature("b", "median_gap", ("order.placed",)),
        Feature("c", "latest", ("order.placed",), field="order_id"),
    ]
    events = [order(instant("09:00") + number * 7 * HOUR) for number in range(1_000)]

    for feature in features:
        assert len(msgspec.msgpack.encode(fold(feature, *events))) < 1_000


def test_distinct_counts_each_once() -> None:
    """How many different categories, in all and of late; nothing yet is zero."""
    ever = Feature("categories", "distinct", ("order.placed",), key="category")
    recent = Feature("categories", "distinct", ("order.placed",), key="category", over=30 * DAY)
    events = [
        order("00:00", lines=[line("SHAMPOO"), line("SOAP"), line("BOOK")]),
        order("20d 00:00", lines=[line("BOOK"), line("NOBODY KNOWS")]),
    ]

    assert (value(ever), value(recent)) == (0, 0)
    assert {value(ever, *arrival) for arrival in permutations(events)} == {2}
    assert [value(recent, *events, now=instant(f"{day}d 00:00")) for day in (20, 29, 30, 49, 50)] == [2, 2, 1, 1, 0]
    assert recent.changes_at(fold(recent, *events), None, instant("21d 00:00")) == instant("30d 00:00")


def test_distinct_is_bounded() -> None:
    """Those seen longest ago are forgotten."""
    carts = Feature("carts", "distinct", ("cart.item_added",), key="cart_id", max_keys=3)

    assert list(fold(carts, *(cart_add(f"{hour:02d}:00", cart=str(hour)) for hour in range(5)))) == ["2", "3", "4"]


def test_a_window_tells_when_it_forgets() -> None:
    """The next instant at which time alone changes a total; none where nothing leaves."""
    recent = Feature("recent", "count", ("order.placed",), over=30 * DAY)
    keyed = Feature("recent", "count", ("order.placed",), over=30 * DAY, key="sku")
    state = fold(recent, order("00:00"), order("10d 00:00"))

    assert recent.changes_at(state, None, NOW) == instant("30d 00:00")
    assert recent.changes_at(state, None, instant("30d 00:00")) == instant("40d 00:00")
    assert recent.changes_at(state, None, instant("40d 00:00")) == FOREVER
    assert keyed.changes_at(fold(keyed, order("00:00")), "BOOK", NOW) == instant("30d 00:00")
    assert keyed.changes_at(fold(keyed, order("00:00")), "SOAP", NOW) == FOREVER
    assert Feature("ever", "count", ("order.placed",)).changes_at(3, None, NOW) == FOREVER


def test_the_probability_of_being_alive_is_a_feature() -> None:
    """Unknown at first, then folded and read like any other."""
    alive = Feature("p_alive", "p_alive", ("order.placed",))

    assert value(alive) is None
    assert value(alive, order("00:00")) == 1.0
    assert 0 < value(alive, order("00:00"), order("1d 00:00")) < 1
    assert alive.changes_at(fold(alive, order("00:00")), None, NOW) == NOW + DAY
