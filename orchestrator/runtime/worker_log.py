"""What a worker logs: lines for the operator on stderr, none of Faust's chatter, and Kafka's client now and then."""

from __future__ import annotations

import logging
import time

kafka_log = logging.getLogger("orchestrator.kafka")
"""What librdkafka says; without a logger of its own it writes to stderr."""

KAFKA_LINE_SECONDS = 30.0
"""How seldom the client may say that it cannot reach a broker: it tries several times a second."""

_CRASHES = ("Crashed reason=", "We experienced a crash", "Error: ")
"""What Faust logs, with a traceback, about a failure that ends the process and is said in one line then."""


class _Chatter(logging.Filter):
    """Leaves out what Faust's services say about themselves; their lines begin with their place in a tree."""

    def __init__(self, *, says_crashes: bool) -> None:
        super().__init__()
        self._left_out = () if says_crashes else _CRASHES

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(("mode", "faust")) and not str(record.msg).startswith("[^"):
            return True
        return record.levelno >= logging.ERROR and not any(crash in str(record.msg) for crash in self._left_out)


class _Seldom(logging.Filter):
    """Lets one line pass in every `KAFKA_LINE_SECONDS`."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 (logging's signature)
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + KAFKA_LINE_SECONDS
        return True


def set_up_logging(level: str, *, says_crashes: bool) -> None:
    """Log to stderr, from `level` up; at debug everything, also what Faust says."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level == "debug":
        return
    handler.addFilter(_Chatter(says_crashes=says_crashes))
    kafka_log.addFilter(_Seldom())
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    mute_kafka()


def mute_kafka() -> None:
    """Let the client say nothing: before the start and after the end a failure is said in one line of ours."""
    if logging.getLogger().level > logging.DEBUG:
        kafka_log.setLevel(logging.CRITICAL + 1)


def unmute_kafka() -> None:
    """Let the client say, now and then, that it lost a broker."""
    if logging.getLogger().level > logging.DEBUG:
        kafka_log.setLevel(logging.WARNING)  # a connection that ends is an information, one that cannot be had is not
