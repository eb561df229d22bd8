"""Events, definitions and customers with sane defaults, so that a test shows only what matters to it.

Times are written as on a wall clock in UTC: `09:00` is on the first day, `3d 09:00` three days later, and
`2017-07-04T09:00` is itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

from orchestrator.arbitration.campaign import Campaign, Measure, Send
from orchestrator.arbitration.policy import Policy
from orchestrator.conditions import Compare, Condition, Literal, Read
from orchestrator.events import DAY, HOUR, MINUTE, PROFILE, Event
from orchestrator.features import Feature
from orchestrator.moments.rules import Absence, Around, Calendar, EventMatch, Moment, PickOne, Silence
from orchestrator.program import Definitions, Program, Segment
from orchestrator.records import Candidate, Decision, EndedMoment, Trigger
from orchestrator.reference import Product, Reference
from orchestrator.simulation import Simulation
from orchestrator.valuation import EVERYBODY, PROVEN, START, ArmValue, LeafValue, PolicySnapshot

FIRST_DAY = "2017-03-01"  # a Wednesday
ANA = "ana"
ITEM_ADDED = "cart.item_added"
ORDER_PLACED = "order.placed"
TOPICS = {
    ITEM_ADDED: "clickstream", "cart.emptied": "clickstream", "product.viewed": "clickstream",
    ORDER_PLACED: "purchases", "order.cancelled": "purchases", "order.returned": "purchases",
    "message.sent": "email-engagement", "message.opened": "email-engagement",
    "customer.unsubscribed": "email-engagement",
}  # fmt: skip
PLACES = {"clickstream": 0, "purchases": 1, "email-engagement": 2, "customer-profiles": 3}

_ids = count(1)


def instant(text: str) -> int:
    """Return the milliseconds of a time as tests write it."""
    if "T" in text:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
    day, _, clock = text.rpartition(" ")
    midnight = int(datetime.fromisoformat(FIRST_DAY).replace(tzinfo=UTC).timestamp() * 1000)
    hours, minutes, *rest = clock.split(":")
    seconds = float(rest[0]) if rest else 0.0
    days = int(day.removesuffix("d")) if day else 0
    return midnight + days * DAY + int(hours) * HOUR + int(minutes) * MINUTE + round(seconds * 1000)


def event(name: str, at: str | int, customer: str = ANA, event_id: str | None = None, **data: Any) -> Event:
    """Return an event; its id is new unless given."""
    topic = "customer-profiles" if name == PROFILE else TOPICS.get(name, "clickstream")
    number = next(_ids)
    return Event(
        name,
        customer,
        at if isinstance(at, int) else instant(at),
        f"e{number}" if event_id is None else event_id,
        PLACES[topic],
        number,
        data,
    )


def cart_add(at: str | int = "09:00", *, cart: str = "c1", total: int | None = 5_000, **more: Any) -> Event:
    """Return an item put into a cart, which is worth `total` cents after that."""
    return event(ITEM_ADDED, at, cart_id=cart, cart_total=total, **more)


def cart_emptied(at: str | int, *, cart: str = "c1", **more: Any) -> Event:
    """Return a cart that was emptied."""
    return event("cart.emptied", at, cart_id=cart, **more)


def line(sku: str = "SHAMPOO", price: int = 1_000, margin: int | None = 400) -> dict[str, Any]:
    """Return one line of an order."""
    return {"sku": sku, "quantity": 1, "price": price, "margin": margin}


def order(
    at: str | int = "09:00", order_id: str | None = None, lines: Iterable[Mapping[str, Any]] = (), **more: Any
) -> Event:
    """Return an order, of one book unless said otherwise."""
    bought = [dict(one) for one in lines] or [line("BOOK")]
    total = sum(one["price"] for one in bought)
    return event(ORDER_PLACED, at, order_id=order_id or f"o{next(_ids)}", lines=bought, total=total, **more)


def message(at: str | int, channel: str = "email", trigger_id: str | None = None, **more: Any) -> Event:
    """Return a message that went out, from a campaign that is not ours unless it names a trigger."""
    return event("message.sent", at, channel=channel, trigger_id=trigger_id, **more)


def unsubscribed(at: str | int, channel: str = "email", **more: Any) -> Event:
    """Return an opt-out."""
    return event("customer.unsubscribed", at, channel=channel, **more)


def trigger(trigger_id: str, action: str = "send", *, customer: str = ANA, valid_for: int = HOUR) -> Trigger:
    """Return a trigger decided now, by the wall clock that senders go by, valid for some milliseconds."""
    now = int(time.time() * 1000)
    return Trigger(
        trigger_id=trigger_id,
        decision_id=f"d-{trigger_id}",
        customer_id=customer,
        campaign="cart_rescue",
        channel="email",
        template="cart_rescue",
        moment="abandoned_cart",
        moment_key="cart-1",
        opened_at=now,
        decided_at=now,
        valid_until=now + valid_for,
        window_until=now + 3 * DAY,
        definitions_version="v1",
        action=action,
    )


def consent(*, granted: bool = True, at: str | int = "-9d 00:00", channel: str = "email") -> dict[str, Any]:
    """Return what a profile says about one channel."""
    since = at if isinstance(at, int) else instant(at)
    return {"channel": channel, "purpose": "marketing", "granted": granted, "at": since}


def profile(
    at: str | int = "-1d 00:00",
    customer: str = ANA,
    *,
    consents: Iterable[Mapping[str, Any]] | None = None,
    born: str | None = None,
    zone: str | None = "UTC",
    **more: Any,
) -> Event:
    """Return a profile: somebody in UTC who agreed to e-mail, and whose birthday nobody knows."""
    given = [consent()] if consents is None else [dict(one) for one in consents]
    return event(PROFILE, at, customer, "", consents=given, birth_date=born, time_zone=zone, **more)


def compare(feature: str, operator: str, value: Any, unit: str = "number") -> Condition:
    """Return the condition that compares a feature with a value."""
    text = f"{feature} {operator} {value}"
    return Condition(text, Compare(operator, Read("feature", feature, unit=unit), Literal(value)))


# --- definitions ------------------------------------------------------------------------------------------------------

FEATURES = (
    Feature("cart_value", "latest", (ITEM_ADDED,), field="cart_total", key="cart_id", unit="money"),
    Feature("orders_lifetime", "count", (ORDER_PLACED,)),
    Feature("order_gap", "median_gap", (ORDER_PLACED,), min_samples=3, otherwise=60 * DAY, unit="duration"),
    Feature("reorder_due", "next_order_date", (ORDER_PLACED,), key="product_family", min_samples=2, unit="instant"),
    Feature("messages_90d", "count", ("message.sent",), over=90 * DAY),
)

ABANDONED_CART = Moment(
    name="abandoned_cart",
    say="Put things in the cart and did not buy within 1 hour",
    shape=Absence(EventMatch((ITEM_ADDED,)), EventMatch((ITEM_ADDED,)), EventMatch((ORDER_PLACED,)), HOUR),
    key="cart_id",
    only_if=compare("cart_value", ">=", 2_000, "money"),
    cancelled_by=(EventMatch(("cart.emptied",), "cart_id"), EventMatch(("customer.unsubscribed",))),
    lasts=48 * HOUR,
)
LAPSED = Moment(
    name="lapsed",
    say="Silent for twice their own usual gap between orders",
    shape=Silence(EventMatch((ORDER_PLACED,)), 2_000, "order_gap", 45 * DAY, 365 * DAY),
    only_if=compare("orders_lifetime", ">=", 2),
    lasts=30 * DAY,
)
REPLENISHMENT = Moment(
    name="replenishment_window",
    say="About to run out of something they reorder",
    shape=Around("reorder_due", -5 * DAY, 3 * DAY, EventMatch((ORDER_PLACED,), "product_family")),
    key="product_family",
    pick_one=PickOne("expected_margin", 14 * DAY),
)
BIRTHDAY_WEEK = Moment(
    name="birthday_week",
    say="The 7 days that end on the birthday, on the customer's own clock",
    shape=Calendar("birth_date", -6, 0, 9 * 60, "feb_28", frozenset({"1900-01-01", "1970-01-01"})),
)
MOMENTS = (ABANDONED_CART, LAPSED, REPLENISHMENT, BIRTHDAY_WEEK)


def campaign(
    name: str,
    when: str,
    *,
    priority: int = 50,
    window: int = 3 * DAY,
    control_bp: int = 0,
    channel: str = "email",
    cost: int = 1,
    only_if: Condition | None = None,
) -> Campaign:
    """Return a campaign without a control group, whose window is three days."""
    send = Send(channel, template=name)
    return Campaign(name, (when,), send, Measure("margin", window), control_bp, 0, priority, cost, only_if)


CART_RESCUE = campaign("cart_rescue", "abandoned_cart", priority=80)
WINBACK = campaign("winback", "lapsed", priority=40, window=14 * DAY)
REORDER = campaign("reorder_reminder", "replenishment_window", priority=60, window=7 * DAY)
BIRTHDAY = campaign("birthday_offer", "birthday_week", priority=70, window=10 * DAY)
CAMPAIGNS = (CART_RESCUE, WINBACK, REORDER, BIRTHDAY)


def policy(**rules: Any) -> Policy:
    """Return a policy that waits for no straggler, accepts what is late by six hours, and forbids nothing."""
    return Policy(**{"default_disorder": 0, "default_accept_late": 6 * HOUR, **rules})


def program(
    *,
    moments: Iterable[Moment] = MOMENTS,
    campaigns: Iterable[Campaign] = CAMPAIGNS,
    features: Iterable[Feature] = FEATURES,
    segments: Iterable[Segment] = (),
    rules: Policy | None = None,
    version: str = "v1",
) -> Program:
    """Return the four first moments with one campaign each."""
    definitions = Definitions(
        version,
        {feature.name: feature for feature in features},
        {segment.name: segment for segment in segments},
        {moment.name: moment for moment in moments},
        {one.name: one for one in campaigns},
        policy() if rules is None else rules,
    )
    return Program(definitions, TOPICS)


def worth(*gain: float, state: str = PROVEN, **more: Any) -> ArmValue:
    """Return an arm that is worth so much, minor units, in each world; it uses up nothing of a free slot."""
    return ArmValue(gain, **{"hold": 0.0, "state": state, **more})


def snapshot(
    arms: Mapping[str, ArmValue],
    *,
    leaves: Mapping[str, LeafValue] | None = None,
    stages: Mapping[str, Iterable[float]] | None = None,
    explore_bp: int = 0,
    since: str | int = "-9d 00:00",
    version: str = "s1",
) -> PolicySnapshot:
    """Return what campaigns are worth to everybody, and to other leaves; nothing is tried at random."""
    draws = max([len(arm.gain) for arm in arms.values()], default=1)
    at = since if isinstance(since, int) else instant(since)
    values = {name: tuple(each) for name, each in (stages or {START: (0.0,) * draws}).items()}
    everybody = LeafValue(arms, values)
    return PolicySnapshot(at, at, "v1", draws, explore_bp, {EVERYBODY: everybody, **(leaves or {})}, version=version)


PRODUCTS = (
    Product("SHAMPOO", family="hair", category="care", price=1_000, margin_rate_bp=4_000, typical_days_of_supply=30),
    Product("SOAP", family="soap", category="care", price=300, margin_rate_bp=5_000, typical_days_of_supply=30),
    Product("BOOK", family="books", category="media", price=2_000, margin_rate_bp=2_500),
)
REFERENCE = Reference(PRODUCTS)


def simulation(
    program: Program | None = None,
    *,
    start: str = "00:00",
    known: bool = True,
    max_lag: int | None = None,
    learned: Iterable[PolicySnapshot] = (),
) -> Simulation:
    """Return a simulation at the start of the first day in which Ana's profile is known, unless nobody is to be.

    Every customer goes through bytes after every step. What was `learned` is in force from its instant on.
    """
    compiled = build_program() if program is None else program
    reference = REFERENCE
    for one in learned:
        if reference is REFERENCE:
            reference = Reference(PRODUCTS)
        reference.put_policy(one)
    simulated = Simulation(compiled, reference, max_lag=max_lag, round_trip=True)
    if known:
        simulated.feed(profile())
    simulated.advance(instant(start))
    return simulated


build_program = program


# --- what came of it --------------------------------------------------------------------------------------------------


def reasons(simulated: Simulation) -> list[str]:
    """Return why, decision by decision: the kind where it is no choice, and the reason."""
    return [d.reason if d.kind == "choice" else f"{d.kind}: {d.reason}" for d in simulated.decisions]


def fact(simulated: Simulation, feature: str, customer: str = ANA) -> Any:
    """Return what is kept for a feature of a customer."""
    return simulated.customers[customer].fact(simulated.program.features[feature].name)


def ends(simulated: Simulation) -> list[EndedMoment]:
    """Return every moment that ended, in order."""
    return [over for decision in simulated.decisions for over in decision.ended]


def last_candidates(simulated: Simulation) -> dict[str, Candidate]:
    """Return the candidates of the last decision by campaign; the last one where there are several."""
    return {candidate.campaign: candidate for candidate in simulated.decisions[-1].candidates}


def choices(simulated: Simulation) -> list[Decision]:
    """Return the decisions that took the slot."""
    return [decision for decision in simulated.decisions if decision.window_until is not None]
