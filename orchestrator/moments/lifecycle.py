"""The life of a customer's moments inside a step: what an event and what time does to them, and when to look again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orchestrator.civil import next_run, next_window, parse_birth_date, zone_for
from orchestrator.customer import OPEN, WAITING, Customer, Instance
from orchestrator.events import FOREVER, STOCK, Event
from orchestrator.features import EventView
from orchestrator.identity import fingerprint
from orchestrator.moments.detect import MAX_INSTANCES, end_instances, ended, look_at, start_instance
from orchestrator.moments.launches import await_launches, launch_is_over, next_look_for_launches
from orchestrator.moments.progress import follow
from orchestrator.moments.rules import (
    Absence,
    Around,
    Calendar,
    During,
    Launch,
    Membership,
    Moment,
    Schedule,
    Sequence,
    Silence,
    Total,
)
from orchestrator.moments.stock import forget_looks, look_at_product, look_at_stock, looked_at
from orchestrator.moments.wake import Waking, Woken, may_pick_from, wake, wake_and_pick
from orchestrator.moments.watch import cross, next_look
from orchestrator.moments.worth import expected_margin
from orchestrator.program import Role
from orchestrator.reasons import Reason
from orchestrator.records import EndedMoment
from orchestrator.step import Step
from orchestrator.view import CustomerView

WATCHED: Final = (During, Membership)
REACHED: Final = (Total, Sequence)
_DELAYED: Final = (Absence, Total)
_STARTED: Final = (Absence, Total, Sequence)
_EXPECTED: Final = (Silence, Around)
# Tuples, for `isinstance(x, A | B)` builds the union anew for every event.

OVER_BEFORE_PRUNING: Final = 4
"""Moments and keys remembered per customer as over, beyond which those that no late event can start are forgotten.

