"""A real Prometheus scrapes real workers: every query of the dashboard has an answer, every alert can be judged."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from orchestrator.events import DAY
from orchestrator.runtime.embedded_broker import free_ports
from tests.deploy.prometheus import NOT_HERE, Prometheus, filled, serving
from tests.deploy.test_monitoring import ALERTS, queries
from tests.deploy.workers import Worker, decisions_read, engine, history
from tests.kafka.broker import KafkaBroker
from tests.kafka.workers import Run, wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

SCRAPES = 8


@pytest.fixture(scope="module")
def prometheus(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run an engine, the control role and a Prometheus that scrapes both, until all is decided and read."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("there is no prometheus; Debian's package of that name has it")
    folder = tmp_path_factory.mktemp("dashboard")
    port, engine_port, control_port = free_ports(3)
    run = Run("seen", kafka.bootstrap, folder, "dashboard-", {"STATIC_MEMBERSHIP": "false"})
    arrivals, until = history()
    run.replay(arrivals, until, barrier_every=DAY // 24)
    with ExitStack() as stack:
        found = stack.enter_context(serving(binary, folder, port, {"engine": [engine_port], "control": [control_port]}))
        deciding = stack.enter_context(engine(run, {"WEB_PORT": str(engine_port)}))
        given = run.environment(1, WEB_PORT=str(control_port), SESSION_TIMEOUT="6s")
        reading = stack.enter_context(Worker("control", given, run.folder / "control.log"))
        deciding.until(lambda: run.decided() >= run.barriers(), "the end of the replay")
        expected = len(run.records("decisions"))
        reading.until(lambda: decisions_read(control_port) >= expected, "control to read every decision")
        since = found.scrapes()
        wait_for(lambda: found.scrapes() >= since + SCRAPES, "scrapes")
        yield found


@pytest.mark.parametrize("query", [query for query in queries() if NOT_HERE not in query])
def test_every_query_of_the_dashboard_has_an_answer(prometheus: Prometheus, query: str) -> None:
    """No panel is empty over two months of customers, some of whose records cannot be used."""
    asked = filled(query, "1m", "1m")

    assert prometheus.query(asked), asked


def test_every_alert_can_be_judged(prometheus: Prometheus) -> None:
    """Prometheus takes the rules and none of them fails over real metrics."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        if all(rule["health"] != "unknown" for rule in found):
            break
        time.sleep(0.5)

    assert {rule["name"]: rule["health"] for rule in found} == dict.fromkeys(ALERTS, "ok")


def test_real_faults_move_their_alerts(prometheus: Prometheus) -> None:
    """Clicks from tomorrow are dead letters, so that alert fires; no promise is broken, so that one does not."""
    wait_for(lambda: "JourneyDeadLetters" in firing(prometheus), "the alert about dead letters", 20)

    assert "JourneyPromiseBroken" not in firing(prometheus)


def firing(prometheus: Prometheus) -> set[str]:
    """Return the alerts that fire now."""
    found = prometheus.ask("alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}
