"""The demo as a user runs it: one command, a real broker over a socket, and everything gone afterwards."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from orchestrator.cli import main
from orchestrator.runtime.compose import topics_of
from orchestrator.runtime.connection import client_config, connect
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.settings import load
from orchestrator.runtime.topic_admin import apply

pytestmark = pytest.mark.broker

RETAIL = Path(__file__).resolve().parents[2] / "deploy" / "definitions" / "retail"

SMALL = ("--households", "60", "--days", "60")


def run(out: Path, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run `orchestrator demo` with nothing of ours in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "demo", "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        check=False,
    )


def figures(out: Path) -> dict[str, Any]:
    """Return what the demo wrote for programs."""
    found: dict[str, Any] = json.loads((out / "figures.json").read_text())
    return found


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Return what the whole year of all households printed and wrote, run once."""
    out = tmp_path_factory.mktemp("year")
    result = run(out, timeout=280)
    print(result.stdout[-4000:], result.stderr[-2000:])
    return result, figures(out)


def test_a_small_demo_ends_clean_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Exit 0, a report that needs no other file, and no process or folder of the demo afterwards."""
    result = run(tmp_path, *SMALL)

    assert result.returncode == 0, result.stdout + result.stderr
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "src=" not in page.replace('src=""', "")
    assert figures(tmp_path)["audit"]["clean"] is True
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in left


def test_a_demo_that_learns_publishes_a_snapshot_a_week_and_ends_clean(tmp_path: Path) -> None:
    """The same replay, which waits for what is learned of the weeks before; of nothing to learn it says so."""
    pack = tmp_path / "pack"
    shutil.copytree(RETAIL, pack)
    policy = pack / "policy.yaml"
    by_value = policy.read_text().replace("method: priority", "method: expected_value")
    policy.write_text(by_value)

    result = run(tmp_path, *SMALL, "--definitions", str(pack), "--learn-every", "7d")
    refused = run(tmp_path / "refused", *SMALL, "--definitions", str(RETAIL), "--learn-every", "7d")

    assert result.returncode == 0, result.stdout + result.stderr
    assert figures(tmp_path)["audit"]["clean"] is True
    assert figures(tmp_path)["figures"]["policy_snapshots"] in (9, 10)
    if "method: expected_value" not in (RETAIL / "policy.yaml").read_text():
        assert refused.returncode == 2
        assert "nothing to learn" in refused.stderr


def test_the_replay_alone_fills_topics_that_are_there(embedded: EmbeddedBroker) -> None:
    """For workers that run already, such as those of docker-compose.yml."""
    environment = {
        "ORCHESTRATOR_BOOTSTRAP_SERVERS": embedded.bootstrap,
        "ORCHESTRATOR_TOPIC_PREFIX": "only-replay-",
        "ORCHESTRATOR_PARTITIONS": "2",
        "ORCHESTRATOR_REPLICATION": "1",
    }
    settings = load(environment)
    topics = topics_of(settings)
    apply(connect(settings), topics)

    result = CliRunner(env=environment).invoke(main, ["demo", "--only-replay", "--households", "3", "--days", "7"])

    assert result.exit_code == 0, result.output
    # Read without asking for ends: the embedded broker tells wrong ones after a batch of many records.
    consumer = Consumer({**client_config(settings), "group.id": "any", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topics.clock.name, number, OFFSET_BEGINNING) for number in range(2)])
    read, deadline = 0, time.monotonic() + 60
    while read <= 7 * 24 and time.monotonic() < deadline:
        read += len(consumer.consume(500, 1.0))
    consumer.close()
    assert read > 7 * 24
    assert "records are in the topics" in result.output


def test_two_engines_decide_what_one_decides(tmp_path: Path) -> None:
    """The same carts have the same fates, however many processes share the partitions."""
    one, two = tmp_path / "one", tmp_path / "two"

    assert run(one, *SMALL).returncode == 0
    assert run(two, *SMALL, "--engines", "2").returncode == 0

    assert figures(one)["carts"] == figures(two)["carts"]
    assert figures(one)["audit"] == figures(two)["audit"]


def test_the_year_has_every_basket_and_is_decided_clean(
    year: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    """More than a million events go through, and the audit finds nothing."""
    result, found = year

    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert found["figures"]["events"] >= 1_000_000
    assert found["figures"]["customers"] == 2_469
    assert found["audit"]["clean"] is True
    assert found["audit"]["violations"] == 0


def test_every_abandoned_cart_of_the_year_has_exactly_one_record_of_its_fate(
    year: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    """The fates sum to the carts planted, a thousand and more were answered, and none bought in time was decided."""
    _, found = year
    abandoned, bought = found["carts"]["abandoned"], found["carts"]["bought_in_time"]

    assert sum(abandoned["fates"].values()) == abandoned["planted"]
    assert not {"no record", "several records"} & set(abandoned["fates"])
    assert abandoned["fates"]["chosen"] + abandoned["fates"]["control"] >= 1_000
    assert bought["fates"] == {"no record": bought["planted"]}


def test_every_bad_record_of_the_year_is_a_dead_letter(
    year: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    """What was planted to be unusable was refused, and nothing else was."""
    _, found = year

    assert found["figures"]["planted_bad_records"] > 0
    assert found["figures"]["dead_letters"] == found["figures"]["planted_bad_records"]


def test_a_customer_costs_few_bytes_of_state(year: tuple[subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    """After a year of everything the median customer takes at most 4 KB, and one in a hundred more than 8 KB."""
    _, found = year

    assert found["figures"]["state_bytes_median"] <= 4_096
    assert found["figures"]["state_bytes_p99"] <= 8_192
