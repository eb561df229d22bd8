"""The life of a customer's moments inside a step: what an event and what time does to them, and when to look again."""

from __future__ import annotations

from orchestrator.civil import next_window, parse_birth_date, zone_for
from orchestrator.customer import OPEN, WAITING, Customer, Instance
from orchestrator.events import FOREVER, Event
from orchestrator.moments.detect import end_instances, ended, look_at, start_instance
from orchestrator.moments.rules import Absence, Calendar, Moment, Silence
from orchestrator.moments.wake import Waking, Woken, may_pick_from, wake, wake_and_pick
from orchestrator.moments.worth import expected_margin
from orchestrator.program import Role
from orchestrator.reasons import Reason
from orchestrator.records import EndedMoment
from orchestrator.step import Step
from orchestrator.view import CustomerView

MAX_OVER = 16
"""Moments and keys remembered per customer as over, so that a late event does not start them again."""


def move(step: Step, role: Role, event: Event) -> list[EndedMoment]:
    """Let one event end, start or restart the instances of one moment; return those that are over."""
    moment = role.moment
    instances = step.customer.instances(moment.name)
    over: list[EndedMoment] = []
    for match in role.ends:
        keys = None if match.matching is None else step.keys(event, match.matching)
        over += end_instances(moment, instances, list(instances) if keys is None else keys, event.time, event.name)
        if isinstance(moment.shape, Absence):
            for key in ("",) if keys is None else keys:
                _remember(step.customer, moment, key, event.time)
    if role.starts or role.restarts:
        over += _start(step, role, event, instances)
    for ended_moment in over:
        leave(step, moment, ended_moment)
    at = max(event.time, step.customer.now)
    if over and isinstance(moment.shape, Calendar):
        arm(step, moment, at)
    schedule(step, moment, at)
    return over


def wake_moment(step: Step, name: str) -> Woken:
    """Let time move one moment up to the customer's now; return what is over and whether anything opened."""
    customer, now = step.customer, step.customer.now
    moment = step.program.moments.get(name)
    if moment is None:
        return _forget_moment(customer, name)
    policy, instances = step.program.policy, customer.instances(name)
    waking = Waking(
        now,
        step.program.disorder[name],
        policy.never_act_older_than,
        lambda condition, key: step.holds(condition, moment, key),
    )
    if moment.pick_one is None:
        woken = wake(moment, instances, waking)
    else:
        pick_from = may_pick_from(moment, instances, customer.picked.get(name))
        woken = wake_and_pick(
            moment,
            instances,
            waking,
            pick_from,
            customer.fires[name],
            lambda key: expected_margin(customer, moment, key),
        )
        if woken.opened:
            customer.picked[name] = now
    for ended_moment in woken.over:
        leave(step, moment, ended_moment)
    if isinstance(moment.shape, Calendar):
        arm(step, moment, now)
    schedule(step, moment, now)
    return woken


def arm(step: Step, moment: Moment, at: int) -> None:
    """Let the next yearly window wait: on a new profile, on a new zone, and when this year's has opened."""
    shape = moment.shape
    assert isinstance(shape, Calendar)
    customer, profile = step.customer, step.customer.profile
    instances = customer.instances(moment.name)
    for key, instance in list(instances.items()):
        if instance.state == OPEN:
            customer.years[moment.name] = max(int(key), customer.years.get(moment.name, 0))
        else:
            del instances[key]
    born = None if profile is None else parse_birth_date(profile.birth_date, shape.ignore_dates, at)
    if profile is None or born is None:
        return
    zone = zone_for(profile.time_zone, profile.country, step.program.policy)
    year, opens, closes = next_window(shape, born, zone, at, customer.years.get(moment.name, 0))
    instances[str(year)] = Instance(WAITING, opens, max(opens, at), closes)


def arm_calendars(step: Step, at: int) -> None:
    """Arm every yearly moment anew, for the profile may have changed."""
    for moment in step.program.calendars:
        arm(step, moment, at)
        schedule(step, moment, at)


