"""What a worker logs: lines for the operator on stderr, none of Faust's chatter, and Kafka's client now and then."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from datetime import UTC, datetime
from types import TracebackType

kafka_log = logging.getLogger("orchestrator.kafka")
"""What librdkafka says; without a logger of its own it writes to stderr."""

KAFKA_LINE_SECONDS = 30.0
"""How seldom the client may say that it cannot reach a broker: it tries several times a second."""

_CRASHES = ("Crashed reason=", "We experienced a crash", "Error: ")
"""What Faust logs, with a traceback, about a failure that ends the process and is said in one line then."""


class _Chatter(logging.Filter):
    """Leaves out what Faust's services say about themselves; their lines begin with their place in a tree."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(("mode", "faust")) and not str(record.msg).startswith("[^"):
            return True
        return record.levelno >= logging.ERROR and not any(crash in str(record.msg) for crash in _CRASHES)


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


_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _Text(logging.Formatter):
    """A line for people; of an exception only its kind and place, for its text may hold what a record did."""

    def __init__(self, *, shows_values: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._shows_values = shows_values

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 (logging's name)
        if self._shows_values or ei[1] is None:
            return super().formatException(ei)
        return without_values(ei[1])


class _Json(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, instance: str, *, shows_values: bool) -> None:
        super().__init__()
        self._instance = instance
        self._text = _Text(shows_values=shows_values)

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "instance": self._instance,
        }
        partition = getattr(record, "partition", None)
        if partition is not None:
            entry["partition"] = partition
        if record.exc_info:
            entry["exception"] = self._text.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def without_values(failure: BaseException) -> str:
    """Return a traceback in which exceptions have their kinds only, no texts: those may name a customer."""
    chain: list[BaseException] = []
    error: BaseException | None = failure
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    parts = []
    for one in reversed(chain):
        places = "".join(traceback.format_tb(one.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{places}{type(one).__qualname__}")
    return "\nthen\n".join(parts) + " (its text is shown with ORCHESTRATOR_LOG_LEVEL=debug)"


def say_failure(text: str, log_format: str, instance: str) -> None:
    """Say on stderr why a worker ended, in the format of its log; also before and after there is one."""
    if log_format == "json":
        record = logging.LogRecord("orchestrator", logging.ERROR, "", 0, text, None, None)
        sys.stderr.write(_Json(instance, shows_values=False).format(record) + "\n")
    else:
        sys.stderr.write(f"orchestrator: {text}\n")


def set_up_logging(level: str, log_format: str, instance: str) -> None:
    """Log to stderr, from `level` up; at debug everything, also what Faust says and the texts of exceptions."""
    handler = logging.StreamHandler()
    shows_values = level == "debug"
    json_lines = log_format == "json"
    handler.setFormatter(_Json(instance, shows_values=shows_values) if json_lines else _Text(shows_values=shows_values))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level == "debug":
        return
    handler.addFilter(_Chatter())
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
