"""Live barriers name only ends that a broker has told."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from orchestrator.runtime.barriers import LiveBarriers

TOPICS = ("clickstream", "purchases")


class Ends:
    """An admin client whose ends are set by the test."""

    def __init__(self) -> None:
        self.of = dict.fromkeys(TOPICS, 5)

    def list_offsets(self, wanted: Iterable[TopicPartition], **_: Any) -> dict[TopicPartition, Future[Any]]:
        """Answer at once."""
        answers = {}
        for where in wanted:
            answers[where] = Future[Any]()
            answers[where].set_result(SimpleNamespace(offset=self.of[where.topic]))
        return answers


def test_an_end_that_no_leader_told_makes_no_barrier() -> None:
    """When a leader is lost librdkafka answers -1001 and no error; with that end, time would pass unread records."""
    ends, clock = Ends(), [1_000]
    admin: AdminClient = ends  # type: ignore[assignment]  # only its ends are asked for
    barriers = LiveBarriers(admin, TOPICS, [], lambda: clock[0], 500)

    def taken() -> dict[int, Any]:
        clock[0] += 500
        barriers.take([0])  # asks
        return barriers.take([0])

    assert taken()[0].ends == {"clickstream": 5, "purchases": 5}
    ends.of["purchases"] = -1001
    assert taken() == {}
    ends.of["purchases"] = 7
    assert taken()[0].ends == {"clickstream": 5, "purchases": 7}
