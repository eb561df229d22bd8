"""One customer's recorded life through the engine, step by step, as the worker that had read it would have decided."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

from orchestrator.backtest.spool import Placed
from orchestrator.backtest.steps import Steps
from orchestrator.events import FOREVER
from orchestrator.program import Program
from orchestrator.reference import Reference
from orchestrator.simulation import Simulation

_STEP = itemgetter(0)


def live(
    program: Program, reference: Reference, events: Iterable[Placed], steps: Steps, *, max_lag: int | None = None
) -> Simulation:
    """Take one customer through all steps; what was decided and what is known at their end is in the result.

    Steps in which nothing happened to this customer are left out where that changes nothing: a timer is judged as of
    its due instant, unless `max_lag` says otherwise.
    """
    relevant = program.relevant
    simulation = Simulation(program, reference, max_lag=max_lag)
    placed = sorted((one for one in events if one[1].name in relevant), key=_STEP)
    for step, group in groupby(placed, _STEP):
        wait(simulation, steps, steps.before(step))
        simulation.feed(*(event for _, event in group))
        simulation.advance(steps.time(step))
    wait(simulation, steps, steps.until)
    return simulation


def wait(simulation: Simulation, steps: Steps, until: int) -> None:
    """Let time alone go on up to an instant."""
    if simulation.max_lag is not None:  # then it matters at which barrier a timer is judged
        while (due := next_due(simulation)) <= until:
            simulation.advance(min(steps.at(due), until))
    if until > simulation.clock:
        simulation.advance(until)


def next_due(simulation: Simulation) -> int:
    """Return the next instant at which time alone changes something for the one customer there is."""
    return min((customer.next_due for customer in simulation.customers.values()), default=FOREVER)
