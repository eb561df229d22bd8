"""A small world: a few customers, the four moments with times of seconds, and records that are odd."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from orchestrator.arbitration.campaign import Campaign
from orchestrator.conditions import Compare, Condition, Literal, Read
from orchestrator.events import MINUTE, SECOND
from orchestrator.features import Feature
from orchestrator.moments.rules import Absence, Around, Calendar, EventMatch, Moment, PickOne, Silence
from orchestrator.program import Definitions, Program
from orchestrator.runtime.avro import Codec, Decode, Encode
from orchestrator.runtime.partitioner import partition_of
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topic import Topic, Topics
from orchestrator.runtime.topics import load as load_topics
from tests import builders
from tests.builders import ITEM_ADDED, ORDER_PLACED

ROOT = Path(__file__).resolve().parents[2]

PARTITIONS = 2
LASTS = 90 * SECOND
"""How long things happen."""

QUIET = 60 * SECOND
"""How long after that everything open has ended: the longest window, and the longest moment."""

OPENS_AT = builders.instant("2017-03-01T08:59:20")
"""Birthdays of 7 March begin their week 40 s later, at nine."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record that comes to a topic at an instant; `group` marks those that share an upstream's transaction."""

    at: int
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    group: int | None = None


@cache
def topics() -> Topics:
    """Return the declared topics with few partitions."""
    return load_topics(ROOT / "topics.yaml", ROOT / "schemas").with_partitions(PARTITIONS, 1)


class _Remembering(Codec):
    """The codec, which makes each encoder and decoder once: thousands of workers are built from it."""

    def __init__(self) -> None:
        super().__init__(FileRegistry(ROOT / "schemas"))
        self._made: dict[tuple[str, str], Any] = {}

    def encoder(self, topic: Topic) -> Encode:
        key = ("encoder", topic.name)
        if key not in self._made:
            self._made[key] = super().encoder(topic)
        encode: Encode = self._made[key]
        return encode

    def decoder(self, topic: Topic) -> Decode:
        key = ("decoder", topic.name)
        if key not in self._made:
            self._made[key] = super().decoder(topic)
        decode: Decode = self._made[key]
        return decode


@cache
def codec() -> Codec:
    """Return the codec over the schema files."""
    return _Remembering()


def _encoder(topic: str) -> Encode:
    return codec().encoder(topics().by_name(topic))


def _campaign(name: str, when: str, priority: int, window: int) -> Campaign:
    return builders.campaign(name, when, priority=priority, window=window, control_bp=2_500)


@cache
def program() -> Program:
    """Return the four first moments, each within seconds."""
    cart_value = Condition(
        "cart_value >= 20", Compare(">=", Read("feature", "cart_value", unit="money"), Literal(2_000))
    )
    moments = (
        Moment(
            name="abandoned_cart",
            say="Put things in the cart and did not buy within 10 s",
            shape=Absence(EventMatch((ITEM_ADDED,)), EventMatch((ITEM_ADDED,)), EventMatch((ORDER_PLACED,)), 10_000),
            key="cart_id",
            only_if=cart_value,
            cancelled_by=(EventMatch(("cart.emptied",), "cart_id"), EventMatch(("customer.unsubscribed",))),
            lasts=30_000,
        ),
        Moment(
            name="lapsed",
            say="Silent for twice their own usual gap between orders",
            shape=Silence(EventMatch((ORDER_PLACED,)), 2_000, "order_gap", 12_000, 40_000),
            lasts=20_000,
        ),
        Moment(
            name="replenishment_window",
            say="About to run out of something they reorder",
            shape=Around("reorder_due", -5_000, 8_000, EventMatch((ORDER_PLACED,), "product_family")),
            key="product_family",
            pick_one=PickOne("expected_margin", 15_000),
        ),
        Moment(
            name="birthday_week",
            say="The 7 days that end on the birthday, on the customer's own clock",
            shape=Calendar("birth_date", -6, 0, 9 * 60, "feb_28", frozenset({"1900-01-01"})),
            lasts=30_000,
        ),
    )
    features = (
        Feature("cart_value", "latest", (ITEM_ADDED,), field="cart_total", key="cart_id", unit="money"),
        Feature("order_gap", "median_gap", (ORDER_PLACED,), min_samples=2, otherwise=20_000, unit="duration"),
        Feature("reorder_due", "next_order_date", (ORDER_PLACED,), key="product_family", min_samples=2, unit="instant"),
    )
    campaigns = (
        _campaign("cart_rescue", "abandoned_cart", 80, 12_000),
        _campaign("winback", "lapsed", 40, 20_000),
        _campaign("reorder_reminder", "replenishment_window", 60, 9_000),
        _campaign("birthday_offer", "birthday_week", 70, 15_000),
    )
    rules = builders.policy(
        default_disorder=1_000, default_accept_late=15_000, amend_for=30_000, never_act_older_than=5 * MINUTE
    )
    return Program(
        Definitions(
            "v1",
            {feature.name: feature for feature in features},
            {},
            {moment.name: moment for moment in moments},
            {campaign.name: campaign for campaign in campaigns},
            rules,
        ),
        builders.TOPICS,
    )


PRODUCTS = ("SHAMPOO", "SOAP", "BOOK")
FAMILIES = {"SHAMPOO": "hair", "SOAP": "soap", "BOOK": "books"}


def products() -> list[bytes]:
    """Return what the products topic holds at the start."""
    return [_product(sku, OPENS_AT - 86_400_000, 4_000) for sku in PRODUCTS]


def _product(sku: str, effective_from: int, margin_rate_bp: int) -> bytes:
    return _encoder("products")(
        {
            "sku": sku,
            "category": "care",
            "family": FAMILIES[sku],
            "price": 1_000,
            "margin_rate_bp": margin_rate_bp,
            "typical_days_of_supply": 30,
            "stock": 100,
            "effective_from": effective_from,
        }
    )


