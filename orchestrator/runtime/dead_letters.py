"""Dead letters as they stand in their topic: found, judged anew, and sent again to where they came from.

A redriven letter leaves a note in the dead-letter topic: a record with the reason `redriven` whose source is the
letter. Record and note are one transaction, and one transactional id lets a single redrive run at a time, so that
whoever reads the notes after taking it knows of every letter ever redriven. A note outlives its letter: it is younger.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from orchestrator.runtime.avro import Codec, Undecodable
from orchestrator.runtime.compose import producer_config
from orchestrator.runtime.connection import client_config
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.intake import DeadLetter, Intake, sources_of
from orchestrator.runtime.outbox import MAX_DEAD_KEY, MAX_DEAD_VALUE
from orchestrator.runtime.partitioner import murmur2_partition
from orchestrator.runtime.schema_registry import registry_of
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_reader import Progress, Span, read_topic, topic_spans

REDRIVEN = "redriven"
"""The reason of a note, which is no dead letter itself."""

HEADER = "journey-redriven-from"
"""The header that a redriven record carries: the place of its dead letter."""

_PATIENCE = 30.0  # seconds for one answer of the transaction coordinator
_TRANSACTION_RECORDS = 200
_TRANSACTION_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter; `at` is when it was written, milliseconds."""

    place: Place
    at: int
    source: Place
    reason: str
    detail: str
    schema_id: int | None
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant; an empty choice means all."""

    places: Collection[Place] = ()
    reasons: Collection[str] = ()
    sources: Collection[str] = ()
    since: int | None = None
    until: int | None = None

    def __contains__(self, letter: Letter) -> bool:
        return (
            (not self.places or letter.place in self.places or letter.source in self.places)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.sources or letter.source.topic in self.sources)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a redrive does with a letter: the partition it goes to, or why it does not go."""

    letter: Letter
    partition: int | None = None
    refusal: str = ""
    redriven_before: bool = False


