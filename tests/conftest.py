"""The brokers that tests share, started once and only when a test asks for them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator
from orchestrator.runtime.embedded_broker import EmbeddedBroker, embedded_broker_unavailable
from tests.kafka.broker import KafkaBroker, kafka_unavailable
from tests.measured import measured

REQUIRED = "ORCHESTRATOR_REQUIRE_BROKERS"
"""Set to anything, as CI does, it turns a broker that cannot be had from a skip into a failure."""


REAL_PROCESSES = {"kafka", "broker", "embedded"}
"""Markers and fixtures of the tests that drive real processes, and so depend on how busy the machine is."""


def pytest_configure() -> None:
    """Refuse to test what is not in the sources: a module that was compiled in place before its source was changed."""
    stale = [
        path.name
        for path in Path(orchestrator.__file__).parent.rglob("*.so")
        if path.stat().st_mtime < path.with_name(f"{path.name.partition('.')[0]}.py").stat().st_mtime
    ]
    if stale:
        pytest.exit(f"older than their sources: {', '.join(sorted(stale))}; make compiled, or make pure", returncode=4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a test of real processes a second chance, which the summary names as RERUN; any other test has one."""
    for item in items:
        names = {mark.name for mark in item.iter_markers()} | set(getattr(item, "fixturenames", ()))
        if names & REAL_PROCESSES:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests measured, and why one was run again."""
    again = [report for report in terminalreporter.stats.get("rerun", ()) if isinstance(report, pytest.TestReport)]
    if again:
        terminalreporter.section("run again")
        for report in again:
            lines = [line for line in report.longreprtext.splitlines() if line.startswith("E ")]
            terminalreporter.write_line(report.nodeid)
            for line in lines[:12]:
                terminalreporter.write_line(f"  {line[:300]}")
    lines = list(measured(report for reports in terminalreporter.stats.values() for report in reports))
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaBroker]:
    """One node of Apache Kafka for all tests, which keep apart by the names of their topics and groups."""
    _skip_or_fail(kafka_unavailable())
    with KafkaBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedBroker]:
    """One embedded broker for all tests, which keep apart by the names of their topics and groups."""
    _skip_or_fail(embedded_broker_unavailable())
    with EmbeddedBroker() as broker:
        yield broker


def _skip_or_fail(reason: str | None) -> None:
    if reason is None:
        return
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(reason)
