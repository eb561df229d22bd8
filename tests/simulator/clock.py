"""The virtual clock: time passes when somebody says so, and what was planned for an instant happens at it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class VirtualClock:
    """An instant in milliseconds, and what is to happen at later ones."""

    def __init__(self, now: int = 0) -> None:
        self.now = now
        self._plans: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, instant: int, happen: Callable[[], None]) -> None:
        """Let something happen at an instant, after what was planned for it before."""
        heapq.heappush(self._plans, (instant, next(self._order), happen))

    def after(self, delay: int, happen: Callable[[], None]) -> None:
        """Let something happen after a delay."""
        self.at(self.now + delay, happen)

    @property
    def next_plan(self) -> int | None:
        """The instant of what happens next, None when nothing is planned."""
        return self._plans[0][0] if self._plans else None

    def pass_to(self, instant: int) -> None:
        """Let time pass up to an instant, with everything that happens on the way."""
        while self._plans and self._plans[0][0] <= instant:
            at, _, happen = heapq.heappop(self._plans)
            self.now = max(self.now, at)
            happen()
        self.now = max(self.now, instant)

    def wait(self, what: Callable[[], bool], patience: int) -> bool:
        """Let time pass until something is so, at most `patience` milliseconds; return whether it is."""
        deadline = self.now + patience
        while not what():
            plan = self.next_plan
            if plan is None or plan > deadline:
                self.pass_to(deadline)
                return what()
            self.pass_to(plan)
        return True
