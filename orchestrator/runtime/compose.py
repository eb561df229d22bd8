"""The composition root: builds the engine's loop from settings; nothing else constructs clients, stores or codecs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from rocksdict import Cache

from orchestrator.events import FOREVER
from orchestrator.program import Program
from orchestrator.programs import Programs
from orchestrator.reference import REFERENCE_SCHEMAS, Reference
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.backfill import Backfill
from orchestrator.runtime.barriers import BarrierSource, LiveBarriers, NoBarriers
from orchestrator.runtime.clock import now_ms, steady_ms
from orchestrator.runtime.connection import client_config, connect
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.intake import Intake, sources_of
from orchestrator.runtime.learner import FixedDefinitions, Learned, Learner, LearnerConfig, PublishedDefinitions
from orchestrator.runtime.loop import Loop, LoopConfig, no_probe, sender
from orchestrator.runtime.outbox import Outbox
from orchestrator.runtime.partition import Deciding
from orchestrator.runtime.published import SCHEMA, definitions_topic, publication_of, require_one
from orchestrator.runtime.rebuild import Rebuild
from orchestrator.runtime.reference_reader import ReferenceReader
from orchestrator.runtime.restore import Restorer
from orchestrator.runtime.schema_registry import registry_of
from orchestrator.runtime.settings import PUBLISHED, Settings
from orchestrator.runtime.state_store import StateStore
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_admin import verify
from orchestrator.runtime.topics import load as load_topics
from orchestrator.runtime.worker_log import kafka_log

log = logging.getLogger("orchestrator")

BLOCK_CACHE = 64 << 20
"""Bytes of RocksDB blocks kept in memory, shared by all partitions of a process."""


def topics_of(settings: Settings) -> Topics:
    """Return the declared topics, with the prefix and the counts that the settings ask for."""
    topics = load_topics(settings.topics, settings.schemas)
    return topics.with_partitions(settings.partitions, settings.replication).with_prefix(settings.topic_prefix)


def codec_of(settings: Settings) -> Codec:
    """Return the codec over the configured registry, or over the schema files."""
    return Codec(registry_of(settings))


def programs_of(settings: Settings, topics: Topics) -> Programs:
    """Return the compiled definitions of the configured folder, or nothing yet where they are those published."""
    if settings.definitions is None:
        raise OperatorError(
            "no definitions: set ORCHESTRATOR_DEFINITIONS to a folder such as deploy/definitions/retail, or to topic",
            exit_code=USAGE,
        )
    if settings.definitions == PUBLISHED:
        definitions_topic(topics)
        return Programs()
    return Programs(Program(load_folder(settings.definitions, topics.catalogue)))


def build_loop(settings: Settings, *, now: Callable[[], int] = now_ms, probe: Callable[[str], None] = no_probe) -> Loop:
    """Return the loop of one engine process, ready to start; raises OperatorError for whatever is not as it must be."""
    topics = topics_of(settings)
    programs = programs_of(settings, topics)
    codec = codec_of(settings)
    admin = connect(settings)
    if findings := verify(admin, topics):
        raise OperatorError("the topics are not as topics.yaml declares them:", details=findings)
    shared = {**client_config(settings), "logger": kafka_log}
    inputs = [topic.name for topic in sources_of(topics)]
    references = [topic.name for topic in topics.references]
    live = settings.barriers == "live"

    reference, reader = _references(settings, topics, codec, shared, programs)

    transactional_id = f"{settings.group}.{settings.ordinal}"
    producer = Producer(producer_config(settings, transactional_id))
    consumer = Consumer(consumer_config(settings))
    source: BarrierSource = NoBarriers()
    if live:
        steady = steady_ms if now is now_ms else None  # a clock of the caller's own jumps as it likes
        source = LiveBarriers(admin, inputs, references, now, settings.commit_interval_ms, steady)

    config = LoopConfig(
        inputs=inputs,
        clock=None if live else topics.clock.name,
        changelog=topics.changelog.name,
        transactional_id=transactional_id,
        commit_interval=settings.commit_interval_ms,
        transaction_timeout=settings.transaction_timeout_ms,
        cache_bytes=settings.cache_bytes,
        migrate_state=settings.migrate_state,
    )
    intake = Intake(topics, codec, max_record_bytes=settings.max_record_bytes, max_skew=settings.max_skew_ms)
    outbox = Outbox(topics, codec, sender(producer))
    deciding = Deciding(
        programs,
        reference,
        intake,
        outbox,
        settings.max_lag_ms,
        records_barriers=live,
        erasure_salt=_erasure_salt(settings, topics),
        retention=topics.retention,
        traces=settings.trace_headers,
    )
    cache = Cache(BLOCK_CACHE)

    def open_store(number: int) -> StateStore:
        store = StateStore(settings.state_dir / settings.group / str(number), cache)
        if store.set_aside is not None:
            where = {"partition": number}
            log.warning(
                "the state of partition %d was damaged and is set aside in %s", number, store.set_aside, extra=where
            )
        return store

    return Loop(
        config,
        consumer,
        producer,
        Restorer(shared, topics.changelog.name, now, topics.oldest_store),
        reader,
        source,
        deciding,
        open_store,
        codec.decoder(topics.clock),
        now,
        probe,
    )


def build_rebuild(settings: Settings) -> Rebuild:
    """Return what rebuilds the changelog, with everything it has to look up; raises OperatorError as `build_loop`."""
    shared, admin, topics, codec, programs, reference, intake = _looked_up(settings)
    return Rebuild(
        shared,
        admin,
        topics,
        codec,
        programs.at(FOREVER),
        reference,
        intake,
        group=settings.group,
        erasure_salt=_erasure_salt(settings, topics),
        replay=settings.barriers == "replay",
    )


def build_backfill(settings: Settings) -> Backfill:
    """Return what folds history into new features, as `build_rebuild` does."""
    return Backfill(*_looked_up(settings), group=settings.group)


def build_learner(settings: Settings, learned: Learned, *, every: int | None = None) -> Learner:
    """Return what learns for the group of the settings, as often as they say or as told, its transactional id taken."""
    topics = topics_of(settings)
    every = every or settings.learn_every_ms
    if settings.definitions is None or every is None:
        raise OperatorError("nothing is learned: set ORCHESTRATOR_DEFINITIONS and ORCHESTRATOR_LEARN_EVERY")
    if settings.definitions == PUBLISHED:
        definitions: FixedDefinitions | PublishedDefinitions = PublishedDefinitions(topics)
    else:
        definitions = FixedDefinitions(load_folder(settings.definitions, topics.catalogue))
    config = LearnerConfig(
        transactional_id=f"{settings.group}.learner",
        every=every,
        retention=settings.policy_retention_ms,
        group=None if settings.barriers == "live" else settings.group,
    )
    shared = {**client_config(settings), "logger": kafka_log}
    return Learner(config, shared, topics, codec_of(settings), definitions, learned, now_ms, steady_ms)


def require_learning(folder: Path, topics: Topics) -> None:
    """Raise an OperatorError where the definitions of a folder leave nothing to learn, before one waits for it."""
    if not load_folder(folder, topics.catalogue).policy.learns:
        raise OperatorError(
            f"the definitions in '{folder}' choose by priority, so there is nothing to learn: write "
            "`choose: { method: expected_value }` into their policy, or leave --learn-every out",
            exit_code=USAGE,
        )


def _looked_up(
    settings: Settings,
) -> tuple[dict[str, Any], AdminClient, Topics, Codec, Programs, Reference, Intake]:
    """Return what is needed to fold history, in the order in which those ask for it who do, with references read."""
    topics = topics_of(settings)
    programs = programs_of(settings, topics)
    codec = codec_of(settings)
    admin = connect(settings)
    if findings := verify(admin, topics):
        raise OperatorError("the topics are not as topics.yaml declares them:", details=findings)
    shared = {**client_config(settings), "logger": kafka_log}
    reference, reader = _references(settings, topics, codec, shared, programs)
    reader.read_all()
    reader.close()
    require_one(programs)
    intake = Intake(topics, codec, max_record_bytes=settings.max_record_bytes, max_skew=settings.max_skew_ms)
    return shared, admin, topics, codec, programs, reference, intake


def _erasure_salt(settings: Settings, topics: Topics) -> str:
    """Return what hides of whom an erasure is remembered; never the same in two installations' changelogs."""
    secret = "" if settings.erasure_salt is None else settings.erasure_salt.reveal()
    return f"{topics.changelog.name}/{secret}"


