"""The learner: folds outcomes as they come, and publishes what they say of each campaign as versioned policy snapshots.

What a snapshot says depends on the log alone. It counts the newest revision of every outcome that was known `as_of` a
whole multiple of `every`, and is made once the clocks of all partitions have come to that instant: whatever will ever
be known as of then is in the topic, and is read from its beginning at every start. A learner that is killed makes the
same snapshot again, unless it is there already: all its records are one transaction.

From when on it counts is an instant that no engine has come to before it was published. Live, that is the wall clock's,
a little ahead; in a replay the millisecond after the barrier that the replay waits at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from orchestrator.events import DAY, MINUTE
from orchestrator.learning.outcomes import Outcomes
from orchestrator.learning.plan import plan
from orchestrator.program import Definitions
from orchestrator.runtime.avro import Codec, Undecodable
from orchestrator.runtime.decided import Decided
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.policy_log import SCHEMA, PolicyLog, Published, policy_topic, text_of
from orchestrator.runtime.published import SCHEMA as DEFINITIONS
from orchestrator.runtime.published import publication_of
from orchestrator.runtime.topic import Topic, Topics
from orchestrator.runtime.topic_follower import Follower
from orchestrator.valuation import records_of

log = logging.getLogger("orchestrator.learner")

AHEAD = MINUTE
"""How far ahead of the wall clock a snapshot begins to count, beyond what planning is known to take: milliseconds."""

LEAST_OFTEN = DAY
"""How long a snapshot may stay when no outcome came: what it says of exploring and of old outcomes goes by time."""

MAX_RECORD = 2 << 20
"""Bytes that one leaf may have: the topic's max.message.bytes, which has to hold the record's frame as well."""

ANSWER_SECONDS = 60.0
"""How long the brokers have to hand over the transactional id."""

TRANSACTION_SECONDS = 15.0
"""How long publishing may take. Short, for no engine's clock passes a snapshot that somebody has begun to write."""


class TakenOverError(OperatorError):
    """Another instance learns for the group."""

    def __init__(self, transactional_id: str) -> None:
        super().__init__(f"another instance has taken over the transactional id {transactional_id}, and learns")


class Waiting(Exception):  # noqa: N818 (it is no failure)
    """Why nothing can be planned yet, in a few words."""


class DefinitionsInForce(Protocol):
    """Which definitions count from an instant on."""

    def at(self, instant: int) -> Definitions | None:
        """Return them, None while there are none."""

    def take(self, record: Mapping[str, Any]) -> None:
        """Take in a record of the topic of published definitions."""


class FixedDefinitions:
    """Those of a folder."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    def at(self, instant: int) -> Definitions | None:  # noqa: ARG002 - they have no beginning
        """Return them."""
        return self._definitions

    def take(self, record: Mapping[str, Any]) -> None:
        """Leave what was published alone."""


class PublishedDefinitions:
    """Those that were published, each from its instant on; the first from the beginning."""

    def __init__(self, topics: Topics) -> None:
        self._catalogue = topics.catalogue
        self._versions: dict[int, Definitions] = {}

    def at(self, instant: int) -> Definitions | None:
        """Return what counts at an instant."""
        since = [start for start in self._versions if start <= instant] or sorted(self._versions)[:1]
        return self._versions[max(since)] if since else None

    def take(self, record: Mapping[str, Any]) -> None:
        """Take in a record of their topic."""
        publication = publication_of(record)
        self._versions[publication.effective_from] = publication.definitions(self._catalogue)


@dataclass(slots=True)
class Learned:
    """What a learner has done so far, for metrics; instants in milliseconds."""

    outcomes: int = 0
    """Outcome records read since the start, tombstones included."""
    undecodable: int = 0
    snapshots: int = 0
    late: int = 0
    """Snapshots that were undone and made again, for they would have counted before they were there."""
    failures: int = 0
    planning_seconds: float = 0.0
    """How long the last planning took."""
    as_of: int = 0
    """Up to when the newest snapshot counts outcomes, 0 while there is none."""
    is_active: bool = False
    """Whether this instance learns for the group."""
    is_asked: bool = False
    """Whether the definitions in force let anything be learned."""


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """What a learner needs to know; `group` is the engines' group in a replay, None when live; times milliseconds."""

    transactional_id: str
    every: int
    retention: int
    group: str | None = None


