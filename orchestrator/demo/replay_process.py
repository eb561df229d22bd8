"""The replay in a process of its own: the world's year into the topics, with a few records that nobody can use."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from orchestrator.demo.replayer import Arrival, Replayer
from orchestrator.demo.truth import Truth
from orchestrator.demo.world import World
from orchestrator.events import DAY, HOUR
from orchestrator.runtime.compose import build_learner, codec_of, topics_of
from orchestrator.runtime.connection import client_config
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.learner import Learned
from orchestrator.runtime.partitioner import partition_of
from orchestrator.runtime.settings import Settings

SETTLES = 3 * DAY
"""How long after the last event time goes on: until every cart's moment has ended."""

BARRIER_EVERY = HOUR

PLANT_EVERY = 50_000
"""Records between two that nobody can use."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How far the replay is; `truth` is None until it has ended."""

    records: int
    instant: int
    planted_bad: int
    truth: Truth | None = None


class ReplayProcess:
    """Replays a world into the topics of the settings, beside whoever reads them."""

    def __init__(self, settings: Settings, seed: int, households: int | None, days: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._receiver, sender = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(
            target=_replay, args=(sender, settings, seed, households, days), name="replay", daemon=True
        )
        self._process.start()
        sender.close()
        self.latest = Replayed(0, 0, 0)

    def poll(self) -> Replayed:
        """Return how far the replay is, or raise an OperatorError if it failed."""
        try:
            while self._receiver.poll():
                message: Any = self._receiver.recv()
                if isinstance(message, str):
                    raise OperatorError(message)
                self.latest = message
        except EOFError:
            if self.latest.truth is None:
                raise OperatorError("the replay stopped before its end; see what it printed above") from None
        return self.latest

    def stop(self) -> None:
        """End the process, done or not."""
        self._process.terminate()
        self._process.join(10)


def replay(
    settings: Settings,
    seed: int,
    households: int | None,
    days: int | None,
    tell: Callable[[Replayed], None],
    *,
    learns: bool = False,
) -> Replayed:
    """Replay a world into the topics of the settings, tell now and then how far it is, and return how it ended.

    With `learns` it also learns as often as ORCHESTRATOR_LEARN_EVERY says, and waits for that.
    """
    world = World(seed, households=households, days=days)
    every = settings.learn_every_ms if learns else None
    replayer = Replayer(
        client_config(settings),
        topics_of(settings),
        codec_of(settings),
        barrier_every=BARRIER_EVERY,
        learn_every=every,
        learner=None if every is None else build_learner(settings, Learned()),
        group=settings.group,
    )
    stream = _Planting(world.stream(), replayer)
    told = 0

    def progress(records: int, instant: int) -> None:
        nonlocal told
        if records - told >= 5_000:
            told = records
            tell(Replayed(records, instant, stream.planted))

    until = world.ends_at + SETTLES
    records = replayer.replay(stream, until, progress)
    return Replayed(records, until, stream.planted, world.truth)


def _replay(sender: Connection, settings: Settings, seed: int, households: int | None, days: int | None) -> None:
    try:
        sender.send(replay(settings, seed, households, days, sender.send, learns=True))
    except OperatorError as error:
        sender.send(str(error))
    except KeyboardInterrupt:
        pass
    finally:
        sender.close()


class _Planting:
    """A stream with records in between that must end as dead letters and disturb nobody."""

    def __init__(self, stream: Iterator[Arrival], replayer: Replayer) -> None:
        self.planted = 0
        self._stream = stream
        self._replayer = replayer

    def __iter__(self) -> Iterator[Arrival]:
        since = 0
        for arrival in self._stream:
            yield arrival
            since += 1
            if since >= PLANT_EVERY and arrival[1] == "clickstream":
                since = 0
                self._plant(arrival)

    def _plant(self, arrival: Arrival) -> None:
        _, topic, key, record = arrival
        record = {**record, "event": "cart.item_added"}  # of what nobody asks for, only the name is read
        replayer, kind = self._replayer, self.planted % 5
        good = replayer.encode(topic, record)
        if kind == 0:
            replayer.send(topic, key, b"\xde\xad\xbe\xef")
        elif kind == 1:
            replayer.send(topic, key, b"\x00\x00\x00\x00\x07" + good[5:])
        elif kind == 2:
            replayer.send(topic, key, replayer.encode(topic, {**record, "event_time": record["event_time"] // 1000}))
        elif kind == 3:
            replayer.send(topic, key, replayer.encode(topic, {**record, "event_time": record["event_time"] + 30 * DAY}))
        else:
            elsewhere = (partition_of(b"stranger", replayer.partitions) + 1) % replayer.partitions
            replayer.send(topic, "stranger", replayer.encode(topic, {**record, "customer_id": "stranger"}), elsewhere)
        self.planted += 1
