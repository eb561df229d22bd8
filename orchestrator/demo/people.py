"""Who the customers are: birth dates, zones and consents, invented around what the survey of the data knows."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from datetime import date
from functools import cache
from itertools import accumulate

from orchestrator.demo.purchases import Record
from orchestrator.demo.source import read_table

Chance = Callable[[], float]
"""The next number in [0, 1) of one customer's own seeded generator."""

FALSE_BIRTH_DATES = ("1900-01-01", "1970-01-01")
INVALID_ZONES = ("America/Cincinnati", "Eastern Time (US & Canada)")
CHANNELS = ("email", "sms", "push")

_DAY = 86_400_000
_TODAY = date(2017, 1, 1).toordinal()

_AGES = {"19-24": (19, 25), "25-34": (25, 35), "35-44": (35, 45), "45-54": (45, 55), "55-64": (55, 65), "65+": (65, 90)}
_AGE_BANDS = (("19-24", 6), ("25-34", 18), ("35-44", 24), ("45-54", 27), ("55-64", 13), ("65+", 12))

_NO_BIRTH_DATE, _FALSE_BIRTH_DATE, _LEAP_DAY = 0.06, 0.02, 0.005
_NO_CONSENTS = 0.05

# Shares of the customers who agreed and who refused; nothing is on record for the rest.
_CONSENTS = {"email": (0.82, 0.09), "sms": (0.35, 0.20), "push": (0.40, 0.15)}

# zone, country, city, customers of a thousand
_PLACES: tuple[tuple[str | None, str, str | None, int], ...] = (
    ("America/New_York", "US", "Cincinnati", 430),
    ("America/Chicago", "US", "Houston", 270),
    ("America/Los_Angeles", "US", "Portland", 130),
    ("America/Denver", "US", "Denver", 60),
    ("America/Phoenix", "US", "Phoenix", 25),
    ("America/Indiana/Indianapolis", "US", "Indianapolis", 25),
    ("America/Anchorage", "US", "Anchorage", 5),
    ("Pacific/Honolulu", "US", "Honolulu", 5),
    ("America/Toronto", "CA", "Toronto", 5),
    ("Europe/London", "GB", "London", 4),
    ("Europe/Madrid", "ES", "Madrid", 3),
    ("Asia/Kolkata", "IN", "Pune", 2),
    ("Australia/Lord_Howe", "AU", None, 1),
    (INVALID_ZONES[0], "US", "Cincinnati", 1),
    (INVALID_ZONES[1], "US", "Cincinnati", 2),
    (None, "US", None, 32),
)
_PLACE_WEIGHTS = [place[3] for place in _PLACES]


@cache
def read_survey() -> dict[int, dict[str, str]]:
    """Return age, income and household size of the 801 households that answered, as far as they did."""
    fields = ("age", "income", "household_size")
    table = read_table("demographics", ["household_id", *fields])
    return {row["household_id"]: {name: row[name] for name in fields if row[name]} for row in table.to_pylist()}


def new_profile(chance: Chance, customer: str, survey: dict[str, str], at: int) -> Record:
    """Return a customer's first profile record."""
    zone, country, city, _ = _PLACES[_pick(chance, _PLACE_WEIGHTS)]
    return {
        "customer_id": customer,
        "updated_at": at,
        "birth_date": _birth_date(chance, survey.get("age")),
        "time_zone": zone,
        "country": country,
        "city": city,
        "consents": _consents(chance, at),
        "attributes": {name: survey[name] for name in ("income", "household_size") if name in survey},
    }


def moved(chance: Chance, profile: Record, at: int) -> Record:
    """Return the profile with another place of residence."""
    zone, country, city, _ = _PLACES[_pick(chance, _PLACE_WEIGHTS)]
    return {**profile, "updated_at": at, "time_zone": zone, "country": country, "city": city}


def with_consent(profile: Record, channel: str, granted: bool, at: int) -> Record:
    """Return the profile after an opt-in or an opt-out on one channel."""
    others = [consent for consent in profile["consents"] if consent["channel"] != channel]
    return {**profile, "updated_at": at, "consents": [*others, _consent(channel, granted, at)]}


def granted_channels(profile: Record) -> set[str]:
    """Return the channels on which the customer agreed to marketing."""
    return {consent["channel"] for consent in profile["consents"] if consent["granted"]}


def _consents(chance: Chance, at: int) -> list[Record]:
    if chance() < _NO_CONSENTS:
        return []
    consents = []
    for channel in CHANNELS:
        granted, refused = _CONSENTS[channel]
        drawn = chance()
        if drawn < granted + refused:
            since = at - int((30 + 1500 * chance()) * _DAY)
            consents.append(_consent(channel, drawn < granted, since))
    return consents


def _consent(channel: str, granted: bool, at: int) -> Record:
    return {"channel": channel, "purpose": "marketing", "granted": granted, "at": at}


def _birth_date(chance: Chance, age: str | None) -> str | None:
    drawn, which = chance(), chance()
    if drawn < _NO_BIRTH_DATE:
        return None
    drawn -= _NO_BIRTH_DATE
    if drawn < _FALSE_BIRTH_DATE:
        return FALSE_BIRTH_DATES[int(which * len(FALSE_BIRTH_DATES))]
    drawn -= _FALSE_BIRTH_DATE
    if drawn < _LEAP_DAY:
        return f"{1948 + 4 * int(which * 13)}-02-29"
    youngest, oldest = _AGES[age or _AGE_BANDS[_pick(chance, [weight for _, weight in _AGE_BANDS])][0]]
    return date.fromordinal(_TODAY - int((youngest + which * (oldest - youngest)) * 365.25)).isoformat()


def _pick(chance: Chance, weights: Sequence[int]) -> int:
    """Return a position with probability proportional to its weight."""
    sums = list(accumulate(weights))
    return bisect(sums, chance() * sums[-1])
