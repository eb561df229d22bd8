"""The Faust worker that hosts the engine: lifecycle, signals and web; Kafka stays out of its boot."""

from __future__ import annotations

import errno
import io
import logging
import socket
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import faust
from confluent_kafka import KafkaException
from confluent_kafka.admin._acl import AclOperation
from faust.app.base import BootStrategy
from faust.web import Request, Response, View
from mode import ServiceT
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from orchestrator.runtime.compose import build_loop, topics_of
from orchestrator.runtime.connection import denied, explain
from orchestrator.runtime.engine_service import EngineService
from orchestrator.runtime.errors import FINDINGS, OperatorError
from orchestrator.runtime.intake import sources_of
from orchestrator.runtime.loop import DeniedError, no_probe
from orchestrator.runtime.metrics import registry_of
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.worker_log import say_failure, set_up_logging, without_values

log = logging.getLogger("orchestrator")


def engine_app(settings: Settings, service: EngineService) -> faust.App:
    """Return the Faust app whose worker runs the engine and serves /healthz, /readyz and /metrics."""

    class WithoutKafka(BootStrategy):
        """Starts everything but Kafka, then the engine: last to start, first to stop."""

        enable_kafka = False

        def server(self) -> Iterable[ServiceT]:
            return [*super().server(), service]

    class EngineApp(faust.App):
        BootStrategy = WithoutKafka

    app = EngineApp(
        settings.group,
        broker="kafka://127.0.0.1:1",  # never asked: the boot strategy leaves Kafka out
        store="memory://",
        datadir=str(settings.state_dir / "faust"),
        web_host=settings.web_host,
        web_bind=settings.web_host,
        web_port=settings.web_port or _free_port(settings.web_host),
        web_tables_enabled=False,
        web_router_enabled=False,
    )
    registry = registry_of(lambda: service.loop_, lambda: service.fenced)

    @app.page("/healthz")
    async def healthz(view: View, _: Request) -> Response:
        return view.json({"alive": service.alive}, status=200 if service.alive else 503)

    @app.page("/readyz")
    async def readyz(view: View, _: Request) -> Response:
        body = {"ready": service.ready, "restoring_records": service.restoring}
        return view.json(body, status=200 if service.ready else 503)

    @app.page("/metrics")
    async def metrics(view: View, _: Request) -> Response:
        return view.bytes(generate_latest(registry), content_type=CONTENT_TYPE_LATEST.split(";")[0])

    return app


def _free_port(host: str) -> int:
    """Return a port on which nothing listens now: Faust itself refuses to be told 0."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


class _Worker(faust.Worker):
    """A Faust worker that leaves logging and the terminal to us, and says once that it runs."""

    def __init__(self, app: Any, started: str) -> None:
        # What it would print about a failure is a traceback; the failure itself comes back from run_worker.
        super().__init__(app, redirect_stdouts=False, quiet=True, override_logging=False, stderr=io.StringIO())
        self.spinner = None
        self._started_line = started

    async def on_startup_finished(self) -> None:
        log.info("%s", self._started_line)


def run_worker(app: Any, settings: Settings, started: str) -> BaseException | None:
    """Run a Faust worker until a signal, saying once that it runs; return the failure that ended it, if one did."""
    set_up_logging(settings.log_level, settings.log_format, settings.instance)
    try:
        _Worker(app, started).execute_from_commandline()
    except SystemExit as end:
        return end.__context__ if end.code else None


def run_engine(settings: Settings, *, probe: Callable[[str], None] = no_probe) -> int:
    """Run the engine until a signal; return the process's exit code, after one line on stderr for a failure."""
    service = EngineService(lambda: build_loop(settings, probe=probe))
    try:
        (settings.state_dir / "faust").mkdir(parents=True, exist_ok=True)
        app = engine_app(settings, service)
    except OSError as error:
        return exit_code_of(error, settings)
    started = (
        f"engine {settings.ordinal} of group {settings.group} starts, "
        f"its pages are on http://{settings.web_host}:{app.conf.web_port}"
    )
    failure = run_worker(app, settings, started)
    failure = service.failure or failure
    return 0 if failure is None else exit_code_of(failure, settings)


def outputs_of(topics: Topics) -> list[str]:
    """Return the names of the topics that an engine writes."""
    written = (topics.decisions, topics.triggers, topics.outcomes, topics.active, topics.dead_letters, topics.changelog)
    return [topic.name for topic in (*written, topics.clock)]


def _refused(settings: Settings) -> str:
    """Return what this user may not do with which topics, nothing where the broker does not tell.

    The broker refuses a transaction as a whole, and the same way for a topic that may not be written and for one whose
    offsets may not be committed, because it may not be read: so it is asked.
    """
    topics = topics_of(settings)
    if names := denied(settings, AclOperation.WRITE, outputs_of(topics)):
        return f"this user may not write {', '.join(names)}: grant Write on it"
    inputs = [topic.name for topic in (*sources_of(topics), topics.clock)]
    if names := denied(settings, AclOperation.READ, inputs):
        return f"this user may not read {', '.join(names)}: grant Read on it and on the consumer group"
    return ""


def exit_code_of(failure: BaseException, settings: Settings) -> int:
    """Say on stderr what failed and what to do, and return the exit code; where it failed, if it is our mistake."""
    line, code = "", FINDINGS
    if isinstance(failure, DeniedError) and (refused := _refused(settings)):
        line = refused
    elif isinstance(failure, OperatorError):
        line, code = str(failure), failure.exit_code
    elif isinstance(failure, KafkaException):
        line = explain(failure.args[0], "working with the broker")
    elif isinstance(failure, OSError) and failure.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
        where = f"{settings.web_host}:{settings.web_port}"
        line = f"the pages cannot be served on {where} ({failure.strerror}): set ORCHESTRATOR_WEB_PORT or _WEB_HOST"
    elif isinstance(failure, OSError):
        line = f"cannot write to the state directory {settings.state_dir}: {failure.strerror}"
    if not line:
        is_debug = settings.log_level == "debug"
        told = "".join(traceback.format_exception(failure)) if is_debug else without_values(failure)
        line = f"a mistake of this program ended the worker; please report it\n{told.rstrip()}"
    say_failure(line, settings.log_format, settings.instance)
    return code
