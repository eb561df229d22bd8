"""The loop as a service: its own OS thread, without asyncio, under a worker that brings signals and a web page."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable

from mode import Service

from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.loop import FENCED, Loop

log = logging.getLogger("orchestrator.engine")

STOP_SECONDS = 45.0
"""How long a stop may take: shorter than the 90 s that Kubernetes grants, longer than a commit."""

FENCED_BACKOFF_SECONDS = 10.0
"""How long a fenced process waits before it exits: two with one ordinal must not fence each other in a tight circle."""


class EngineService(Service):
    """Runs a loop until it is stopped or fails; a failure stops the worker."""

    def __init__(self, build: Callable[[], Loop]) -> None:
        super().__init__()
        self.loop_: Loop | None = None
        self.failure: BaseException | None = None
        self.beat = time.monotonic()
        self._build = build
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._asyncio: asyncio.AbstractEventLoop | None = None

    async def on_start(self) -> None:
        """Start the thread."""
        self._asyncio = asyncio.get_running_loop()
        self._thread.start()

    async def on_stop(self) -> None:
        """Let the loop finish its turn, commit and leave the group."""
        self._enough.set()
        if self._thread.ident is None:
            return  # something before us in the worker's boot failed
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, STOP_SECONDS)
        if self._thread.is_alive():
            log.error("the loop did not stop within %.0f s; what it did not commit is done again", STOP_SECONDS)

    @property
    def alive(self) -> bool:
        """Whether the loop takes its turns; the only thing a liveness probe may ask."""
        return self._thread.is_alive() and time.monotonic() - self.beat < 120

    @property
    def ready(self) -> bool:
        """Whether partitions are assigned and restored."""
        return self.loop_ is not None and self.loop_.ready

    def _run(self) -> None:
        loop: Loop | None = None
        try:
            loop = self.loop_ = self._build()
            loop.start()
            gc.collect()
            gc.freeze()  # what lives for ever need not be looked at again at every collection
            while not self._enough.is_set():
                loop.step()
                self.beat = time.monotonic()
            loop.stop()
        except BaseException as error:
            self.failure = error
            if isinstance(error, OperatorError) and error.exit_code == FENCED:
                self._enough.wait(FENCED_BACKOFF_SECONDS)
            self._report(error)

    def _report(self, error: BaseException) -> None:
        assert self._asyncio is not None

        def crash() -> None:
            asyncio.ensure_future(self.crash(error))  # noqa: RUF006 - the worker stops on it

        if not self._asyncio.is_closed():
            self._asyncio.call_soon_threadsafe(crash)
