"""What must come out, computed from the committed inputs and the barriers alone: no loop, no store, no transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from orchestrator.customer import Customer
from orchestrator.engine import advance
from orchestrator.events import ERASED, FOREVER, PROFILE, Event
from orchestrator.measurement import inherit_slot
from orchestrator.reference import Reference, product_of
from orchestrator.runtime.intake import DeadLetter, sources_of
from orchestrator.runtime.outbox import Headers, Outbox
from tests.simulator.fake_kafka import FakeKafka
from tests.simulator.worker import intake
from tests.simulator.world import PARTITIONS, codec, program, topics

Output = tuple[str, int, bytes | None, bytes | None, tuple[tuple[str, Any], ...]]
"""Topic, partition, key, value and headers of a record."""

NOBODY = Customer().to_bytes()


class Used(NamedTuple):
    """A barrier as the clock topic has it."""

    time: int
    ends: dict[str, int]
    horizon: int | None


class Expected:
    """What the oracle found."""

    def __init__(self) -> None:
        self.outputs: Counter[Output] = Counter()
        self.states: dict[tuple[int, bytes], bytes] = {}
        self.overdue: list[tuple[int, int, int]] = []
        """Partition, due instant and the barrier that came to it, of every timer that a barrier moved."""
        self.slots_left: dict[int, dict[bytes, int]] = {}
        """By partition, until when the slots of erased customers are held."""
        self.erased_at: dict[int, dict[bytes, int]] = {}
        """By partition, when customers were erased last."""
        self.inherited = 0
        self.dropped = 0
        """Events from before their customer's erasure."""
        self.next_due: dict[int, int] = {}
        self.records = 0


def expect(kafka: FakeKafka, barriers: Sequence[Sequence[Used]], max_lag: int | None) -> Expected:
    """Return what the barriers of each partition bring about."""
    found = Expected()
    reference = Reference()
    decode = codec().decoder(topics().references[0])
    for entry in kafka.logs["products", 0].committed():
        assert entry.value is not None
        reference.put(product_of(decode(entry.value)))
    for number in range(PARTITIONS):
        _Oracle(kafka, number, reference, found, max_lag).follow(barriers[number])
    return found


class _Oracle:
    def __init__(
        self, kafka: FakeKafka, number: int, reference: Reference, found: Expected, max_lag: int | None
    ) -> None:
        self._number = number
        self._found = found
        self._reference = reference
        self._max_lag = max_lag
        self._customers: dict[bytes, Customer] = {}
        self._slots_left: dict[bytes, int] = {}
        self._erased_at: dict[bytes, int] = {}
        self._clock = -FOREVER
        self._logs = {topic.name: kafka.logs[topic.name, number] for topic in sources_of(topics())}
        self._positions = dict.fromkeys(self._logs, 0)
        self._intake = intake()
        self._outbox = Outbox(topics(), codec(), self._send)

    def _send(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None
    ) -> None:
        self._found.outputs[topic, partition, key, value, tuple(headers or ())] += 1

    def follow(self, barriers: Sequence[Used]) -> None:
        for barrier in barriers:
            self._step(barrier)
        self._forget_slots()
        self._found.slots_left[self._number] = self._slots_left
        self._found.erased_at[self._number] = self._erased_at
        for key, customer in self._customers.items():
            state = customer.to_bytes()
            if state != NOBODY:
                self._found.states[self._number, key] = state
        self._found.next_due[self._number] = min(
            (customer.next_due for customer in self._customers.values()), default=FOREVER
        )

    def _step(self, barrier: Used) -> None:
        clock = barrier.time
        by_customer = self._events(barrier)
        self._forget_slots()
        for key, customer in self._customers.items():
            if customer.next_due <= clock:
                if key not in by_customer:
                    by_customer[key] = []
                self._found.overdue.append((self._number, customer.next_due, clock))
        for key, events in by_customer.items():
            customer = self._customers.get(key, Customer())
            events.sort(key=Event.order)
            told = len(events)
            events = self._erased(key, customer, events)
            customer = self._customers.get(key, customer)
            events = self._since_erasure(key, events)
            if told and not events and customer.next_due > clock:
                continue
            self._customers[key] = customer
            if events and key in self._slots_left:
                inherit_slot(program(), customer, self._slots_left.pop(key))
                self._found.inherited += 1
            effects = advance(
                program(),
                self._reference,
                key.decode(),
                customer,
                events,
                clock,
                clock_before=self._clock,
                not_before=-FOREVER if self._max_lag is None else clock - self._max_lag,
            )
            self._outbox.emit(self._number, key, effects)
        self._clock = clock

    def _forget_slots(self) -> None:
        """Forget the slots that no late event can reach any more."""
        passed = self._clock - program().longest_late
        self._slots_left = {key: until for key, until in self._slots_left.items() if until > passed}

    def _events(self, barrier: Used) -> dict[bytes, list[Event]]:
        newest = barrier.time if barrier.horizon is None else barrier.horizon
        by_customer: dict[bytes, list[Event]] = {}
        for topic, log in self._logs.items():
            start, end = self._positions[topic], barrier.ends.get(topic, 0)
            self._positions[topic] = max(start, end)
            for entry in log.entries[start:end]:
                if entry.state != 1:
                    continue
                self._found.records += 1
                message = log.message(entry)
                event = self._intake.read(topic, message, newest)
                if isinstance(event, DeadLetter):
                    self._outbox.bury(self._number, topic, message, event)
                elif event.name in program().relevant:
                    assert entry.key is not None
                    if self._intake.is_stranger(entry.key, self._number):
                        detail = "the producer does not partition by murmur2 of the key"
                        self._outbox.bury(self._number, topic, message, DeadLetter("wrong_partition", detail))
                        continue
                    by_customer.setdefault(entry.key, []).append(event)
        return by_customer

    def _erased(self, key: bytes, customer: Customer, events: list[Event]) -> list[Event]:
        places = [place for place, event in enumerate(events) if event.name == ERASED]
        if not places:
            return events
        last = places[-1]
        self._outbox.erase(self._number, key, [window.decision_id for window in customer.closed])
        self._customers[key] = Customer()
        self._erased_at[key] = events[last].time
        ends = [window.end for window in (*customer.closed, customer.window) if window is not None]
        if ends:
            self._slots_left[key] = max(ends)
            self._forget_slots()
        newer = [one for one in events[:last] if one.name == PROFILE and one.offset > events[last].offset]
        return [*newer, *events[last + 1 :]]

    def _since_erasure(self, key: bytes, events: list[Event]) -> list[Event]:
        """Return the events but those that a lagging topic still had of somebody erased."""
        erased_at = self._erased_at.get(key)
        if erased_at is None:
            return events
        since = [one for one in events if one.name == PROFILE or one.time > erased_at]
        self._found.dropped += len(events) - len(since)
        return since
