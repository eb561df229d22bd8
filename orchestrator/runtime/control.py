"""The control role: a Faust app that keeps recent decisions to be asked for, and follows the promises as they come.

It reads `decisions` and `campaign-triggers` in a group of its own, at least once. What it knows is one table of small
facts by customer (`running_audit`), with a changelog: both topics grow for months, so that reading them again at every
start would take far longer than restoring the facts. The facts of a customer are one record with the offsets that went
into it, so no crash can tear them, and what is delivered again changes nothing. There is one table because Faust, while
it restores several, can put a record of one into another.

What campaigns are worth is learned here, too (`learner`): in a thread of its own, with a consumer of its own that reads
every outcome from the beginning, by the one instance that has the first partition.

Nothing else is in the changelog. Decisions are found again by their offsets: a copy would be twenty times larger, and
outlive the retention that the topic promises. Totals are counted from the table after each restore. The counters by
reason and by campaign begin with the process, as counters of Prometheus do.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import faust
from faust.exceptions import ConsumerNotStarted

from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.compose import build_learner, codec_of, topics_of
from orchestrator.runtime.connection import client_config, connect
from orchestrator.runtime.control_agents import add_agents
from orchestrator.runtime.control_app import changelog_of, datadir, new_app
from orchestrator.runtime.control_book import Book
from orchestrator.runtime.control_pages import Fetch, add_pages
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.hosting import exit_code_of, run_worker
from orchestrator.runtime.learner_service import LearnerService
from orchestrator.runtime.record_picker import pick
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topic, Topics
from orchestrator.runtime.topic_admin import apply, verify


def run_control(settings: Settings) -> int:
    """Run the control role until a signal; return the process's exit code, after one line on stderr for a failure."""
    try:
        app = control_app(settings)
    except (OperatorError, OSError) as error:
        return exit_code_of(error, settings)
    started = (
        f"control of group {settings.group} starts, its pages are on http://{settings.web_host}:{app.conf.web_port}"
    )
    if settings.log_level != "debug":
        logging.getLogger("aiokafka").setLevel(logging.WARNING)
    failure = run_worker(app, settings, started)
    return 0 if failure is None else exit_code_of(failure, settings)


def control_app(settings: Settings) -> faust.App:
    """Return the app, ready to start; raises OperatorError for whatever is not as it must be."""
    datadir(settings).mkdir(parents=True, exist_ok=True)
    topics = topics_of(settings)
    codec = codec_of(settings)
    admin = connect(settings)
    if findings := verify(admin, topics):
        raise OperatorError("the topics are not as topics.yaml declares them:", details=findings)
    changelog = changelog_of(settings, topics)
    apply(admin, Topics((changelog,)))

    learner = LearnerService(partial(build_learner, settings), lambda: _owns_the_first(app, topics.decisions))
    learns = settings.definitions is not None and settings.learn_every_ms is not None
    app = new_app(settings, (learner,) if learns else ())
    table = app.Table("customers", key_type=bytes, value_type=bytes, changelog_topic=_changelog(app, changelog))
    book = Book(table, topics.partitions, now_ms)

    async def recover() -> None:
        book.recover({tp.partition for tp in app.consumer.assignment() if tp.topic == topics.decisions.name})

    table.on_recover(recover)
    decoders = {topic.name: codec.decoder(topic) for topic in (topics.decisions, topics.triggers)}
    add_agents(app, book, topics, decoders)

    def ready() -> bool:
        return bool(app.tables.actives_ready) and not app.rebalancing

    add_pages(app, book, learner.learned, ready, settings.web_token, _fetch(settings, topics.decisions, decoders))
    return app


def _owns_the_first(app: faust.App, topic: Topic) -> bool:
    """Return whether the first partition of a topic is this instance's: so one of them has the learner's turn."""
    try:
        return any(tp.topic == topic.name and tp.partition == 0 for tp in app.consumer.assignment())
    except (ConsumerNotStarted, AssertionError):
        return False


def _changelog(app: faust.App, topic: Topic) -> Any:
    return app.topic(
        topic.name,
        key_serializer="raw",
        value_serializer="raw",
        partitions=topic.partitions,
        compacting=True,
        acks=False,
        internal=True,
        maxsize=131_072,  # as Faust does for its own changelogs: nothing is committed while they are read
        allow_empty=True,
    )


def _fetch(settings: Settings, topic: Topic, decoders: dict[str, Any]) -> Fetch:
    config = client_config(settings)
    decode = decoders[topic.name]

    def fetch(customer: str, partition: int, offsets: list[int]) -> list[dict[str, Any]]:
        key = customer.encode()
        picked = pick(config, topic.name, partition, offsets)
        return [decode(value) for found, value in picked if found == key and value is not None]

    return fetch
