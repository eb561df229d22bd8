"""Bad input, one kind after the other through one worker: each is a dead letter, and the stream goes on behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from orchestrator.events import DAY
from orchestrator.runtime.compose import build_loop
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.loop import Loop
from orchestrator.runtime.outbox import Headers
from tests.builders import instant
from tests.runtime.messages import CLICKSTREAM, MAX_RECORD_BYTES, PROFILES, PURCHASES, bought, item_added, profile
from tests.runtime.streams import Stream

pytestmark = pytest.mark.broker

PATIENCE = 30.0
HEADERS: Headers = [("trace-id", b"abc"), ("source", "app")]

_days = count(1)


class Bad(NamedTuple):
    """A record that cannot be used, and what is to be said about it."""

    reason: str
    says: str
    value: bytes | None
    key: bytes | None = b"bad"
    topic: str = CLICKSTREAM
    into_wrong_partition: bool = False


class Worker:
    """One worker over one stream, driven by hand."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.stream = Stream(bootstrap, folder)
        self.loop = self._started()

    def restart(self) -> None:
        """Stop in good order, and go on as a new process would."""
        self.loop.stop()
        self.loop = self._started()

    def run_until(self, done: Callable[[], bool]) -> None:
        """Let the loop take its turns until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, "the stream stands still"
            self.loop.step()

    def settled(self, at: str) -> bool:
        """Return whether everything up to an instant is decided and committed."""
        partitions = self.loop.partitions.values()
        return len(partitions) == 2 and all(one.clock >= instant(at) and not one.has_changes for one in partitions)

    def _started(self) -> Loop:
        loop = build_loop(self.stream.settings)
        loop.start()
        return loop


@pytest.fixture(scope="module")
def worker(embedded: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Return the worker through which every kind goes."""
    worker = Worker(embedded.bootstrap, tmp_path_factory.mktemp("bad-input"))
    yield worker
    worker.loop.close()


def in_seconds() -> int:
    """Return an instant of the first day in seconds, as a producer that mistakes the unit writes it."""
    return instant("12:00") // 1_000


def padded(size: int) -> bytes:
    """Return a record of exactly so many bytes that could be decoded."""
    value = item_added("1d 12:00", "bad", query="x" * (size - 100))
    return item_added("1d 12:00", "bad", query="x" * (2 * size - 100 - len(value)))


