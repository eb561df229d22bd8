"""Reads all outcomes as their topic has them now: the newest revisions, without those of the erased."""

from __future__ import annotations

from orchestrator.learning.outcomes import Outcomes
from orchestrator.runtime.avro import Codec, Undecodable
from orchestrator.runtime.connection import client_config, connect
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.policy_log import text_of
from orchestrator.runtime.schema_registry import registry_of
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_reader import Progress, read_topic


def read_outcomes(settings: Settings, topics: Topics, progress: Progress | None = None) -> Outcomes:
    """Return the committed outcomes; OperatorError where the brokers do not answer or a record cannot be read."""
    connect(settings)
    topic = topics.outcomes
    decode = Codec(registry_of(settings, register=False)).decoder(topic)
    outcomes = Outcomes()
    for one in read_topic(client_config(settings), topic.name, progress=progress):
        if one.value is None:
            outcomes.remove(text_of(one.key))
            continue
        try:
            outcomes.put(decode(one.value, one.headers or None))
        except Undecodable as error:
            raise OperatorError(f"{topic.name}[{one.partition}]@{one.offset} cannot be read: {error}") from None
    return outcomes
