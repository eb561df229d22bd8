"""Intervals that stay right however often somebody looks at them: confidence sequences.

An ordinary 95 % interval that is looked at every day excludes the truth sooner or later: 85 looks at a z-test give 29 %
false alarms. These are wider, about 1.5 times at a thousand customers, and 95 % of them cover the truth at *all* looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt

ALPHA = 0.05
"""The share of campaigns whose interval may ever exclude the truth."""

TUNED_AT = 1_000
"""Customers at which the interval is narrowest for what it promises; it is valid at all sizes."""

_RHO2 = (-2 * log(ALPHA) + log(1 - 2 * log(ALPHA))) / TUNED_AT
_MANY = 10**9


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its always-valid 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def covers_zero(self) -> bool:
        """Return whether no effect at all is compatible with the data."""
        return self.low <= 0 <= self.high

    def times(self, factor: float) -> Interval:
        """Return the interval of a multiple, such as the total over all windows."""
        return Interval(self.mean * factor, self.low * factor, self.high * factor)


def errors_wide(customers: int) -> float:
    """Return half the interval's width in standard errors of the mean over so many customers.

    sqrt(2 (t rho2 + 1) / (t rho2) x ln(sqrt(t rho2 + 1) / alpha)): the asymptotic confidence sequence of Waudby-Smith,
    Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory", equation 8.
    """
    spread = customers * _RHO2
    return sqrt(2 * (spread + 1) / spread * log(sqrt(spread + 1) / ALPHA))


def interval(mean: float, influences: Mapping[str, float]) -> Interval:
    """Return the interval of an estimate; an influence is how far one customer moves it."""
    half = errors_wide(len(influences)) * standard_error(influences)
    return Interval(mean, mean - half, mean + half)


def standard_error(influences: Mapping[str, float]) -> float:
    """Return the standard error of an estimate from how far each customer moves it."""
    return sqrt(sum(influence * influence for influence in influences.values()))


def more_customers(influences: Mapping[str, float], half_width: float) -> int:
    """Return about how many more customers it takes until the interval is as narrow as `half_width` to each side."""
    known = len(influences)
    spread = standard_error(influences) * sqrt(known)
    low, high = known, known
    while errors_wide(high) * spread / sqrt(high) > half_width and high < _MANY:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if errors_wide(middle) * spread / sqrt(middle) > half_width:
            low = middle
        else:
            high = middle
    return high - known