Of one moment at most as many as may wait at once, so that a large order takes nothing from another moment.
"""


def move(step: Step, role: Role, event: Event) -> list[EndedMoment]:
    """Let one event end, start or restart the instances of one moment; return those that are over."""
    moment = role.moment
    instances = step.customer.peek(moment.name)
    over: list[EndedMoment] = []
    before = len(instances)
    for match in role.ends:
        keys = None if match.matching is None else step.keys(event, match.matching)
        if match.state is not None and not match.state.fits(step.reference.product(event.data["sku"], event.time)):
            continue
        if instances:
            there = list(instances) if keys is None else keys
            known = dict(instances) if isinstance(moment.shape, Launch) else {}
            over += end_instances(moment, instances, there, event.time, event.name)
            for key in known.keys() - instances.keys():
                launch_is_over(step.customer, moment, key, known[key].started)
        if isinstance(moment.shape, Sequence):
            _break_off(step, moment, keys, event.time)
        if isinstance(moment.shape, _STARTED):  # what began before and is only heard of later is over already
            for key in ("",) if keys is None else keys:
                _remember(step, moment, key, event.time)
    changed = len(instances) < before or isinstance(moment.shape, Sequence)
    if role.starts or role.restarts:
        changed = _start(step, role, event, instances, over) or changed
    if not changed and moment.pick_one is None:
        return over  # nothing moved, so it is looked at when it was to be looked at before
    for ended_moment in over:
        leave(step, moment, ended_moment, event.time)
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
        customer.picked.get(name, -FOREVER) + moment.at_most_every if moment.at_most_every else -FOREVER,
    )
    if isinstance(moment.shape, Launch):
        await_launches(step, moment, now)
    if isinstance(moment.shape, Schedule):
        _run(step, moment, customer.fires[name])
    if isinstance(moment.shape, Membership):
        undone = cross(step, moment, customer.fires[name])
        woken = wake(moment, instances, waking)
        woken = Woken(undone + woken.over, woken.opened)
    elif moment.pick_one is None:
        if isinstance(moment.shape, During):
            for instance in instances.values():
                if instance.state == WAITING:  # it opens when it is found to be true
                    instance.due = max(instance.due, customer.fires[name])
        woken = wake(moment, instances, waking)
    else:
        pick_from = may_pick_from(moment, instances, customer.picked.get(name))
        woken = wake_and_pick(
            moment,
            instances,
            waking,
            pick_from,
            customer.fires[name],
            lambda key: expected_margin(step.program, step.reference, customer, now, moment, key),
        )
    if woken.opened and moment.pick_one is not None:
        customer.picked[name] = now
    elif woken.opened and moment.at_most_every:
        customer.picked[name] = max(instance.due for instance in instances.values() if instance.state == OPEN)
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
    """Arm every yearly moment and every schedule anew, for the profile may have changed."""
    for moment in step.program.calendars:
        arm(step, moment, at)
        schedule(step, moment, at)
    for moment in step.program.schedules:
        schedule(step, moment, at)


def schedule(step: Step, moment: Moment, at: int) -> None:
    """Note when time alone next moves a moment, seen from an instant."""
    customer = step.customer
    instances = customer.instances(moment.name)
    watched = isinstance(moment.shape, WATCHED)
    own = FOREVER
    if isinstance(moment.shape, Launch):
        own = next_look_for_launches(step, moment, at)
    elif isinstance(moment.shape, Schedule):
        own = _next_run(step, moment, at)
    if not instances and not watched and own == FOREVER:
        customer.fires.pop(moment.name, None)
        return
    pick_from = -FOREVER
    if moment.pick_one is not None:
        pick_from = may_pick_from(moment, instances, customer.picked.get(moment.name))
    look = min(look_at(moment, instances, step.program.disorder[moment.name], pick_from), own)
    if watched:
        asked = customer.fires.get(moment.name, FOREVER)  # by an event that is taken in just now
        look = min(look, next_look(step, moment, at), asked if asked > customer.now else FOREVER)
        if look == FOREVER:
            customer.fires.pop(moment.name, None)
            return
    # Never before `at`: how long a look is overdue tells how long nobody looked.
    customer.fires[moment.name] = look if moment.pick_one is None else max(look, at)


def _next_run(step: Step, moment: Moment, after: int) -> int:
    """Return when a schedule next comes to a customer, FOREVER to whom nothing is known of."""
    shape, profile = moment.shape, step.customer.profile
    assert isinstance(shape, Schedule)
    if profile is None:
        return FOREVER
    zone = zone_for(profile.time_zone, profile.country, step.program.policy)
    place = fingerprint(f"{moment.name}/{step.customer_id}") % shape.spread if shape.spread else 0
    return next_run(shape, zone, after - place) + place


def _run(step: Step, moment: Moment, due: int) -> None:
    """Let a schedule's moment wait for a customer in its segment, if it is for that that one looks now."""
    shape, instances = moment.shape, step.customer.instances(moment.name)
    assert isinstance(shape, Schedule)
    if instances or _next_run(step, moment, due - 1) != due:
        return
    view = CustomerView(step.program, step.reference, step.customer, step.customer.now, moment)
    if view.in_segment(shape.segment) is True:
        instances[""] = Instance(WAITING, due, due, FOREVER if moment.lasts is None else due + moment.lasts)


def leave(step: Step, moment: Moment, over: EndedMoment, at: int = FOREVER) -> None:
    """Remember an instance that is over since an instant, so that nothing that happened before starts it again."""
    if isinstance(moment.shape, Calendar):
        years = step.customer.years
        years[moment.name] = max(int(over.moment_key), years.get(moment.name, 0))
    elif isinstance(moment.shape, Launch):
        launch_is_over(step.customer, moment, over.moment_key, over.started_at)
    else:
        # A late purchase between start and opening begins another silence, a late item belongs to the cart as it was.
        until = over.opened_at if isinstance(moment.shape, Absence) else over.started_at
        if isinstance(moment.shape, Sequence) and moment.shape.then is not None:
            # Who looked again while it was there has got their answer.
            until = max(until, forget_looks(step.customer, moment, over.moment_key, at))
        _remember(step, moment, over.moment_key, until)


