"""Generated customers of other trades: readers, subscribers and account holders, seeded, over sixty days."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

DAY, HOUR = 86_400_000, 3_600_000
FIRST = 1_740_960_000_000  # Monday 3 March 2025, UTC
DAYS = 60


class Sent(NamedTuple):
    """A record on its way: its topic, when it happened, whom it is about, and what it says."""

    topic: str
    at: int
    customer: str
    record: dict[str, Any]


Live = Callable[[random.Random, str], Iterator[Sent]]


def profile(customer: str) -> Sent:
    """Return the profile of somebody who agreed to everything, from before the first day."""
    consents = [
        {"channel": channel, "purpose": "marketing", "granted": True, "at": FIRST - 9 * DAY}
        for channel in ("email", "push", "sms", "call_centre")
    ]
    record = {"customer_id": customer, "updated_at": FIRST - DAY, "time_zone": "UTC", "consents": consents}
    return Sent("customer-profiles", FIRST - DAY, customer, record)


def order(customer: str, at: int, total: int) -> Sent:
    """Return an order: a subscription, a pass or a contract."""
    record = {"event": "order.placed", "order_id": f"{customer}-{at}", "lines": [], "total": total}
    return Sent("purchases", at, customer, _event(customer, at) | record)


def reader(chance: random.Random, customer: str) -> Iterator[Sent]:
    """Yield what a reader does: a favourite section and author, and for some a paywall or a silence."""
    sections = ["politics", "sports", "culture", "science"]
    favourite, keen = chance.choice(sections), chance.random()
    silent_from = chance.choice([DAYS, 20])
    for day in range(DAYS):
        if day >= silent_from or chance.random() > keen:
            continue
        for number in range(chance.randrange(1, 4)):
            at = FIRST + day * DAY + chance.randrange(7, 22) * HOUR + number
            section = favourite if chance.random() < 0.7 else chance.choice(sections)
            article = {
                "article_id": f"{day}-{number}",
                "section": section,
                "author": f"{section}-{chance.randrange(3)}",
            }
            seconds = chance.randrange(5, 300)
            yield Sent(
                "reading", at, customer, _event(customer, at) | article | {"event": "article.read", "seconds": seconds}
            )
            if chance.random() < 0.15:
                met = at + 60_000
                yield Sent("reading", met, customer, _event(customer, met) | article | {"event": "paywall.met"})
        if chance.random() < 0.01:
            yield order(customer, FIRST + day * DAY + 23 * HOUR, 1_200)


def subscriber(chance: random.Random, customer: str) -> Iterator[Sent]:
    """Yield what a contract uses and what becomes of it: some run out of data, some buy passes, some are extended."""
    contract, ends = f"{customer}-c", FIRST + chance.randrange(40, 150) * DAY
    signed = {"event": "contract.signed", "contract": contract, "plan": "m", "ends_at": ends}
    yield Sent("contracts", FIRST, customer, _event(customer, FIRST) | signed)
    if chance.random() < 0.3:
        at = FIRST + 5 * DAY
        yield Sent(
            "contracts", at, customer, _event(customer, at) | {"event": "contract.extended", "contract": contract}
        )
    hunger = chance.uniform(1, 5)
    for day in range(DAYS):
        at = FIRST + day * DAY + 9 * HOUR
        percent = int(min(100, (day % 30 + 1) * hunger))
        record = {
            "usage_id": f"{customer}-{day}",
            "subscriber": customer,
            "told_at": at // 1000,
            "contract": contract,
            "period": f"month-{day // 30}",
            "percent": percent,
        }
        yield Sent("usage", at, customer, record)
        if percent >= 80 and chance.random() < 0.1:
            yield order(customer, at + HOUR // 2, 500)


def account(chance: random.Random, customer: str) -> Iterator[Sent]:
    """Yield bookings: a salary, the groceries, and for some a car, a home or a move."""

    def booked(at: int, kind: str, amount: int, direction: str = "out") -> Sent:
        record = {
            "booking_id": f"{customer}-{at}-{kind}",
            "customer_id": customer,
            "booked_at": at,
            "merchant_kind": kind,
            "amount": amount,
            "direction": direction,
        }
        return Sent("transactions", at, customer, record)

    for day in range(0, DAYS, 3):
        yield booked(FIRST + day * DAY + 10 * HOUR, "grocery", chance.randrange(1_000, 15_000))
        if day % 15 == 0:
            yield booked(FIRST + day * DAY + 8 * HOUR, "employer", 150_000, "in")
    start = FIRST + chance.randrange(35, 50) * DAY + 11 * HOUR
    event = chance.choice(["car", "home", "move", "nothing"])
    if event == "car":
        yield booked(start, "car_dealer", chance.randrange(200_000, 900_000))
    elif event == "home":
        yield booked(start, "estate_agent", 500_000)
        yield booked(start + 4 * DAY, "notary", 180_000)
    elif event == "move":
        for number, kind in enumerate(("mover", "furniture", "furniture")):
            yield booked(start + number * DAY, kind, 60_000)


LIVES: dict[str, Live] = {"media": reader, "telco": subscriber, "banking": account}


def records(pack: str, customers: int, seed: int = 1) -> list[Sent]:
    """Return everything that the customers of a pack do, in the order of time."""
    sent = []
    for number in range(customers):
        customer = f"{pack}-{number}"
        chance = random.Random(f"{seed}/{customer}")
        sent += [profile(customer), *LIVES[pack](chance, customer)]
    return sorted(sent, key=lambda one: (one.at, one.customer, one.topic))


def _event(customer: str, at: int) -> dict[str, Any]:
    return {"event_id": f"{customer}-{at}", "customer_id": customer, "event_time": at}
