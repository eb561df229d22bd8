"""How far everything is decided: the instant that the clock of every partition has come to, as the topics tell it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from orchestrator.runtime.avro import Decode
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.patience import PASSING
from orchestrator.runtime.topic_follower import Follower

TAIL = 200
"""Offsets before its end from which the clock topic is followed: enough for a barrier among markers of transactions."""

ASKING_SECONDS = 2.0


class Decided:
    """Follows the clock topic, and in a replay the offsets that the engines' group has committed there.

    Live, a barrier is written in the transaction that decides up to it: whoever has read it finds everything that was
    decided until then. In a replay barriers are there beforehand, and count once the group has committed them.
    """

    def __init__(
        self, client_config: Mapping[str, Any], topic: str, partitions: int, decode: Decode, group: str | None
    ) -> None:
        """Follow a topic; `group` is that of the engines in a replay, None when live."""
        self._topic = topic
        self._decode = decode
        self._waiting: list[deque[tuple[int, int]]] = [deque() for _ in range(partitions)]
        self._times: dict[int, int] = {}
        self._group: Consumer | None = None
        starts: dict[int, int] = {}
        if group is not None:
            # It never joins the group, it only asks.
            self._group = Consumer({**client_config, "group.id": group, "enable.auto.commit": False})
            starts = {number: max(0, offset - 1) for number, offset in self._committed().items()}

        def start(_: str, number: int, first: int, following: int) -> int:
            return max(first, starts.get(number, 0) if group is not None else following - TAIL)

        self._follower = Follower(client_config, {topic: partitions}, start)

    def poll(self, seconds: float = 0.0) -> None:
        """Read what is new."""
        for message in self._follower.poll(seconds):
            value = message.value()
            assert isinstance(value, bytes)
            self._waiting[message.partition() or 0].append(((message.offset() or 0) + 1, self._decode(value)["time"]))
        committed = None if self._group is None else self._committed()
        for number, waiting in enumerate(self._waiting):
            while waiting and (committed is None or waiting[0][0] <= committed.get(number, -1)):
                self._times[number] = waiting.popleft()[1]

    @property
    def reached(self) -> int | None:
        """The instant up to which every partition is decided, None while some have not told."""
        return None if self.silent else min(self._times.values())

    @property
    def silent(self) -> list[int]:
        """The partitions that have not told how far they are."""
        return [number for number in range(len(self._waiting)) if number not in self._times]

    def close(self) -> None:
        """Leave the brokers."""
        self._follower.close()
        if self._group is not None:
            self._group.close()

    def _committed(self) -> dict[int, int]:
        """Return the offsets of the group as far as they are told; those of an open transaction are not."""
        assert self._group is not None
        wanted = [TopicPartition(self._topic, number) for number in range(len(self._waiting))]
        try:
            answers = self._group.committed(wanted, timeout=ASKING_SECONDS)
        except KafkaException as error:
            if error.args[0].code() not in PASSING:
                raise OperatorError(f"the group's offsets cannot be read: {error.args[0].str()}") from error
            return {}
        return {where.partition: where.offset for where in answers if where.error is None and where.offset >= 0}