def arrivals(seed: int, *, transactions: bool) -> tuple[Arrival, ...]:
    """Return one world's records in the order in which they arrive."""
    return _World(seed, transactions=transactions).arrivals()


class _World:
    def __init__(self, seed: int, *, transactions: bool) -> None:
        self._random = Random(f"world-{seed}")
        self._transactions = transactions
        self._found: list[Arrival] = []
        self._ids = 0

    def arrivals(self) -> tuple[Arrival, ...]:
        random = self._random
        for number in range(random.randint(2, 4)):
            self._customer(f"c{number}-{random.randint(0, 99)}")
        for _ in range(random.randint(0, 2)):
            self._poison()
        for _ in range(random.randint(0, 3)):
            self._margin()
        self._found.sort(key=lambda arrival: arrival.at)
        return tuple(self._found)

    def _customer(self, customer: str) -> None:
        random = self._random
        if random.random() < 0.9:
            self._profile(customer, OPENS_AT + random.randint(0, 3_000))
        if random.random() < 0.15:
            self._profile(customer, OPENS_AT + random.randint(0, LASTS))
        if random.random() < 0.08:
            at = OPENS_AT + random.randint(0, LASTS)
            self._put(at, "customer-profiles", customer, None)
        for _ in range(random.randint(1, 4)):
            self._cart(customer, random.randint(0, LASTS))
        if random.random() < 0.6:
            self._habit(customer)
        if random.random() < 0.2:
            self._event(random.randint(0, LASTS), "email-engagement", customer, event="message.sent", channel="email")
        if random.random() < 0.1:
            at = random.randint(0, LASTS)
            self._event(at, "email-engagement", customer, event="customer.unsubscribed", channel="email")

    def _profile(self, customer: str, at: int) -> None:
        random = self._random
        record = {
            "customer_id": customer,
            "updated_at": at,
            "birth_date": random.choice(("1980-03-07", "1990-03-07", "1900-01-01", None)),
            "time_zone": random.choice(("UTC", "UTC", "Europe/Prague", None)),
            "consents": [
                {"channel": "email", "purpose": "marketing", "granted": random.random() < 0.9, "at": OPENS_AT - 9_000}
            ],
        }
        self._put(at, "customer-profiles", customer, _encoder("customer-profiles")(record))

    def _cart(self, customer: str, start: int) -> None:
        random = self._random
        cart = f"k{random.randint(0, 3)}"
        at = start
        for _ in range(random.randint(1, 2)):
            total = random.choice((1_000, 3_000, 9_000))
            self._event(at, "clickstream", customer, event=ITEM_ADDED, cart_id=cart, cart_total=total, sku="SOAP")
            at += random.randint(1_000, 6_000)
        chance = random.random()
        if chance < 0.35:
            self._order(start + random.randint(2_000, 14_000), customer, cart)
        elif chance < 0.45:
            self._event(
                start + random.randint(2_000, 14_000), "clickstream", customer, event="cart.emptied", cart_id=cart
            )

    def _habit(self, customer: str) -> None:
        random = self._random
        gap = random.randint(6_000, 15_000)
        at = random.randint(0, 20_000)
        while at < LASTS * 2 // 3:
            self._order(at, customer, None)
            at += gap + random.randint(-1_000, 1_000)

    def _order(self, at: int, customer: str, cart: str | None) -> None:
        random = self._random
        order = f"o{self._ids}"
        sku = random.choice(PRODUCTS)
        lines = [{"sku": sku, "quantity": 1, "price": 1_000, "margin": random.choice((400, None))}]
        what = {"order_id": order, "cart_id": cart, "lines": lines, "total": 1_000}
        self._event(at, "purchases", customer, event=ORDER_PLACED, **what)
        if random.random() < 0.1:
            later = at + random.randint(1_000, 12_000)
            self._event(later, "purchases", customer, event="order.cancelled", **what)

    def _event(self, at: int, topic: str, customer: str, **record: Any) -> None:
        random = self._random
        self._ids += 1
        late = random.choice((0, 0, 0, 0, 300, 2_500, 9_000, 40_000))
        record |= {"customer_id": customer, "event_id": f"e{self._ids}", "event_time": OPENS_AT + at}
        value = _encoder(topic)(record)
        self._put(OPENS_AT + at + late, topic, customer, value)
        if random.random() < 0.1:
            self._put(OPENS_AT + at + late + random.randint(0, 5_000), topic, customer, value)

    def _margin(self) -> None:
        """Another margin of a product, announced shortly before it is in force."""
        random = self._random
        at = OPENS_AT + random.randint(0, LASTS)
        sku = random.choice(PRODUCTS)
        value = _product(sku, at + random.randint(1, 1_500), random.randint(1, 9) * 1_000)
        self._found.append(Arrival(at, "products", 0, sku.encode(), value))

    def _poison(self) -> None:
        random = self._random
        at = OPENS_AT + random.randint(0, LASTS)
        topic = random.choice(("clickstream", "purchases"))
        key, value = random.choice(
            ((b"c9", b"\x00\x00broken"), (None, b"nobody"), (b"c8", None), (b"\xff\xfe", b"odd"))
        )
        self._found.append(Arrival(at, topic, random.randrange(PARTITIONS), key, value))

    def _put(self, at: int, topic: str, customer: str, value: bytes | None) -> None:
        key = customer.encode()
        group = at // 7_000 if self._transactions and self._random.random() < 0.3 else None
        self._found.append(Arrival(min(at, OPENS_AT + LASTS), topic, partition_of(key, PARTITIONS), key, value, group))
