"""Windows around the launch of something new: who bought of its category looks once a day whether one is coming."""

from __future__ import annotations

from typing import Final

from orchestrator.customer import OPEN, WAITING, Customer, Instance
from orchestrator.events import DAY, FOREVER
from orchestrator.moments.rules import Launch, Moment
from orchestrator.step import Step

LOOK_EVERY: Final = DAY
"""How often somebody looks: a launch that is announced too late for its window opens it that much later at most."""


def await_launches(step: Step, moment: Moment, at: int) -> None:
    """Let the next launch of every category bought of late wait, as it is known at an instant."""
    shape = moment.shape
    assert isinstance(shape, Launch)
    customer = step.customer
    instances = customer.instances(moment.name)
    answered: dict[str, int] = customer.fact(_answered(moment)) or {}
    bought = _bought(customer, shape, at)
    for category in {**bought, **instances}:
        there = instances.get(category)
        if there is not None and there.state == OPEN:
            continue
        launch = None
        if category in bought:
            after = max(at - shape.end, answered.get(category, -FOREVER))
            launch = step.reference.next_launch(category, after, at)
        if launch is None:
            instances.pop(category, None)
        elif there is None or there.until != launch + shape.end:
            opens = launch + shape.start
            instances[category] = Instance(WAITING, opens, max(opens, at), launch + shape.end)


def next_look_for_launches(step: Step, moment: Moment, at: int) -> int:
    """Return when to look again, seen from an instant, FOREVER where nothing was bought of late."""
    assert isinstance(moment.shape, Launch)
    return at + LOOK_EVERY if _bought(step.customer, moment.shape, at) else FOREVER


def launch_is_over(customer: Customer, moment: Moment, category: str, started: int) -> None:
    """Remember that a window is over, by the instant at which it began: its launch is not waited for again."""
    shape = moment.shape
    assert isinstance(shape, Launch)
    answered: dict[str, int] = customer.fact(_answered(moment)) or {}
    answered[category] = max(started - shape.start, answered.get(category, -FOREVER))
    known = customer.fact(shape.feature) or {}
    customer.set_fact(_answered(moment), {one: launch for one, launch in answered.items() if one in known} or None)


def _bought(customer: Customer, shape: Launch, at: int) -> dict[str, int]:
    """Return when something of each category was bought last, of those bought of late."""
    last: dict[str, int] = customer.fact(shape.feature) or {}
    return {category: seconds for category, seconds in last.items() if seconds * 1000 + shape.bought_within > at}


def _answered(moment: Moment) -> str:
    """Return the name of the fact that keeps the last launch of each category whose window is over."""
    return f"{moment.name}.launches"