def _start(step: Step, role: Role, event: Event, instances: dict[str, Instance], over: list[EndedMoment]) -> bool:
    """Start or restart the instances of one moment; return whether any changed, and add to what is over by that."""
    moment, shape, time, changed = role.moment, role.moment.shape, event.time, False
    if isinstance(shape, Sequence) and shape.then is not None:
        _look(step, moment, event)
        return True
    if isinstance(shape, Launch):
        await_launches(step, moment, max(time, step.customer.now))
        return True
    reached = isinstance(shape, REACHED)
    for key in ("",) if moment.key is None else step.keys(event, moment.key):
        there = instances.get(key)
        if there is None and not role.starts:
            continue  # it restarts only what has started
        if there is not None and isinstance(shape, Absence) and there.state == WAITING and time <= there.due:
            # The common case, another item in the cart: the latest counts where it restarts, else the earliest.
            if time <= there.started if role.restarts else time >= there.started:
                continue
            if role.restarts and not _is_over(step.customer, moment, key, time):
                there.started, there.due = time, time + shape.within
                there.until = FOREVER if moment.lasts is None else there.due + moment.lasts
                changed = True
                continue
        if _is_over(step.customer, moment, key, time):
            continue
        if reached and there is not None:
            continue  # it is known already
        if isinstance(shape, _EXPECTED) and there is not None and time < there.started:
            # An older event changes the rhythm, not since when the next is waited for.
            if there.state == WAITING:
                instances[key] = _waiting(step, moment, key, there.started) or there
                changed = True
            continue
        new = _reached(step, moment, key, event) if reached else _waiting(step, moment, key, time)
        if new is not None:
            over += start_instance(moment, instances, key, new, restarts=role.restarts, by=event.name)
            changed = True
    return changed