class Learner:
    """One instance that learns for a group; `turn` is to be called again and again."""

    def __init__(
        self,
        config: LearnerConfig,
        client_config: Mapping[str, Any],
        topics: Topics,
        codec: Codec,
        definitions: DefinitionsInForce,
        learned: Learned,
        now: Callable[[], int],
        steady: Callable[[], int],
    ) -> None:
        self._config = config
        self._client = client_config
        self._topics = topics
        self._definitions = definitions
        self._learned = learned
        self._now = now
        self._steady = steady
        self._policy = policy_topic(topics)
        self._log = PolicyLog()
        self._outcomes = Outcomes()
        self._known: set[int] = set()
        """The instants as of which some revision is counted for the first time."""
        self._forgotten = False
        self._looked_at = 0
        self._begun_at: int | None = None
        """When the transaction began that is open, by the wall clock: it goes on where a machine is stopped."""
        self._encode = codec.encoder(self._policy)
        self._decode_outcome = codec.decoder(topics.outcomes)
        self._references: dict[str, Topic] = {
            topic.name: topic for topic in topics.references if topic.schema in (SCHEMA, DEFINITIONS)
        }
        self._decode = {name: codec.decoder(topic) for name, topic in self._references.items()}
        self._decode_barrier = codec.decoder(topics.clock)
        self._decided: Decided | None = None
        self._outcome_log: Follower | None = None
        self._producer = Producer(
            {
                **client_config,
                "transactional.id": config.transactional_id,
                "transaction.timeout.ms": int(TRANSACTION_SECONDS * 1000),
                "message.max.bytes": MAX_RECORD + 65_536,
                "compression.type": "lz4",
                "linger.ms": 5,
                "queue.buffering.max.kbytes": 65_536,
            }
        )
        try:
            # First of all: whoever had it before is shut out, and what it had begun to publish is undone or done.
            self._producer.init_transactions(ANSWER_SECONDS)
        except KafkaException as error:
            raise self._failure(error) from error
        self._reference_log = Follower(client_config, dict.fromkeys(self._references, 1))
        for message in self._reference_log.catch_up():
            self._take_reference(message)

    def turn(self, seconds: float) -> None:
        """Read what has come within some seconds, and publish a snapshot if it is time; raises Waiting if it cannot."""
        for message in self._reference_log.poll(0.0):
            self._take_reference(message)
        definitions = self._definitions.at(self._now())
        self._learned.is_asked = definitions is not None and definitions.policy.learns
        if not self._learned.is_asked:
            for message in self._reference_log.poll(seconds):
                self._take_reference(message)
            return
        decided, outcomes = self._open()
        for message in outcomes.poll(seconds):
            self._take_outcome(message)
        decided.poll()
        reached = decided.reached
        if reached is None:
            silent = ", ".join(map(str, decided.silent[:8]))
            raise Waiting(f"no engine has told how far partitions {silent} are")
        as_of = reached // self._config.every * self._config.every
        newest = self._log.newest
        if as_of <= max(self._looked_at, 0 if newest is None else newest.as_of):
            return
        # Everything that was decided up to there is in the topic, open transactions are waited for.
        for message in outcomes.catch_up():
            self._take_outcome(message)
        for message in self._reference_log.catch_up():  # what we have published ourselves as well
            self._take_reference(message)
        self._plan(as_of, reached)
        self._looked_at = as_of

    @property
    def progress(self) -> tuple[int, int]:
        """What has been read and published so far: for whoever waits, and only as long as something is done."""
        return self._learned.outcomes, self._learned.snapshots

    def close(self) -> None:
        """Leave the brokers; a transaction that is open is undone by the next one to learn."""
        self._reference_log.close()
        if self._outcome_log is not None:
            self._outcome_log.close()
        if self._decided is not None:
            self._decided.close()

    def _open(self) -> tuple[Decided, Follower]:
        if self._outcome_log is None or self._decided is None:
            topics, group = self._topics, self._config.group
            self._decided = Decided(self._client, topics.clock.name, topics.partitions, self._decode_barrier, group)
            self._outcome_log = Follower(self._client, {topics.outcomes.name: topics.partitions})
            for message in self._outcome_log.catch_up():
                self._take_outcome(message)
        return self._decided, self._outcome_log

    def _take_reference(self, message: Any) -> None:
        topic, value = message.topic(), message.value()
        try:
            record = None if value is None else self._decode[topic](value)
        except Undecodable:
            self._learned.undecodable += 1
            return
        if topic == self._policy.name:
            self._log.take(text_of(message.key()), record)
            newest = self._log.newest
            self._learned.as_of = 0 if newest is None else newest.as_of
        elif record is not None:
            self._definitions.take(record)

    def _take_outcome(self, message: Any) -> None:
        self._learned.outcomes += 1
        value = message.value()
        if value is None:
            self._outcomes.remove(text_of(message.key()))
            self._forgotten = True
            return
        try:
            record = self._decode_outcome(value)
        except Undecodable:
            self._learned.undecodable += 1
            return
        self._outcomes.put(record)
        every = self._config.every
        self._known.add(-(-record["known_at"] // every) * every)

    def _plan(self, as_of: int, reached: int) -> None:
        """Publish the snapshot as of an instant, unless it would say nothing new."""
        is_live = self._config.group is None
        # In a replay all stay: engines that begin later stand at its beginning.
        gone = self._log.superseded(reached - self._config.retention) if is_live else []
        took = 0
        while True:
            effective_from = self._effective_from(reached, took)
            definitions = self._definitions.at(effective_from)
            if definitions is None or not definitions.policy.learns:
                return
            if not self._is_due(self._log.newest, definitions, as_of):
                return
            started = self._steady()
            snapshot = plan(self._outcomes, definitions, as_of, effective_from)
            took = self._steady() - started
            self._learned.planning_seconds = took / 1000
            if is_live and self._now() >= effective_from - AHEAD // 2:
                continue  # it took longer than was thought, and what is planned would count before it is there
            if self._publish(records_of(snapshot), gone, effective_from if is_live else None):
                break
            self._learned.late += 1
            log.warning("a snapshot was held up until it would have counted; nobody has seen it, and it is made again")
            took = self._steady() - started
        self._learned.snapshots += 1
        self._learned.as_of = as_of
        self._forgotten = False
        # What is known as of an earlier instant than planned cannot come any more.
        self._outcomes.forget(as_of)
        self._known = {instant for instant in self._known if instant > as_of}
        leaves = len(snapshot.leaves)
        log.info("published snapshot %s of %d outcomes in %d leaves", snapshot.version, snapshot.outcomes, leaves)

    def _effective_from(self, reached: int, took: int) -> int:
        if self._config.group is not None:
            return reached + 1
        newest = self._log.newest
        soon = -(-(self._now() + AHEAD + 2 * took) // MINUTE) * MINUTE
        return soon if newest is None else max(soon, newest.effective_from + MINUTE)  # no two count from one instant

    def _is_due(self, newest: Published | None, definitions: Definitions, as_of: int) -> bool:
        if newest is None or self._config.group is not None:
            return True  # a replay waits for it
        return (
            self._forgotten
            or newest.definitions_version != definitions.version
            or as_of - newest.as_of >= LEAST_OFTEN
            or any(newest.as_of < instant <= as_of for instant in self._known)
        )

    def _publish(self, records: Mapping[str, Mapping[str, Any]], gone: list[str], before: int | None) -> bool:
        """Write all records and the tombstones of old versions in one transaction; return whether it was in time.

        What is not in the topic before an instant is undone.
        """
        values = {key: self._encode(dict(record)) for key, record in records.items()}
        for key, value in values.items():
            if len(value) > MAX_RECORD:
                raise OperatorError(
                    f"leaf '{key}' of the snapshot has {len(value):,} bytes, more than the {MAX_RECORD:,} of a record: "
                    "tell fewer customers apart (`by`), or let fewer campaigns learn"
                )
        self._begun_at = self._now()
        try:
            self._producer.begin_transaction()
            for key in (*values, *(key for key in gone if key not in values)):
                self._send(key, values.get(key))
            if self._producer.flush(TRANSACTION_SECONDS):
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "records were not delivered in time"))
            # The last chance to be late, and early enough: engines ask for the topic's end before their clock comes to
            # an instant. Whoever asks from now on is told of these records, and waits for what becomes of them.
            if before is not None and self._now() >= before:
                self._producer.abort_transaction(TRANSACTION_SECONDS)
                return False
            self._producer.commit_transaction(TRANSACTION_SECONDS)
        except KafkaException as error:
            raise self._failure(error) from error
        finally:
            self._begun_at = None
        return True

    def _send(self, key: str, value: bytes | None) -> None:
        while True:
            try:
                self._producer.produce(self._policy.name, value, key.encode(), 0)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _failure(self, error: KafkaException) -> OperatorError:
        reason = error.args[0]
        fenced = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
        if reason.code() in fenced or "fenced" in reason.str().lower():
            # Brokers answer the same to a transaction that they have ended, for it was open for too long.
            open_for = 0 if self._begun_at is None else abs(self._now() - self._begun_at)
            if open_for >= TRANSACTION_SECONDS * 1000:
                return OperatorError(
                    f"the snapshot could not be published: its transaction was open for {open_for / 1000:g} s, and "
                    f"brokers end one after {TRANSACTION_SECONDS:g} s, if it was not another instance that took over "
                    f"{self._config.transactional_id}. It is made again; if this happens again find what holds it up, "
                    "such as a paused container, too little CPU or slow brokers, for engines wait meanwhile"
                )
            return TakenOverError(self._config.transactional_id)
        if reason.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED):
            return OperatorError(
                f"this user may not publish snapshots: grant Write on {self._policy.name} and on the transactional id "
                f"{self._config.transactional_id}"
            )
        return OperatorError(f"the snapshot could not be published ({reason.str()}): it is made again")
