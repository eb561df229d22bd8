"""The brokers: logs, groups and transactions over one virtual clock, without a wire."""

from __future__ import annotations

from collections.abc import Mapping

from tests.simulator.clock import VirtualClock
from tests.simulator.groups import Group
from tests.simulator.log import PartitionLog, Place
from tests.simulator.transactions import Transactions


class FakeKafka:
    """Everything the clients of one cluster share."""

    def __init__(self, topics: Mapping[str, int], clock: VirtualClock | None = None) -> None:
        """Create the topics, each with so many partitions."""
        self.clock = VirtualClock() if clock is None else clock
        self.partitions = dict(topics)
        self.logs = {
            (topic, number): PartitionLog((topic, number)) for topic, total in topics.items() for number in range(total)
        }
        self.transactions = Transactions(self)
        self.groups: dict[str, Group] = {}

    def log(self, place: Place) -> PartitionLog:
        """Return a partition's log."""
        return self.logs[place]

    def group(self, name: str) -> Group:
        """Return a group, which exists as soon as somebody asks."""
        if name not in self.groups:
            self.groups[name] = Group(name, self.partitions.__getitem__)
        return self.groups[name]
