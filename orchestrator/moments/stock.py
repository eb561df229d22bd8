"""Moments that wait for a product's stock: who looked at what, and when the stock came to be right for it.

What comes of looks and stock is found anew whenever either is told, from the newest looks of a product and all versions
of it: so it does not matter in which order they arrive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from orchestrator.customer import OPEN, WAITING, Customer, Instance
from orchestrator.events import FOREVER, HOUR
from orchestrator.moments.detect import MAX_INSTANCES
from orchestrator.moments.rules import Moment, Sequence
from orchestrator.program import Program
from orchestrator.reference import Product
from orchestrator.step import Step

MAX_LOOKS: Final = 4
"""Looks at one product that are kept; of more, the newest."""

MAX_SKUS: Final = 20
"""Products of one moment that somebody waits for; beyond, the one looked at longest ago is let go."""

KEPT: Final = HOUR
"""How long a look is kept after it has ended, for stock that is told late: as long as `disorder` may be."""

Look = list[int]
"""When somebody's own part began, and when it was done: the first and the last event of it."""


def look_at_product(step: Step, moment: Moment, key: str, first: int, last: int, over: int) -> None:
    """Note that somebody did their part for a product, and let its instance be what comes of it.

    `over` is the instant up to which nothing starts it any more.
    """
    shape = moment.shape
    assert isinstance(shape, Sequence)
    looks: dict[str, list[Look]] = step.customer.fact(_looks(moment)) or {}
    there = looks.pop(key, [])
    if [first, last] not in there:
        there.append([first, last])
        there.sort(key=lambda look: (look[1], look[0]))
    looks[key] = there[-MAX_LOOKS:]
    for old in [old for old, seen in looks.items() if _deadline(shape, seen[-1]) + KEPT < last]:
        del looks[old]
    while len(looks) > MAX_SKUS:
        del looks[next(iter(looks))]
    step.customer.set_fact(_looks(moment), looks)
    look_at_stock(step, moment, key, over)


def look_at_stock(step: Step, moment: Moment, key: str, over: int) -> None:
    """Let the instance of a product be what looks and stock make of it by now; one that is open stays as it is."""
    instances = step.customer.instances(moment.name)
    there = instances.get(key)
    if there is not None and there.state == OPEN:
        return
    found = _reached(step, moment, key, over)
    if found is not None:
        instances[key] = found
        if len(instances) > MAX_INSTANCES:
            waiting = [k for k, instance in instances.items() if instance.state == WAITING]
            del instances[min(waiting, key=lambda k: (instances[k].started, k))]
    elif there is not None:
        del instances[key]


def forget_looks(customer: Customer, moment: Moment, key: str, until: int = FOREVER) -> int:
    """Forget the looks at a product that began up to an instant; return when the newest of them began."""
    looks: dict[str, list[Look]] = customer.fact(_looks(moment)) or {}
    gone = [look for look in looks.get(key, ()) if look[0] <= until]
    if gone:
        kept = [look for look in looks.pop(key) if look[0] > until]
        if kept:
            looks[key] = kept
        customer.set_fact(_looks(moment), looks or None)
    return max((look[0] for look in gone), default=-FOREVER)


def looked_at(customer: Customer, moment: Moment) -> list[str]:
    """Return the products that somebody waits for."""
    return list(customer.fact(_looks(moment)) or ())


def awaited(program: Program, customer: Customer) -> dict[str, int]:
    """Return the products whose stock may move one of a customer's moments, each with until when."""
    found: dict[str, int] = {}
    for moment in program.stock_moments:
        for sku, until in _awaited(moment, customer):
            found[sku] = max(until, found.get(sku, until))
    return found


def looks_back(program: Program) -> int:
    """Return how long before a partition's clock moments ask what a product was like, milliseconds.

    An event is looked at as of its own time, and what waits for stock as of the looks it goes back to. Facts take in
    what comes later still, and then do with the oldest version that is known.
    """
    spans = (
        moment.shape.longest + moment.shape.then_within + moment.shape.wait + (moment.lasts or 0)
        for moment in program.stock_moments
        if isinstance(moment.shape, Sequence) and moment.shape.then is not None
    )
    return program.longest_late + program.stock_disorder + KEPT + max(spans, default=0)


def _awaited(moment: Moment, customer: Customer) -> Iterator[tuple[str, int]]:
    if isinstance(moment.shape, Sequence) and moment.shape.then is not None:
        for sku, looks in (customer.fact(_looks(moment)) or {}).items():
            yield sku, _deadline(moment.shape, looks[-1])
    if moment.name in customer.fires and any(match.state is not None for match in moment.cancelled_by):
        for sku, instance in customer.peek(moment.name).items():
            yield sku, instance.until


def _reached(step: Step, moment: Moment, sku: str, over: int) -> Instance | None:
    """Return the instance that the earliest right stock after a look makes, or None."""
    shape = moment.shape
    assert isinstance(shape, Sequence)
    assert shape.then is not None
    looks = (step.customer.fact(_looks(moment)) or {}).get(sku, [])
    if not looks:
        return None
    now = max(step.clock, looks[-1][1])
    first = min(look[0] for look in looks)
    before = step.reference.product(sku, first)
    versions = step.reference.versions(sku, first if before is None else before.effective_from, now)
    endings = [match.state for match in moment.cancelled_by if match.state is not None]
    for ending in [v.effective_from for v in versions if any(state.fits(v) for state in endings)]:
        found = _earliest(moment, [look for look in looks if look[0] > over], versions)
        if found is not None and found.due < ending:
            return found  # it opens before that, which ends it when its turn comes
        over = max(over, ending)
    return _earliest(moment, [look for look in looks if look[0] > over], versions)


def _earliest(moment: Moment, looks: list[Look], versions: list[Product]) -> Instance | None:
    """Return the instance that the earliest right stock makes, of a product's versions in order."""
    shape = moment.shape
    assert isinstance(shape, Sequence)
    assert shape.then is not None
    reached = FOREVER
    for look in looks:
        done, deadline = look[1], _deadline(shape, look)
        for version, ends in zip(versions, [*(v.effective_from for v in versions[1:]), FOREVER], strict=False):
            since = version.effective_from
            at = since if shape.ordered else max(since, done)
            if (since > done if shape.ordered else ends > done) and at <= deadline and shape.then.fits(version):
                reached = min(reached, at)
                break
    if reached == FOREVER:
        return None
    started = max(look[0] for look in looks if look[1] <= reached <= _deadline(shape, look))
    due = reached + shape.wait
    return Instance(WAITING, started, due, FOREVER if moment.lasts is None else due + moment.lasts)


def _deadline(shape: Sequence, look: Look) -> int:
    return (look[1] if shape.ordered else look[0]) + shape.then_within


def _looks(moment: Moment) -> str:
    """Return the name of the fact that keeps who looked at what."""
    return f"{moment.name}.looks"
