"""Customers' recorded lives through the engine, step by step, as the worker that had read them would have decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from orchestrator.backtest.spool import Placed
from orchestrator.backtest.steps import Steps
from orchestrator.customer import Customer
from orchestrator.program import Program
from orchestrator.quotas import Quotas
from orchestrator.records import CampaignOutcome, Decision, Trigger
from orchestrator.reference import Reference
from orchestrator.simulation import Simulation

_STEP = itemgetter(0)


@dataclass(slots=True)
class Life:
    """What was decided about one customer, and what is known of them at the end."""

    decisions: list[Decision] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    outcomes: list[CampaignOutcome] = field(default_factory=list)
    customer: Customer | None = None


@dataclass(frozen=True, slots=True)
class Lives:
    """How one partition's customers are taken through their events with some definitions.

    Each goes alone, in the fewest steps: what happens to one does not depend on the others, and a timer is judged as of
    its due instant, unless `max_lag` says otherwise. Where campaigns share a cap, all go together, barrier by barrier.
    """

    program: Program
    reference: Reference
    steps: Steps
    max_lag: int | None = None
    partition: int = 0
    partitions: int = 1

    def of(self, customers: Mapping[str, Iterable[Placed]]) -> Iterator[tuple[str, Life]]:
        """Yield what became of each customer, in order of their ids."""
        if not self.program.shared_caps:
            for customer in sorted(customers):
                yield customer, self.alone(customer, customers[customer])
            return
        everybody = self._run(placed for events in customers.values() for placed in events)
        lives = {customer: Life(customer=everybody.customers.get(customer)) for customer in sorted(customers)}
        for decision in everybody.decisions:
            lives[decision.customer_id].decisions.append(decision)
        for trigger in everybody.triggers:
            lives[trigger.customer_id].triggers.append(trigger)
        for outcome in everybody.outcomes:
            lives[outcome.customer_id].outcomes.append(outcome)
        yield from lives.items()

    def alone(self, customer: str, events: Iterable[Placed]) -> Life:
        """Return what became of one customer."""
        one = self._run(events)
        return Life(one.decisions, one.triggers, one.outcomes, one.customers.get(customer))

    def _run(self, events: Iterable[Placed]) -> Simulation:
        quotas = Quotas(None, self.partition, self.partitions)
        simulation = Simulation(self.program, self.reference, max_lag=self.max_lag, quotas=quotas)
        relevant = self.program.relevant
        placed = sorted((one for one in events if one[1].name in relevant), key=in_order)
        for step, group in groupby(placed, _STEP):
            self._wait(simulation, self.steps.before(step))
            simulation.feed(*(event for _, event in group))
            simulation.advance(self.steps.time(step))
        self._wait(simulation, self.steps.until)
        return simulation

    def _wait(self, simulation: Simulation, until: int) -> None:
        """Let time alone go on up to an instant."""
        if self.max_lag is not None or self.program.shared_caps:  # then the barriers in between matter
            while (due := simulation.next_due) <= until:
                simulation.advance(max(simulation.clock, min(self.steps.at(due), until)))
        if until > simulation.clock:
            simulation.advance(until)


def in_order(placed: Placed) -> tuple[int, int, int]:
    """Return the order in which a worker takes records: by step, and there topic by topic."""
    step, event = placed
    return step, event.topic, event.offset