def _references(
    settings: Settings, topics: Topics, codec: Codec, shared: Mapping[str, Any], programs: Programs
) -> tuple[Reference, ReferenceReader]:
    """Return the reference data, and the reader that fills it in: products, snapshots, and published definitions."""
    reference, schemas = Reference(), {topic.name: topic.schema for topic in topics.references}
    follows = settings.definitions == PUBLISHED

    def take(topic: str, record: Mapping[str, Any]) -> None:
        if schemas[topic] != SCHEMA:
            reference.take(schemas[topic] or "", record)
        elif follows:
            publication = publication_of(record)
            programs.put(publication.effective_from, Program(publication.definitions(topics.catalogue)))

    read = (*REFERENCE_SCHEMAS, SCHEMA)
    decoders = {topic.name: codec.decoder(topic) for topic in topics.references if topic.schema in read}
    return reference, ReferenceReader(shared, decoders, take)


def consumer_config(settings: Settings) -> dict[str, Any]:
    """Return the firehose consumer's configuration."""
    config: dict[str, Any] = {
        **client_config(settings),
        "logger": kafka_log,
        "group.id": settings.group,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        # Not cooperative: it does not give partition p of every input to the same member.
        "partition.assignment.strategy": "range",
        # Where to start is always said explicitly; an offset that is gone must not turn into silence.
        "auto.offset.reset": "error",
        "session.timeout.ms": settings.session_timeout_ms,
        "heartbeat.interval.ms": max(300, settings.session_timeout_ms // 4),
        "max.poll.interval.ms": max(300_000, settings.session_timeout_ms + 1),
        "fetch.wait.max.ms": 50,
        "fetch.message.max.bytes": max(1 << 20, settings.max_record_bytes),
        "queued.max.messages.kbytes": 65_536,
        "queued.min.messages": 20_000,
    }
    if settings.static_membership:
        config["group.instance.id"] = settings.instance
    return config


def producer_config(settings: Settings, transactional_id: str) -> dict[str, Any]:
    """Return the transactional producer's configuration."""
    return {
        **client_config(settings),
        "logger": kafka_log,
        "transactional.id": transactional_id,
        "transaction.timeout.ms": settings.transaction_timeout_ms,
        "partitioner": "murmur2_random",
        "linger.ms": 5,
        "compression.type": "lz4",
        "message.max.bytes": 2 << 20,
        "queue.buffering.max.kbytes": 131_072,
        "delivery.report.only.error": False,
        # Sending offsets waits for the group's coordinator, and librdkafka (issues 5456 and 5511) looks for a new one
        # only when some connection changes, whatever the timeout: when a broker is gone, that may be never. Meanwhile
        # the connections are idle, and closing them is such a change.
        "connections.max.idle.ms": 5_000,
    }
