"""Facts kept per customer: each feature folds events into a small state of plain values and reads a value from it.

States are what msgpack knows (integers, lists, dicts), bounded per customer: a keyed feature keeps the `max_keys` keys
touched last, a windowed one a thirtieth of its window per bucket. Instants inside states are whole seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from orchestrator.conditions import Condition
from orchestrator.events import DAY, FOREVER, Event
from orchestrator.reference import Reference
from orchestrator.rhythm import count_time, insert_time, median_gap, p_alive

PER_LINE_KEYS: Final = ("sku", "category", "product_family")
"""Keys that an order has once per line, and a browsing event through its sku."""

CART_LINES: Final = "cart_lines.of"
"""The feature that nobody wrote and that keeps what lies in carts."""

BOUGHT_OFTEN: Final = "liked_by_similar.of"
"""The feature that nobody wrote and that keeps what is bought most often."""

CART_EVENTS: Final = ("cart.item_added", "cart.item_removed", "cart.emptied", "order.placed")
"""The events that change what lies in a cart; an order takes its cart away."""

MAX_CARTS: Final = 2
MAX_LINES: Final = 20
MAX_OFTEN: Final = 10
"""Carts kept per customer, products kept per cart, and products kept of those bought often."""

MAX_KEY: Final = 200
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
    folds nothing and looks at the feature `of`: age_of, quantile or stage; cart and often are kept for triggers only.
    `events` are the names it folds; `field` the event field it takes; `key` what it is kept per, or what is distinct;
    `over` its window in milliseconds; `otherwise` the value before `min_samples`, milliseconds; `bands` the names of a
    quantile's bands with their least values, from the highest, None where only a snapshot tells them, and `shares` the
    share of customers below each, in thousandths; `unit` the type of its value: number, money, duration, instant or
    text; `keeps_bought` whether a next_order_date also keeps what is bought, because a trigger says it.
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
    keeps_bought: bool = False

    def fold(
        self, state: Any, event: Event, reference: Reference, assumed_bp: int, keys: Iterable[str] | None = None
    ) -> Any:
        """Return the state after an event; `state` is None at first, and may be changed in place.

        `keys` are those that the event carries, where somebody has looked them up already.
        """
        if self.where is not None and self.where.holds(EventView(event)) is not True:
            return state
        if self.kind == "often":
            return _count_often({} if state is None else state, event)
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
                typical = None if self.key == "category" else self._typical_days(key, event.time, reference)
                if typical is None and self.key != "category":
                    continue  # it does not run out
                margin = sum([line_margin(line, event.time, reference, assumed_bp) for line in by_line[key]])
                if self.keeps_bought:
                    folded = _fold_trip(before, event.time // 1000, margin, by_line[key], typical)
                else:
                    folded = _fold_gap(None if before is None else _gaps_of(before), event.time // 1000, margin)
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
        if self.kind == "cart":
            return _fold_cart(state, event)
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
        gap = self.gap_after(state, key, now, reference)
        return None if gap is None else state[2] * 1000 + gap

    def gap_after(self, state: list[Any], key: str, now: int, reference: Reference) -> int | None:
        """Return the gap, milliseconds, that is expected after the last trip of one key of a next_order_date."""
        if self.key == "category":
            return _own_gap(state, self.min_samples)
        return expected_gap(state, self._typical_days(key, now, reference), self.min_samples)

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


_MICRO: Final = 1_000_000
_TRIP: Final = DAY // 1000
_POOLED: Final = 3
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


def expected_gap(state: list[Any], typical_days: float | None, min_samples: int) -> int | None:
    """Return the gap to the next order, milliseconds, or None where the family does not run out."""
    if typical_days is None:
        return None
    gaps, sum_log_gap = state[:2]
    return (
        pooled_gap(gaps, sum_log_gap, typical_days) if gaps + 1 >= min_samples else round(typical_days * 1440) * 60_000
    )


def _own_gap(state: list[Any], min_samples: int) -> int | None:
    """Return the gap to the next order by the customer's own gaps alone, or None before there are any."""
    gaps, sum_log_gap = state[:2]
    if gaps == 0 or gaps + 1 < min_samples:
        return None
    return round(math.exp(sum_log_gap / _MICRO / gaps) * 1440) * 60_000


# --- what triggers say of what was bought -----------------------------------------------------------------------------

_VOTES = 10
"""Lines by which a product can lead at most, so that a new habit is noticed after as many."""

_MOST_UNITS = 10_000


class Bought(NamedTuple):
    """What is kept of the purchases of one key beside its gaps.

    `sku` leads the vote of the lines: each of it counts for it and each other against it, and at nought another leads.
    `units` are those of the last trip; `regular` counts the gaps that were as expected, less those that were not.
    """

    sku: str
    votes: int
    units: int
    regular: int


def bought_of(state: list[Any] | None) -> Bought | None:
    """Return what is kept of the purchases of one key, None where nothing is."""
    return None if state is None or len(state) <= _GAPS_AND_BEFORE else Bought(*state[_GAPS_AND_BEFORE:])


_GAPS_AND_BEFORE = 5


