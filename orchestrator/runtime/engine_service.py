"""The loop as a service: its own OS thread, without asyncio, under a worker that brings signals and a web page."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from mode import Service

from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.loop import FENCED, Loop
from orchestrator.runtime.worker_log import mute_kafka, unmute_kafka

log = logging.getLogger("orchestrator.engine")

STOP_SECONDS = 45.0
"""How long a stop may take: shorter than the 90 s that Kubernetes grants, longer than a commit."""

HANG_SECONDS = 120.0
"""How long one turn may take: longer than anything a turn waits for that answers at all."""

LEAVE_SECONDS = 5.0
"""How long it may take to leave when there is nothing to commit: before the start, and after a failure."""

SAY_SECONDS = 5.0
"""How often a restore says how far it is."""

FENCED_BACKOFF_SECONDS = 10.0
"""How long a fenced process waits before it exits: two with one ordinal must not fence each other in a tight circle."""


class EngineService(Service):
    """Runs a loop until it is stopped or fails; a failure stops the worker."""

    def __init__(self, build: Callable[[], Loop]) -> None:
        super().__init__()
        self.loop_: Loop | None = None
        self.failure: BaseException | None = None
        self.beat = self._said_at = time.monotonic()
        self._build = build
        self._enough = threading.Event()
        self._has_started = False
        self._numbers: Sequence[int] | None = None
        # A daemon: a call to a broker that does not answer cannot be broken off, and must not keep the process.
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._asyncio: asyncio.AbstractEventLoop | None = None

    async def on_start(self) -> None:
        """Start the thread."""
        self._asyncio = asyncio.get_running_loop()
        self._thread.start()
        self.add_future(self._watch())

    async def on_stop(self) -> None:
        """Let the loop finish its turn, commit and leave the group."""
        self._enough.set()
        if self._thread.ident is None:
            return  # something before us in the worker's boot failed
        has_work = self._has_started and self.failure is None
        patience = STOP_SECONDS if has_work else LEAVE_SECONDS
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, patience)
        if has_work and self._thread.is_alive():
            log.error("the loop did not stop within %.0f s; what it did not commit is done again", STOP_SECONDS)

    @property
    def alive(self) -> bool:
        """Whether the loop takes its turns; the only thing a liveness probe may ask."""
        return self._thread.is_alive() and time.monotonic() - self.beat < HANG_SECONDS

    @property
    def ready(self) -> bool:
        """Whether everything that is assigned is restored; a spare worker without partitions is ready as well."""
        return self.failure is None and self.loop_ is not None and self.loop_.ready

    @property
    def fenced(self) -> bool:
        """Whether another process has taken over our transactional id."""
        return isinstance(self.failure, OperatorError) and self.failure.exit_code == FENCED

    @property
    def restoring(self) -> int:
        """How many changelog offsets are left to read."""
        return 0 if self.loop_ is None else self.loop_.restoring

    def _run(self) -> None:
        loop: Loop | None = None
        try:
            loop = self._build()
            if self._enough.is_set():
                return
            loop.start()
            self.loop_ = loop
            self.beat = time.monotonic()
            self._has_started = True
            unmute_kafka()
            gc.collect()
            # Customers kept decoded are no garbage and our values make no cycles: seldom looking saved 12 % of the CPU.
            gc.set_threshold(20_000, 50, 100)
            gc.freeze()  # what lives for ever need not be looked at again at every collection
            while not self._enough.is_set():
                loop.step()
                self.beat = time.monotonic()
                self._say_partitions(loop)
                self._say_restoring(loop)
            loop.stop()
            log.info("stopped; everything decided is committed")
        except BaseException as error:
            self.failure = error
            mute_kafka()
            if loop is not None:
                # Before any waiting: others take over our partitions now, not when the group has missed us.
                _leave(loop)
            if self.fenced:
                log.error("fenced by another worker; leaving in %.0f s", FENCED_BACKOFF_SECONDS)
                self._enough.wait(FENCED_BACKOFF_SECONDS)
            self._report(error)

    async def _watch(self) -> None:
        """Give up on a loop that hangs.

        Measured: when the group's coordinator is killed in the middle of a commit, sending the offsets may never come
        back, whatever its timeout, also long after the broker is up again. Only a new process helps.
        """
        while not self._enough.is_set():
            await asyncio.sleep(1.0)
            if self._has_started and self.failure is None and not self.alive:
                self.failure = OperatorError(
                    f"a call to the brokers has not come back for {HANG_SECONDS:.0f} s: start this worker again, it "
                    "goes on from the last commit"
                )
                await self.crash(self.failure)
                return

    def _say_partitions(self, loop: Loop) -> None:
        numbers = tuple(sorted(loop.partitions)) if loop.ready else None
        if numbers is None or numbers == self._numbers:
            return
        self._numbers = numbers
        if numbers:
            log.info("decides %d partitions: %s", len(numbers), spans(numbers))
        else:
            log.info("decides no partitions: it is a spare, for when another worker ends")

    def _say_restoring(self, loop: Loop) -> None:
        left = loop.restoring
        if not left:
            self._said_at = self.beat
        elif self.beat - self._said_at >= SAY_SECONDS:
            self._said_at = self.beat
            log.info("restoring: %s records read, %s offsets left", f"{loop.restored:,}", f"{left:,}")

    def _report(self, error: BaseException) -> None:
        assert self._asyncio is not None

        def crash() -> None:
            asyncio.ensure_future(self.crash(error))  # noqa: RUF006 - the worker stops on it

        if not self._asyncio.is_closed():
            self._asyncio.call_soon_threadsafe(crash)


def _leave(loop: Loop) -> None:
    """Close a loop that failed, for as long as is worth waiting: the brokers may not answer."""

    def close() -> None:
        with suppress(BaseException):
            loop.close()

    closing = threading.Thread(target=close, name="leaving", daemon=True)
    closing.start()
    closing.join(LEAVE_SECONDS)


def spans(numbers: Sequence[int]) -> str:
    """Return sorted numbers with runs written as 0-15, 32."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
