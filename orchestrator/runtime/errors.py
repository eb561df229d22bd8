"""What went wrong outside our code, said to the person who can put it right."""

from __future__ import annotations

from collections.abc import Sequence

FINDINGS = 1
USAGE = 2


class OperatorError(Exception):
    """One line that says what to do; `details` are further lines, one problem each."""

    def __init__(self, message: str, *, exit_code: int = FINDINGS, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.details = tuple(details)

    def __str__(self) -> str:
        return "\n  ".join((self.message, *self.details))