def _gaps_of(state: list[Any]) -> list[int]:
    """Return what is kept of the gaps alone; where purchases are kept behind it, 0 stands for no trip before."""
    if len(state) <= _GAPS_AND_BEFORE:
        return state
    return state[:_GAPS_AND_BEFORE] if state[_GAPS_AND_BEFORE - 1] else state[: _GAPS_AND_BEFORE - 1]


def _fold_trip(
    state: list[Any] | None, seconds: int, margin: int, lines: Iterable[Mapping[str, Any]], typical: float | None
) -> list[Any]:
    """Return the state of one key after an order, with what was bought behind its gaps."""
    units = 0
    if state is None:
        state = [0, 0, seconds, margin, 0, *_NOTHING_BOUGHT]
        state[_UNITS] = units = _vote(state, lines)
        return state
    if len(state) <= _GAPS_AND_BEFORE:  # kept before anything asked what was bought
        state += [*([0] if len(state) < _GAPS_AND_BEFORE else []), *_NOTHING_BOUGHT]
    gaps, sum_log_gap, last, earned = state[:4]
    units = _vote(state, lines)
    gap = seconds - last
    if gap >= _TRIP:
        log_gap = _log_gap(gap)
        regular = state[_REGULAR] + (1 if _is_regular(state, log_gap, typical) else -1)
        state[_REGULAR] = min(max(regular, 0), _MOST_REGULAR)
        state[:_GAPS_AND_BEFORE] = gaps + 1, sum_log_gap + log_gap, seconds, margin, last
        state[_UNITS] = units
    elif gap >= 0:
        state[3] = earned + margin
        state[_UNITS] = min(state[_UNITS] + units, _MOST_UNITS)
    else:
        folded = _fold_gap(_gaps_of(state), seconds, margin)
        state[: len(folded)] = folded
        if gap > -_TRIP:
            state[_UNITS] = min(state[_UNITS] + units, _MOST_UNITS)
    return state


_NOTHING_BOUGHT = ("", 0, 0, 0)
_SKU, _LEADS_BY, _UNITS, _REGULAR = range(_GAPS_AND_BEFORE, _GAPS_AND_BEFORE + 4)
_MOST_REGULAR = 10
"""Regular gaps that count at most, so that the end of a habit is noticed after as many."""


def _vote(state: list[Any], lines: Iterable[Mapping[str, Any]]) -> int:
    """Let the lines of an order vote for the product that leads; return how many units they are."""
    sku, votes, units = state[_SKU], state[_LEADS_BY], 0
    for line in lines:
        units += line.get("quantity") or 1
        if line["sku"] == sku:
            votes = min(votes + 1, _VOTES)
        elif votes:
            votes -= 1
        else:
            sku, votes = line["sku"], 1
    state[_SKU], state[_LEADS_BY] = sku, votes
    return min(max(int(units), 0), _MOST_UNITS)


def _is_regular(state: list[Any], log_gap: int, typical: float | None) -> bool:
    """Return whether a gap was between half and twice what was expected before it."""
    gaps, sum_log_gap = state[:2]
    if typical is not None:
        expected = (sum_log_gap + _POOLED * _MICRO * math.log(typical)) / (gaps + _POOLED)
    elif gaps:
        expected = sum_log_gap / gaps
    else:
        return False
    return bool(abs(log_gap - expected) <= _TWICE)


_TWICE = math.log(2) * _MICRO


def _fold_cart(lines: dict[str, list[int | None]] | None, event: Event) -> dict[str, list[int | None]] | None:
    """Return what lies in a cart after an event, [units, price of one] by sku, the last put in at the end."""
    if event.name not in ("cart.item_added", "cart.item_removed"):
        return None  # it was emptied or bought
    lines, sku = lines or {}, event.data.get("sku")
    if sku is None or len(sku) > MAX_KEY:
        return lines or None
    units, price = lines.pop(sku, (0, None))
    quantity = int(event.data.get("quantity") or 1)
    there = (units or 0) + (quantity if event.name == "cart.item_added" else -quantity)
    if there > 0:
        told = event.data.get("unit_price")
        lines[sku] = [there, price if told is None else int(told)]
    while len(lines) > MAX_LINES:
        del lines[next(iter(lines))]
    return lines or None


def _count_often(counts: dict[str, int], event: Event) -> dict[str, int] | None:
    """Return how often products were bought, of those bought most often.

    A product that is new takes the place of the one with the least, and its count: so what is bought often stays,
    whatever else is bought once, and the counts of the few are never too low (Metwally, Agrawal and El Abbadi, 2005).
    """
    for line in event.data.get("lines") or ():
        sku = line.get("sku")
        if sku is None or len(sku) > MAX_KEY:
            continue
        if sku not in counts and len(counts) >= MAX_OFTEN:
            least = min(counts, key=counts.__getitem__)  # of several the first, which was there longest
            counts[sku] = counts.pop(least)
        counts[sku] = counts.get(sku, 0) + 1
    return counts or None


def events_of(features: Iterable[Feature]) -> frozenset[str]:
    """Return the names of all events that some feature folds."""
    return frozenset(name for feature in features for name in feature.events)
