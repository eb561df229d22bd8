"""The three nodes of a soak: who leads, who controls, who coordinates; and bouncing them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka.broker import KafkaBroker
from tests.kafka.workers import Run

_CONTROLS = re.compile(r"Becoming the active controller at epoch (\d+)")
_STABILIZED = re.compile(r"Stabilized group (\S+) generation (\d+)")
_GROUPS, _TRANSACTIONS = "__consumer_offsets", "__transaction_state"


class Nodes:
    """The nodes, and what the cluster says about them."""

    def __init__(self, nodes: Sequence[KafkaBroker]) -> None:
        self._nodes = {node.member.node_id: node for node in nodes}
        self.bootstrap = ",".join(node.bootstrap for node in nodes)
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def controller(self) -> int:
        """Return the node that became the active controller last; clients are not told."""
        epochs = {
            number: max((int(epoch) for epoch in _CONTROLS.findall(self._log(number))), default=0)
            for number in self._nodes
        }
        return max(epochs, key=lambda number: epochs[number])

    def leader(self, topic: str, partition: int) -> int:
        """Return the node that leads a partition."""
        return int(self._admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader)

    def group_coordinator(self, group: str) -> int:
        """Return the node that coordinates a group."""
        return self._coordinator(_GROUPS, group)

    def transaction_coordinator(self, transactional_id: str) -> int:
        """Return the node that coordinates the transactions of an id."""
        return self._coordinator(_TRANSACTIONS, transactional_id)

    def roles(self, number: int, run: Run, ordinals: Sequence[int]) -> list[str]:
        """Return what a node is just now, for the record."""
        found = ["controller"] if self.controller() == number else []
        if self.group_coordinator(run.settings.group) == number:
            found.append("group coordinator")
        ids = [o for o in ordinals if self.transaction_coordinator(f"{run.settings.group}.{o}") == number]
        return found + [f"transaction coordinator of worker {ordinal}" for ordinal in ids]

    def stop(self, number: int, *, hard: bool) -> None:
        """Stop a node in good order, or as a power cut would."""
        self._nodes[number].kill() if hard else self._nodes[number].stop(30)

    def start(self, number: int) -> None:
        """Start a node again."""
        self._nodes[number].start()

    def whole(self) -> bool:
        """Return whether every partition has all its replicas in sync."""
        try:
            found = self._admin.list_topics(timeout=3)
        except KafkaException:
            return False
        everything = [one for topic in found.topics.values() for one in topic.partitions.values()]
        return bool(everything) and all(len(one.isrs) == len(self._nodes) and one.leader >= 0 for one in everything)

    def keep_logs(self, folder: Path) -> None:
        """Write down what the nodes have logged, and what the cluster says of itself."""
        for number in self._nodes:
            (folder / f"node-{number}.log").write_text(self._log(number))
        try:
            topics = self._admin.list_topics(timeout=10).topics.values()
            told = [
                f"{t.topic}[{p.id}] leader {p.leader} in sync {p.isrs}" for t in topics for p in t.partitions.values()
            ]
        except KafkaException as error:
            told = [str(error)]
        (folder / "partitions.txt").write_text("\n".join(sorted(told)) + "\n")

    def generation(self, group: str) -> int:
        """Return the newest generation of a group that any node has told of in its log."""
        told = [_STABILIZED.findall(self._log(number)) for number in self._nodes]
        return max((int(generation) for of_node in told for name, generation in of_node if name == group), default=0)

    def rolled_back(self, transactional_id: str) -> int:
        """Return how often a transaction of an id was ended by its timeout."""
        said = f"transactionalId {transactional_id} due to timeout"
        return sum(self._log(number).count(said) for number in self._nodes)

    def _coordinator(self, topic: str, name: str) -> int:
        partitions = self._admin.list_topics(topic, timeout=10).topics[topic].partitions
        return int(partitions[abs(_java_hash(name)) % len(partitions)].leader)

    def _log(self, number: int) -> str:
        return self._nodes[number].log.read_text(errors="replace")


def _java_hash(text: str) -> int:
    """Return Java's String.hashCode, by which Kafka chooses a coordinator."""
    value = 0
    for letter in text:
        value = (31 * value + ord(letter)) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
