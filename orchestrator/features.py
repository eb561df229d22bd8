"""Facts kept per customer: each feature folds events into a small state of plain values and reads a value from it.

States are what msgpack knows (integers, lists, dicts), bounded per customer: a keyed feature keeps the `max_keys` keys
touched last, a windowed one a thirtieth of its window per bucket. Instants inside states are whole seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.conditions import Condition
from orchestrator.events import DAY, FOREVER, Event
from orchestrator.reference import Reference
from orchestrator.rhythm import count_time, insert_time, median_gap, p_alive

PER_LINE_KEYS = ("sku", "category", "product_family")
"""Keys that an order has once per line, and a browsing event through its sku."""

MAX_KEY = 200
"""Characters of a key, and of a text that a feature keeps: what is longer is no value, for states must stay small."""


class EventView:
    """What a feature's `where` can ask about: the event itself."""

    __slots__ = ("data", "now")

    def __init__(self, event: Event) -> None:
        self.data = event.data
        self.now = event.time

    def read(self, source: str, name: str, key: str | None) -> Any:  # noqa: ARG002 - the protocol's shape
        """Return a property of the event, None when it has none."""
        return self.data.get(name) if source == "event" else None

    def in_segment(self, name: str) -> bool | None:  # noqa: ARG002 - the protocol's shape
        """Return None: an event is in no segment."""
        return None


def keys_of(event: Event, key: str, reference: Reference) -> tuple[str, ...]:
    """Return the distinct keys an event carries, in the order met: one cart, or the families of an order's lines."""
    if key in PER_LINE_KEYS and event.data.get(key) is None:
        return tuple(lines_by(event, key, reference))
    value = event.data.get(key)
    return () if value is None or len(text := str(value)) > MAX_KEY else (text,)


