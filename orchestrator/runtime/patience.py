"""Errors of brokers that pass by themselves, and how long they are waited for."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from orchestrator.runtime.errors import OperatorError

PASSING = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._DESTROY_BROKER,  # the broker that was about to be asked has left the cluster
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._WAIT_COORD,
        KafkaError._MAX_POLL_EXCEEDED,  # the client has left the group; what was lost is told at its next call
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
    }
)
"""What a consumer says while brokers come and go; it tries again by itself."""

_NOT_YET = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
"""What a broker says of a topic that was created just now, until it has heard of it."""

PATIENCE_SECONDS = 120.0
"""How long a reader waits while it is told nothing but errors that pass."""

PAUSE_SECONDS = 0.1
"""Between two questions: a leader that moves is found at the next."""

_ATTEMPT_SECONDS = 2.0


class Patience:
    """For how long reading one thing has brought nothing but errors."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._error: KafkaError | None = None
        self._since = 0.0

    def came(self) -> None:
        """Take note that something came."""
        self._error = None

    def meet(self, error: KafkaError) -> None:
        """Take note of an error; one that does not pass is raised as an OperatorError."""
        if error.code() not in PASSING:
            raise OperatorError(f"{self._what} cannot be read: {error.str()}")
        if self._error is None:
            self._since = time.monotonic()
        self._error = error

    def check(self) -> None:
        """Raise an OperatorError that names the last error, when there was nothing else for too long."""
        if self._error is not None and time.monotonic() - self._since > PATIENCE_SECONDS:
            reason = self._error.str()
            raise OperatorError(
                f"{self._what} could not be read for {PATIENCE_SECONDS:.0f} s ({reason}): is the broker well?"
            )


def ask_ends(consumer: Consumer, where: TopicPartition, seconds: float) -> tuple[int, int]:
    """Return a partition's first and next offset; errors are asked past for some seconds, the last one is raised."""
    deadline = time.monotonic() + seconds
    error = KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer"))
    while (left := deadline - time.monotonic()) > 0:
        try:
            offsets = consumer.get_watermark_offsets(where, timeout=min(left, _ATTEMPT_SECONDS))
        except KafkaException as failed:
            error = failed
            if failed.args[0].code() not in PASSING | _NOT_YET:
                break
            time.sleep(PAUSE_SECONDS)
        else:
            if offsets is not None:
                return offsets
    raise error
