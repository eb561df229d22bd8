"""What definitions cost: bytes of state per customer, of a usual one and at most, by what keeps them.

The sizes are those of states made up and encoded as the engine encodes them. A usual customer has come every week for a
year; at most, everything that is bounded has reached its bound, with keys as long as a UUID.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from orchestrator.customer import Answered, Context, Customer, Instance, Profile, Window
from orchestrator.definitions.content import CONTENT
from orchestrator.events import DAY
from orchestrator.features import MAX_LINES, MAX_OFTEN, Feature
from orchestrator.moments.detect import MAX_INSTANCES
from orchestrator.moments.progress import MAX_KEYS
from orchestrator.moments.rules import Around, Calendar, Launch, Membership, Moment, Sequence
from orchestrator.moments.stock import MAX_LOOKS, MAX_SKUS
from orchestrator.program import Definitions
from orchestrator.rhythm import TIMES_KEPT
from orchestrator.sharing import file_once

LARGE = 32_768
"""Bytes that a single definition may cost at most before lint says so."""

_NOW = 1_500_000_000_000
_WEEK = 7 * DAY
_USUAL_KEYS = {"cart_id": 80, "order_id": 50, "sku": 60, "trigger_id": 50}
_FEW_KEYS = 8
_UNDER_WAY = 2
_BUCKETS = 32
_UUID = 36
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Cost:
    """What one definition costs per customer, in bytes; `what` is feature, moment, content or customer."""

    what: str
    name: str
    usual: int
    at_most: int


def footprint(definitions: Definitions) -> list[Cost]:
    """Return what every customer costs and what each definition adds, the largest first."""
    segments = {name: segment.condition for name, segment in definitions.segments.items()}
    filed = file_once(definitions.features, segments, definitions.moments)
    features, moments = definitions.features, definitions.moments
    owners = dict.fromkeys(CONTENT, "content") | dict.fromkeys(features, "feature") | dict.fromkeys(moments, "moment")
    everybody = list(_everybody(learns=definitions.policy.learns))
    sums: dict[tuple[str, str], list[int]] = {("customer", ""): everybody}
    parts = [(name, filed.features[name].name, _feature(filed.features[name])) for name in features]
    parts += [(name, filed.filed_as.get(name, name), _moment(moment)) for name, moment in moments.items()]
    filed_under: set[str] = set()
    for name, own, (usual, most) in parts:
        stem = name.partition(".")[0]  # what nobody wrote is kept for the feature or moment whose name it begins with
        owner = stem if stem in owners else name
        total = sums.setdefault((owners[owner], owner), [0, 0])
        if own not in filed_under:  # what is defined twice is kept once
            total[0] += usual
            total[1] += most
        filed_under.add(own)
    costs = [Cost(what, name, usual, most) for (what, name), (usual, most) in sums.items()]
    return sorted(costs, key=lambda cost: (-cost.usual, -cost.at_most, cost.name))


# --- features ---------------------------------------------------------------------------------------------------------


def _feature(feature: Feature) -> tuple[int, int]:
    """Return the bytes of a feature, usual and at most."""
    if feature.kind in ("age_of", "quantile", "stage"):  # these look at another feature
        return 0, 0
    usual, most = _state(feature, full=False), _state(feature, full=True)
    if feature.key is not None:
        keys = min(_USUAL_KEYS.get(feature.key, _FEW_KEYS), feature.max_keys)
        if feature.kind == "distinct" and feature.over is not None:
            keys = min(keys, max(feature.over // _WEEK, 1))
        return _named(feature.name, _keyed(usual, keys)), _named(feature.name, _keyed(most, feature.max_keys, _UUID))
    return _named(feature.name, usual), _named(feature.name, most)


def _state(feature: Feature, *, full: bool) -> Any:
    """Return the state of a feature, or of one of its keys."""
    seconds, amount = _NOW // 1000, 10**10 if full else 5_000
    if feature.kind in ("count", "sum"):
        if feature.kind == "count":
            amount = 10**6 if full else 52
        if feature.over is None:
            return amount
        weeks = feature.over // _WEEK if feature.key is None else 2
        number = _NOW // max(feature.over // 30, 60_000)
        return [[number, amount if full else amount // 52 + 1]] * (_BUCKETS if full else min(max(weeks, 1), _BUCKETS))
    if feature.kind == "latest":
        return [amount if feature.unit in ("number", "money") else "x" * (_UUID if full else 9), seconds]
    if feature.kind in ("first_time", "last_time", "distinct"):
        return seconds
    if feature.kind == "median_gap":
        return [seconds] * TIMES_KEPT
    if feature.kind == "p_alive":
        return [amount, seconds, seconds]
    if feature.kind == "cart":
        return _keyed([amount, amount], MAX_LINES if full else 3, _UUID if full else 7)
    if feature.kind == "often":
        return _keyed(amount if full else 9, MAX_OFTEN, _UUID if full else 7)
    assert feature.kind == "next_order_date", feature.kind
    gaps = [10**5 if full else 9, 10**8, seconds, amount, seconds]
    return [*gaps, "x" * (_UUID if full else 7), 9, 9, 9] if feature.keeps_bought else gaps


# --- moments ----------------------------------------------------------------------------------------------------------


def _moment(moment: Moment) -> tuple[int, int]:
    """Return the bytes of a moment's instances and of what it remembers, usual and at most."""
    long = "message.delivered"
    usual = _keyed(Instance(1, _NOW, _NOW, _NOW), _UNDER_WAY if moment.key else 1, 9 if moment.key else 0)
    keys = (MAX_INSTANCES, _UUID) if moment.key else (1, 4)
    most = _keyed(Instance(1, _NOW, _NOW, _NOW, "not_eligible", long), *keys)
    sizes = [_named(moment.name, usual), _named(moment.name, most)]
    remembered = [_named(moment.name, _NOW)]  # when to look again
    if isinstance(moment.shape, Calendar):
        remembered.append(_named(moment.name, 2_017))
    if moment.pick_one is not None or moment.at_most_every:
        remembered.append(_named(moment.name, _NOW))
    if isinstance(moment.shape, Membership):
        remembered.append(_named(f"{moment.name}.in", obj=True))
    sizes = [size + sum(remembered) for size in sizes]
    sizes[1] += sum(_named(f"{moment.name}/{key}", _NOW) for key in _keyed(_NOW, *keys))  # which of them are over
    if isinstance(moment.shape, Sequence):
        times = [_NOW] * len(moment.shape.stages)
        under_way = _keyed(times, _UNDER_WAY if moment.key else 1), _keyed(times, MAX_KEYS if moment.key else 1, _UUID)
        sizes = [size + _named(f"{moment.name}.steps", state) for size, state in zip(sizes, under_way, strict=True)]
        if moment.shape.then is not None:
            looks = _keyed([[_NOW, _NOW]], _FEW_KEYS), _keyed([[_NOW, _NOW]] * MAX_LOOKS, MAX_SKUS, _UUID)
            sizes = [size + _named(f"{moment.name}.looks", state) for size, state in zip(sizes, looks, strict=True)]
    if isinstance(moment.shape, Launch):
        launches = _keyed(_NOW, 1), _keyed(_NOW, 100, _UUID)
        sizes = [size + _named(f"{moment.name}.launches", state) for size, state in zip(sizes, launches, strict=True)]
    if isinstance(moment.shape, Around):  # one instance waits for every key that has a date
        sizes[0] += (_FEW_KEYS - _UNDER_WAY) * len(_encode(Instance(0, _NOW, _NOW, _NOW)))
    return sizes[0], sizes[1]


