"""The learner as a service of the control role: its own OS thread, in the one instance whose turn it is."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from confluent_kafka import KafkaException
from mode import Service

from orchestrator.runtime.connection import explain
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.learner import Learned, Learner, TakenOverError, Waiting
from orchestrator.runtime.worker_log import without_values

log = logging.getLogger("orchestrator.learner")

TURN_SECONDS = 0.25
"""How long a turn waits for something to read."""

AGAIN_SECONDS = 5.0
"""How long to wait after a failure before everything is read again."""

TAKEN_OVER_SECONDS = 15.0
"""How long to wait after another instance has taken over: two must not take it from each other in a tight circle."""

SAY_SECONDS = 300.0
"""How often to say what is waited for."""

STOP_SECONDS = 10.0


class LearnerService(Service):
    """Learns while `is_ours` says that it is this instance's turn; a failure is told, counted, and tried again."""

    def __init__(
        self, build: Callable[[Learned], Learner], is_ours: Callable[[], bool], turn_seconds: float = TURN_SECONDS
    ) -> None:
        super().__init__()
        self.learned = Learned()
        self._build = build
        self._is_ours = is_ours
        self._turn_seconds = turn_seconds
        self._enough = threading.Event()
        self._said = ""
        # A daemon: a call to a broker that does not answer cannot be broken off, and must not keep the process.
        self._thread = threading.Thread(target=self.run, name="learner", daemon=True)

    async def on_start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def on_stop(self) -> None:
        """Let the turn finish; a snapshot that is being published is undone or done by whoever learns next."""
        self._enough.set()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, STOP_SECONDS)

    def run(self) -> None:
        """Learn until told to stop."""
        learner: Learner | None = None
        silent = 0.0
        while not self._enough.is_set():
            pause = 0.0
            try:
                if not self._is_ours():
                    if learner is not None:
                        log.info("another instance learns now")
                        self._let_go(learner)
                        learner = None
                    pause = 1.0
                else:
                    learner = learner or self._build(self.learned)
                    self.learned.is_active = True
                    learner.turn(self._turn_seconds)
            except Waiting as reason:
                pause = 1.0
                silent += pause
                if silent >= SAY_SECONDS:
                    silent = 0.0
                    log.warning("nothing can be learned yet: %s", reason)
            except TakenOverError as error:
                log.info("%s", error)
                self._let_go(learner)
                learner = None
                pause = TAKEN_OVER_SECONDS
            except Exception as error:  # whatever it is, the audit beside goes on, and the alert tells of the failures
                self._fail(error)
                self._let_go(learner)
                learner = None
                pause = AGAIN_SECONDS
            self._enough.wait(pause)
        self._let_go(learner)

    def _let_go(self, learner: Learner | None) -> None:
        self.learned.is_active = False
        if learner is not None:
            learner.close()

    def _fail(self, error: Exception) -> None:
        self.learned.failures += 1
        if isinstance(error, OperatorError):
            line = str(error)
        elif isinstance(error, KafkaException):
            line = explain(error.args[0], "learning")
        else:
            line = f"a mistake of this program; please report it\n{without_values(error).rstrip()}"
        log.error("the learner failed, and begins anew in %.0f s: %s", AGAIN_SECONDS, line)
