"""What one partition has read but not yet decided, and where the next step can be cut out of it.

A step is everything up to a barrier. Catching up, when more was read than one step should hold and the barrier is still
far, a step is cut where the reading stands and time stays where it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import Message

from orchestrator.runtime.barriers import Barrier
from orchestrator.runtime.errors import OperatorError


class Step(NamedTuple):
    """One partition between two barriers: what was read, by topic, and the offsets after it.

    `advances` is false for a step cut while time stands still.
    """

    barrier: Barrier
    messages: Sequence[tuple[str, Sequence[Message]]]
    positions: Mapping[str, int]
    advances: bool


class _Queue:
    """Records of one topic, and their offsets beside them: a step takes all before its end at once."""

    __slots__ = ("messages", "offsets")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.offsets: list[int] = []

    def take(self, end: int) -> list[Message]:
        """Take what is before an offset."""
        count = bisect_left(self.offsets, end)
        taken = self.messages[:count]
        del self.messages[:count], self.offsets[:count]
        return taken


class Inbox:
    """Records of one partition's inputs, in order per topic, and the barriers that wait for them."""

    def __init__(self, positions: Mapping[str, int], *, step_records: int, may_cut: bool) -> None:
        """Start at the next offsets of every input; `may_cut` allows steps between barriers (live, not in a replay)."""
        self._queues = {topic: _Queue() for topic in positions}
        self._reached = dict(positions)
        self._positions = dict(positions)
        self._barriers: deque[Barrier] = deque()
        self._step_records = step_records
        self._may_cut = may_cut
        self.records = 0

    def add(self, topic: str, message: Message) -> None:
        """Keep a record."""
        offset = message.offset()
        assert offset is not None
        if offset < self._reached[topic]:
            return  # fetched before a seek: it comes again, or was decided already
        queue = self._queues[topic]
        queue.messages.append(message)
        queue.offsets.append(offset)
        self._reached[topic] = offset + 1
        self.records += 1

    def reach(self, topic: str, offset: int) -> None:
        """Note that the topic was read up to an offset, past records and control markers alike."""
        if offset > self._reached[topic]:
            self._reached[topic] = offset

    def add_barrier(self, barrier: Barrier) -> None:
        """Keep a barrier; live, one that replaces what is still waited for is not kept twice."""
        if self._may_cut and self._barriers:
            # The newest instant, but the ends first asked for: else a backlog that grows would never be caught up.
            return
        self._barriers.append(barrier)

    @property
    def waiting_barriers(self) -> int:
        """How many barriers wait for their records."""
        return len(self._barriers)

    def is_full(self, topic: str) -> bool:
        """Return whether reading this topic further would only fill memory."""
        if len(self._queues[topic].messages) < self._step_records:
            return False
        needed = any(self._reached[topic] < barrier.ends.get(topic, 0) for barrier in self._barriers)
        if needed and not self._may_cut and len(self._queues[topic].messages) > 20 * self._step_records:
            message = (
                f"more than {20 * self._step_records} records of {topic} between two barriers of the clock topic: "
                "replay with barriers closer together (orchestrator replay --barrier-every)"
            )
            raise OperatorError(message)
        return not needed

    def next_step(self, clock: int, references_reached: Callable[[Mapping[str, int]], bool]) -> Step | None:
        """Return the next step, or None while its barrier, or the reference data it needs, is not there."""
        if self._barriers:
            barrier = self._barriers[0]
            ends = barrier.ends
            if all(reached >= ends.get(topic, 0) for topic, reached in self._reached.items()):
                if not references_reached(ends):
                    return None
                self._barriers.popleft()
                time = max(clock, barrier.time)  # T never goes back
                kept = Barrier(time, ends, barrier.horizon)
                return self._cut(kept, {topic: ends.get(topic, 0) for topic in self._queues}, advances=True)
        if self._may_cut and self._barriers and self.records >= self._step_records:
            reached = dict(self._reached)
            horizon = max(clock, self._barriers[0].newest)  # the wall clock may have jumped back behind our own
            return self._cut(Barrier(clock, reached, horizon), reached, advances=False)
        return None

    def _cut(self, barrier: Barrier, ends: Mapping[str, int], *, advances: bool) -> Step:
        taken: list[tuple[str, Sequence[Message]]] = []
        for topic, queue in self._queues.items():
            if messages := queue.take(ends[topic]):
                self.records -= len(messages)
                taken.append((topic, messages))
            self._positions[topic] = max(self._positions[topic], ends[topic])
        return Step(barrier, taken, dict(self._positions), advances)
