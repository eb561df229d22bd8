"""Writes records of reference topics: what a command publishes to running engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException, Producer

from orchestrator.runtime.avro import Codec
from orchestrator.runtime.connection import client_config
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.schema_registry import registry_of
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topic

SEND_SECONDS = 20.0


def publish(settings: Settings, topic: Topic, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Write records by their keys and return once they are there; OperatorError when the brokers do not take them."""
    encode = Codec(registry_of(settings)).encoder(topic)
    failures: list[str] = []
    producer = Producer(
        {**client_config(settings), "enable.idempotence": True, "message.max.bytes": 2 << 20, "log_level": 3}
    )
    try:
        for key, record in records.items():
            producer.produce(
                topic.name,
                encode(dict(record)),
                key.encode(),
                0,
                on_delivery=lambda error, _: failures.append(error.str()) if error is not None else None,
            )
        left = producer.flush(SEND_SECONDS)
    except KafkaException as error:
        failures.append(error.args[0].str())
        left = 0
    if left or failures:
        reason = failures[0] if failures else f"no answer within {SEND_SECONDS:.0f} s"
        raise OperatorError(f"{topic.name} did not take it all ({reason}): publish it again")
