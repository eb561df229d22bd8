"""A real Prometheus with our alerts, which scrapes workers of this machine and is asked as Grafana asks it."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.runtime.embedded_broker import die_with_parent, stop_watcher
from tests.deploy import generated

NOT_HERE = "kubelet_volume_stats"
"""What only a kubelet tells."""


@dataclass(frozen=True)
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


@contextmanager
def serving(binary: str, folder: Path, port: int, targets: dict[str, list[int]]) -> Iterator[Prometheus]:
    """Run one that scrapes these ports, by job, every half second."""
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "1s"},
        "rule_files": [str(generated.ALERTS)],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [
                    {"targets": [f"127.0.0.1:{one}"], "labels": {"instance": f"{job}-{number}"}}
                    for number, one in enumerate(ports)
                ],
            }
            for job, ports in targets.items()
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    command = [
        binary,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    watcher = die_with_parent(process.pid)
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(20)
        stop_watcher(watcher)


def filled(query: str, interval: str, longer: str) -> str:
    """Return a query with what Grafana puts in; a run of minutes has no five minutes to look back to."""
    return query.replace("$__rate_interval", interval).replace("$job", ".+").replace("[5m]", f"[{longer}]")
