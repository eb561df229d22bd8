"""Three moments computed by brute force from the committed input; knows the YAML's meaning, none of the engine's code.

The constants repeat what deploy/definitions/retail says. Every customer's events are taken at once, in the order of
event time, topic and offset; nothing here knows of steps, barriers, timers or partitions.

Compared is what fell due: who, which cart or year, at which instant, and whether the condition held. In the output that
is every ended instance of the three moments and every candidate of a choice; an instance that was cancelled while it
waited leaves no record, here as there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Record = Mapping[str, Any]

Due = tuple[str, str, str, int]
"""Moment, customer, key and the instant at which it fell due."""

MINUTE, DAY = 60_000, 86_400_000

CART_WAITS = 60 * MINUTE
CART_WORTH = 2_000
GAPS_NEEDED, GAP_OTHERWISE, ORDERS_KEPT = 3, 60 * DAY, 10
SILENCE_AT_LEAST, SILENCE_AT_MOST = 45 * DAY, 365 * DAY
ORDERS_NEEDED = 2
BIRTHDAY_FROM, BIRTHDAY_AT = timedelta(days=-6), 9
NO_BIRTH_DATES = {None, "1900-01-01", "1970-01-01"}
ZONE_OTHERWISE = "America/New_York"
STRAGGLERS = 60_000
"""How long an absence waits for what is late; what falls due in the last minute may or may not be decided."""


@dataclass(slots=True)
class Expected:
    """What must have fallen due; `unmet` are those whose condition did not hold at that instant."""

    due: set[Due] = field(default_factory=set)
    unmet: set[Due] = field(default_factory=set)


def expected(
    clicks: Iterable[tuple[Record, Any]],
    orders: Iterable[tuple[Record, Any]],
    messages: Iterable[tuple[Record, Any]],
    profiles: Iterable[tuple[Record, Any]],
    until: int,
) -> Expected:
    """Return what must fall due before `until`, from the records of the four input topics with their places."""
    found = Expected()
    seen: set[str] = set()
    histories: defaultdict[str, list[tuple[int, str, int, Record]]] = defaultdict(list)
    for records in (clicks, orders, messages):
        for record, (topic, _, offset) in records:
            if record["event_id"] not in seen:
                seen.add(record["event_id"])
                histories[record["customer_id"]].append((record["event_time"], topic, offset, record))
    for customer, history in histories.items():
        history.sort(key=lambda one: one[:3])
        events = [one[3] for one in history]
        _carts(customer, events, until, found)
        _silences(customer, [event["event_time"] for event in events if event["event"] == "order.placed"], until, found)
    versions: defaultdict[str, list[Record]] = defaultdict(list)
    for record, _ in profiles:
        versions[record["customer_id"]].append(record)
    for customer, profile in versions.items():
        _birthdays(customer, profile, until, found)
    return found


def _carts(customer: str, events: list[Record], until: int, found: Expected) -> None:
    """Find the carts left for an hour without an order, not emptied, their owner not unsubscribed."""
    waiting: dict[str, tuple[int, int]] = {}  # cart: when its last item came, what it was worth then

    def fall_due(before: int) -> None:
        for cart, (at, worth) in list(waiting.items()):
            if at + CART_WAITS < before:
                del waiting[cart]
                due = ("abandoned_cart", customer, cart, at + CART_WAITS)
                found.due.add(due)
                if worth < CART_WORTH:
                    found.unmet.add(due)

    for event in events:
        fall_due(event["event_time"])
        name = event["event"]
        if name == "cart.item_added" and event["cart_id"] is not None:
            waiting[event["cart_id"]] = (event["event_time"], event["cart_total"] or 0)
        elif name in ("order.placed", "customer.unsubscribed"):
            waiting.clear()
        elif name == "cart.emptied":
            waiting.pop(event["cart_id"], None)
    fall_due(until)


def _silences(customer: str, orders: list[int], until: int, found: Expected) -> None:
    """Find the silences of twice the customer's own usual gap after an order."""
    for number, (order, following) in enumerate(pairwise([*orders, until]), start=1):
        seconds = sorted({at // 1_000 for at in orders[:number]})[-ORDERS_KEPT:]
        gaps = [after - before for before, after in pairwise(seconds)]
        gap = int(median(gaps)) * 1_000 if len(gaps) >= GAPS_NEEDED else GAP_OTHERWISE
        due_at = order + min(max(2 * gap, SILENCE_AT_LEAST), SILENCE_AT_MOST)
        if due_at < following:
            due = ("lapsed", customer, "", due_at)
            found.due.add(due)
            if number < ORDERS_NEEDED:
                found.unmet.add(due)


def _birthdays(customer: str, versions: list[Record], until: int, found: Expected) -> None:
    """Find nine o'clock on the sixth day before each birthday, or when a profile first tells of it within that week."""
    greeted: set[int] = set()
    ends = [profile["updated_at"] for profile in versions[1:]] + [until]
    for profile, next_version in zip(versions, ends, strict=True):
        if profile["birth_date"] in NO_BIRTH_DATES:
            continue
        born, zone = date.fromisoformat(profile["birth_date"]), _zone(profile["time_zone"])
        known_at = profile["updated_at"]
        this_year = datetime.fromtimestamp(known_at / 1_000, zone).year
        for year in range(this_year - 1, datetime.fromtimestamp(until / 1_000, zone).year + 2):
            leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
            day = date(year, 2, 28) if (born.month, born.day) == (2, 29) and not leap else born.replace(year=year)
            first, last = day + BIRTHDAY_FROM, day + timedelta(days=1)
            opens = datetime(first.year, first.month, first.day, BIRTHDAY_AT, tzinfo=zone).timestamp() * 1_000
            closes = datetime(last.year, last.month, last.day, tzinfo=zone).timestamp() * 1_000
            at = max(int(opens), known_at)
            if at < closes and at < next_version and year not in greeted:
                greeted.add(year)
                found.due.add(("birthday_week", customer, str(year), at))


def _zone(name: str | None) -> ZoneInfo:
    try:
        return ZoneInfo(name or ZONE_OTHERWISE)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo(ZONE_OTHERWISE)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the output differs from what must be there."""

    compared: Mapping[str, int]
    lost: tuple[Due, ...]
    early: tuple[Due, ...]
    extra: tuple[Due, ...]
    misjudged: tuple[Due, ...]

    @property
    def clean(self) -> bool:
        """Whether they are the same."""
        return not (self.lost or self.early or self.extra or self.misjudged)


def compare(wanted: Expected, decisions: Iterable[Record], until: int) -> Comparison:
    """Compare what must fall due with what the decisions tell."""
    moments = ("abandoned_cart", "lapsed", "birthday_week")
    found: set[Due] = set()
    unmet: set[Due] = set()
    cancelled: set[Due] = set()
    early: set[Due] = set()
    for customer, decided_at, one in _instances(decisions):
        if one["moment"] not in moments or one["opened_at"] > until - STRAGGLERS:
            continue
        due = (one["moment"], customer, one["moment_key"], one["opened_at"])
        found.add(due)
        if one.get("state") == "unmet":
            unmet.add(due)
        if one.get("state") == "cancelled":
            cancelled.add(due)
        if decided_at < one["opened_at"]:
            early.add(due)
    must = {due for due in wanted.due if due[3] <= until - STRAGGLERS}
    lost, extra = must - found, found - must
    latest = {due[:3]: due[3] for due in sorted(lost)}
    early |= {due for due in extra if due[3] < latest.get(due[:3], due[3])}
    # What an event ended in the very minute in which it fell due was not asked for its condition any more.
    misjudged = {due for due in must & found if (due in unmet) != (due in wanted.unmet) and due not in cancelled}
    counts = {moment: sum(due[0] == moment for due in must) for moment in moments}
    return Comparison(
        counts, tuple(sorted(lost)), tuple(sorted(early)), tuple(sorted(extra - early)), tuple(sorted(misjudged))
    )


def _instances(decisions: Iterable[Record]) -> Iterator[tuple[str, int, Record]]:
    for decision in decisions:
        for one in (*decision["ended"], *decision["candidates"]):
            yield decision["customer_id"], decision["decided_at"], one
