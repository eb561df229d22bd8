"""Moments that depend on a condition coming true: what is looked at again, and when time alone may change it."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.conditions import Age, Compare, Expression, InSegment, Read, walk
from orchestrator.customer import OPEN, WAITING, Instance
from orchestrator.events import FOREVER
from orchestrator.moments.detect import end_instances
from orchestrator.moments.rules import During, Membership, Moment
from orchestrator.records import EndedMoment
from orchestrator.rhythm import stage_changes
from orchestrator.step import Step
from orchestrator.view import CustomerView


def look(step: Step, moment: Moment, at: int) -> None:
    """Let a moment be looked at, at an instant or as soon after it as nothing was decided before."""
    customer = step.customer
    if isinstance(moment.shape, During) and moment.name not in customer.fires:
        return  # the other moment is not open: nothing waits
    # Strictly after the last instant evaluated, as in `Step.reconsider`.
    instant = max(at, customer.now + 1)
    customer.fires[moment.name] = min(customer.fires.get(moment.name, FOREVER), instant)


def note_memberships(step: Step, moments: Iterable[Moment], at: int) -> None:
    """Note who was in a segment before the first event since its moment is defined; those have not entered it now.

    A customer of whom nothing was known was in no segment.
    """
    customer = step.customer
    new = [m for m in moments if isinstance(m.shape, Membership) and customer.fact(_inside(m)) is None]
    known = customer.profile is not None or customer.has_facts
    for moment in new:
        customer.set_fact(_inside(moment), known and _is_inside(step, moment, at))


def include(step: Step, moment: Moment, at: int, come_in: int) -> bool | None:
    """Let a customer who is in a segment come in at an instant; return whether that is new, None who is not in it."""
    shape, customer = moment.shape, step.customer
    assert isinstance(shape, Membership)
    waits = customer.fact(_inside(moment)) is False and customer.fires.get(moment.name, FOREVER) < FOREVER
    if not waits and customer.fact(_inside(moment)) is not None:
        return None
    if not _is_inside(step, moment, at):
        return None
    if not waits:
        customer.set_fact(_inside(moment), False)
        customer.fires[moment.name] = come_in
    return not waits


def renew_membership(step: Step, moment: Moment, at: int) -> None:
    """Note who is in a segment now, without a word: what entering and leaving it meant is recorded elsewhere."""
    if isinstance(moment.shape, Membership) and step.customer.fact(_inside(moment)) is not None:
        step.customer.set_fact(_inside(moment), _is_inside(step, moment, at))


def standing(step: Step, moment: Moment, at: int) -> tuple[frozenset[str], int]:
    """Return the keys for which what a moment depends on holds at an instant, and when time alone next changes that."""
    customer = step.customer
    if isinstance(moment.shape, Membership):
        if customer.fact(_inside(moment)) is None:
            return frozenset(), FOREVER  # nobody looked so far
        held = [""] if _is_inside(step, moment, at) else []
    else:
        waiting = [key for key, one in customer.peek(moment.name).items() if one.state == WAITING]
        views = {key: CustomerView(step.program, step.reference, customer, at, moment, key) for key in waiting}
        held = [key for key in waiting if moment.only_if is None or moment.only_if.holds(views[key]) is True]
    return frozenset(held), next_look(step, moment, at)


def hush(step: Step, moment: Moment, came_true: Iterable[str], at: int) -> None:
    """Let a moment take what changed without an event as it is: nothing opens by it."""
    customer = step.customer
    renew_membership(step, moment, at)
    if isinstance(moment.shape, During):
        instances = customer.instances(moment.name)
        for key in came_true:
            # As if it were over: it waits again once the other moment opens anew.
            customer.over[f"{moment.name}/{key}"] = instances.pop(key).due


def cross(step: Step, moment: Moment, at: int) -> list[EndedMoment]:
    """Start the instance of a segment entered or left, or end it when that is undone; return what is over by that."""
    shape = moment.shape
    assert isinstance(shape, Membership)
    customer, name = step.customer, _inside(moment)
    was, inside = customer.fact(name), _is_inside(step, moment, customer.now)
    if was == inside:
        return []
    customer.set_fact(name, inside)
    instances = customer.instances(moment.name)
    if was is not None and inside == shape.entered:
        until = FOREVER if moment.lasts is None else at + moment.lasts
        instances[""] = Instance(WAITING, at, at, until)
        return []
    by = f"{'entered' if inside else 'left'} {shape.segment}"
    return end_instances(moment, instances, list(instances), at, by)


def accompany(step: Step, host: str) -> list[str]:
    """Let the moments that live during another wait for their condition; return those that now have to be looked at."""
    customer, waken = step.customer, []
    for moment in step.program.followers.get(host, ()):
        instances = customer.instances(moment.name)
        for key, other in customer.instances(host).items():
            over = customer.over.get(f"{moment.name}/{key}", -FOREVER)
            if other.state == OPEN and key not in instances and over < other.due:
                instances[key] = Instance(WAITING, other.due, other.due, other.until)
                customer.fires[moment.name] = min(customer.fires.get(moment.name, FOREVER), customer.now)
                waken.append(moment.name)
    return waken


def next_look(step: Step, moment: Moment, at: int) -> int:
    """Return the next instant after one at which time alone may change what a moment depends on."""
    shape, customer = moment.shape, step.customer
    if isinstance(shape, Membership):
        view = CustomerView(step.program, step.reference, customer, at, moment)
        return next_change(step.program.segments[shape.segment].condition.expression, view)
    if moment.only_if is None:
        return FOREVER
    views = [
        CustomerView(step.program, step.reference, customer, at, moment, key)
        for key, instance in customer.instances(moment.name).items()
        if instance.state == WAITING
    ]
    return min((next_change(moment.only_if.expression, view) for view in views), default=FOREVER)


def next_change(expression: Expression, view: CustomerView) -> int:
    """Return the next instant at which a condition may change without an event, FOREVER when it cannot."""
    earliest = FOREVER
    for node in walk(expression):
        if isinstance(node, InSegment):
            instants = [next_change(view.program.segments[node.segment].condition.expression, view)]
        elif isinstance(node, Compare):
            instants = [*_passes(node.left, node.right, view), *_passes(node.right, node.left, view)]
        elif isinstance(node, Read) and node.source == "feature":
            instants = [_feature_changes(node, view)]
        else:
            continue
        earliest = min(earliest, *(instant for instant in instants if instant > view.now), FOREVER)
    return earliest


def _passes(age: Expression, limit: Expression, view: CustomerView) -> list[int]:
    """Return when an age reaches a limit, and when it is past it."""
    grows = isinstance(age, Age) or (isinstance(age, Read) and _kind(age, view) == "age_of")
    if not grows:
        return []
    now_old, wanted = age.value(view), limit.value(view)
    if now_old is None or wanted is None:
        return []
    reached = view.now - now_old + wanted
    return [reached, reached + 1]


def _feature_changes(read: Read, view: CustomerView) -> int:
    feature, customer = view.program.features[read.name], view.customer
    while feature.kind == "quantile":
        feature = view.program.features[feature.of or ""]
    if feature.kind == "age_of":
        return FOREVER  # it matters only where it is compared
    if feature.kind == "stage":
        return stage_changes(customer.fact(feature.of or "") or [], view.now)
    key = view.key if read.key is None else read.key.value(view)
    return feature.changes_at(customer.fact(feature.name), key, view.now)


def _kind(expression: Read, view: CustomerView) -> str:
    return view.program.features[expression.name].kind if expression.source == "feature" else ""


def _is_inside(step: Step, moment: Moment, at: int) -> bool:
    assert isinstance(moment.shape, Membership)
    view = CustomerView(step.program, step.reference, step.customer, at, moment)
    return view.in_segment(moment.shape.segment) is True


def _inside(moment: Moment) -> str:
    """Return the name of the fact that tells whether the customer is in the segment."""
    return f"{moment.name}.in"
