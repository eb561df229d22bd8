"""Bringing stores up to date from the changelog, in steps, so that the loop goes on being heard meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from orchestrator.events import FOREVER
from orchestrator.runtime.erased_slots import SLOT_KEY
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.state_store import META_KEY, Batch, Meta, StateStore, meta_from_bytes, unpack

ANSWER_SECONDS = 15.0
_ATTEMPT_SECONDS = 2.0


@dataclass(slots=True)
class _Restoring:
    store: StateStore
    meta: Meta
    fresh: bool  # nothing was in the store, so no old timer needs to be looked up
    start: int
    position: int
    end: int
    batch: Batch
    pending: dict[bytes, int]  # due instants of what the batch holds


def wake(consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
    """Let a consumer that had nothing to read fetch these partitions at once.

    The client's threads sleep up to a second when nothing is to be fetched, through an assignment or a resume; a
    question that goes to the same broker wakes them. The answer is of no interest.
    """
    for where in partitions:
        with suppress(KafkaException):
            consumer.get_watermark_offsets(where, timeout=0.001)


class Restorer:
    """Replays the tail of the changelog into stores; one consumer for all partitions of a process."""

    def __init__(self, client_config: Mapping[str, Any], topic: str) -> None:
        self._topic = topic
        self._restoring: dict[int, _Restoring] = {}
        shared = {
            **client_config,
            "group.id": "orchestrator-restore",  # demanded by the client; nothing is ever committed
            "enable.auto.commit": False,
        }
        self._consumer = Consumer(
            {
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 32_768,
                **shared,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",  # what compaction removed is not needed
            }
        )
        # Under read_committed the end would be the last stable offset, which hides a commit whose markers are still on
        # their way. And a consumer that fetches would have its questions wait behind its fetches.
        # It asks for leaders anew every second: a question about a partition whose leader is gone does not by itself.
        self._asker = Consumer(
            {**shared, "isolation.level": "read_uncommitted", "topic.metadata.refresh.interval.ms": 1_000}
        )
        self.records = 0

    def begin(self, number: int, store: StateStore) -> None:
        """Start to restore a partition; call it after `committed()`, which waits for pending transactions.

        The other way round a predecessor's pending commit would be missed. Records of a transaction that is still open
        in the changelog are waited for: they are read when it commits, and skipped when the broker aborts it.
        """
        low, high = self.span(self._topic, number)
        meta = store.meta()
        fresh = meta is None
        if meta is not None and not low <= meta.changelog <= high:
            store.reset()  # the changelog was recreated or cut off: what the store holds cannot be built upon
            meta, fresh = None, True
        if meta is None:
            meta = Meta(-FOREVER, {}, changelog=low)
        start = meta.changelog
        self._restoring[number] = _Restoring(store, meta, fresh, start, start, high, store.batch(), {})
        if start < high:
            where = TopicPartition(self._topic, number, start)
            self._consumer.incremental_assign([where])
            wake(self._consumer, [where])

    @property
    def left(self) -> int:
        """How many offsets are still to be read over all partitions."""
        return sum(max(0, r.end - r.position) for r in self._restoring.values())

    def advance(self, records: int, seconds: float) -> dict[int, Meta]:
        """Read some more; return the partitions that are up to date now, with their meta records."""
        if any(r.position < r.end for r in self._restoring.values()):
            for message in self._consumer.consume(records, seconds):
                self._take(message)
        done = {number: r for number, r in self._restoring.items() if r.position >= r.end}
        for number, restoring in done.items():
            if restoring.start < restoring.end:
                self._consumer.incremental_unassign([TopicPartition(self._topic, number)])
            restoring.meta.changelog = restoring.end
            restoring.batch.put_meta(restoring.meta)
            restoring.store.write(restoring.batch)
            del self._restoring[number]
        return {number: restoring.meta for number, restoring in done.items()}

    def drop(self, number: int) -> None:
        """Restore a partition no further: it was taken away."""
        restoring = self._restoring.pop(number, None)
        if restoring is not None and restoring.start < restoring.end:
            self._consumer.incremental_unassign([TopicPartition(self._topic, number)])

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()
        self._asker.close()

    def _take(self, message: Any) -> None:
        restoring = self._restoring.get(message.partition())
        if restoring is None:
            return
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise OperatorError(f"the changelog {self._topic} cannot be read: {error.str()}")
            # Markers of transactions have offsets that no record shows.
            restoring.position = max(restoring.position, message.offset())
            return
        restoring.position = message.offset() + 1
        if message.offset() >= restoring.end:
            return
        key, value = message.key(), message.value()
        self.records += 1
        if key == META_KEY:
            restoring.meta = meta_from_bytes(value)
            return
        if key.startswith(SLOT_KEY):
            restoring.batch.put_slot(key[len(SLOT_KEY) :], value)
            return
        due_before = restoring.pending.get(key)
        if due_before is None:
            stored = None if restoring.fresh else restoring.store.get(key)
            due_before = FOREVER if stored is None else stored.due
        if value is None:
            restoring.batch.delete(key, due_before)
            restoring.pending[key] = FOREVER
        else:
            due = unpack(value).due
            restoring.batch.put(key, value, due, due_before)
            restoring.pending[key] = due
        if len(restoring.pending) >= 5_000:
            # With the meta record as far as it is known, so that a restore that is interrupted goes on from here.
            restoring.meta.changelog = restoring.position
            restoring.batch.put_meta(restoring.meta)
            restoring.store.write(restoring.batch)
            restoring.batch = restoring.store.batch()
            restoring.pending.clear()
            restoring.fresh = False

    def span(self, topic: str, number: int) -> tuple[int, int]:
        """Return a partition's first and next offset, open transactions included."""
        deadline = time.monotonic() + ANSWER_SECONDS
        reason = "no answer"
        while (left := deadline - time.monotonic()) > 0:
            try:
                offsets = self._asker.get_watermark_offsets(
                    TopicPartition(topic, number), timeout=min(left, _ATTEMPT_SECONDS)
                )
            except KafkaException as error:
                reason = error.args[0].str()
                time.sleep(0.1)  # a leader that moves is found at the next question
            else:
                if offsets is not None:
                    return offsets
        raise OperatorError(
            f"no answer about {topic}/{number} for {ANSWER_SECONDS:.0f} s ({reason}): is the broker well?"
        )
