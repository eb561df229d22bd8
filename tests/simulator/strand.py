"""A call that can be put aside half-way and taken up again; only one of all strands ever runs."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread


class Strand:
    """One call on a thread of its own, which runs only while somebody waits in `go`."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._mine, self._theirs = Lock(), Lock()
        self._mine.acquire()
        self._theirs.acquire()
        self._thread: Thread | None = None
        self.done = False
        self.failure: BaseException | None = None

    def go(self) -> None:
        """Let the call run until it parks or ends; what it raised is raised here."""
        if self._thread is None:
            self._thread = Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._mine.release()
        self._theirs.acquire()
        if self.done:
            self._thread.join()
            if self.failure is not None:
                raise self.failure

    def park(self) -> None:
        """Put the call aside, from within it, until the next `go`."""
        self._theirs.release()
        self._mine.acquire()

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as failure:
            self.failure = failure
        self.done = True
        self._theirs.release()
