"""A real Prometheus scrapes real workers: every query of the dashboard has an answer, every alert can be judged."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.events import DAY
from orchestrator.runtime.embedded_broker import die_with_parent, free_ports, stop_watcher
from tests.deploy import generated
from tests.deploy.test_monitoring import ALERTS, queries
from tests.deploy.workers import Worker, decisions_read, engine, history
from tests.kafka.broker import KafkaBroker
from tests.kafka.workers import Run, wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

SCRAPES = 8
NOT_HERE = "kubelet_volume_stats"


@dataclass
class Prometheus:
    """One that runs."""

    port: int

    def ask(self, page: str, **parameters: str) -> Any:
        """Return the data of an answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{page}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Any]:
        """Return the series of an instant query."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def scrapes(self) -> float:
        """Return how often every target was scraped, 0 while there is no answer."""
        try:
            counts = self.query("min(count_over_time(up[5m]) and up == 1)")
        except OSError:
            return 0
        return float(counts[0]["value"][1]) if counts else 0


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
        stack.enter_context(serving(binary, folder, port, {"engine": engine_port, "control": control_port}))
        deciding = stack.enter_context(engine(run, {"WEB_PORT": str(engine_port)}))
        given = run.environment(1, WEB_PORT=str(control_port), SESSION_TIMEOUT="6s")
        reading = stack.enter_context(Worker("control", given, run.folder / "control.log"))
        deciding.until(lambda: run.decided() >= run.barriers(), "the end of the replay")
        expected = len(run.records("decisions"))
        reading.until(lambda: decisions_read(control_port) >= expected, "control to read every decision")
        found = Prometheus(port)
        since = found.scrapes()
        wait_for(lambda: found.scrapes() >= since + SCRAPES, "scrapes")
        yield found


class serving:  # noqa: N801 (used like a function)
    """Prometheus with our alerts, scraping these ports of this machine every half second."""

    def __init__(self, binary: str, folder: Path, port: int, targets: dict[str, int]) -> None:
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "1s"},
            "rule_files": [str(generated.ALERTS)],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{number}"]}]}
                for job, number in targets.items()
            ],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self._log = folder / "prometheus.log"
        self._command = [
            binary,
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]

    def __enter__(self) -> None:
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=subprocess.STDOUT)
        self._watcher = die_with_parent(self._process.pid)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        stop_watcher(self._watcher)


@pytest.mark.parametrize("query", [query for query in queries() if NOT_HERE not in query])
def test_every_query_of_the_dashboard_has_an_answer(prometheus: Prometheus, query: str) -> None:
    """No panel is empty over two months of customers, some of whose records cannot be used."""
    filled = query.replace("$__rate_interval", "1m").replace("$job", ".+").replace("[5m]", "[1m]")

    assert prometheus.query(filled), filled


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
