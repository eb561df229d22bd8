"""Time under fault: outages, old topics replayed, clocks that jump, zones that change, and days that clocks change."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.arbitration.policy import QuietHours
from orchestrator.civil import birthday_in, next_window, quiet_until, to_instant, to_local
from orchestrator.events import DAY, FOREVER, HOUR, MINUTE, SECOND
from orchestrator.moments.rules import Calendar
from orchestrator.runtime.barriers import CATCHING_UP, LEEWAY, Barrier, LiveBarriers
from orchestrator.runtime.inbox import Inbox
from orchestrator.simulation import Simulation
from tests.builders import (
    ANA,
    BIRTHDAY_WEEK,
    REFERENCE,
    cart_add,
    ends,
    instant,
    order,
    policy,
    profile,
    program,
    reasons,
    simulation,
)
from tests.runtime.messages import CLICKSTREAM, item_added, message
from tests.test_engine_properties import BUDGET, END, IN_ORDER, LATE, Arrival, check_promises, histories, strict_program

LIVE = 30 * SECOND
"""How much later than due a live timer may be judged."""

# --- outages ----------------------------------------------------------------------------------------------------------

NIGHT = policy(quiet_hours=QuietHours(21 * 60, 9 * 60))


def test_after_an_outage_quiet_hours_are_those_of_the_time_at_which_it_goes_out() -> None:
    """Due at a quarter to nine in the evening, back at ten: it waits for the morning, and the window begins there."""
    shop = simulation(program(rules=NIGHT), start="19:00", max_lag=LIVE)
    shop.feed(cart_add("19:45"))
    shop.advance(instant("19:50"))

    shop.advance(instant("22:00"))  # hours later
    assert reasons(shop) == ["quiet_hours"]
    assert shop.decisions[0].decided_at == instant("22:00") - LIVE

    shop.advance(instant("1d 09:30"))
    (trigger,) = shop.triggers
    assert trigger.opened_at == instant("20:45")
    assert trigger.decided_at >= instant("1d 09:00")
    assert shop.decisions[-1].window_until == trigger.decided_at + 3 * DAY


def test_what_went_out_of_date_in_the_outage_expires_as_too_old() -> None:
    """More than a day after it opened nobody wants to hear of it."""
    shop = simulation(max_lag=LIVE)
    shop.feed(cart_add("09:00"))
    shop.advance(instant("09:30"))

    shop.advance(instant("2d 09:00"))

    (over,) = ends(shop)
    assert (over.state, over.reason, over.opened_at) == ("expired", "too_old", instant("10:00"))
    assert shop.triggers == []


def test_what_ended_in_the_outage_is_read_before_anything_is_decided() -> None:
    """A purchase made meanwhile silences the cart, in whichever topic it waited."""
    shop = simulation(max_lag=LIVE)
    shop.feed(cart_add("09:00"))
    shop.advance(instant("09:30"))
    shop.feed(order("09:55"))

    shop.advance(instant("13:00"))

    assert shop.decisions == []


@pytest.mark.parametrize("hours", [1, 5, 20, 47, 200])
def test_every_overdue_timer_acts_once_or_expires_once_whatever_the_outage(hours: int) -> None:
    """Carts, birthdays and windows that ended meanwhile; nothing is dated back, and no window overlaps another."""
    shop = simulation(max_lag=LIVE)
    shop.feed(profile("00:01", born="1980-03-07"), cart_add("08:00", cart="first"))
    shop.advance(instant("09:30"))
    shop.feed(cart_add("09:40", cart="second"))
    shop.advance(instant("09:45"))
    before = len(shop.decisions)
    back = instant("09:45") + hours * HOUR

    shop.advance(back)

    assert all(decision.decided_at >= back - LIVE for decision in shop.decisions[before:])
    assert all(customer.next_due > back for customer in shop.customers.values())
    shop.advance(back + 300 * DAY)
    check_promises(shop)


# --- old topics, live -------------------------------------------------------------------------------------------------


@BUDGET
@given(histories(IN_ORDER), st.integers(1, 4))
def test_old_topics_replayed_into_a_live_worker_send_nothing(arrivals: list[Arrival], portions: int) -> None:
    """Read at once or in portions while time stands still: the state is rebuilt, and whatever opened is too old."""
    live = Simulation(strict_program(), REFERENCE, max_lag=5 * SECOND, round_trip=True)
    for portion in range(portions):
        live.feed(*(arrival.event for arrival in arrivals[portion::portions]))
        live.advance(-FOREVER)
    live.advance(END)

    assert live.triggers == []
    assert {over.reason for over in ends(live)} <= {"too_old", "cancelled", "expired", "not_eligible", "unknown_value"}
    assert all(customer.window is None for customer in live.customers.values())


@BUDGET
@given(histories(LATE), st.lists(st.sampled_from((SECOND, MINUTE, HOUR, 30 * HOUR)), min_size=1, max_size=12))
def test_promises_hold_over_outages(arrivals: list[Arrival], outages: list[int]) -> None:
    """A live worker that is away for seconds, hours or a day, again and again."""
    live = Simulation(strict_program(), REFERENCE, max_lag=LIVE, round_trip=True)
    waiting = sorted(arrivals, key=lambda arrival: arrival.at)
    clock, turn = waiting[0].at, 0
    while waiting:
        ready = [arrival.event for arrival in waiting if arrival.at <= clock]
        waiting = waiting[len(ready) :]
        live.feed(*ready)
        live.advance(clock)
        clock += max(outages[turn % len(outages)], (waiting[0].at - clock) // 2 if waiting else 0)
        turn += 1
    live.advance(END)

    check_promises(live)


# --- a wall clock that jumps ------------------------------------------------------------------------------------------


class Clocks:
    """A wall clock that may be set, and a steady one that only goes on."""

    def __init__(self) -> None:
        self.wall = instant("12:00")
        self.steady = 1_000_000

    def pass_(self, milliseconds: int) -> None:
        self.wall += milliseconds
        self.steady += milliseconds


class Ends:
    """Answers at once which offset every topic ends at."""

    def __init__(self) -> None:
        self.end = 0

    def list_offsets(self, wanted: dict[Any, Any], **_: Any) -> dict[Any, Future[Any]]:
        answers = {}
        for where in wanted:
            answers[where] = Future[Any]()
            answers[where].set_result(SimpleNamespace(offset=self.end))
        return answers


class Live:
    """Live barriers over one partition of one topic, and the inbox that waits for them."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.ends = Ends()
        admin: AdminClient = self.ends  # type: ignore[assignment]  # only its ends are asked for
        self.barriers = LiveBarriers(
            admin, [CLICKSTREAM], [], lambda: self.clocks.wall, 500, lambda: self.clocks.steady
        )
        self.inbox = Inbox({CLICKSTREAM: 0}, step_records=10, may_cut=True)
        self.clock = -FOREVER
        self.newest = -FOREVER

    def turn(self, milliseconds: int = 500) -> int:
        """Let time pass and take every step there is; return where the partition's clock stands."""
        self.clocks.pass_(milliseconds)
        for _ in range(2):  # one turn asks, the next has the answer
            for barrier in self.barriers.take([0]).values():
                self.inbox.add_barrier(barrier)
        self.inbox.reach(CLICKSTREAM, self.ends.end)
        while (step := self.inbox.next_step(self.clock, lambda _: True)) is not None:
            assert step.barrier.time >= self.clock, "time went back"
            self.clock, self.newest = step.barrier.time, step.barrier.newest
        return self.clock

    def turns(self, seconds: int) -> int:
        """Let seconds pass."""
        for _ in range(2 * seconds):
            self.turn()
        return self.clock


