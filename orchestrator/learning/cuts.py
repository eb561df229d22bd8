"""One condition on one feature, by which customers can be split in two; it reads as in definitions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor, log10

from orchestrator.conditions import OPPOSITE
from orchestrator.events import DAY, HOUR, MINUTE, SECOND

_LENGTHS = (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND))
_DIGITS = 2
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Cut:
    """Customers whose feature compares so with a value; `unknown` tells what becomes of those who have no value.

    Amounts are minor units, lengths of time milliseconds, and true is 1, as in decisions. `unknown` is True where they
    belong here, False where they belong to the others, and None where everybody has a value. A text that is empty
    stands for no value: `is unknown`, or with `!=` `is not unknown`.
    """

    feature: str
    operator: str
    value: float | str
    unit: str = "number"
    unknown: bool | None = None

    @property
    def others(self) -> Cut:
        """The cut that all those make who are not in this one."""
        return replace(
            self, operator=OPPOSITE[self.operator], unknown=None if self.unknown is None else not self.unknown
        )

    def __str__(self) -> str:
        """Return the condition as the language writes it."""
        if self.value == "":
            return f"{self.feature} is {'' if self.operator == '==' else 'not '}unknown"
        if self.unit == "truth":
            known = self.feature if self.operator == ">=" else f"not {self.feature}"
        else:
            known = f"{self.feature} {self.operator} {self._written()}"
        return f"({known} or {self.feature} is unknown)" if self.unknown else known

    def _written(self) -> str:
        if isinstance(self.value, str):
            return f"'{self.value}'"
        if self.unit == "duration":
            letter, length = next(one for one in _LENGTHS if self.value % one[1] == 0 or one[1] == SECOND)
            return f"{round(self.value / length)}{letter}"
        if self.unit == "money":
            return f"{self.value / 100:.2f}".removesuffix(".00")
        return f"{self.value:.{_DECIMALS}f}".rstrip("0").rstrip(".")


def readable(value: float, unit: str) -> float:
    """Return a value near to one that was measured which people would choose: 60d, 1200 or 0.85."""
    if unit == "duration":
        length = next((length for _, length in _LENGTHS if value >= 2 * length), SECOND)
        return _rounded(value / length, whole=True) * length
    return _rounded(value, whole=unit == "money")


def sayable(value: str) -> bool:
    """Return whether the language can write a text, which knows no way to write a quote inside one."""
    return "'" not in value and '"' not in value and "\\" not in value and value.isprintable()


def _rounded(value: float, *, whole: bool) -> float:
    if not value:
        return 0.0
    decimals = _DIGITS - 1 - floor(log10(abs(value)))
    if whole:
        decimals = min(decimals, 0)
    return round(value, min(decimals, _DECIMALS))