@dataclass
class DeadLetters:
    """The dead-letter topic of these settings; a broker has answered before one is made."""

    settings: Settings
    topics: Topics
    _partitions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._config = client_config(self.settings)
        self._codec = Codec(registry_of(self.settings, register=False))
        self._topic = self.topics.dead_letters
        self._decode = self._codec.decoder(self._topic)

    def place(self, text: str) -> Place:
        """Return the place that an operator writes as topic/partition/offset, with or without the topics' prefix."""
        found = re.fullmatch(r"([A-Za-z0-9._-]+)/([0-9]{1,6})/([0-9]{1,18})", text)
        if found is None:
            message = f"'{text}' is no place of a record, write it like purchases/3/1200"
            raise OperatorError(message, exit_code=USAGE)
        return Place(self.topic_name(found[1]), int(found[2]), int(found[3]))

    def topic_name(self, name: str) -> str:
        """Return the full name of a declared topic, or raise an OperatorError that offers the nearest one."""
        if name in self.topics:
            return name
        plain = {self.topics.plain_name(topic.name): topic.name for topic in self.topics}
        return plain[name] if name in plain else self.topics.by_name(name).name

    def read(self, places: Collection[Place] = (), progress: Progress | None = None) -> Iterator[Letter]:
        """Yield letters and notes in the order of each partition; places spare reading where they cannot be.

        A letter stands in the partition that its record came from.
        """
        partitions = sorted({place.partition for place in places}) or None
        spans = topic_spans(self._config, self._topic.name, partitions)
        if places and all(place.topic == self._topic.name for place in places):
            first = {partition: min(p.offset for p in places if p.partition == partition) for partition in spans}
            spans = {partition: Span(max(span.start, first[partition]), span.end) for partition, span in spans.items()}
        for record in read_topic(self._config, self._topic.name, spans=spans, progress=progress):
            if record.value is None:
                continue
            place = Place(self._topic.name, record.partition, record.offset)
            try:
                found = self._decode(record.value)
            except Undecodable as error:
                raise OperatorError(f"{place} is no dead letter: {error}") from None
            yield _letter(found, place, record.timestamp)

    def decoded(self, letter: Letter) -> Mapping[str, Any] | str:
        """Return the value of a letter if it can be read today, else why not."""
        if letter.value is None:
            return "there is no value"
        if letter.source.topic not in self.topics:
            return f"{letter.source.topic} is not in topics.yaml"
        try:
            return self._codec.decoder(self.topics.by_name(letter.source.topic))(letter.value)
        except Undecodable as error:
            return str(error)
        except OperatorError as error:
            return error.message

    def judge(self, choice: Choice, now: int, progress: Progress | None = None) -> Iterator[Verdict]:
        """Yield for every chosen letter what a redrive would do with it at this instant."""
        redriven = {letter.source for letter in self.read(choice.places, progress) if letter.reason == REDRIVEN}
        intake = Intake(
            self.topics,
            self._codec,
            max_record_bytes=self.settings.max_record_bytes,
            max_skew=self.settings.max_skew_ms,
        )
        for letter in self.read(choice.places, progress):
            if letter.reason == REDRIVEN or letter not in choice:
                continue
            if letter.place in redriven:
                yield Verdict(letter, refusal="it was redriven before", redriven_before=True)
                continue
            refusal = self._refusal(letter, intake, now)
            if refusal:
                yield Verdict(letter, refusal=refusal)
            else:
                assert letter.key is not None
                yield Verdict(letter, murmur2_partition(letter.key, self._partitions_of(letter.source.topic)))

    def _refusal(self, letter: Letter, intake: Intake, now: int) -> str:
        """Return why a letter cannot be redriven, or nothing."""
        topic = letter.source.topic
        if topic not in {source.name for source in sources_of(self.topics)}:
            return f"{topic} is no input of topics.yaml"
        if letter.key is None:
            return "it has no key, so it belongs to no partition: its producer has to send it again"
        if len(letter.key) >= MAX_DEAD_KEY or len(letter.value or b"") >= MAX_DEAD_VALUE:
            return "it was too large to be kept whole: its producer has to send it again"
        record = Message(topic=topic, partition=0, offset=0, key=letter.key, value=letter.value)
        answer = intake.read(topic, record, now)
        # A dead letter again would be worse than none: it hides that nothing was mended.
        if isinstance(answer, DeadLetter):
            return f"it would be refused again, {answer.reason}: {answer.detail}"
        return ""

    def _partitions_of(self, topic: str) -> int:
        """Return how many partitions a topic has at the broker, whatever was declared."""
        if topic not in self._partitions:
            self._partitions[topic] = len(topic_spans(self._config, topic))
        return self._partitions[topic]

    def redrive(self, choice: Choice, now: int, progress: Progress | None = None) -> Iterator[Verdict]:
        """Send every chosen letter that can be used again, each at most once ever, and yield what was done and not."""
        transactional_id = f"{self.settings.group}.{self.topics.prefix}redrive"
        encode = self._codec.encoder(self._topic)
        try:
            producer = Producer(producer_config(self.settings, transactional_id))
            # Ends what another redrive has begun; only then are the notes complete.
            producer.init_transactions(_PATIENCE)
            waiting: list[Verdict] = []
            for verdict in self.judge(choice, now, progress):
                if verdict.partition is None:
                    yield verdict
                    continue
                waiting.append(verdict)
                size = sum(len(one.letter.value or b"") for one in waiting)
                if len(waiting) >= _TRANSACTION_RECORDS or size >= _TRANSACTION_BYTES:
                    self._send(producer, encode, waiting)
                    yield from waiting
                    waiting = []
            if waiting:
                self._send(producer, encode, waiting)
                yield from waiting
        except KafkaException as error:
            raise _failure(error.args[0], transactional_id) from None

    def _send(self, producer: Producer, encode: Any, verdicts: Sequence[Verdict]) -> None:
        producer.begin_transaction()
        for verdict in verdicts:
            letter = verdict.letter
            assert verdict.partition is not None
            headers: dict[str, str | bytes | None] = {**letter.headers, HEADER: str(letter.place).encode()}
            producer.produce(letter.source.topic, letter.value, letter.key, verdict.partition, headers=headers)
            note = {
                "source_topic": letter.place.topic,
                "source_partition": letter.place.partition,
                "source_offset": letter.place.offset,
                "reason": REDRIVEN,
                "detail": f"to {letter.source.topic}, partition {verdict.partition}",
            }
            producer.produce(letter.place.topic, encode(_whole(note)), letter.key, letter.place.partition)
        producer.commit_transaction(_PATIENCE)


def _letter(record: Mapping[str, Any], place: Place, at: int) -> Letter:
    source = Place(record["source_topic"], record["source_partition"], record["source_offset"])
    return Letter(
        place,
        at,
        source,
        record["reason"],
        record["detail"],
        record["schema_id"],
        record["key"],
        record["value"],
        record["headers"],
    )


def _whole(note: dict[str, Any]) -> dict[str, Any]:
    return {**note, "schema_id": None, "key": None, "value": None, "headers": {}}


def _failure(error: KafkaError, transactional_id: str) -> OperatorError:
    fenced = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)
    if error.code() in fenced:
        return OperatorError("another redrive has begun: see what it does, then run this again")
    if error.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return OperatorError(f"this user may not write under the transactional id {transactional_id}: have it granted")
    return OperatorError(f"the redrive failed: {error.str()}; what was not committed was not sent, so run this again")
