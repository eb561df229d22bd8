"""Whoever waits for a restore sees that it goes on, and how far it is."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.runtime.engine_service import SAY_SECONDS, EngineService


def test_a_restore_says_every_few_seconds_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """A short one says nothing, a long one a line now and then, and the next one begins anew."""
    caplog.set_level(logging.INFO, "orchestrator.engine")
    loop: Any = SimpleNamespace(restoring=0, restored=0)
    service = EngineService(lambda: loop)
    begin = service.beat

    def turn(seconds: float, left: int) -> list[str]:
        caplog.clear()
        service.beat = begin + seconds
        loop.restoring, loop.restored = left, 1_000_000 - left
        service._say_restoring(loop)
        return caplog.messages

    assert turn(0, 1_000_000) == []
    assert turn(SAY_SECONDS - 1, 900_000) == []
    assert turn(SAY_SECONDS, 750_000) == ["restoring: 250,000 records read, 750,000 offsets left"]
    assert turn(SAY_SECONDS + 1, 700_000) == []
    assert len(turn(2 * SAY_SECONDS, 500_000)) == 1
    assert turn(100, 0) == []
    assert turn(101, 1_000) == []
