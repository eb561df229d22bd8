"""However the loop's thread ends, the process ends soon after it, with one line and the right code."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.runtime.engine_service import spans
from tests.runtime.worker_process import EngineProcess

SOON = 15.0

HOST = """
import sys, threading, time
from confluent_kafka import KafkaError, KafkaException
from orchestrator.runtime import engine_service, hosting
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.loop import FencedError
from orchestrator.runtime.settings import load

engine_service.STOP_SECONDS = engine_service.LEAVE_SECONDS = 1.0
engine_service.FENCED_BACKOFF_SECONDS = 0.5
engine_service.HANG_SECONDS = {hang}


class Loop:
    partitions, ready, restoring = (), True, 0

    def start(self):
        {start}

    def step(self):
        time.sleep(0.01)
        {step}

    def stop(self):
        {stop}

    def close(self):
        sys.stderr.write("closed\\n")  # at once, or another thread's line gets in between
        {close}


def build(settings, probe):
    {build}
    return Loop()


hosting.build_loop = build
sys.exit(hosting.run_engine(load({{
    "ORCHESTRATOR_STATE_DIR": {state!r}, "ORCHESTRATOR_WEB_PORT": "0", "ORCHESTRATOR_LOG_LEVEL": {level!r},
    "ORCHESTRATOR_LOG_FORMAT": "text",
}})))
"""


def host(folder: Path, *, level: str = "info", hang: str = "120", **parts: str) -> EngineProcess:
    """Start a worker around a loop of which these parts are not empty."""
    bodies = dict.fromkeys(("build", "start", "step", "stop", "close"), "pass") | parts
    return EngineProcess({}, ["-c", HOST.format(state=str(folder), level=level, hang=hang, **bodies)])


@pytest.mark.parametrize("part", ["build", "start", "step"])
@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        ("OperatorError('do this')", 1, "orchestrator: do this"),
        ("OperatorError('do all', exit_code=2, details=['one', 'two'])", 2, "orchestrator: do all\n  one\n  two"),
        ("FencedError('journey.0')", 75, "orchestrator: another worker took over the transactional id journey.0"),
        (
            "KafkaException(KafkaError(KafkaError._TIMED_OUT))", 1,
            "orchestrator: working with the broker: the broker did not answer in time",
        ),
    ],
    ids=["operator", "details", "fenced", "kafka"],
)  # fmt: skip
def test_a_failure_ends_the_process_with_its_line_and_code(
    tmp_path: Path, part: str, failure: str, code: int, line: str
) -> None:
    """Wherever the loop fails; nothing of the host's own chatter is around it."""
    with host(tmp_path, **{part: f"raise {failure}"}) as process:
        assert process.ended(SOON) == code

    assert line in process.said
    assert "Traceback" not in process.said
    assert process.said.count("orchestrator: ") - process.said.count("INFO orchestrator: ") == 1
    assert ("closed" in process.lines) == (part != "build")


def test_a_mistake_of_ours_ends_the_process_with_a_traceback(tmp_path: Path) -> None:
    """It is for whoever mends the program; what it says of values, which may be a customer's, is left out."""
    with host(tmp_path, step="{}['ana@example.com']") as process:
        assert process.ended(SOON) == 1

    assert process.lines[-1] == "KeyError (its text is shown with ORCHESTRATOR_LOG_LEVEL=debug)"
    assert "engine_service.py" in process.said
    assert "ana@example.com" not in process.said


def test_at_debug_a_mistake_of_ours_is_told_in_full(tmp_path: Path) -> None:
    """Whoever asks for it, on their own machine, needs the values."""
    with host(tmp_path, level="debug", step="1 / 0") as process:
        assert process.ended(SOON) == 1

    assert process.lines[-1] == "ZeroDivisionError: division by zero"


def test_a_loop_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    """A broker may not answer for minutes; what was not committed is done again."""
    with host(tmp_path, step="time.sleep(600)") as process:
        process.wait_until_said("its pages are on")
        process.terminate()

        assert process.ended(SOON) == 0
    assert "the loop did not stop within 1 s" in process.said


def test_a_call_that_never_comes_back_ends_the_process(tmp_path: Path) -> None:
    """The client may hang in sending offsets, whatever its timeout: only a new process helps."""
    with host(tmp_path, hang="2", step="time.sleep(600)") as process:
        assert process.ended(60) == 1

    assert process.lines[-1].startswith("orchestrator: a call to the brokers has not come back for 2 s: start this")


def test_turns_that_take_long_but_come_back_do_not_end_the_process(tmp_path: Path) -> None:
    """The watch is on a single turn: many that are slow are work."""
    with host(tmp_path, hang="6", step="time.sleep(1.5); sys.stderr.write('turn\\n')") as process:
        process.wait_for(lambda: process.lines.count("turn") >= 5)
        process.terminate()

        assert process.ended(SOON) == 0


def test_a_failed_loop_that_cannot_leave_does_not_keep_the_process(tmp_path: Path) -> None:
    """Leaving the group is a courtesy."""
    with host(tmp_path, step="raise OperatorError('do this')", close="time.sleep(600)") as process:
        assert process.ended(SOON) == 1

    assert process.lines[-1] == "orchestrator: do this"


def test_a_stop_that_fails_is_a_failure(tmp_path: Path) -> None:
    """The last commit did not succeed."""
    with host(tmp_path, stop="raise OperatorError('the last commit failed')") as process:
        process.wait_until_ready()
        process.terminate()

        assert process.ended(SOON) == 1
    assert process.lines[-1] == "orchestrator: the last commit failed"


def test_a_stop_in_good_order_is_success(tmp_path: Path) -> None:
    """With a line that says so."""
    with host(tmp_path) as process:
        process.wait_until_ready()
        process.terminate()

        assert process.ended(SOON) == 0
    assert process.lines[-1].endswith("stopped; everything decided is committed")


def test_at_debug_the_host_says_everything(tmp_path: Path) -> None:
    """Also what it is made of."""
    with host(tmp_path, level="debug") as process:
        process.wait_until_ready()
        process.terminate()

        assert process.ended(SOON) == 0
    assert "EngineService" in process.said


def test_runs_of_partitions_are_written_short() -> None:
    """A worker may have hundreds."""
    assert spans([]) == ""
    assert spans([3]) == "3"
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
