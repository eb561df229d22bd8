"""Reads whole topics as records: what `audit`, `why` and reports are made from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from orchestrator.runtime.avro import Codec, Undecodable
from orchestrator.runtime.connection import client_config, connect
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.schema_registry import registry_of
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topic
from orchestrator.runtime.topic_reader import KeyFilter, Progress, Span, read_topic, topic_spans

Place = tuple[str, int, int]
"""Topic, partition and offset."""

Located = tuple[dict[str, Any], Place]


class RecordReader:
    """Decoded records of whole topics, with their places; a broker has answered before one is made with `open`."""

    def __init__(self, config: Mapping[str, Any], codec: Codec) -> None:
        self._config = dict(config)
        self._codec = codec

    @classmethod
    def open(cls, settings: Settings) -> RecordReader:
        """Return a reader for the brokers and schemas of these settings, or raise an OperatorError."""
        connect(settings)
        return cls(client_config(settings), Codec(registry_of(settings, register=False)))

    def spans(self, topic: Topic, partitions: Collection[int] | None = None) -> dict[int, Span]:
        """Return what each partition of a topic holds now."""
        return topic_spans(self._config, topic.name, partitions)

    def read(
        self,
        topic: Topic,
        *,
        partitions: Collection[int] | None = None,
        key_filter: KeyFilter | None = None,
        spans: Mapping[int, Span] | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Located]:
        """Yield the committed records of a topic up to its captured end, leaving out tombstones."""
        decode = self._codec.decoder(topic)
        for record in read_topic(
            self._config, topic.name, partitions=partitions, key_filter=key_filter, spans=spans, progress=progress
        ):
            if record.value is None:
                continue
            place = (topic.name, record.partition, record.offset)
            try:
                yield decode(record.value, record.headers or None), place
            except Undecodable as error:
                where = f"{topic.name}[{record.partition}]@{record.offset}"
                raise OperatorError(f"{where} cannot be read: {error}") from None
