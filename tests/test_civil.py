"""The customer's own calendar: clock changes, leap days, odd zones and false dates."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from orchestrator.arbitration.policy import Policy, QuietHours
from orchestrator.civil import (
    birthday_in,
    find_zone,
    next_window,
    parse_birth_date,
    period_of,
    quiet_until,
    to_instant,
    zone_for,
)
from orchestrator.events import DAY, HOUR, MINUTE
from orchestrator.moments.rules import Calendar
from tests.builders import instant

MADRID = ZoneInfo("Europe/Madrid")
UTC = ZoneInfo("UTC")
NIGHT = QuietHours(21 * 60, 9 * 60)
SHORT_NIGHT, LONG_NIGHT = date(2017, 3, 26), date(2017, 10, 29)  # when Madrid changes its clocks


def local(text: str) -> int:
    """Return the instant of a wall-clock time in Madrid, the first where there are two."""
    return int(datetime.fromisoformat(text).replace(tzinfo=MADRID).timestamp() * 1000)


def test_a_wall_clock_time_that_a_gap_skips_moves_on() -> None:
    """Half past two does not exist on that morning: it is half past three."""
    assert to_instant(SHORT_NIGHT, 150, MADRID) == instant("2017-03-26T01:30")


def test_a_wall_clock_time_that_occurs_twice_is_its_first_occurrence() -> None:
    """Half past two comes twice on that morning."""
    assert to_instant(LONG_NIGHT, 150, MADRID) == instant("2017-10-29T00:30")
    assert to_instant(LONG_NIGHT, 150, MADRID, second=True) == instant("2017-10-29T01:30")


@pytest.mark.parametrize(
    ("day", "hours"), [("2017-10-27", 12), ("2017-10-28", 13), ("2017-03-25", 11)], ids=["usual", "autumn", "spring"]
)
def test_quiet_hours_are_as_long_as_the_night(day: str, hours: int) -> None:
    """From nine to nine is twelve hours on the clock, one more in the long night of autumn, one less in spring."""
    begin = local(f"{day}T21:00")

    assert quiet_until(begin - 1, NIGHT, MADRID) is None
    assert quiet_until(begin, NIGHT, MADRID) == begin + hours * HOUR
    assert quiet_until(begin + hours * HOUR - 1, NIGHT, MADRID) == begin + hours * HOUR
    assert quiet_until(begin + hours * HOUR, NIGHT, MADRID) is None


def test_thirteen_quiet_hours_are_fourteen_in_the_long_night() -> None:
    """From eight to nine, in autumn."""
    begin = local("2017-10-28T20:00")

    assert quiet_until(begin, QuietHours(20 * 60, 9 * 60), MADRID) == begin + 14 * HOUR


def test_quiet_hours_within_a_day() -> None:
    """From one to three in the afternoon, [from, to)."""
    siesta = QuietHours(13 * 60, 15 * 60)

    assert quiet_until(instant("12:59"), siesta, UTC) is None
    assert quiet_until(instant("13:00"), siesta, UTC) == instant("15:00")
    assert quiet_until(instant("14:59"), siesta, UTC) == instant("15:00")
    assert quiet_until(instant("15:00"), siesta, UTC) is None


def test_quiet_hours_that_end_in_the_hour_that_comes_twice() -> None:
    """They end, begin again with the repeated hour, and always end later than they are asked."""
    night = QuietHours(22 * 60, 150)

    assert quiet_until(local("2017-10-29T01:00"), night, MADRID) == instant("2017-10-29T00:30")
    assert quiet_until(instant("2017-10-29T01:15"), night, MADRID) == instant("2017-10-29T01:30")
    for minute in range(0, 36 * 60, 5):
        at = local("2017-10-28T12:00") + minute * MINUTE
        until = quiet_until(at, night, MADRID)
        assert until is None or at < until <= at + DAY


@pytest.mark.parametrize("name", ["Not/AZone", "", "../../etc/passwd", "Europe", "Europe/Madrid\0", "🌍", "x" * 5_000])
def test_an_invalid_zone_is_no_zone(name: str) -> None:
    """Whatever a profile says, nothing breaks; the country or the policy decides."""
    assert find_zone(name) is None
    assert zone_for(name, "ES", Policy()).key == "Europe/Madrid"
    assert zone_for(name, "US", Policy(zone_fallback="Asia/Tokyo")).key == "Asia/Tokyo"
    assert zone_for(name, "ES", Policy(use_country_zone=False)).key == "UTC"


def test_the_own_zone_comes_first() -> None:
    """Who says where they live is believed."""
    assert zone_for("Asia/Tokyo", "ES", Policy()).key == "Asia/Tokyo"
    assert zone_for(None, None, Policy()).key == "UTC"


def test_29_february_by_policy() -> None:
    """In a year without it, the day before or the day after; in a leap year, itself."""
    born = date(1988, 2, 29)

    assert birthday_in(2017, born, "feb_28") == date(2017, 2, 28)
    assert birthday_in(2017, born, "mar_1") == date(2017, 3, 1)
    assert birthday_in(2020, born, "feb_28") == birthday_in(2020, born, "mar_1") == date(2020, 2, 29)
    assert birthday_in(1900, born, "feb_28") == date(1900, 2, 28)


def week(minute: int = 9 * 60) -> Calendar:
    """Return the seven days that end on the birthday."""
    return Calendar("birth_date", -6, 0, minute, "feb_28", frozenset())


def test_a_window_around_new_year_belongs_to_the_year_of_its_birthday() -> None:
    """Born on the second of January: the week begins in December."""
    year, opens, closes = next_window(week(), date(1980, 1, 2), UTC, instant("2017-12-30T00:00"), 0)

    assert (year, opens, closes) == (2018, instant("2017-12-27T09:00"), instant("2018-01-03T00:00"))


def test_a_year_that_was_used_up_is_skipped() -> None:
    """Of two windows that close after now, the first of a later year."""
    year, opens, _ = next_window(week(), date(1980, 7, 4), UTC, instant("2017-03-01T00:00"), 2017)

    assert (year, opens) == (2018, instant("2018-06-28T09:00"))


def test_nobody_has_a_birthday_in_the_year_they_are_born() -> None:
    """The first one is a year later."""
    assert next_window(week(), date(2017, 7, 4), UTC, instant("2017-03-01T00:00"), 0)[0] == 2018


def test_a_window_that_closes_now_is_over() -> None:
    """Windows are [opens, closes)."""
    _, _, closes = next_window(week(), date(1980, 7, 4), UTC, instant("2017-03-01T00:00"), 0)

    assert next_window(week(), date(1980, 7, 4), UTC, closes - 1, 0)[0] == 2017
    assert next_window(week(), date(1980, 7, 4), UTC, closes, 0)[0] == 2018


def test_a_window_opens_across_a_gap() -> None:
    """A window that opens at half past two opens at half past three on the morning that skips it."""
    rule = Calendar("birth_date", 0, 0, 150, "feb_28", frozenset())
    _, opens, closes = next_window(rule, date(1980, 3, 26), MADRID, instant("2017-03-01T00:00"), 0)

    assert opens == instant("2017-03-26T01:30")
    assert closes == instant("2017-03-26T22:00")


@pytest.mark.parametrize(
    "text", [None, "", "1980-02-30", "04/07/1980", "0001-01-01", "1899-12-31", "2018-01-01", "9999-12-31"]
)
def test_a_false_date_is_no_date(text: str | None) -> None:
    """No date, a date nobody alive was born on, a date in years to come."""
    assert parse_birth_date(text, frozenset(), instant("2017-03-01T00:00")) is None


def test_a_date_may_be_ignored_by_name() -> None:
    """Defaults of a form are known to those who wrote it."""
    now = instant("2017-03-01T00:00")

    assert parse_birth_date("1970-01-01", frozenset({"1970-01-01"}), now) is None
    assert parse_birth_date("1970-01-01", frozenset(), now) == date(1970, 1, 1)


@pytest.mark.parametrize(("rotate", "name"), [("yearly", "2017"), ("quarterly", "2017Q1"), ("monthly", "2017-03")])
def test_hold_out_periods(rotate: str, name: str) -> None:
    """Periods are of the calendar in UTC, the same for everybody."""
    assert period_of(instant("2017-03-31T23:59"), rotate) == name
    assert (
        period_of(instant("2017-04-01T00:00"), rotate)
        == {"2017": "2017", "2017Q1": "2017Q2", "2017-03": "2017-04"}[name]
    )