KINDS = {
    "undecodable_bytes": Bad("undecodable", "0x7b", b'{"event": "cart.item_added"}'),
    "no_bytes_at_all": Bad("undecodable", "empty", b""),
    "an_empty_value": Bad("undecodable", "empty", None),
    "an_unknown_schema_id": Bad("unknown_schema", "7", b"\x00\x00\x00\x00\x07whatever"),
    "a_record_of_another_topic": Bad("undecodable", "", bought("1d 12:00", "bad")),
    "a_truncated_record": Bad("undecodable", "ends too early", item_added("1d 12:00", "bad")[:-4]),
    "a_record_with_trailing_bytes": Bad("undecodable", "3 bytes are left", item_added("1d 12:00", "bad") + b"..."),
    "no_key": Bad("missing_customer", "no key", item_added("1d 12:00", "bad"), key=None),
    "a_key_that_is_not_the_field": Bad("missing_customer", "customer_id", item_added("1d 12:00", "other")),
    "a_profile_of_somebody_else": Bad("missing_customer", "customer_id", profile("1d 12:00", "other"), topic=PROFILES),
    "a_key_that_is_not_utf8": Bad("missing_customer", "UTF-8", item_added("1d 12:00", "bad"), key=b"\xff\xfebad"),
    "the_key_of_our_own_meta_record": Bad("missing_customer", "no customer id", item_added(), key=b"\x00meta"),
    "the_wrong_partition": Bad(
        "wrong_partition", "murmur2", item_added("1d 12:00", "stranger"), key=b"stranger", into_wrong_partition=True
    ),
    "a_time_far_in_the_future": Bad("too_far_ahead", "ahead", item_added(instant("09:00") + 4_000 * DAY, "bad")),
    "the_end_of_time": Bad("too_far_ahead", "ahead", item_added(2**63 - 1, "bad")),
    "a_time_in_seconds": Bad("too_old", "milliseconds", item_added(in_seconds(), "bad")),
    "a_time_before_time": Bad("too_old", "before 2000", item_added(-(2**63), "bad")),
    "one_byte_too_many": Bad("too_large", "1048577 bytes", padded(MAX_RECORD_BYTES + 1)),
    "an_order_of_more_than_there_is": Bad(
        "invalid_value", "price", bought("1d 12:00", "bad", total=2**62), topic=PURCHASES
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_record_is_a_dead_letter_and_the_stream_goes_on(worker: Worker, kind: str) -> None:
    """It has its reason, its place, its schema id and its bytes; the good record behind it is decided."""
    bad = KINDS[kind]
    stream, day, good = worker.stream, next(_days), f"good-{kind}"
    number = stream.partition(bad.key.decode(errors="replace")) if bad.key else 0
    if bad.into_wrong_partition:
        number = 1 - number
    stream.send(PROFILES, good.encode(), profile(customer=good), partition=stream.partition(good))

    place = stream.send(bad.topic, bad.key, bad.value, partition=number, headers=HEADERS)
    stream.send(CLICKSTREAM, good.encode(), item_added(f"{day}d 12:00", good))
    stream.advance(f"{day}d 12:30")
    stream.advance(f"{day}d 14:00")
    worker.run_until(lambda: worker.settled(f"{day}d 14:00"))

    (letter,) = [one for one in stream.dead_letters if one["source_offset"] == place.offset and at(one, place)]
    assert letter["reason"] == bad.reason
    assert bad.says in letter["detail"]
    assert (letter["key"], letter["value"]) == (bad.key, bad.value)
    assert letter["headers"] == {"trace-id": b"abc", "source": b"app"}
    framed = bad.value is not None and len(bad.value) >= 5 and bad.value[0] == 0
    assert letter["schema_id"] == (int.from_bytes(bad.value[1:5]) if framed and bad.value else None)
    decided = [one["reason"] for one in stream.decisions if one["customer_id"] == good]
    assert len(decided) == 1
    assert decided[0] in ("chosen", "control", "holdout")
    assert not [one for one in stream.decisions if one["customer_id"] in ("bad", "stranger", "other")]


def at(letter: dict[str, Any], place: Any) -> bool:
    """Return whether a dead letter is about a place."""
    return (letter["source_topic"], letter["source_partition"]) == (place.topic, place.partition)


def test_the_bound_of_a_record_is_inside(worker: Worker) -> None:
    """A record of exactly the size that is read is decoded; here its text is what is refused."""
    day = next(_days)
    value = padded(MAX_RECORD_BYTES)
    assert len(value) == MAX_RECORD_BYTES

    place = worker.stream.send(CLICKSTREAM, b"bad", value)
    worker.stream.advance(f"{day}d 14:00")
    worker.run_until(lambda: worker.settled(f"{day}d 14:00"))

    (letter,) = [one for one in worker.stream.dead_letters if one["source_offset"] == place.offset and at(one, place)]
    assert letter["reason"] == "invalid_value"


def test_dead_letters_are_counted_and_written_once(worker: Worker) -> None:
    """A worker that starts again goes on behind them."""
    before = worker.stream.dead_letters
    counted = dict(worker.loop.tally.dead_letters)
    assert sum(counted.values()) == len(before) > 0
    day = next(_days)

    worker.restart()
    worker.stream.send(CLICKSTREAM, b"bad", b"once more")
    worker.stream.advance(f"{day}d 14:00")
    worker.run_until(lambda: worker.settled(f"{day}d 14:00"))

    assert len(worker.stream.dead_letters) == len(before) + 1
    assert worker.loop.tally.dead_letters == {"undecodable": 1}
