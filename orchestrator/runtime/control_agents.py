"""The agents of the control role: they read decisions and triggers into the book, and stumble over nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

import faust

from orchestrator.runtime.avro import Decode, Record, Undecodable
from orchestrator.runtime.control_app import CommittingConsumer
from orchestrator.runtime.control_book import Book, Place
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.topic import Topic, Topics

log = logging.getLogger("orchestrator.control")

REGISTRY_SECONDS = 5.0
"""How long to wait before a schema registry that did not answer is asked again."""

Fold = Callable[[Record, Place], None]


class _Unusable(Exception):  # noqa: N818 (it is data: what is counted)
    """Why a record cannot be used, in one word."""


def add_agents(app: faust.App, book: Book, topics: Topics, decoders: Mapping[str, Decode]) -> None:
    """Let two agents fold decisions and triggers into the book; `decoders` has one by topic name."""
    _add_agent(app, book, "decisions", topics.decisions, decoders[topics.decisions.name], book.decision)
    _add_agent(app, book, "triggers", topics.triggers, decoders[topics.triggers.name], book.trigger)


def _add_agent(app: faust.App, book: Book, source: str, topic: Topic, decode: Decode, fold: Fold) -> None:
    channel = app.topic(topic.name, key_serializer="raw", value_serializer="raw", allow_empty=True)

    async def agent(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            message = event.message
            place = Place(topic.name, message.partition, message.offset, int(message.timestamp * 1000))
            try:
                record = await _decoded(decode, event)
                if _is_ours(app, message):
                    _fold(book, fold, event.key, record, place)
            except _Unusable as reason:
                book.unusable(source, str(reason), place)
            if _is_ours(app, message):
                cast("CommittingConsumer", app.consumer).done(message.tp, message.offset)

    app.agent(channel, name=f"orchestrator.{source}")(agent)


def _is_ours(app: faust.App, message: Any) -> bool:
    """Return whether no rebalance came between: the partition may be another instance's by now, and its table too."""
    return bool(message.generation_id == app.consumer_generation_id)


async def _decoded(decode: Decode, event: Any) -> Record:
    """Return the record, however long a schema registry takes to answer; raise _Unusable when it cannot be read."""
    if event.value is None:
        raise _Unusable("empty")
    while True:
        try:
            return decode(event.value, event.message.headers or None)
        except Undecodable as error:
            raise _Unusable(error.reason) from None
        except OperatorError as error:
            log.error("%s; asking again in %.0f s", error, REGISTRY_SECONDS)
            await asyncio.sleep(REGISTRY_SECONDS)


def _fold(book: Book, fold: Fold, key: bytes | None, record: Record, place: Place) -> None:
    customer = record["customer_id"]
    if key != customer.encode() or book.partition_of(customer) != place.partition:
        raise _Unusable("misplaced")
    try:
        fold(record, place)
    except Exception as error:
        # Faust would acknowledge the record and go on as if it had been folded.
        log.exception("%s[%d]@%d cannot be folded", place.topic, place.partition, place.offset)
        raise _Unusable("failed") from error