def lines_by(event: Event, key: str, reference: Reference) -> dict[str, list[Mapping[str, Any]]]:
    """Return an order's lines by their key, in the order met; browsing is a line by itself."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    time = event.time
    for line in event.data.get("lines") or (event.data,):
        value = line.get("sku")
        if value is None or len(value) > MAX_KEY:
            continue
        if key != "sku":
            product = reference.product(value, time)
            if product is None:
                continue
            value = product.family if key == "product_family" else product.category
            if value is None:
                continue
        if value in found:
            found[value].append(line)
        else:
            found[value] = [line]
    return found


def line_margin(line: Mapping[str, Any], at: int, reference: Reference, assumed_bp: int) -> int:
    """Return what a line earned, minor units: its own margin, else the product's rate, else the program's."""
    margin = line.get("margin")
    if margin is not None:
        return int(margin)
    product = reference.product(line["sku"], at)
    rate = assumed_bp if product is None or product.margin_rate_bp is None else product.margin_rate_bp
    return int(line["price"]) * rate // 10_000


@dataclass(frozen=True, slots=True)
class Feature:
    """One fact per customer.

    `kind` is count, sum, latest, first_time, last_time, median_gap, distinct, p_alive or next_order_date, or one that
    folds nothing and looks at the feature `of`: age_of, quantile or stage. `events` are the names it folds; `field` the
    event field it takes; `key` what it is kept per, or what is distinct; `over` its window in milliseconds; `otherwise`
    the value before `min_samples`, milliseconds; `bands` the names of a quantile's bands with their least values, from
    the highest, None where only a snapshot tells them, and `shares` the share of customers below each, in thousandths;
    `unit` the type of its value: number, money, duration, instant or text.
    """

    name: str
    kind: str
    events: tuple[str, ...] = ()
    field: str | None = None
    key: str | None = None
    over: int | None = None
    where: Condition | None = None
    of: str | None = None
    min_samples: int = 0
    otherwise: int | None = None
    unit: str = "number"
    bands: tuple[tuple[str, int | None], ...] = ()
    shares: tuple[int, ...] = ()
    max_keys: int = 100

    def fold(
        self, state: Any, event: Event, reference: Reference, assumed_bp: int, keys: Iterable[str] | None = None
    ) -> Any:
        """Return the state after an event; `state` is None at first, and may be changed in place.

        `keys` are those that the event carries, where somebody has looked them up already.
        """
        if self.where is not None and self.where.holds(EventView(event)) is not True:
            return state
        if self.key is None:
            return self._fold_one(state, event)
        by_line = lines_by(event, self.key, reference) if self.kind == "next_order_date" else None
        if by_line is not None:
            keys = by_line
        elif keys is None:
            keys = keys_of(event, self.key, reference)
        if self.kind == "distinct":
            return self._fold_distinct(state or {}, event, keys)
        states: dict[str, Any] = {} if state is None else state
        for key in keys:
            if by_line is None:
                folded = self._fold_one(states.pop(key, None), event)
            else:
                before = states.pop(key, None)
                if self.key != "category" and self._typical_days(key, event.time, reference) is None:
                    continue  # it does not run out
                margin = sum([line_margin(line, event.time, reference, assumed_bp) for line in by_line[key]])
                folded = _fold_gap(before, event.time // 1000, margin)
            if folded is not None:
                states[key] = folded  # back at the end: the order of keys is the order of last touch
        while len(states) > self.max_keys:
            del states[next(iter(states))]
        return states or None

    def read(self, state: Any, key: str | None, now: int, reference: Reference) -> Any:
        """Return the value at an instant: milliseconds, minor units, a number or a text; None when unknown."""
        if self.kind == "distinct":
            return len(state or ()) if self.over is None else _count_since(state, now - self.over)
        if self.key is not None:
            state = (state or {}).get(key)
        return self._read_one(state, key or "", now, reference)

    def _fold_one(self, state: Any, event: Event) -> Any:
        if self.kind in ("count", "sum"):
            amount = 1 if self.kind == "count" else int(event.data.get(self.field or "") or 0)
            if self.over is None:
                return (state or 0) + amount
            return _add_to_buckets(state or [], event.time, amount, self.over)
        seconds = event.time // 1000
        if self.kind == "latest":
            value = event.data.get(self.field or "")
            if value is None or (state is not None and seconds < state[1]):
                return state
            if type(value) is str and len(value) > MAX_KEY:
                return state
            return [value, seconds]
        if self.kind == "first_time":
            return seconds if state is None else min(state, seconds)
        if self.kind == "last_time":
            return seconds if state is None else max(state, seconds)
        if self.kind == "p_alive":
            return count_time(state, seconds)
        assert self.kind == "median_gap", self.kind
        return insert_time(state or [], seconds)

    def _fold_distinct(self, seen: dict[str, int], event: Event, keys: Iterable[str]) -> dict[str, int] | None:
        seconds = event.time // 1000
        for key in keys:
            seen[key] = max(seconds, seen.pop(key, 0))
        if self.over is not None:
            for key in [key for key, last in seen.items() if last * 1000 + self.over <= event.time]:
                del seen[key]
        while len(seen) > self.max_keys:
            del seen[next(iter(seen))]
        return seen or None

    def changes_at(self, state: Any, key: str | None, now: int) -> int:
        """Return the next instant at which time alone changes the value, FOREVER when only events do.

        A probability changes all the time: it is worth another look after a tenth of the silence, at least a day.
        """
        if self.kind == "p_alive":
            return FOREVER if state is None else now + max((now - state[2] * 1000) // 10, DAY)
        if self.over is None or not state:
            return FOREVER
        if self.kind == "distinct":
            instants = [seconds * 1000 + self.over for seconds in state.values()]
        else:
            buckets = state.get(key, ()) if self.key is not None else state
            instants = [number * _bucket(self.over) + self.over for number, _ in buckets]
        return min((instant for instant in instants if instant > now), default=FOREVER)

    def _read_one(self, state: Any, key: str, now: int, reference: Reference) -> Any:
        if self.kind in ("count", "sum"):
            if state is None:
                return 0
            return state if self.over is None else _sum_of_buckets(state, now, self.over)
        if self.kind == "p_alive":
            return p_alive(state, now)
        if self.kind == "median_gap":
            return median_gap(state or [], self.min_samples, self.otherwise)
        if state is None:
            return None
        if self.kind == "latest":
            return state[0]
        if self.kind in ("first_time", "last_time"):
            return state * 1000
        assert self.kind == "next_order_date", self.kind
        if self.key == "category":
            return _own_next(state, self.min_samples)
        return predicted_next(state, self._typical_days(key, now, reference), self.min_samples)

    def _typical_days(self, key: str, at: int, reference: Reference) -> float | None:
        """Return the typical days until a family or a sku runs out, None where it is not consumed."""
        if self.key != "sku":
            return reference.days_of_supply(key)
        product = reference.product(key, at)
        return None if product is None else product.typical_days_of_supply


def _count_since(seen: Mapping[str, int] | None, since: int) -> int:
    return sum(1 for seconds in (seen or {}).values() if seconds * 1000 > since)


def _bucket(over: int) -> int:
    return max(over // 30, 60_000)


def _add_to_buckets(buckets: list[list[int]], time: int, amount: int, over: int) -> list[list[int]]:
    number = time // _bucket(over)
    for pair in reversed(buckets):
        if pair[0] == number:
            pair[1] += amount
            break
    else:
        buckets.append([number, amount])
        buckets.sort()
    oldest = buckets[-1][0] - over // _bucket(over) - 1
    return [pair for pair in buckets if pair[0] >= oldest]


def _sum_of_buckets(buckets: list[list[int]], now: int, over: int) -> int:
    first = (now - over) // _bucket(over)
    return sum(amount for number, amount in buckets if number > first)


_MICRO = 1_000_000
_TRIP = DAY // 1000
_POOLED = 3
"""Weight of the category's mean log gap, in gaps; measured on Complete Journey (docs/decisions.md)."""


