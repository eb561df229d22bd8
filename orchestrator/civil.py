"""The customer's own calendar: zones, local instants, birthdays and quiet hours; instants are UTC milliseconds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from orchestrator.arbitration.policy import Policy, QuietHours
from orchestrator.moments.rules import Calendar, Schedule

COUNTRY_ZONES: Final = {
    "AT": "Europe/Vienna", "BE": "Europe/Brussels", "CH": "Europe/Zurich", "DE": "Europe/Berlin",
    "DK": "Europe/Copenhagen", "ES": "Europe/Madrid", "FR": "Europe/Paris", "GB": "Europe/London",
    "IE": "Europe/Dublin", "IT": "Europe/Rome", "JP": "Asia/Tokyo", "NL": "Europe/Amsterdam", "NO": "Europe/Oslo",
    "PL": "Europe/Warsaw", "PT": "Europe/Lisbon", "SE": "Europe/Stockholm",
}  # fmt: skip
"""One zone for countries that live in one; others fall through to the policy's zone."""


@lru_cache(maxsize=1024)
def find_zone(name: str) -> ZoneInfo | None:
    """Return the zone of an IANA name, or None when there is no such zone."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # what ZoneInfo raises for odd names; one bad profile stops nobody else
        return None


def zone_for(time_zone: str | None, country: str | None, policy: Policy) -> ZoneInfo:
    """Return the zone a customer lives in: their own, else their country's, else the policy's; never none."""
    own = find_zone(time_zone) if time_zone else None
    if own is not None:
        return own
    by_country = COUNTRY_ZONES.get(country or "") if policy.use_country_zone else None
    fallback = find_zone(by_country or policy.zone_fallback)
    assert fallback is not None, "the loader checks the policy's zone"
    return fallback


def to_instant(day: date, minute: int, zone: ZoneInfo, *, second: bool = False) -> int:
    """Return the instant of a local wall-clock time.

    One that a clock change skips moves on by the length of the gap, as in java.time; one that occurs twice means its
    first occurrence, or its `second`.
    """
    local = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(minutes=minute)
    return int(local.replace(fold=int(second)).timestamp() * 1000)


def to_local(instant: int, zone: ZoneInfo) -> datetime:
    """Return the wall clock at an instant."""
    return datetime.fromtimestamp(instant / 1000, zone)


EARLIEST_BIRTH: Final = 1900


def parse_birth_date(text: str | None, ignore: frozenset[str], now: int) -> date | None:
    """Return a birth date, or None when it is absent, no date, one of the false defaults, or of nobody alive."""
    if text is None or text in ignore:
        return None
    try:
        born = date.fromisoformat(text)
    except ValueError:
        return None
    # 0001-01-01 and 9999-12-31 are what systems write when nobody knows.
    return born if EARLIEST_BIRTH <= born.year <= datetime.fromtimestamp(now / 1000, UTC).year else None


def birthday_in(year: int, born: date, feb_29: str) -> date:
    """Return the birthday of a year; 29 February falls on 28 February or 1 March where the year has none."""
    try:
        return born.replace(year=year)
    except ValueError:
        return date(year, 2, 28) if feb_29 == "feb_28" else date(year, 3, 1)


def next_window(rule: Calendar, born: date, zone: ZoneInfo, after: int, after_year: int) -> tuple[int, int, int]:
    """Return (year, opens, closes) of the first window that closes after an instant, in a year after `after_year`."""
    year = max(to_local(after, zone).year - 1, after_year + 1, born.year + 1)
    while True:
        day = birthday_in(year, born, rule.feb_29)
        opens = to_instant(day + timedelta(days=rule.start), rule.minute, zone)
        closes = to_instant(day + timedelta(days=rule.end + 1), 0, zone)
        if closes > after:
            return year, opens, closes
        year += 1


def next_run(rule: Schedule, zone: ZoneInfo, after: int) -> int:
    """Return the first instant after one at which a schedule begins in a zone."""
    day = to_local(after, zone).date() - timedelta(days=1)
    while True:
        day += timedelta(days=1)
        if rule.weekday in (None, day.weekday()) and (instant := to_instant(day, rule.minute, zone)) > after:
            return instant


def quiet_until(instant: int, quiet: QuietHours, zone: ZoneInfo) -> int | None:
    """Return the instant at which the quiet hours around an instant end, or None outside them."""
    local = to_local(instant, zone)
    minute = local.hour * 60 + local.minute
    if quiet.start <= quiet.end:
        if not quiet.start <= minute < quiet.end:
            return None
        day = local.date()
    elif quiet.end <= minute < quiet.start:
        return None
    else:
        day = local.date() if minute < quiet.end else local.date() + timedelta(days=1)
    until = to_instant(day, quiet.end, zone)
    # In the hour that autumn repeats, the end of the quiet hours may have been once already.
    return until if until > instant else to_instant(day, quiet.end, zone, second=True)


def period_of(instant: int, rotate: str) -> str:
    """Return the hold-out period an instant belongs to, in UTC: 2017, 2017Q1, 2017-01, or always the same one."""
    if rotate == "never":
        return "always"
    moment = datetime.fromtimestamp(instant / 1000, UTC)
    if rotate == "yearly":
        return str(moment.year)
    return f"{moment.year}Q{(moment.month + 2) // 3}" if rotate == "quarterly" else f"{moment.year}-{moment.month:02d}"
