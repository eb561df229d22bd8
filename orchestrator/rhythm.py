"""The rhythm of what a customer does again and again: its usual gap, the stage it says, the chance that more will come.

States are plain values of whole seconds; everything here is a function of such a state and an instant.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping
from itertools import pairwise

from orchestrator.events import DAY, FOREVER

TIMES_KEPT = 10

_MICRO = 1_000_000
_MINUTE = 60_000

STAGES = ("new", "active", "hero", "at_risk", "lapsed")
"""The stages of a life cycle, by the events that are counted: usually orders.

- `new`: none yet, or one, less than 30 days ago.
- `lapsed`: silent for twice the customer's own median gap, at least 45 and at most 365 days.
- `at_risk`: silent for three quarters of that.
- `hero`: neither, with six or more in the last 365 days.
- `active`: everybody else. Before three gaps are known the median gap counts as 60 days.
"""

_NEW = 30 * DAY
_USUAL = 60 * DAY
_GAPS_NEEDED = 3
_LEAST, _MOST = 45 * DAY, 365 * DAY
_HERO_EVENTS, _HERO_OVER = 6, 365 * DAY


def insert_time(times: list[int], seconds: int) -> list[int]:
    """Return the last times in order, with one more, each of them once."""
    if seconds in times:
        return times
    times.append(seconds)
    times.sort()
    return times[-TIMES_KEPT:]


def median_gap(times: list[int], min_samples: int, otherwise: int | None) -> int | None:
    """Return the middle one of the gaps, milliseconds, or what stands in while there are too few."""
    gaps = sorted(after - before for before, after in pairwise(times))
    if not gaps or len(gaps) < min_samples:
        return otherwise
    middle = len(gaps) // 2
    seconds = gaps[middle] if len(gaps) % 2 else (gaps[middle - 1] + gaps[middle]) // 2
    return seconds * 1000


_ELSE = {"lapsed": "at_risk", "at_risk": "active", "hero": "active", "new": "active"}


def stage_of(times: list[int], now: int, stages: Collection[str] = STAGES) -> str:
    """Return the stage that the last times say, as `STAGES` describes it; of those left out, the next that is there."""
    stage = _stage_of(times, now)
    while stage not in stages and stage in _ELSE:
        stage = _ELSE[stage]
    return stage


def _stage_of(times: list[int], now: int) -> str:
    if not times or (len(times) == 1 and now - times[0] * 1000 < _NEW):
        return "new"
    at_risk, lapsed = _silences(times)
    silent = now - times[-1] * 1000
    if silent >= lapsed:
        return "lapsed"
    if silent >= at_risk:
        return "at_risk"
    recent = sum(1 for seconds in times if now - seconds * 1000 < _HERO_OVER)
    return "hero" if recent >= _HERO_EVENTS else "active"


def stage_changes(times: list[int], now: int) -> int:
    """Return the next instant at which time alone changes the stage, or may; FOREVER when none does."""
    if not times:
        return FOREVER
    last = times[-1] * 1000
    instants = [last + silence for silence in _silences(times)]
    if len(times) == 1:
        instants.append(last + _NEW)
    if len(times) >= _HERO_EVENTS:
        instants.append(times[-_HERO_EVENTS] * 1000 + _HERO_OVER)
    return min((instant for instant in instants if instant > now), default=FOREVER)


def _silences(times: list[int]) -> tuple[int, int]:
    gap = median_gap(times, _GAPS_NEEDED, _USUAL)
    assert gap is not None
    lapsed = min(max(2 * gap, _LEAST), _MOST)
    return lapsed * 3 // 4, lapsed


# --- when the next of a kind is due -----------------------------------------------------------------------------------

COVERAGE_BP = 8_000
"""The share of next orders, basis points, that come inside a reorder window: a tenth before it and a tenth after."""

GAP_CLASSES = (1, 2, 3, 4, 6, 9, 14, 21)
"""Customers are alike by how many of their own gaps are known: so many, up to the next class."""

SPREAD: Mapping[str, int] = {
    "low_1": -720_000, "low_2": -920_000, "low_3": -1_030_000, "low_4": -1_090_000,
    "low_6": -1_090_000, "low_9": -1_050_000, "low_14": -980_000, "low_21": -930_000,
    "high_1": 3_100_000, "high_2": 2_670_000, "high_3": 2_150_000, "high_4": 1_840_000,
    "high_6": 1_530_000, "high_9": 1_300_000, "high_14": 1_110_000, "high_21": 940_000,
}  # fmt: skip
"""Where a tenth of log(gap / expected gap) is below and a tenth above, by class, in millionths.