def test_time_follows_a_clock_that_goes_as_it_should() -> None:
    """Neither ahead of it nor behind, also when it is set right by a second or two."""
    live = Live()
    for correction in (0, 900, -700, 2_000, LEEWAY - 100):
        live.clocks.wall += correction
        live.turns(20)

        assert live.clock == live.clocks.wall == live.newest


def test_a_clock_that_jumps_back_makes_time_stand_still() -> None:
    """Nothing is decided twice and nothing too early; what is read meanwhile is no dead letter."""
    live = Live()
    before = live.turns(5)
    live.clocks.wall -= 3 * HOUR

    assert live.turns(60) == before
    assert live.newest >= before
    live.clocks.wall += 3 * HOUR  # put right again
    assert live.turns(1) == live.clocks.wall


def test_a_clock_that_jumps_back_for_good_is_waited_for() -> None:
    """Time goes on when the clock has come to where it stood."""
    live = Live()
    before = live.turns(5)
    live.clocks.wall -= 60 * SECOND

    assert live.turns(59) == before
    assert live.turns(10) == live.clocks.wall


@pytest.mark.parametrize("minutes", [1, 10, 60])
def test_a_clock_that_jumps_ahead_and_is_put_right_is_followed_only_so_far(minutes: int) -> None:
    """Three hours ahead for some minutes: time is ahead by so many at most, then stands until they have passed."""
    live = Live()
    live.turns(5)
    live.clocks.wall += 3 * HOUR
    live.turns(minutes * 60)
    true_time = live.clocks.wall - 3 * HOUR

    assert live.clock <= true_time + (CATCHING_UP - 1) * minutes * MINUTE + LEEWAY
    live.clocks.wall -= 3 * HOUR
    ahead = live.clock
    assert live.turns(30) == ahead  # it stands still
    live.turns(minutes * 60)
    assert live.clock == live.clocks.wall