def _waiting(step: Step, moment: Moment, key: str, time: int) -> Instance | None:
    """Return the instance that an event at `time` starts, or None when there is nothing to wait for."""
    shape = moment.shape
    if isinstance(shape, _DELAYED):
        due = time + shape.within
        return Instance(WAITING, time, due, FOREVER if moment.lasts is None else due + moment.lasts)
    if isinstance(shape, Silence):
        gap = CustomerView(step.program, step.reference, step.customer, time, moment, key).feature(shape.of)
        if gap is None:
            return None
        due = time + min(max(gap * shape.times_permille // 1000, shape.min), shape.max)
        return Instance(WAITING, time, due, FOREVER if moment.lasts is None else due + moment.lasts)
    assert isinstance(shape, Around)
    date = step.program.features[shape.date].read(step.customer.fact(shape.date), key, time, step.reference)
    if date is None or date + shape.end <= time:
        return None
    # Never before half of the way there: a reminder on the day after the purchase is none.
    opens = max(date + shape.start, (time + date) // 2)
    return Instance(WAITING, time, opens, date + shape.end)


def _reached(step: Step, moment: Moment, key: str, event: Event) -> Instance | None:
    """Return the instance that an event starts by being enough, or the last of several."""
    if isinstance(moment.shape, Sequence):
        return _follow(step, moment, key, event)
    assert isinstance(moment.shape, Total)
    return _waiting(step, moment, key, event.time) if _reaches(step, moment.shape, key, event) else None


def _reaches(step: Step, shape: Total, key: str, event: Event) -> bool:
    """Return whether it was this event that made them enough: without it there were too few."""
    if shape.where is not None and shape.where.holds(EventView(event)) is not True:
        return False
    feature = step.program.features[shape.feature]
    total = feature.read(step.customer.fact(shape.feature), key, event.time, step.reference)
    amount = 1 if shape.field is None else int(event.data.get(shape.field) or 0)
    return bool(total - amount < shape.at_least <= total)


def _look(step: Step, moment: Moment, event: Event) -> None:
    """Let an event be somebody's part in what waits for a product's stock, or a change of that stock."""
    for key in step.keys(event, moment.key or ""):
        over = _over_until(step.customer, moment, key)
        if event.name == STOCK:
            look_at_stock(step, moment, key, over)
        elif event.time > over and (ends := _ends_of(step, moment, key, event)) is not None:
            look_at_product(step, moment, key, *ends, over)


def look_at_all_stock(step: Step, moment: Moment) -> None:
    """Let the instances of a moment be what looks and stock make of them by now."""
    if isinstance(moment.shape, Sequence) and moment.shape.then is not None:
        for key in looked_at(step.customer, moment):
            look_at_stock(step, moment, key, _over_until(step.customer, moment, key))


def _follow(step: Step, moment: Moment, key: str, event: Event) -> Instance | None:
    """Return the instance of a sequence that an event completes."""
    shape = moment.shape
    assert isinstance(shape, Sequence)
    ends = _ends_of(step, moment, key, event)
    if ends is None or _is_over(step.customer, moment, key, ends[0]):
        return None
    due = ends[1] + shape.wait
    return Instance(WAITING, ends[0], due, FOREVER if moment.lasts is None else due + moment.lasts)


def _ends_of(step: Step, moment: Moment, key: str, event: Event) -> tuple[int, int] | None:
    """Return the times of the first and the last event of a sequence that an event completes."""
    shape = moment.shape
    assert isinstance(shape, Sequence)
    place = next(place for place, stage in enumerate(shape.stages) if event.name in stage.event.events)
    if place == 0 and not _begins(step, shape, key, event):
        return None
    name = _progress(moment)
    progress = step.customer.fact(name) or {}
    ends = follow(shape, progress, key, place, event.time)
    step.customer.set_fact(name, progress or None)
    return ends


def _begins(step: Step, shape: Sequence, key: str, event: Event) -> bool:
    """Return whether an event may be the first of a sequence: the state is right, and it is the first of its kind."""
    if shape.state is not None and not shape.state.fits(step.reference.product(key, event.time)):
        return False
    if shape.first_per is None:
        return True
    feature = step.program.features[shape.first_per]
    firsts = step.customer.fact(shape.first_per) or {}
    return any(firsts.get(kind) == event.time // 1000 for kind in step.keys(event, feature.key or ""))


def _break_off(step: Step, moment: Moment, keys: Iterable[str] | None, time: int) -> None:
    """Let go of the sequences under way that an event ends; what began before it does not go on."""
    progress = step.customer.fact(_progress(moment)) or {}
    for key in [key for key in progress if keys is None or key in keys]:
        if min(seen for seen in progress[key] if seen is not None) <= time:
            del progress[key]
    step.customer.set_fact(_progress(moment), progress or None)
    if isinstance(moment.shape, Sequence) and moment.shape.then is not None:
        for key in looked_at(step.customer, moment) if keys is None else keys:
            forget_looks(step.customer, moment, key, time)


def _progress(moment: Moment) -> str:
    """Return the name of the fact that keeps how far a sequence has come."""
    return f"{moment.name}.steps"


def _remember(step: Step, moment: Moment, key: str, time: int) -> None:
    over = step.customer.over
    name = f"{moment.name}/{key}"
    known = over.pop(name, None)
    over[name] = time if known is None or time > known else known
    if known is not None or len(over) <= OVER_BEFORE_PRUNING:
        return  # only what is new makes them more
    least = step.clock_before - step.program.longest_late
    for old in [old for old, until in over.items() if until < least and until + _outlasts_lateness(step, old) < least]:
        del over[old]
    if len(over) > MAX_INSTANCES:
        own = [one for one in over if one.startswith(f"{moment.name}/")]
        if len(own) > MAX_INSTANCES:
            del over[own[0]]


def _outlasts_lateness(step: Step, place: str) -> int:
    """Return how much longer than events may be late something has to be remembered as over."""
    moment = step.program.moments.get(place.partition("/")[0])
    if moment is None:
        return 0
    if isinstance(moment.shape, During):
        return FOREVER  # its host may still be open
    # The first event of a sequence may have come long before the last.
    return moment.shape.longest + moment.shape.then_within if isinstance(moment.shape, Sequence) else 0


def _is_over(customer: Customer, moment: Moment, key: str, time: int) -> bool:
    return bool(customer.over) and _over_until(customer, moment, key) >= time


def _over_until(customer: Customer, moment: Moment, key: str) -> int:
    """Return the instant up to which nothing starts an instance any more."""
    over, name = customer.over, f"{moment.name}/"
    return max(over.get(name, -FOREVER), over.get(name + key, -FOREVER))


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
