"""Many customers in memory and a clock moved by hand: what YAML tests, back-tests, `why` and our own tests drive.

`feed` lets events arrive, `advance` is the barrier that ends a step. Nothing happens in between, as in a worker.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from orchestrator.adoption import Adoption
from orchestrator.customer import Customer, customer_from_bytes
from orchestrator.engine import advance
from orchestrator.events import ERASED, FOREVER, PROFILE, Event
from orchestrator.measurement import inherit_slot, may_overlap, slot_left
from orchestrator.moments.stock import awaited
from orchestrator.onlookers import Onlookers
from orchestrator.program import Program
from orchestrator.quotas import Quotas
from orchestrator.records import ActiveCampaign, CampaignOutcome, Decision, Trigger
from orchestrator.reference import Reference

_NO_PRODUCTS = Reference()


class Simulation:
    """Customers by id, the clock, and everything emitted so far in the order in which it was emitted.

    `max_lag` is how much later than due a timer may be judged, None for never later, as in a replay. With `round_trip`
    every customer goes through bytes after every step, as in a worker that keeps nobody in memory.
    """

    def __init__(
        self,
        program: Program,
        reference: Reference = _NO_PRODUCTS,
        *,
        start: int = -FOREVER,
        max_lag: int | None = None,
        round_trip: bool = False,
        quotas: Quotas | None = None,
    ) -> None:
        self.program = program
        self.reference = reference
        self.clock = start
        self.max_lag = max_lag
        self.round_trip = round_trip
        self.customers: dict[str, Customer] = {}
        self.quotas = quotas or Quotas()
        self.decisions: list[Decision] = []
        self.triggers: list[Trigger] = []
        self.outcomes: list[CampaignOutcome] = []
        self.active: dict[str, ActiveCampaign] = {}
        self._arrived: dict[str, list[Event]] = {}
        self._erased_at: dict[str, int] = {}
        self._slots_left: dict[str, int] = {}
        self._timers: list[tuple[int, str]] = []
        self._onlookers = Onlookers[str]() if program.stock_moments else None

    def feed(self, *events: Event) -> None:
        """Let events arrive; the next barrier applies them."""
        for event in events:
            self._arrived.setdefault(event.customer, []).append(event)

    def advance(self, to: int) -> None:
        """Take the barrier at an instant: decide what has arrived, and everything that time alone brings until then."""
        assert to >= self.clock, f"the clock stands at {self.clock}, it never goes back to {to}"
        if self._onlookers is not None:
            disorder = self.program.stock_disorder
            self._onlookers.sweep(self.clock - disorder)
            self._onlookers.tell(self.reference, self.clock - disorder, to - disorder, self._arrived)
        arrived, self._arrived = self._arrived, {}
        due: dict[str, None] = {}
        while self._timers and self._timers[0][0] <= to:
            at, customer_id = heapq.heappop(self._timers)
            waiting = self.customers.get(customer_id)
            if waiting is not None and waiting.next_due == at:
                due[customer_id] = None
        if self.quotas.count:
            self.quotas.forget(self.program.shared_caps, self.clock - self.program.longest_late)
        # In the worker's order, because who comes first may use what customers share.
        for customer_id, events in arrived.items():
            self._step(customer_id, sorted(events, key=Event.order), to)
        for customer_id in due:
            if customer_id not in arrived:
                self._step(customer_id, [], to)
        self.clock = to

    @property
    def next_due(self) -> int:
        """The next instant at which time alone may change something, FOREVER when nothing waits."""
        return self._timers[0][0] if self._timers else FOREVER

    def run(self, events: Iterable[Event], *, to: int, every: int) -> None:
        """Let events arrive at their own times, in order, with a barrier at every multiple of `every` on the way."""
        barrier: int | None = None if self.clock == -FOREVER else _multiple_after(self.clock, every)
        for event in events:
            if barrier is None:  # before the first event there is nothing to step through
                barrier = _multiple_after(event.time, every)
            while event.time > barrier:
                self.advance(barrier)
                barrier += every
            self.feed(event)
        while self.clock < to:
            self.advance(to if barrier is None else min(to, barrier))
            barrier = _multiple_after(self.clock, every)

    def publish(self, program: Program) -> None:
        """Let other definitions be in force from the next step on."""
        self.program = program
        adoption = Adoption(program, self.reference, 1)
        for customer_id in sorted(self.customers):
            customer = self.customers[customer_id]
            if adoption.adopt(customer_id, customer, self.clock):
                heapq.heappush(self._timers, (customer.next_due, customer_id))
        self._onlookers = None
        if program.stock_moments:
            self._onlookers = Onlookers()
            for customer_id, customer in self.customers.items():
                self._onlookers.note(customer_id, awaited(program, customer))

    def _step(self, customer_id: str, events: list[Event], to: int) -> None:
        erased = max((place for place, event in enumerate(events) if event.name == ERASED), default=None)
        if erased is not None:
            gone = self.customers.pop(customer_id, None)
            if gone is not None:
                self._slots_left[customer_id] = slot_left(gone)
            if self._onlookers is not None:
                self._onlookers.note(customer_id, {})
            self.active.pop(customer_id, None)
            self._erased_at[customer_id] = max(events[erased].time, self._erased_at.get(customer_id, -FOREVER))
            events = events[erased + 1 :]
        if (
            events and customer_id in self._erased_at
        ):  # what a lagging topic still had of them is not to bring them back
            erased_at = self._erased_at[customer_id]
            events = [event for event in events if event.time > erased_at or event.name == PROFILE]
        known = self.customers.get(customer_id)
        if not events and (known is None or known.next_due > to):
            return
        customer = self.customers.setdefault(customer_id, Customer())
        left = self._slots_left.pop(customer_id, -FOREVER)
        if may_overlap(self.program, left, self.clock):
            inherit_slot(self.program, customer, left)
        effects = advance(
            self.program,
            self.reference,
            customer_id,
            customer,
            events,
            to,
            clock_before=self.clock,
            not_before=-FOREVER if self.max_lag is None else to - self.max_lag,
            quotas=self.quotas,
        )
        self.decisions += effects.decisions
        self.triggers += effects.triggers
        self.outcomes += effects.outcomes
        if effects.active_changed and effects.active is not None:
            self.active[customer_id] = effects.active
        elif effects.active_changed:
            self.active.pop(customer_id, None)
        if self.round_trip:
            customer = self.customers[customer_id] = customer_from_bytes(customer.to_bytes())
        if self._onlookers is not None:
            self._onlookers.note(customer_id, awaited(self.program, customer))
        if effects.next_due < FOREVER:
            heapq.heappush(self._timers, (effects.next_due, customer_id))


def _multiple_after(instant: int, every: int) -> int:
    return instant // every * every + every