Fitted to Complete Journey by `python -m bench.replenishment`, two digits; a shop's own is published by
`orchestrator snapshots`.
"""

_WIDEST = 10 * _MICRO
"""Of a published spread: 22,000 times what is expected, and less of it; no window has to be wider."""

_NINTH_DECILE = 1.2815515655446004


def spread_of(gaps: int, snapshot: Mapping[str, int] | None) -> tuple[int, int] | None:
    """Return where the tenths of log(gap / expected) begin for so many own gaps; unknown before there is one."""
    if gaps < 1:
        return None
    known = GAP_CLASSES[bisect_right(GAP_CLASSES, gaps) - 1]
    low, high = f"low_{known}", f"high_{known}"
    if snapshot is not None and low in snapshot and high in snapshot:
        least = min(max(snapshot[low], -_WIDEST), _WIDEST)
        return least, min(max(snapshot[high], least), _WIDEST)
    return SPREAD[low], SPREAD[high]


def gap_window(gap: int, spread: tuple[int, int]) -> tuple[int, int]:
    """Return the least and the greatest gap of the window around an expected one, milliseconds, whole minutes."""
    low, high = (round(gap * math.exp(edge / _MICRO) / _MINUTE) * _MINUTE for edge in spread)
    return low, high


def due_bp(silent: int, gap: int, spread: tuple[int, int]) -> int:
    """Return the probability that a gap is over after so much of it, basis points: log-normal between its tenths."""
    if silent <= 0 or gap <= 0:
        return 0
    low, high = spread
    middle, sigma = (low + high) / 2 / _MICRO, max(high - low, 1) / 2 / _MICRO / _NINTH_DECILE
    z = (math.log(silent / gap) - middle) / sigma
    # Rounded, it is the same number on every machine.
    return round(5_000 * (1 + math.erf(z / math.sqrt(2))))


# BG/NBD as fitted to the CDNOW customers by Fader, Hardie and Lee, "Counting Your Customers" the Easy Way (2005), time
# in weeks. A shop's own estimates belong in a snapshot; until there is one these are a published starting point.
_R, _ALPHA, _A, _B = 0.243, 4.414, 0.793, 2.426
_WEEK = 7 * DAY // 1000


def count_time(state: list[int] | None, seconds: int) -> list[int]:
    """Return [how many, the first, the last] with one more; several in one second are one."""
    if state is None:
        return [1, seconds, seconds]
    count, first, last = state
    if seconds in (first, last):
        return state
    return [count + 1, min(first, seconds), max(last, seconds)]


def p_alive(state: list[int] | None, now: int) -> float | None:
    """Return the probability that more will come, to three decimals; unknown before the first.

    1 / (1 + a / (b + x - 1) x ((alpha + T) / (alpha + t))^(r + x)) after x repetitions, the last of them t after the
    first and T ago from there to now; 1 where nothing was repeated yet.
    """
    if state is None:
        return None
    count, first, last = state
    repeated = count - 1
    if repeated == 0:
        return 1.0
    recency, age = (last - first) / _WEEK, max(now // 1000 - first, 0) / _WEEK
    # The logarithm keeps thousands of repetitions from overflowing; rounded, it is the same number on every machine.
    odds = math.log(_A / (_B + repeated - 1)) + (_R + repeated) * math.log((_ALPHA + age) / (_ALPHA + recency))
    return round(1 / (1 + math.exp(min(odds, 50.0))), 3)
