"""Reads the reference topics in full into one `Reference`, and knows how far, so that no clock outruns it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from orchestrator.runtime.avro import Decode, Undecodable
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.patience import Patience, ask_ends
from orchestrator.valuation import MalformedError

ANSWER_SECONDS = 15.0


class ReferenceReader:
    """One consumer over all reference topics, each with a single partition."""

    def __init__(
        self,
        client_config: Mapping[str, Any],
        decoders: Mapping[str, Decode],
        take: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        """Read the topics that have a decoder; `take` gets every record with its topic."""
        self._decoders = decoders
        self._take = take
        self._reached = dict.fromkeys(decoders, 0)
        self.undecodable = 0
        self._patience = Patience(f"reference data in {', '.join(decoders)}")
        self._consumer = Consumer(
            {
                "queued.max.messages.kbytes": 16_384,
                **client_config,
                "group.id": "orchestrator-references",  # demanded by the client; nothing is ever committed
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )
        if decoders:
            self._consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in decoders])

    def read_all(self) -> None:
        """Read every topic up to the end it has now."""
        ends = {topic: self._end(topic) for topic in self._decoders}
        while not self.reached(ends):
            self._read(500, 0.05)  # few, because consuming waits its whole time when there are fewer
            self._patience.check()

    def poll(self) -> None:
        """Read what is new; never waits."""
        if self._decoders:
            self._read(1_000, 0)

    def reached(self, ends: Mapping[str, int]) -> bool:
        """Return whether every reference topic was read up to these ends; topics of other kinds do not count."""
        return all(reached >= ends.get(topic, 0) for topic, reached in self._reached.items())

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _read(self, records: int, seconds: float) -> None:
        for message in self._consumer.consume(records, seconds):
            topic, offset, error = message.topic(), message.offset(), message.error()
            if error is not None and error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                raise OperatorError(f"topic {topic} is missing: create it with `orchestrator topics apply`")
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                self._patience.meet(error)
                continue
            self._patience.came()
            assert topic is not None
            if error is not None:
                self._reached[topic] = max(self._reached[topic], offset or 0)
                continue
            self._reached[topic] = (offset or 0) + 1
            value = message.value()
            if isinstance(value, bytes):
                try:
                    self._take(topic, self._decoders[topic](value))
                except (Undecodable, MalformedError):
                    self.undecodable += 1  # reference data has no partition of ours to write a dead letter to

    def _end(self, topic: str) -> int:
        try:
            return ask_ends(self._consumer, TopicPartition(topic, 0), ANSWER_SECONDS)[1]
        except KafkaException as error:
            raise OperatorError(f"no answer about {topic} ({error.args[0].str()}): is the broker well?") from error
