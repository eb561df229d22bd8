"""The Faust worker that hosts the engine: lifecycle, signals and web; Kafka stays out of its boot."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.web import Request, Response, View
from mode import ServiceT
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from orchestrator.runtime.compose import build_loop
from orchestrator.runtime.engine_service import EngineService
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.metrics import registry_of
from orchestrator.runtime.settings import Settings


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
        web_port=settings.web_port,
    )
    registry = registry_of(lambda: service.loop_)

    @app.page("/healthz")
    async def healthz(view: View, _: Request) -> Response:
        return view.json({"alive": service.alive}, status=200 if service.alive else 503)

    @app.page("/readyz")
    async def readyz(view: View, _: Request) -> Response:
        restoring = 0 if service.loop_ is None else service.loop_.restoring
        body = {"ready": service.ready, "restoring_records": restoring}
        return view.json(body, status=200 if service.ready else 503)

    @app.page("/metrics")
    async def metrics(view: View, _: Request) -> Response:
        return view.bytes(generate_latest(registry), content_type=CONTENT_TYPE_LATEST.split(";")[0])

    return app


def run_worker(app: Any, log_level: str) -> None:
    """Run a Faust worker until it is stopped by a signal or by a failure of one of its services."""
    worker = faust.Worker(app, loglevel=log_level, redirect_stdouts=False, quiet=True)
    worker.execute_from_commandline()


def run_engine(settings: Settings) -> int:
    """Run the engine until a signal; return the process's exit code, after one line on stderr for a failure."""
    service = EngineService(lambda: build_loop(settings))
    try:
        (settings.state_dir / "faust").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"cannot write to the state directory {settings.state_dir}: {error.strerror}") from error
    try:
        run_worker(engine_app(settings, service), settings.log_level)
    except SystemExit:
        pass
    except BaseException as error:
        if service.failure is None:
            raise
        logging.getLogger("orchestrator").debug("the worker stopped", exc_info=error)
    failure = service.failure
    if failure is None:
        return 0
    if isinstance(failure, OperatorError):
        sys.stderr.write(f"orchestrator: {failure}\n")
        return failure.exit_code
    raise failure
