"""A year of real purchases, fed into the topics at a pace at which every fault hits work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from orchestrator.demo.replayer import Arrival, Replayer
from orchestrator.demo.world import World
from orchestrator.events import DAY, MINUTE
from orchestrator.runtime.topic_reader import topic_spans
from tests.kafka.workers import Run

BARRIER_EVERY = 60 * MINUTE

SETTLES = 32 * DAY
"""How long time goes on after the last record: until nearly everything that has opened has ended."""

PRODUCTS = 10
"""One product in so many is sent: every life of a worker reads them all before it begins."""

_PULSE = 0.02


class HeldBack(Replayer):
    """A replayer that can keep one topic's records back, while barriers that count them go out already."""

    def __init__(self, run: Run) -> None:
        self._lock = threading.Lock()
        self._held = ""
        self._kept: list[tuple[int, bytes, bytes | None]] = []
        super().__init__(run.client, run.topics, run.codec, barrier_every=BARRIER_EVERY)

    def hold(self, topic: str) -> None:
        """Keep a topic's records back from now on."""
        with self._lock:
            self._held = topic

    def release(self, records: int) -> int:
        """Let the oldest of what was kept go; return how many are left, none when nothing is held any more."""
        with self._lock:
            for partition, key, value in self._kept[:records]:
                super()._produce(self._held, partition, key, value)
            del self._kept[:records]
            if not self._kept:
                self._held = ""
            return len(self._kept)

    @property
    def kept(self) -> int:
        """How many records are kept back."""
        return len(self._kept)

    def _produce(self, topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        with self._lock:
            if topic == self._held:
                self._kept.append((partition, key, value))
                return
        super()._produce(topic, partition, key, value)

    def miscounted(self, run: Run) -> list[str]:
        """Return the partitions whose end is not what the barriers have named: faults must not shift offsets."""
        return [
            f"{topic}[{partition}] ends at {span.end}, {self._ends[topic, partition]} were sent"
            for topic in sorted({name for name, _ in self._ends})
            for partition, span in topic_spans(run.client, topic).items()
            if (topic, partition) in self._ends and span.end != self._ends[topic, partition]
        ]


class Stream(threading.Thread):
    """Feeds a world into a run's inputs; its own time goes `rate` times as fast as ours, until `finish`."""

    def __init__(self, run: Run, seed: int, households: int, days: int | None) -> None:
        super().__init__(name="stream", daemon=True)
        self.rate = 20_000.0  # a day in 4 s, until somebody has measured
        self.records = 0
        self.failure: BaseException | None = None
        self.replayer = HeldBack(run)
        self._world = World(seed, households=households, days=days)
        self.until = self._world.ends_at + SETTLES
        self._now = float(self._world.opens_at)
        self._hurry = False

    @property
    def left(self) -> int:
        """How many milliseconds of the world are still to be fed."""
        return int(self._world.ends_at - self._now)

    @property
    def span(self) -> int:
        """How many milliseconds the world has."""
        return self._world.ends_at - self._world.opens_at

    def finish(self) -> None:
        """Feed the rest at once, and wait for it."""
        self._hurry = True
        self.join()
        if self.failure is not None:
            raise self.failure

    def run(self) -> None:
        """Feed everything."""
        try:
            self.records = self.replayer.replay(self._paced(), self.until)
        except BaseException as error:
            self.failure = error

    def _paced(self) -> Iterator[Arrival]:
        before, products = time.monotonic(), 0
        for arrival in self._world.stream():
            if arrival[1] == "products":
                products += 1
                if products % PRODUCTS:
                    continue
            while arrival[0] > self._now and not self._hurry:
                time.sleep(_PULSE)
                now = time.monotonic()
                self._now += (now - before) * 1_000 * self.rate
                before = now
            yield arrival
