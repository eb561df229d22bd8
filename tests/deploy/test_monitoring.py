"""Alerts fire on their faults and lead to a runbook; every query asks for metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import generated, helm, metrics

PROMETHEUS = helm.ROOT / "deploy" / "prometheus"
DASHBOARD = helm.ROOT / "deploy" / "grafana" / "dashboard.json"
RUNBOOKS = helm.ROOT / "docs" / "runbooks.md"
OPERATIONS = helm.ROOT / "docs" / "operations.md"
ROWS = ["Golden signals", "Journeys", "Timers and slots", "State", "Kafka", "Process"]


def rules() -> list[dict[str, Any]]:
    """Return every alert."""
    groups = yaml.safe_load(generated.ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = [rule["alert"] for rule in rules()]


def promtool(*arguments: str) -> str:
    """Return what promtool says of something that is right; without promtool the test is skipped."""
    found = shutil.which("promtool") or shutil.which("promtool", path=helm.BIN)
    if found is None:
        pytest.skip("there is no promtool; Debian's package prometheus has it")
    ended = subprocess.run([found, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


# --- alerts -----------------------------------------------------------------------------------------------------------


def test_alerts_fire_on_their_faults_and_on_nothing_else() -> None:
    """Each in a story of its own, and none on a quiet day."""
    promtool("check", "rules", str(generated.ALERTS))
    promtool("test", "rules", str(PROMETHEUS / "alerts_test.yaml"))


def test_every_alert_is_tested_both_ways() -> None:
    """An alert that never fires is as useless as one that always does."""
    told: dict[str, set[bool]] = defaultdict(set)
    for story in yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]:
        for case in story["alert_rule_test"]:
            told[case["alertname"]].add(bool(case["exp_alerts"]))

    assert {name: told[name] for name in ALERTS} == {name: {True, False} for name in ALERTS}
    assert told.keys() == set(ALERTS)


@pytest.mark.parametrize("rule", rules(), ids=ALERTS)
def test_an_alert_asks_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    """A metric that was renamed would make an alert silent for ever, and so would a label."""
    known = metrics.known()
    asked = metrics.used(rule["expr"])

    assert asked
    assert asked - known.keys() == set()
    assert metrics.grouped(rule["expr"]) - {label for name in asked for label in known[name]} == set()


@pytest.mark.parametrize("rule", rules(), ids=ALERTS)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(rule: dict[str, Any]) -> None:
    """A severity, one sentence, and a link to a section with four parts."""
    section = f"## {rule['alert']}\n"
    text = RUNBOOKS.read_text(encoding="utf-8")

    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"
    assert section in text
    body = text.split(section)[1].split("\n## ")[0]
    assert [
        part for part in ("Symptom", "Likely causes", "What to look at", "What to do") if f"**{part}" not in body
    ] == []


def test_every_runbook_belongs_to_an_alert() -> None:
    """A section for an alert that is gone misleads."""
    assert re.findall(r"^## (.+)$", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE) == ALERTS


def test_the_operations_page_lists_every_alert() -> None:
    """With its severity and the way to its runbook, in the order of the rules."""
    listed = re.findall(
        r"^\| \[(\w+)\]\(runbooks\.md#\w+\) \| (\w+) \|", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert listed == [(rule["alert"], rule["labels"]["severity"]) for rule in rules()]


def test_the_runbooks_name_values_of_the_chart() -> None:
    """What they tell to set is there to be set."""
    named = set(re.findall(r"`((?:engine|control|keda|kafka)\.\w+)`", RUNBOOKS.read_text(encoding="utf-8")))

    assert named
    assert [path for path in named if generated.value_at(path) is None] == []


# --- dashboard --------------------------------------------------------------------------------------------------------


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels() -> Iterator[dict[str, Any]]:
    """Yield the panels that show something."""
    yield from (panel for panel in dashboard()["panels"] if panel["type"] != "row")


def queries() -> list[str]:
    """Return every query of every panel."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_metrics_that_exist(query: str) -> None:
    """No panel stays empty because of a name."""
    known = metrics.known()
    asked = metrics.used(query)

    assert asked
    assert asked - known.keys() == set()
    assert metrics.grouped(query) - {label for name in asked for label in known[name]} == set()


def test_queries_are_promql(tmp_path: Path) -> None:
    """Prometheus itself can read them, once Grafana has put in its variables."""
    filled = [query.replace("$__rate_interval", "5m").replace("$job", ".+") for query in queries()]
    recorded = [{"record": f"panel:query{number}", "expr": query} for number, query in enumerate(filled)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))

    assert f"{len(recorded)} rules found" in promtool("check", "rules", str(path))


def test_the_dashboard_can_be_imported_and_provisioned() -> None:
    """Its uid is fixed, so that links stay; its source of data is chosen where it runs."""
    board = dashboard()
    sources = {json.dumps(panel["datasource"], sort_keys=True) for panel in panels()}
    sources |= {json.dumps(target["datasource"], sort_keys=True) for panel in panels() for target in panel["targets"]}

    assert board["uid"] == "journey-orchestrator"
    assert "id" not in board
    assert sources == {'{"type": "prometheus", "uid": "${DS_PROMETHEUS}"}'}
    assert board["templating"]["list"][0] | {"label": ""} == {
        "name": "DS_PROMETHEUS",
        "label": "",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }
    assert [panel["title"] for panel in board["panels"] if panel["type"] == "row"] == ROWS


def test_panels_have_their_own_place_and_a_sentence() -> None:
    """None lies over another, and each says what it shows."""
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in dashboard()["panels"]]
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert cells & taken == set(), panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells

    assert len(ids) == len(set(ids))
    assert [panel["title"] for panel in panels() if not panel["description"].endswith(".")] == []