def test_a_clock_that_jumps_ahead_for_good_is_caught_up_with() -> None:
    """As when it was wrong before: time goes on twice as fast, and what is read meanwhile is not ahead of its time."""
    live = Live()
    live.turns(5)
    live.clocks.wall += 2 * HOUR
    live.turn()

    assert live.clock < live.clocks.wall - HOUR
    assert live.newest == live.clocks.wall
    live.turns(2 * 3600 + 10)
    assert live.clock == live.clocks.wall


def test_a_jump_ahead_abandons_no_cart_that_is_still_full_of_hope() -> None:
    """An hour's absence is decided after an hour, though the clock was three hours ahead for ten minutes."""
    live = Live()
    shop = simulation(start="11:00", max_lag=LIVE)
    shop.feed(cart_add("12:00"))
    live.turns(5)
    live.clocks.wall += 3 * HOUR
    shop.advance(live.turns(600))
    live.clocks.wall -= 3 * HOUR
    shop.feed(order("12:40"))
    for _ in range(60):
        shop.advance(live.turns(60))

    assert shop.decisions == []


def test_steps_cut_while_time_stands_still_take_records_of_the_true_time() -> None:
    """A backlog is read with a clock that is hours behind ours: nothing in it is ahead of its time."""
    inbox = Inbox({CLICKSTREAM: 0}, step_records=2, may_cut=True)
    inbox.add_barrier(Barrier(instant("09:00"), {CLICKSTREAM: 100}))
    for offset in range(3):
        inbox.add(CLICKSTREAM, message(item_added("12:00"), offset=offset))

    step = inbox.next_step(instant("12:00"), lambda _: True)

    assert step is not None
    assert (step.barrier.time, step.barrier.newest) == (instant("12:00"), instant("12:00"))


# --- zones that change, 29 February -----------------------------------------------------------------------------------

ZONES = ("Pacific/Kiritimati", "Asia/Tokyo", "Europe/Madrid", "America/New_York", "Pacific/Pago_Pago", "Not/AZone")


