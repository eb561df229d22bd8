"""What workers log is one JSON object a line, and says nothing of customers, whatever comes in or goes wrong."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path

import pytest

from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.worker_log import _Json, _Text, say_failure, without_values
from tests.runtime.messages import CLICKSTREAM, PROFILES, PURCHASES, bought, item_added, profile
from tests.runtime.streams import Stream
from tests.runtime.worker_process import EngineProcess

MARK = "zqmarked"
CUSTOMER = f"{MARK}@example.com"

FAILING = """
import sys
from orchestrator.runtime import partition
from orchestrator.cli import main

def fails(self, key, *more):
    raise KeyError(key.decode())

partition.Partition._change = fails
sys.argv = ["orchestrator", "worker", "--role", "engine"]
main()
"""


def record(message: str, *, failure: BaseException | None = None, **more: object) -> logging.LogRecord:
    """Return what a logger hands to a formatter."""
    info = None if failure is None else (type(failure), failure, failure.__traceback__)
    made = logging.LogRecord("orchestrator.engine", logging.WARNING, "x.py", 1, message, None, info)
    made.__dict__.update(more)
    return made


def failure() -> BaseException:
    """Return an exception with a cause, both naming a customer."""
    known: dict[str, int] = {}
    try:
        try:
            known[CUSTOMER] += 1
        except KeyError as error:
            raise ValueError(f"no {CUSTOMER}") from error
    except ValueError as error:
        return error
    raise AssertionError


def test_a_json_line_has_what_a_collector_needs() -> None:
    """An instant in UTC, a level, a logger, a message and the instance; a partition where there is one."""
    line = json.loads(_Json("journey-3", shows_values=False).format(record('it "is" so', partition=7)))

    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "orchestrator.engine",
        "message": 'it "is" so',
        "instance": "journey-3",
        "partition": 7,
    }


@pytest.mark.parametrize("formatter", [_Json("i", shows_values=False), _Text(shows_values=False)])
def test_an_exception_is_told_without_its_text(formatter: logging.Formatter) -> None:
    """Its kind and place are for whoever mends the program; its text may be a customer's."""
    text = formatter.format(record("it failed", failure=failure()))

    assert MARK not in text
    assert "ValueError" in text
    assert "KeyError" in text
    assert "test_logs.py" in text


def test_at_debug_an_exception_is_told_in_full() -> None:
    """On a machine of one's own."""
    assert CUSTOMER in _Json("i", shows_values=True).format(record("it failed", failure=failure()))


def test_a_chain_of_exceptions_that_bites_its_tail_ends() -> None:
    """Such chains can be made."""
    first, second = ValueError(MARK), KeyError(MARK)
    first.__cause__, second.__cause__ = second, first

    assert without_values(first).count("Traceback") == 2


def test_the_last_line_has_the_format_of_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """A collector reads it, too."""
    say_failure("do this:\n  and that", "json", "journey-0")
    say_failure("do this", "text", "journey-0")

    first, second = capsys.readouterr().err.splitlines()
    assert json.loads(first)["message"] == "do this:\n  and that"
    assert json.loads(first)["level"] == "error"
    assert second == "orchestrator: do this"


@pytest.fixture
def stream(embedded: EmbeddedBroker, tmp_path: Path) -> Stream:
    """Return a stream of which every record carries the mark, the good and the bad."""
    stream = Stream(embedded.bootstrap, tmp_path, LOG_FORMAT="json", TRACE_HEADERS="true")
    key = CUSTOMER.encode()
    known = profile(customer=CUSTOMER, city=f"{MARK} street 1", attributes={"note": f"{MARK} says"})
    stream.send(PROFILES, key, known)
    stream.send(PROFILES, key, profile(customer=f"{MARK}-other"))
    stream.send(CLICKSTREAM, key, item_added("12:00", CUSTOMER, cart=f"{MARK}-cart"))
    stream.send(CLICKSTREAM, key, item_added("12:01", CUSTOMER, cart=f"{MARK}-cart" * 2_000))
    stream.send(CLICKSTREAM, key, f"{MARK} is no Avro".encode())
    stream.send(CLICKSTREAM, MARK.encode() * 100, item_added("12:02", MARK * 100))
    stream.send(CLICKSTREAM, f"{MARK}\xff".encode("latin-1"), item_added("12:02", CUSTOMER))
    stream.send(CLICKSTREAM, key, item_added("5d 12:00", CUSTOMER))
    stream.send(CLICKSTREAM, key, item_added(7, CUSTOMER))
    stream.send(CLICKSTREAM, key, item_added("12:00", CUSTOMER), partition=1 - stream.partition(CUSTOMER))
    stream.send(PURCHASES, key, bought("11:00", CUSTOMER, order=f"{MARK}-order"), headers=[(MARK, MARK.encode())])
    return stream


@pytest.mark.broker
def test_nothing_a_worker_says_names_a_customer(stream: Stream) -> None:
    """Over good and bad records, a kill, a restore, pages and a mistake of ours while a customer is decided."""
    said = []
    with EngineProcess(stream.environment) as engine:
        engine.wait_for(lambda: "decides 2 partitions: 0-1" in engine.said)
        stream.advance("12:30")
        engine.wait_for(lambda: len(stream.dead_letters) == 8)
        pages = [engine.get(page) for page in ("metrics", "readyz", "healthz", "customers/x/decisions", "nothing")]
        os.kill(engine._process.pid, signal.SIGKILL)
    said += engine.lines
    with EngineProcess(stream.environment) as engine:
        stream.advance("14:00")
        engine.wait_for(lambda: len(stream.decisions) > 0)
        pages.append(engine.get("metrics"))
        engine.terminate()
        assert engine.ended() == 0
    said += engine.lines
    with EngineProcess(stream.environment, ["-c", FAILING]) as engine:
        stream.send(CLICKSTREAM, CUSTOMER.encode(), item_added("14:30", CUSTOMER))
        stream.advance("15:00")
        assert engine.ended(40) == 1
    said += engine.lines

    lines = [json.loads(line) for line in said]
    assert any("KeyError" in line["message"] for line in lines)
    assert {line["instance"] for line in lines} == {stream.settings.instance}
    assert MARK in str(stream.dead_letters)
    assert MARK in str(stream.decisions)
    assert MARK not in "\n".join(said)
    assert MARK not in str(pages)
