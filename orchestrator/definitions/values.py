"""Scalars to values: durations, money, percentages, times, dates, counts and names; each error says how to write it.

A parser returns its value, or None after noting what it saw and how the type is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo, available_timezones

from orchestrator.definitions.nodes import Problems, Scalar, did_you_mean
from orchestrator.events import DAY, HOUR, MINUTE, SECOND

UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}

WORDS = frozenset({
    "and", "or", "not", "in", "is", "unknown", "true", "false", "age", "in_segment", "profile", "moment", "event",
    "product", "feature", "bought_within",
})  # fmt: skip
"""Words that mean something in conditions, so that nothing else may be called so."""

TYPE_WORDS = {
    "number": "a number", "money": "money", "duration": "a length of time", "instant": "an instant", "text": "text",
    "truth": "true or false", "date": "a date", "lines": "a list",
}  # fmt: skip
"""What a value of each type is called in messages."""

WINDOW = -1
"""What `lasts: window` reads as: until the end of the moment's own window."""

WITHOUT_HUNDREDTHS = frozenset({
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
    "XPF",  # no decimals
    "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND",  # three
    "CLF", "UYW",  # four
})  # fmt: skip
"""The currencies of ISO 4217 whose minor unit is no hundredth: every amount would mean another."""

USE_HUNDREDTHS = (
    "amounts here and in events are hundredths, so send them in a currency that has these, like USD or EUR, or as "
    "hundredths under a code of your own, like QQQ"
)
"""What to do about such a currency."""

_DURATION = re.compile(r"([0-9]{1,5})([smhdw])")
_OFFSET = re.compile(r"([+-]?)([0-9]{1,4})([hdw])")
_MONTHS = re.compile(r"([0-9]{1,3})m")
_MONEY = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,2}))?")
_PERCENTAGE = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))?%")
_MULTIPLE = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,3})?")
_TIMES = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,3})?)x")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_COUNT = re.compile(r"[0-9]{1,9}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]{0,63}")


def shown(text: str) -> str:
    """Return a text in quotes for a message, on one line and not too long."""
    flat = " ".join(text.split())
    return f"'{flat if len(flat) <= 60 else flat[:59] + '…'}'"


def milliseconds(text: str) -> int | None:
    """Return the length of a duration like `30m`, `1h`, `7d` or `2w`, or None when it is not one."""
    match = _DURATION.fullmatch(text)
    return None if match is None else int(match[1]) * UNITS[match[2]]


def minor_units(text: str) -> int | None:
    """Return an amount like `4.90` in hundredths, or None when it is not one."""
    match = _MONEY.fullmatch(text)
    return None if match is None else int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))


def basis_points(text: str) -> int | None:
    """Return a share like `15%` or `0.5%` in hundredths of a percent, or None when it is not one up to 100%."""
    match = _PERCENTAGE.fullmatch(text)
    value = None if match is None else int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
    return None if value is None or value > 10_000 else value


def duration(scalar: Scalar, problems: Problems) -> int | None:
    """Return a duration in milliseconds."""
    value = milliseconds(scalar.text)
    if value is None:
        _refuse(scalar, problems, "E020", "a duration", "30m, 1h, 7d or 2w")
    return value


def window(scalar: Scalar, problems: Problems) -> int | None:
    """Return a duration in milliseconds, or `WINDOW`."""
    if scalar.text == "window":
        return WINDOW
    value = milliseconds(scalar.text)
    if value is None:
        _refuse(scalar, problems, "E020", "a duration", "30m, 1h, 7d or 2w, or the word window")
    return value


def offset(scalar: Scalar, problems: Problems) -> int | None:
    """Return a time before (-) or after (+) a date in milliseconds."""
    match = _OFFSET.fullmatch(scalar.text)
    if match is None:
        _refuse(scalar, problems, "E020", "a time before or after a date", "-5d, 0d or +3d")
        return None
    return (-1 if match[1] == "-" else 1) * int(match[2]) * UNITS[match[3]]


def days(scalar: Scalar, problems: Problems) -> int | None:
    """Return whole days before (-) or after (+) a date."""
    match = _OFFSET.fullmatch(scalar.text)
    if match is None or match[3] != "d":
        _refuse(scalar, problems, "E020", "a number of days before or after a date", "-6d, 0d or +3d")
        return None
    return (-1 if match[1] == "-" else 1) * int(match[2])


def months(scalar: Scalar, problems: Problems) -> int | None:
    """Return a number of months; only here does `m` mean a month."""
    match = _MONTHS.fullmatch(scalar.text)
    if match is None:
        _refuse(scalar, problems, "E020", "a number of months", "12m")
        return None
    return int(match[1])