@BUDGET
@given(
    st.lists(
        st.tuples(st.integers(-9 * 24, 3 * 24), st.sampled_from(ZONES)), max_size=8, unique_by=lambda move: move[0]
    ),
    st.sampled_from(("1980-07-04", "1988-02-29", "1980-01-01", "1979-12-31")),
    st.sampled_from((None, LIVE)),
)
def test_a_birthday_comes_once_a_year_whatever_zones_somebody_lives_in(
    moves: list[tuple[int, str]], born: str, max_lag: int | None
) -> None:
    """In the hours around the week's beginning they move up to eight times: to nine in the morning where they live."""
    opens = next_window(_rule(), date.fromisoformat(born), ZoneInfo("UTC"), instant("2018-01-10T00:00"), 0)[1]
    life = Simulation(program(moments=[BIRTHDAY_WEEK]), REFERENCE, round_trip=True, max_lag=max_lag)
    life.feed(profile("2017-12-01T00:00", born=born))
    life.advance(instant("2018-01-09T00:00"))
    known = len(life.decisions)
    for hours, move in sorted(moves):
        at = opens + hours * HOUR
        walk(life, at - 1)
        life.feed(profile(at, born=born, zone=move))
        life.advance(at)
    walk(life, opens + 20 * DAY)
    life.advance(opens + 300 * DAY)

    opened = {
        (candidate.moment_key, candidate.opened_at)
        for decision in life.decisions[known:]
        for candidate in decision.candidates
    }
    assert len(opened) == 1
    ((_, opened_at),) = opened
    lived = [(opens + hours * HOUR, move) for hours, move in sorted(moves)]
    zone = next((move for at, move in reversed(lived) if at <= opened_at), "UTC")
    local = to_local(opened_at, ZoneInfo("UTC" if zone == "Not/AZone" else zone))
    moved_then = any(at == opened_at for at, _ in lived)
    assert moved_then or (local.hour, local.minute) == (9, 0), "at nine, or on the move that made it overdue"


def walk(life: Simulation, to: int) -> None:
    """Take a barrier every twelve hours: what is longer would be an outage."""
    while life.clock < to:
        life.advance(min(to, life.clock + 12 * HOUR))


def _rule(feb_29: str = "feb_28") -> Calendar:
    assert isinstance(BIRTHDAY_WEEK.shape, Calendar)
    return replace(BIRTHDAY_WEEK.shape, feb_29=feb_29)


@pytest.mark.parametrize(
    ("feb_29", "days"),
    [
        ("feb_28", ["2017-02-28", "2018-02-28", "2019-02-28", "2020-02-29", "2021-02-28"]),
        ("mar_1", ["2017-03-01", "2018-03-01", "2019-03-01", "2020-02-29", "2021-03-01"]),
    ],
)
def test_29_february_is_celebrated_every_year(feb_29: str, days: Sequence[str]) -> None:
    """On its own day in leap years, else on the day that the definitions choose; an outage over it loses none."""
    week = replace(BIRTHDAY_WEEK, shape=_rule(feb_29))
    for outage in (0, 12 * HOUR):
        life = Simulation(program(moments=[week]), REFERENCE, round_trip=True, max_lag=LIVE)
        life.feed(profile("2016-04-01T00:00", born="1988-02-29"))
        life.advance(instant("2016-04-01T00:00"))
        clock = life.clock
        while clock < instant("2021-06-01T00:00"):
            clock += outage or 12 * HOUR - 1
            life.advance(clock)

        assert [to_local(trigger.valid_until - 1, ZoneInfo("UTC")).date().isoformat() for trigger in life.triggers] == [
            *days
        ]


# --- days on which clocks change --------------------------------------------------------------------------------------

EVERY_ZONE = st.sampled_from(sorted(name for name in available_timezones() if "/" in name))
DAYS = st.dates(date(1975, 1, 1), date(2037, 12, 31))
MINUTES = st.integers(0, 24 * 60 - 1)


