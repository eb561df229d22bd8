"""A process as its clients see it: every call passes a point at which it may be killed, stopped or told a fault."""

from __future__ import annotations

from typing import Any


class Killed(BaseException):
    """The process is gone: nothing it still would have done happens."""


class Process:
    """An undisturbed process; the simulator's workers override what happens at the points."""

    name = "process"
    fetch_records = 1_000
    """How many records of one partition a fetch brings."""

    max_poll = 300_000
    """How long the application may not consume before its client leaves the group, milliseconds."""

    def enter(self, point: str) -> None:
        """Pass the instant before a call."""

    def leave(self, point: str) -> None:
        """Pass the instant after a call."""

    def fault(self, point: str) -> Any:  # noqa: ARG002 - for workers that have faults
        """Return the fault with which a call is to be answered, None for none."""
        return None
