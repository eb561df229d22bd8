"""The engine's pages: alive at once, ready with its partitions, and numbers that move with events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.metrics import METRICS
from tests.runtime.messages import CLICKSTREAM, PROFILES, item_added, profile
from tests.runtime.streams import Stream
from tests.runtime.worker_process import EngineProcess

pytestmark = pytest.mark.broker

CUSTOMER = "someone@example.com"


@pytest.fixture
def stream(embedded: EmbeddedBroker, tmp_path: Path) -> Stream:
    """Return a stream in which a customer left a cart, and somebody wrote nonsense."""
    stream = Stream(embedded.bootstrap, tmp_path)
    stream.send(PROFILES, CUSTOMER.encode(), profile(customer=CUSTOMER))
    stream.send(CLICKSTREAM, CUSTOMER.encode(), item_added("12:00", CUSTOMER))
    stream.send(CLICKSTREAM, CUSTOMER.encode(), b"nonsense")
    return stream


@pytest.fixture
def engine(stream: Stream) -> Iterator[EngineProcess]:
    """Return an engine over the stream, which may not have its partitions yet."""
    with EngineProcess(stream.environment) as engine:
        engine.wait_for(lambda: engine.get("healthz")[0] != 0)
        yield engine


def numbers(engine: EngineProcess) -> dict[tuple[str, str], float]:
    """Return what /metrics says: by name and the first label's value."""
    families = text_string_to_metric_families(engine.get("metrics")[1])
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
    }


def test_an_engine_is_alive_at_once_and_ready_with_its_partitions(engine: EngineProcess) -> None:
    """Kubernetes neither kills it while it restores nor counts it as there."""
    assert engine.get("healthz")[0] == 200
    status, body = engine.get("readyz")
    assert (status, body) == (503, '{"ready":false,"restoring_records":0}')

    engine.wait_until_ready()

    assert engine.json("readyz") == {"ready": True, "restoring_records": 0}
    assert engine.json("healthz") == {"alive": True}
    engine.wait_until_said("decides 2 partitions: 0-1")


def test_metrics_have_their_names_and_move_with_events(stream: Stream, engine: EngineProcess) -> None:
    """Each with a sentence that says what it counts."""
    engine.wait_until_ready()
    text = engine.get("metrics")[1]
    assert numbers(engine)["journey_events_total", ""] == 0

    for metric in METRICS:
        assert f"# HELP {metric.sample} {metric.help}\n# TYPE {metric.sample} {metric.kind}" in text
    stream.advance("12:30")
    stream.advance("14:00")
    engine.wait_for(lambda: numbers(engine)["journey_events_total", ""] == 3)
    engine.wait_for(lambda: numbers(engine).get(("journey_clock_seconds", "1"), 0.0) > 0)
    engine.wait_for(lambda: sum(
        value for (name, _), value in numbers(engine).items() if name == "journey_decisions_total"
    ) == 1)  # fmt: skip
    # A decision is counted when it is made, its transaction when it has committed: the next look may come between.
    engine.wait_for(lambda: numbers(engine)["journey_commits_total", ""] >= 1)
    engine.wait_for(lambda: numbers(engine)["journey_steps_total", ""] == 4)

    found = numbers(engine)
    assert found["journey_dead_letters_total", "undecodable"] == 1
    assert found["journey_waiting_records", "0"] == 0
    assert found["process_resident_memory_bytes", ""] > 0


def test_neither_pages_nor_logs_name_a_customer(stream: Stream, engine: EngineProcess) -> None:
    """Labels are reasons, campaigns, moments and partitions: few, and nobody's."""
    engine.wait_until_ready()
    stream.advance("12:30")
    stream.advance("14:00")
    engine.wait_for(lambda: numbers(engine)["journey_events_total", ""] == 3)

    pages = [engine.get(page)[1] for page in ("metrics", "readyz", "healthz")]
    labels = {
        label
        for family in text_string_to_metric_families(pages[0])
        if family.name.startswith("journey_")
        for sample in family.samples
        for label in sample.labels
    }
    engine.terminate()

    assert engine.ended() == 0
    assert labels <= {label for metric in METRICS for label in metric.labels} | {"le"}
    assert CUSTOMER not in "".join(pages)
    assert CUSTOMER not in engine.said


def test_there_are_no_other_pages(engine: EngineProcess) -> None:
    """Faust's own would show tables and routes to everybody."""
    found = {page: engine.get(page)[0] for page in ("table/", "router/", "stats/", "graph/", "leader/")}

    assert set(found.values()) == {404}, found


def test_a_stop_commits_and_says_so(stream: Stream, engine: EngineProcess) -> None:
    """And leaves three lines behind it: where, which partitions, and that all is well."""
    engine.wait_until_ready()
    stream.advance("14:00")
    engine.wait_for(lambda: numbers(engine)["journey_events_total", ""] == 3)
    engine.terminate()

    assert engine.ended() == 0
    assert len(stream.dead_letters) == 1
    own = [line for line in engine.lines if " orchestrator.kafka: " not in line]  # the client tells of a slow broker
    assert [line.split(": ", 1)[1].split(" ")[0] for line in own] == ["engine", "decides", "stopped;"]