def exists(local: datetime, zone: ZoneInfo) -> bool:
    """Return whether a wall clock in a zone ever shows this."""
    return any(
        datetime.fromtimestamp(local.replace(tzinfo=zone, fold=fold).timestamp(), zone).replace(tzinfo=None, fold=0)
        == local
        for fold in (0, 1)
    )


@BUDGET
@given(EVERY_ZONE, DAYS, MINUTES)
def test_a_wall_clock_time_is_itself_or_what_follows_its_gap(name: str, day: date, minute: int) -> None:
    """In every zone of the world: nine is nine, its first occurrence; in a gap it moves on by the gap's length."""
    zone = ZoneInfo(name)
    wanted = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)  # noqa: DTZ001 - a wall clock has no zone

    found = to_instant(day, minute, zone)

    shown = to_local(found, zone).replace(tzinfo=None, fold=0)
    if exists(wanted, zone):
        assert shown == wanted
        earlier = to_local(found - DAY // 2, zone).replace(tzinfo=None, fold=0)
        assert earlier < wanted
    else:
        assert wanted < shown <= wanted + timedelta(hours=24, minutes=1)
        just_before = to_local(found - int((shown - wanted).total_seconds() * 1000) - 1, zone).replace(tzinfo=None)
        assert just_before < wanted


@BUDGET
@given(EVERY_ZONE, DAYS, MINUTES, MINUTES, MINUTES)
def test_quiet_hours_are_quiet_by_the_wall_clock(name: str, day: date, at: int, start: int, end: int) -> None:
    """Whoever is told to wait until an instant is in quiet hours now, and out of them then."""
    zone, quiet = ZoneInfo(name), QuietHours(start, end)
    now = to_instant(day, at, zone)

    until = quiet_until(now, quiet, zone)

    assert (until is not None) == is_quiet(now, quiet, zone)
    if until is not None:
        assert now < until <= now + 50 * HOUR
        assert not is_quiet(until, quiet, zone)


def is_quiet(at: int, quiet: QuietHours, zone: ZoneInfo) -> bool:
    """Return whether a wall clock shows quiet hours, which may span midnight."""
    local = to_local(at, zone)
    minute = local.hour * 60 + local.minute
    if quiet.start <= quiet.end:
        return quiet.start <= minute < quiet.end
    return minute >= quiet.start or minute < quiet.end


@BUDGET
@given(EVERY_ZONE, st.dates(date(1930, 1, 1), date(2010, 12, 31)), DAYS, st.sampled_from(("feb_28", "mar_1")))
def test_a_birthday_week_opens_at_nine_on_every_clock_of_the_world(
    name: str, born: date, after: date, feb_29: str
) -> None:
    """On the sixth day before it, in every year to come, and closes when the birthday is over."""
    zone, rule = ZoneInfo(name), _rule(feb_29)
    seen = to_instant(after, 0, zone)

    year, opens, closes = next_window(rule, born, zone, seen, 0)

    birthday = birthday_in(year, born, feb_29)
    nine = datetime(birthday.year, birthday.month, birthday.day, 9) - timedelta(days=6)  # noqa: DTZ001
    assert closes > seen
    assert opens < closes
    if exists(nine, zone):
        assert to_local(opens, zone).replace(tzinfo=None, fold=0) == nine
    assert to_local(closes - 1, zone).date() <= birthday + timedelta(days=1)
    assert to_local(closes, zone).date() > birthday


def test_whoever_is_woken_in_the_long_night_is_woken_once() -> None:
    """A cart abandoned in the hour that comes twice goes out in the morning after both."""
    rules = policy(quiet_hours=QuietHours(21 * 60, 9 * 60))
    shop = Simulation(program(rules=rules), REFERENCE, round_trip=True)
    shop.feed(profile("2017-10-01T00:00", zone="Europe/Madrid"), cart_add("2017-10-28T23:30"))
    shop.advance(instant("2017-10-30T00:00"))

    assert [trigger.decided_at for trigger in shop.triggers] == [instant("2017-10-29T08:00")]
    assert shop.triggers[0].customer_id == ANA
