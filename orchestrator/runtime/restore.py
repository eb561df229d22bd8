"""Bringing stores up to date from the changelog, in steps, so that the loop goes on being heard meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from orchestrator.events import FOREVER
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.erasures import ERASURE_KEY
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.patience import Patience, ask_ends
from orchestrator.runtime.state_store import META_KEY, Batch, Meta, StateStore, meta_from_bytes, unpack

log = logging.getLogger("orchestrator.state")

ANSWER_SECONDS = 15.0


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
    as_of: int  # when the end was asked for


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

    def __init__(
        self,
        client_config: Mapping[str, Any],
        topic: str,
        now: Callable[[], int] = now_ms,
        max_age: int = FOREVER,
    ) -> None:
        """Restore from a topic; a store older than `max_age` milliseconds is not built upon."""
        self._topic = topic
        self._now = now
        self._max_age = max_age
        self._patience = Patience(f"the changelog {topic}")
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
        now = self._now()
        low, high = self.span(self._topic, number)
        meta = store.meta()
        if meta is not None and not self._may_build_upon(meta, low, high, number):
            store.reset()
            meta = None
        fresh = meta is None
        if meta is None:
            meta = Meta(-FOREVER, {}, changelog=low, as_of=now)
        start = meta.changelog
        self._restoring[number] = _Restoring(store, meta, fresh, start, start, high, store.batch(), {}, now)
        if start < high:
            where = TopicPartition(self._topic, number, start)
            self._consumer.incremental_assign([where])
            wake(self._consumer, [where])

    def _may_build_upon(self, meta: Meta, low: int, high: int, number: int) -> bool:
        """Return whether the changelog's tail makes a store what it has to be."""
        if not low <= meta.changelog <= high:
            return False  # the changelog was recreated or cut off
        # The clock may have been set back meanwhile, a little or a lot.
        if meta.changelog < high and abs(self._now() - meta.as_of) > self._max_age:
            where = {"partition": number}
            log.warning("the store of partition %d is too old: it is restored from scratch", number, extra=where)
            return False  # compaction may have removed the tombstones that came since: who was erased would live on
        return True

    @property
    def left(self) -> int:
        """How many offsets are still to be read over all partitions."""
        return sum(max(0, r.end - r.position) for r in self._restoring.values())

    def advance(self, records: int, seconds: float) -> dict[int, Meta]:
        """Read some more; return the partitions that are up to date now, with their meta records."""
        if any(r.position < r.end for r in self._restoring.values()):
            for message in self._consumer.consume(records, seconds):
                self._take(message)
            self._patience.check()
        done = {number: r for number, r in self._restoring.items() if r.position >= r.end}
        for number, restoring in done.items():
            if restoring.start < restoring.end:
                self._consumer.incremental_unassign([TopicPartition(self._topic, number)])
            restoring.meta.changelog, restoring.meta.as_of = restoring.end, restoring.as_of
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
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            self._patience.meet(error)
            return
        self._patience.came()
        restoring = self._restoring.get(message.partition())
        if restoring is None:
            return
        if error is not None:
            # Markers of transactions have offsets that no record shows.
            restoring.position = max(restoring.position, message.offset())
            return
        restoring.position = message.offset() + 1
        if message.offset() >= restoring.end:
            return
        key, value = message.key(), message.value()
        self.records += 1
        if key == META_KEY:
            as_of = restoring.meta.as_of
            restoring.meta = meta_from_bytes(value)
            restoring.meta.as_of = as_of
            return
        if key.startswith(ERASURE_KEY):
            restoring.batch.put_erasure(key[len(ERASURE_KEY) :], value)
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
            # With the meta record as far as it is known, so that a restore that is interrupted goes on from here; it is
            # as old as it was, for what was read may have been written long before.
            restoring.meta.changelog = restoring.position
            restoring.batch.put_meta(restoring.meta)
            restoring.store.write(restoring.batch)
            restoring.batch = restoring.store.batch()
            restoring.pending.clear()
            restoring.fresh = False

    def span(self, topic: str, number: int) -> tuple[int, int]:
        """Return a partition's first and next offset, open transactions included."""
        try:
            return ask_ends(self._asker, TopicPartition(topic, number), ANSWER_SECONDS)
        except KafkaException as error:
            reason = error.args[0].str()
            raise OperatorError(f"no answer about {topic}/{number} ({reason}): is the broker well?") from error