def _fold_gap(state: list[int] | None, seconds: int, margin: int) -> list[int]:
    """Return [gaps, sum of log gap in days in millionths, last trip in seconds, its margin, the trip before].

    Orders within a day of the first are one shopping trip, which begins with it and earns what they earn together,
    whichever of them is heard of first. An order of an earlier trip changes nothing; nor does one that would move the
    beginning where a state of version 3 does not tell the trip before.
    """
    if state is None:
        return [0, 0, seconds, margin]
    gaps, sum_log_gap, last, earned, *before = state
    gap = seconds - last
    if gap >= _TRIP:
        return [gaps + 1, sum_log_gap + _log_gap(gap), seconds, margin, last]
    if gap >= 0:
        return [gaps, sum_log_gap, last, earned + margin, *before]
    if gap <= -_TRIP or (gaps and (not before or seconds - before[0] < _TRIP)):
        return state  # of an earlier trip
    if before:
        sum_log_gap += _log_gap(seconds - before[0]) - _log_gap(last - before[0])
    return [gaps, sum_log_gap, seconds, earned + margin, *before]


def _log_gap(seconds: int) -> int:
    """Return the logarithm of a gap in days, in millionths, rounded: sums must not depend on the order of additions."""
    return round(math.log(seconds * 1000 / DAY) * _MICRO)


def pooled_gap(gaps: int, sum_log_gap: int, typical_days: float) -> int:
    """Return the expected gap in milliseconds: exp((sum of log own gaps + 3 x log of the category's) / (n + 3)).

    Rounded to a minute, so that it is the same number on every machine.
    """
    days = math.exp((sum_log_gap / _MICRO + _POOLED * math.log(typical_days)) / (gaps + _POOLED))
    return round(days * 24 * 60) * 60_000


def predicted_next(state: list[int], typical_days: float | None, min_samples: int) -> int | None:
    """Return the expected instant of the next order, milliseconds, or None where the family does not run out."""
    if typical_days is None:
        return None
    gaps, sum_log_gap, last = state[:3]
    gap = (
        pooled_gap(gaps, sum_log_gap, typical_days) if gaps + 1 >= min_samples else round(typical_days * 1440) * 60_000
    )
    return last * 1000 + gap


def _own_next(state: list[int], min_samples: int) -> int | None:
    """Return the expected instant of the next order by the customer's own gaps alone, or None before there are any."""
    gaps, sum_log_gap, last = state[:3]
    if gaps == 0 or gaps + 1 < min_samples:
        return None
    return last * 1000 + round(math.exp(sum_log_gap / _MICRO / gaps) * 1440) * 60_000


def events_of(features: Iterable[Feature]) -> frozenset[str]:
    """Return the names of all events that some feature folds."""
    return frozenset(name for feature in features for name in feature.events)