def money(scalar: Scalar, problems: Problems) -> int | None:
    """Return an amount of the program's currency in minor units."""
    value = minor_units(scalar.text)
    if value is None:
        _refuse(scalar, problems, "E021", "an amount of money", "5 or 4.90: no currency, at most two decimals")
    return value


def percentage(scalar: Scalar, problems: Problems) -> int | None:
    """Return a share in basis points."""
    value = basis_points(scalar.text)
    if value is None:
        _refuse(scalar, problems, "E022", "a percentage", "15% or 0.5%, from 0% to 100%")
        return None
    return value


def multiple(scalar: Scalar, problems: Problems) -> int | None:
    """Return a number of times in thousandths."""
    if _MULTIPLE.fullmatch(scalar.text) is None:
        _refuse(scalar, problems, "E025", "a number", "2 or 2.5")
        return None
    return int(Decimal(scalar.text) * 1000)


def times(scalar: Scalar, problems: Problems) -> int | None:
    """Return how many times as much in thousandths."""
    match = _TIMES.fullmatch(scalar.text)
    if match is None:
        _refuse(scalar, problems, "E025", "how many times as much", "3x or 1.5x")
        return None
    return int(Decimal(match[1]) * 1000)


def count(scalar: Scalar, problems: Problems) -> int | None:
    """Return a whole number."""
    if _COUNT.fullmatch(scalar.text) is None:
        _refuse(scalar, problems, "E025", "a whole number", "3")
        return None
    return int(scalar.text)


def time_of_day(scalar: Scalar, problems: Problems) -> int | None:
    """Return minutes since midnight."""
    match = _TIME.fullmatch(scalar.text)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        _refuse(scalar, problems, "E023", "a time of day", '"09:00" or "21:30"')
        return None
    return int(match[1]) * 60 + int(match[2])


def calendar_date(scalar: Scalar, problems: Problems) -> str | None:
    """Return a date as ISO text."""
    if is_date(scalar.text):
        return scalar.text
    _refuse(scalar, problems, "E024", "a date", '"1970-01-01": year, month, day')
    return None


def is_date(text: str) -> bool:
    """Return whether a text is a date that exists, written year-month-day."""
    if _DATE.fullmatch(text) is None:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def name(scalar: Scalar, problems: Problems) -> str | None:
    """Return a name."""
    text = scalar.text
    if _NAME.fullmatch(text) is None:
        slug = re.sub(r"[^a-z0-9]+", "_", text[:64].lower()).strip("_")
        example = slug if _NAME.fullmatch(slug) else "cart_rescue"
        _refuse(scalar, problems, "E026", "a name", f"{example}: small letters, digits and _")
        return None
    return text


def text(scalar: Scalar, problems: Problems) -> str:  # noqa: ARG001 - one shape for all parsers
    """Return the text as written."""
    return scalar.text


def truth(scalar: Scalar, problems: Problems) -> bool | None:
    """Return true or false."""
    if scalar.text not in ("true", "false"):
        problems.error(scalar.place, "E029", f"{shown(scalar.text)} is neither true nor false")
        return None
    return scalar.text == "true"


def currency(scalar: Scalar, problems: Problems) -> str | None:
    """Return the code of a currency that has hundredths."""
    if _CURRENCY.fullmatch(scalar.text) is None:
        _refuse(scalar, problems, "E029", "a currency", "USD or EUR")
        return None
    if scalar.text in WITHOUT_HUNDREDTHS:
        problems.error(scalar.place, "E029", f"'{scalar.text}' has no hundredths: {USE_HUNDREDTHS}")
        return None
    return scalar.text


def zone(scalar: Scalar, problems: Problems) -> str | None:
    """Return the name of a time zone that exists."""
    try:
        if _ZONE.fullmatch(scalar.text) is None:
            raise ValueError
        ZoneInfo(scalar.text)
    except (ValueError, KeyError, OSError):
        near = did_you_mean(scalar.text[:64], available_timezones())
        hint = near or ", write it like America/New_York"
        problems.error(scalar.place, "E028", f"{shown(scalar.text)} is not a time zone{hint}")
        return None
    return scalar.text


Parser = Callable[[Scalar, Problems], object]

PARSERS: dict[str, Parser] = {
    "duration": duration,
    "window": window,
    "offset": offset,
    "days": days,
    "months": months,
    "money": money,
    "percentage": percentage,
    "multiple": multiple,
    "times": times,
    "count": count,
    "time": time_of_day,
    "date": calendar_date,
    "name": name,
    "text": text,
    "truth": truth,
    "currency": currency,
    "zone": zone,
}
"""The types of a field that is one plain value, and how each is read."""


def _refuse(scalar: Scalar, problems: Problems, code: str, what: str, like: str) -> None:
    problems.error(scalar.place, code, f"{shown(scalar.text)} is not {what}, write it like {like}")