# --- everybody --------------------------------------------------------------------------------------------------------


def _everybody(*, learns: bool) -> Iterator[int]:
    """Yield what a customer costs whatever is defined, usual and at most as many records as are ever kept."""
    for seen, sent, answered, closed, orders in ((8, 6, 1, 3, 1), (64, 100, 3, 20, 20)):
        text = "0123456789abcdef0123456789abcdef"
        window = Window(text, "a_campaign", False, "a_moment", _NOW, _NOW, 100, "0123456789ab")
        window.orders = {f"order-{number:06}": (5_000, 2_000) for number in range(orders)}
        if learns:
            arms = [f"campaign_{number}+offer@email" for number in range(3)]
            leaf = "a_feature=a_value;a_segment=yes"
            window.context = Context(
                leaf, "a_campaign", "email", 0.7, 0.2, 1_500, arms, _NOW, "expected_value", text[:16]
            )
        one = Answered("a_moment", "a_key", _NOW, _NOW, _NOW, text, _NOW, "a_campaign", "email", "a_template", text)
        customer = Customer(
            now=_NOW,
            decide_at=_NOW,
            window=window,
            profile=Profile(_NOW, "1980-01-01", "Europe/Madrid", "ES", "Madrid"),
            consents={f"{channel}/marketing": (True, _NOW) for channel in ("email", "sms", "push")},
            sent=[(_NOW, "email")] * sent,
            seen={(1 << 63) + number: _NOW for number in range(seen)},
            over={f"a_moment/{number:09}": _NOW for number in range(16)},
            recorded=1 << 63,
            answered=[one] * answered,
        )
        customer.closed.extend([window] * closed)
        yield len(customer.to_bytes())


def _keyed(state: Any, keys: int, length: int = 9) -> dict[str, Any]:
    """Return a state for each of so many keys of a length."""
    return {f"{number:0{length}}" if length else "": state for number in range(keys)}


def _named(name: str, obj: Any) -> int:
    """Return the bytes of a state filed under a name."""
    return len(_encode(name)) + len(_encode(obj))