def schedule(step: Step, moment: Moment, at: int) -> None:
    """Note when time alone next moves a moment, seen from an instant."""
    customer = step.customer
    instances = customer.instances(moment.name)
    if not instances:
        customer.fires.pop(moment.name, None)
        return
    pick_from = may_pick_from(moment, instances, customer.picked.get(moment.name))
    look = look_at(moment, instances, step.program.disorder[moment.name], pick_from)
    # Never before `at`: how long a look is overdue tells how long nobody looked.
    customer.fires[moment.name] = look if moment.pick_one is None else max(look, at)


def leave(step: Step, moment: Moment, over: EndedMoment) -> None:
    """Remember an instance that is over, so that nothing that happened before starts it again."""
    if isinstance(moment.shape, Calendar):
        years = step.customer.years
        years[moment.name] = max(int(over.moment_key), years.get(moment.name, 0))
    else:
        # A late purchase between start and opening begins another silence, a late item belongs to the cart as it was.
        until = over.opened_at if isinstance(moment.shape, Absence) else over.started_at
        _remember(step.customer, moment, over.moment_key, until)


def _start(step: Step, role: Role, event: Event, instances: dict[str, Instance]) -> list[EndedMoment]:
    moment = role.moment
    over: list[EndedMoment] = []
    for key in ("",) if moment.key is None else step.keys(event, moment.key):
        there = instances.get(key)
        if there is None and not role.starts:
            continue  # it restarts only what has started
        if _is_over(step.customer, moment, key, event.time):
            continue
        if isinstance(moment.shape, Silence) and there is not None and event.time < there.started:
            # An older event changes the rhythm, not when the silence began.
            if there.state == WAITING:
                instances[key] = _waiting(step, moment, key, there.started) or there
            continue
        new = _waiting(step, moment, key, event.time)
        if new is not None:
            over += start_instance(moment, instances, key, new, restarts=role.restarts, by=event.name)
    return over


def _waiting(step: Step, moment: Moment, key: str, time: int) -> Instance | None:
    """Return the instance that an event at `time` starts, or None when there is nothing to wait for."""
    shape = moment.shape
    if isinstance(shape, Absence):
        due = time + shape.within
        return Instance(WAITING, time, due, FOREVER if moment.lasts is None else due + moment.lasts)
    if isinstance(shape, Silence):
        gap = CustomerView(step.program, step.reference, step.customer, time, moment, key).feature(shape.of)
        if gap is None:
            return None
        due = time + min(max(gap * shape.times_permille // 1000, shape.min), shape.max)
        return Instance(WAITING, time, due, FOREVER if moment.lasts is None else due + moment.lasts)
    assert not isinstance(shape, Calendar)
    date = step.program.features[shape.date].read(step.customer.fact(shape.date), key, time, step.reference)
    if date is None or date + shape.end <= time:
        return None
    # Never before half of the way there: a reminder on the day after the purchase is none.
    opens = max(date + shape.start, (time + date) // 2)
    return Instance(WAITING, time, opens, date + shape.end)


def _remember(customer: Customer, moment: Moment, key: str, time: int) -> None:
    over = customer.over
    name = f"{moment.name}/{key}"
    over[name] = max(time, over.pop(name, -FOREVER))
    if len(over) > MAX_OVER:
        del over[next(iter(over))]


def _is_over(customer: Customer, moment: Moment, key: str, time: int) -> bool:
    over = customer.over
    if not over:
        return False
    name = f"{moment.name}/"
    return over.get(name, -FOREVER) >= time or (key != "" and over.get(name + key, -FOREVER) >= time)


def _forget_moment(customer: Customer, name: str) -> Woken:
    """Let go of a moment whose definition is gone; what was open ends with that reason."""
    instances = customer.instances(name)
    over = [
        ended(name, key, instance, "expired", Reason.NO_DEFINITION)
        for key, instance in sorted(instances.items())
        if instance.state == OPEN
    ]
    instances.clear()
    del customer.fires[name]
    return Woken(over, opened=False)
