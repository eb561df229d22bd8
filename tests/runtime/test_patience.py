"""Errors of brokers that pass are asked past, for a while; the last one is named in the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from orchestrator.events import FOREVER
from orchestrator.runtime import patience, reference_reader, restore, topic_reader
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.patience import ask_ends
from orchestrator.runtime.reference_reader import ReferenceReader
from orchestrator.runtime.restore import Restorer
from orchestrator.runtime.state_store import META_KEY, Meta, StateStore, Stored, meta_to_bytes, pack
from orchestrator.runtime.topic_reader import Span, read_topic

MOVING = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
GONE = KafkaError(KafkaError._ALL_BROKERS_DOWN)
DENIED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)

WHERE: dict[str, Any] = {"topic": "t", "partition": 0}
RECORDS = [
    Message(key=b"ana", value=pack(Stored(FOREVER, b"a")), offset=0, **WHERE),
    Message(key=META_KEY, value=meta_to_bytes(Meta(1, {"clickstream": 1})), offset=1, **WHERE),
]


class Scripted:
    """A consumer whose answers are given in advance; when they are used up the last one is given for ever."""

    def __init__(self, ends: Sequence[KafkaError | tuple[int, int]], read: Sequence[KafkaError | Message] = ()) -> None:
        self.ends = list(ends)
        self.read = list(read)

    def __call__(self, _: Any) -> Scripted:
        return self

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
        """Answer or raise what comes next."""
        answer = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        if isinstance(answer, KafkaError):
            raise KafkaException(answer)
        return answer

    def consume(self, *_: Any) -> list[Message]:
        """Return what comes next."""
        answer = self.read.pop(0) if len(self.read) > 1 else self.read[0]
        return [Message(error=answer, **WHERE) if isinstance(answer, KafkaError) else answer]

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait little."""
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.01)
    for module in (restore, reference_reader, topic_reader):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)


def scripted(monkeypatch: pytest.MonkeyPatch, *, ends: Sequence[Any], read: Sequence[Any] = RECORDS) -> Scripted:
    """Let every reader have one consumer with these answers."""
    consumer = Scripted(ends, read)
    for module in (restore, reference_reader, topic_reader):
        monkeypatch.setattr(module, "Consumer", consumer)
    return consumer


def test_ends_are_asked_for_again_while_a_leader_moves() -> None:
    """Right after a topic was created its leader may not know of it yet."""
    new = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    consumer: Any = Scripted([MOVING, new, GONE, (3, 7)])

    assert ask_ends(consumer, TopicPartition("t", 0), 5.0) == (3, 7)


@pytest.mark.parametrize(("error", "left"), [(MOVING, 1), (DENIED, 2)], ids=["passes", "does_not"])
def test_the_last_error_about_ends_is_raised(error: KafkaError, left: int) -> None:
    """After some seconds, or at once where asking again is of no use."""
    consumer: Any = Scripted([error, error, error])

    with pytest.raises(KafkaException) as raised:
        ask_ends(consumer, TopicPartition("t", 0), 0.3)

    assert raised.value.args[0].code() == error.code()
    assert len(consumer.ends) == left


def test_a_restore_goes_on_after_errors_that_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Brokers come and go while a long changelog is read."""
    scripted(monkeypatch, ends=[MOVING, (0, 2)], read=[GONE, RECORDS[0], MOVING, RECORDS[1]])
    restorer, store = Restorer({}, "t"), StateStore(tmp_path / "0")
    restorer.begin(0, store)

    found: dict[int, Meta] = {}
    for _ in range(4):
        found |= restorer.advance(10, 0)

    assert found[0].positions == {"clickstream": 1}
    assert [key for key, _ in store.customers()] == [b"ana"]
    store.close()


@pytest.mark.parametrize(
    ("error", "says"),
    [(GONE, r"the changelog t could not be read for 0 s \(.*down"), (DENIED, "t cannot be read: .*authorization")],
    ids=["passes", "does_not"],
)
def test_a_restore_names_the_error_that_ended_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: KafkaError, says: str
) -> None:
    """After nothing else came for long, or at once."""
    scripted(monkeypatch, ends=[(0, 2)], read=[RECORDS[0], error])
    restorer, store = Restorer({}, "t"), StateStore(tmp_path / "0")
    restorer.begin(0, store)

    with pytest.raises(OperatorError, match=f"(?i){says}"):
        while True:
            restorer.advance(10, 0)
    store.close()


def test_reference_data_is_read_on_after_errors_that_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start amid an election waits for it."""
    taken: list[Any] = []
    scripted(monkeypatch, ends=[MOVING, (0, 2)], read=[GONE, RECORDS[0], MOVING, RECORDS[1]])

    ReferenceReader(
        {}, {"t": lambda value, _=None: {"value": value}}, lambda _, record: taken.append(record)
    ).read_all()

    assert len(taken) == 2


@pytest.mark.parametrize(
    ("error", "says"),
    [(GONE, r"reference data in t could not be read for 0 s"), (DENIED, "reference data in t cannot be read: ")],
    ids=["passes", "does_not"],
)
def test_reading_reference_data_names_the_error_that_ended_it(
    monkeypatch: pytest.MonkeyPatch, error: KafkaError, says: str
) -> None:
    """And the topics."""
    scripted(monkeypatch, ends=[(0, 2)], read=[error])

    with pytest.raises(OperatorError, match=says):
        ReferenceReader({}, {"t": lambda value, _=None: {"value": value}}, lambda *_: None).read_all()


def test_a_topic_is_read_on_after_errors_that_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as by commands and reports."""
    scripted(monkeypatch, ends=[(0, 2)], read=[MOVING, RECORDS[0], GONE, RECORDS[1]])

    assert [record.offset for record in read_topic({}, "t", spans={0: Span(0, 2)})] == [0, 1]


def test_reading_a_topic_names_the_error_that_ended_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else came for too long."""
    monkeypatch.setattr(topic_reader, "PATIENCE_SECONDS", 0.3)
    scripted(monkeypatch, ends=[(0, 2)], read=[MOVING])

    with pytest.raises(OperatorError, match=r"nothing more came from topic t .*\(.*[Ll]eader"):
        list(read_topic({}, "t", spans={0: Span(0, 2)}))
