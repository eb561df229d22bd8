"""The worker, the back-test and the YAML tests decide alike: the same events and barriers, the same bytes."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from orchestrator.backtest.files import Files
from orchestrator.backtest.history import History
from orchestrator.backtest.result import KINDS, read_records
from orchestrator.backtest.run import backtest
from orchestrator.backtest.topics import TopicRange
from orchestrator.cli import main
from orchestrator.definitions.catalogue import CATALOGUE
from orchestrator.definitions.load import TESTS, load
from orchestrator.definitions.nodes import Problems
from orchestrator.definitions.scenario_run import ScenarioRun
from orchestrator.definitions.scenarios import Scenario, parse_scenarios
from orchestrator.demo.replayer import Arrival, Replayer
from orchestrator.demo.workers import WorkerProcess
from orchestrator.events import DAY, HOUR, PROFILE
from orchestrator.program import Definitions, Program
from orchestrator.records import to_record
from orchestrator.reference import Reference, product_of
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.connection import client_config
from orchestrator.runtime.definitions_folder import load_folder, read_directory
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.policy_log import policy_topic
from orchestrator.runtime.topic_reader import read_topic, topic_spans
from orchestrator.valuation import COLD, PROVEN, ArmValue, LeafValue, PolicySnapshot, arm_of, records_of
from tests.backtest.made import BEGIN, REGISTRY, RETAIL, ROOT, arrivals, made, write
from tests.runtime.streams import Stream

pytestmark = pytest.mark.broker

Record = Mapping[str, Any]
CODEC = Codec(REGISTRY)


def replayer_of(stream: Stream) -> Replayer:
    """Return what writes a stream's records and barriers, each in a batch of its own.

    Where several records end a topic in one batch, the embedded broker tells the first one's place as the topic's end.
    """
    config = {**client_config(stream.settings), "batch.num.messages": 1, "log_level": 0}
    return Replayer(config, stream.topics, CODEC, barrier_every=HOUR)


def decided_by_a_worker(stream: Stream, folder: Path, until: int) -> dict[str, list[bytes]]:
    """Return what a worker has written by the time it has come to an instant, by kind, sorted."""
    with WorkerProcess("engine", stream.environment, folder / "worker.log") as worker:
        deadline = time.monotonic() + 120
        clocks: list[float] = []
        while len(clocks) < stream.topics.partitions or min(clocks) * 1000 < until:
            worker.check()
            assert time.monotonic() < deadline, worker.last_words
            time.sleep(0.1)
            snapshot = worker.scrape()
            clocks = [] if snapshot is None else list(snapshot.by_label("journey_clock_seconds").values())
        assert worker.stop() == 0
    config = client_config(stream.settings)
    topics = (stream.topics.decisions, stream.topics.triggers, stream.topics.outcomes)
    return {
        kind: sorted(one.value for one in read_topic(config, topic.name) if one.value is not None)
        for kind, topic in zip(KINDS, topics, strict=True)
    }


def back_tested(stream: Stream, history: History, definitions: Definitions, out: Path) -> dict[str, list[bytes]]:
    """Return what a back-test decides, in the bytes that a worker would write."""
    backtest(history, definitions, out, ROOT / "schemas", processes=1, progress=lambda what, behind, total: None)  # noqa: ARG005
    topics = (stream.topics.decisions, stream.topics.triggers, stream.topics.outcomes)
    return {
        kind: encoded(CODEC.encoder(topic), read_records(out, kind)) for kind, topic in zip(KINDS, topics, strict=True)
    }


def encoded(encode: Callable[[Any], bytes], records: Iterable[Record]) -> list[bytes]:
    """Return records as their topic has them, sorted."""
    return sorted(encode(record) for record in records)


LAST_UNITS = """
moments:
  - moment: left_lying
    say: "Put it in the cart and did not buy within 20 minutes"
    key: sku
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 20m }
    lasts: 12h
  - moment: left_by_the_best
    say: "Of the best customers, and did not buy within 15 minutes"
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 15m }
    only_if: "value_tier == 'high'"
    lasts: 12h
campaigns:
  - campaign: for_the_best
    when: left_by_the_best
    priority: 96
    send: { channel: email, template: for_the_best }
    measure: { objective: margin, for: 1d }
    control: 5%
  - campaign: last_units
    when: left_lying
    priority: 95
    send: { channel: email, template: last_units }
    measure: { objective: margin, for: 1d }
    control: 5%
    cap: { total: 2, per: sku, over: 2d }
"""
"""Customers compete for what may be said about a product, so it matters in which order they are decided."""

SNAPSHOT = {"feature": "value_tier", "effective_from": BEGIN + 4 * DAY, "least": {"high": 4_000, "mid": 1_000}}
"""By the cut points of the retail pack nobody of the history is in the highest tier, by these some are."""


def test_files_and_topics_give_what_a_worker_decided_with_the_same_barriers(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Late and repeated records, control groups, hold-out, caps of one and of all, snapshots and outcomes included."""
    history, until = made(30, days=8), BEGIN + 9 * DAY
    folder = tmp_path / "pack"
    shutil.copytree(RETAIL, folder, ignore=shutil.ignore_patterns("*.test.yaml"))
    (folder / "last_units.yaml").write_text(LAST_UNITS)
    stream = Stream(embedded.bootstrap, tmp_path, partitions=2, DEFINITIONS=str(folder), SESSION_TIMEOUT="2s")
    replayer_of(stream).replay([(BEGIN, "snapshots", "value_tier", SNAPSHOT), *arrivals(history)], until)
    definitions = load_folder(folder)

    worker = decided_by_a_worker(stream, tmp_path, until)
    written = write(history, tmp_path / "history", ".avro")
    (written / "snapshots.jsonl").write_text(json.dumps(SNAPSHOT))
    files = Files(written, stream.settings, HOUR, until)
    from_files = back_tested(stream, files, definitions, tmp_path / "files")
    from_topics = back_tested(stream, TopicRange.open(stream.settings), definitions, tmp_path / "topics")

    assert all(len(records) >= 5 for records in worker.values())
    assert "sku_cap" in {one["reason"] for decision in stream.decisions for one in decision["candidates"]}
    to_the_best = [one["decided_at"] for one in stream.decisions if one["campaign"] == "for_the_best"]
    assert min(to_the_best) >= SNAPSHOT["effective_from"]
    assert from_files == worker
    assert from_topics == worker
    asked = stream.decisions[0]["customer_id"]
    told = run(stream, "why", asked, "--definitions", str(folder), "--json")
    of_worker = [one["decision_id"] for one in stream.decisions if one["customer_id"] == asked]
    assert [one["decision_id"] for one in json.loads(told)["decisions"]] == of_worker
    assert "it begins with cart.item_added" in run(stream, "why", "never-seen")
    out = str(tmp_path / "by-command")
    found = run(stream, "backtest", str(folder), "--topics", "--out", out, "--processes", "1", "--json")
    assert json.loads(found)["decisions"]["all"] == len(worker["decisions"])
    asked_for = ("report", "--program", "--rules", "--json", "--definitions", str(folder))
    of_topics = json.loads(run(stream, *asked_for))
    assert of_topics == json.loads(run(stream, *asked_for, "--records", out, "--events", str(written)))
    assert "the longest takes 10 days" in of_topics["notes"][0]


def by_value(folder: Path, pack: Path) -> Path:
    """Return a copy of a pack that chooses by expected value, and tells customers apart by their tier."""
    shutil.copytree(pack, folder, ignore=shutil.ignore_patterns("*.test.yaml"))
    policy = folder / "policy.yaml"
    policy.write_text(policy.read_text().replace("method: priority", "method: expected_value\n  by: [value_tier]"))
    return folder


def learned(definitions: Definitions, effective_from: int, worth: float, state: str = PROVEN) -> PolicySnapshot:
    """Return a snapshot by which campaigns are worth something in some worlds and less than nothing in others."""
    draws = [worth * (world - 4) for world in range(8)]
    arms = {
        arm_of(name, "", campaign.send.channel): ArmValue(
            [draw + 10.0 * place for draw in draws], 0.1, 0.2, "", campaign.control_bp, state
        )
        for place, (name, campaign) in enumerate(sorted(definitions.campaigns.items()))
    }
    value = LeafValue(arms, {"": [30.0 * world for world in range(8)]})
    best = replace(value, arms=dict(list(arms.items())[::2]))
    leaves = {"": value, "value_tier=high": best, "value_tier=?": value}
    found = PolicySnapshot(effective_from, effective_from - 1, definitions.version, 8, 1_000, leaves)
    return replace(found, version=next(iter(records_of(found).values()))["version"])


def in_json(record: Record) -> str:
    """Return a record as a line of a file: bytes are a text of as many characters."""
    return json.dumps(record, default=lambda data: data.decode("latin-1"))


def test_what_was_learned_is_read_from_files_and_topics_as_a_worker_reads_it(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Two snapshots, from their instants on; before the first, and for what is cold, the order of priority."""
    history, until = made(40, days=12), BEGIN + 13 * DAY
    folder = by_value(tmp_path / "pack", RETAIL)
    definitions = load_folder(folder)
    snapshots = [
        learned(definitions, BEGIN + 3 * DAY + 1, 40.0, COLD),
        learned(definitions, BEGIN + 5 * DAY + 1, 60.0),
        learned(definitions, BEGIN + 9 * DAY + 1, -20.0),
    ]
    records = {key: record for snapshot in snapshots for key, record in records_of(snapshot).items()}
    stream = Stream(embedded.bootstrap, tmp_path, partitions=2, DEFINITIONS=str(folder), SESSION_TIMEOUT="2s")
    given = [(BEGIN, "policy", key, record) for key, record in records.items()]
    replayer_of(stream).replay([*given, *arrivals(history)], until)

    worker = decided_by_a_worker(stream, tmp_path, until)
    written = write(history, tmp_path / "history", ".avro")
    (written / "policy.jsonl").write_text("\n".join(map(in_json, records.values())))
    from_files = back_tested(stream, Files(written, stream.settings, HOUR, until), definitions, tmp_path / "files")
    from_topics = back_tested(stream, TopicRange.open(stream.settings), definitions, tmp_path / "topics")

    decisions = stream.decisions
    ways = {one["chosen_by"] for one in stream.read(lambda topics: topics.outcomes)}
    assert ways == {"priority", "expected_value", "explore"}
    assert {one["policy_version"] for one in stream.read(lambda topics: topics.outcomes)} >= {
        snapshot.version for snapshot in snapshots[:2]
    }
    assert "none_better" in {one["reason"] for one in decisions}
    assert from_files == worker
    assert from_topics == worker
    asked = next(one["customer_id"] for one in decisions if one["reason"] == "none_better")
    told = json.loads(run(stream, "why", asked, "--definitions", str(folder), "--json"))
    of_worker = [one["decision_id"] for one in decisions if one["customer_id"] == asked]
    assert [one["decision_id"] for one in told["decisions"]] == of_worker
    shown = json.loads(run(stream, "policy", "show", "--json"))
    assert shown["version"] == snapshots[-1].version


def test_a_replay_refuses_what_would_not_be_a_replay(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """A live clock, files that are not in order, no length of time, and topics that are not there."""
    written = write(made(10, days=10), tmp_path / "history", ".jsonl")
    lines = (written / "purchases.jsonl").read_text().splitlines()
    stream = Stream(embedded.bootstrap, tmp_path, partitions=2)
    by_priority = tmp_path / "pack"
    by_priority.mkdir()
    (by_priority / "all.yaml").write_text("choose: { method: priority }\n")
    told = []
    for more, environment, events in (
        ((), {"ORCHESTRATOR_BARRIERS": "live"}, lines),
        ((), {}, lines[::-1]),
        (("--learn-every", "0s"), {}, lines),
        (("--learn-every", "7d"), {"ORCHESTRATOR_DEFINITIONS": str(by_priority)}, lines),
        ((), {"ORCHESTRATOR_TOPIC_PREFIX": "nowhere-"}, lines),
    ):
        (written / "purchases.jsonl").write_text("\n".join(events))
        arguments = ["replay", "--events", str(written), *more]
        ended = CliRunner().invoke(main, arguments, env={**stream.environment, **environment})
        told.append((ended.exit_code, ended.output))

    assert [code for code, _ in told] == [2, 2, 2, 2, 1]
    wanted = ["ORCHESTRATOR_BARRIERS=replay", "sort it by arrived_at", "no time at all", "nothing to learn", "missing"]
    assert [text for text, (_, output) in zip(wanted, told, strict=True) if text not in output] == []


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        ("", (), "has no record\n"),
        ('{"event": "page.viewed"}\n', (), "1 rows are no records of their topic, the first in clickstream.jsonl: "),
        (None, ("--to", "2016-01-01"), "has no record that arrived by --to 2016-01-01"),
    ],
    ids=["empty", "unfit", "before"],
)
def test_a_replay_of_nothing_is_refused_and_writes_no_barrier(
    embedded: EmbeddedBroker, tmp_path: Path, text: str | None, more: tuple[str, ...], says: str
) -> None:
    """Engines would have come to the end of a time in which nothing was."""
    written = write(made(4, days=4), tmp_path / "history", ".jsonl")
    stream = Stream(embedded.bootstrap, tmp_path, partitions=2)
    if text is not None:
        for path in written.iterdir():
            path.unlink()
        (written / "clickstream.jsonl").write_text(text)

    ended = CliRunner().invoke(main, ["replay", "--events", str(written), *more], env=stream.environment)

    assert ended.exit_code == 2, ended.output
    assert "nothing to replay" in ended.stderr
    assert says in ended.stderr
    assert not any(map(len, topic_spans(client_config(stream.settings), stream.topics.clock.name).values()))


def test_a_second_replay_into_the_same_topics_is_refused(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Its barriers would go back in time, and engines would decide its records at the end of the first."""
    written = write(made(4, days=4), tmp_path / "history", ".jsonl")
    with (written / "clickstream.jsonl").open("a") as file:
        file.write('{"event": "page.viewed"}\n')
    stream = Stream(embedded.bootstrap, tmp_path, partitions=2)
    told = run(stream, "replay", "--events", str(written))
    spans = topic_spans(client_config(stream.settings), stream.topics.clock.name)

    again = CliRunner().invoke(main, ["replay", "--events", str(written)], env=stream.environment)

    assert "1 rows were no records of their topic: left out, the first in clickstream.jsonl: " in told
    assert (again.exit_code, "replay into new topics" in again.stderr) == (2, True), again.output
    assert topic_spans(client_config(stream.settings), stream.topics.clock.name) == spans


def test_a_replay_beside_somebody_who_learns_is_refused_in_the_end(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Without --learn-every nobody waits for snapshots: engines met them by chance."""
    stream = Stream(embedded.bootstrap, tmp_path, partitions=2)
    replayer = replayer_of(stream)
    policy = policy_topic(stream.topics).name

    def stream_with_a_snapshot() -> Iterator[Arrival]:
        yield from arrivals(made(4, days=4))
        producer = Producer({**client_config(stream.settings), "log_level": 0})
        producer.produce(policy, b"a leaf", b"1/", 0)
        producer.flush(30)

    with pytest.raises(OperatorError, match=r"a control worker learns\. Run it without ORCHESTRATOR_LEARN_EVERY"):
        replayer.replay(stream_with_a_snapshot(), BEGIN + 9 * DAY)


def run(stream: Stream, *arguments: str) -> str:
    """Return what a command printed that reads a stream's topics."""
    ended = CliRunner().invoke(main, arguments, env=stream.environment)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


# --- the tests that lie beside the retail pack ------------------------------------------------------------------------


def with_little_luck(pack: Path, tests: str, folder: Path) -> Path:
    """Return a copy of a pack and some of its tests, with the smallest control group there can be, and no hold-out."""
    folder.mkdir()
    for path, text in read_directory(pack).items():
        if path.endswith(TESTS) and not fnmatch(path, f"*/{tests}{TESTS}"):
            continue
        fair = re.sub(r"control: {.*?}", "control: { start: 1%, floor: 1% }", text).replace("share: 5%", "share: 0%")
        (folder / Path(path).name).write_text(fair)
    return folder


def renamed(scenario: Scenario, number: int) -> Scenario:
    """Return a test with customers of its own, so that all tests fit into one stream."""
    name = f"t{number}-"
    return replace(
        scenario,
        given=tuple(replace(given, customer=name + given.customer) for given in scenario.given),
        expect=tuple(
            replace(one, customer=name + (one.customer or scenario.given[0].customer)) for one in scenario.expect
        ),
    )


def happenings(run: ScenarioRun) -> list[tuple[int, int, str, dict[str, Any]]]:
    """Return what a test lets happen, as (arrival, place, topic, record), consents first as the test gives them."""
    found: list[tuple[int, int, str, dict[str, Any]]] = []
    known: set[str] = set()
    for place, given in enumerate(run.scenario.given):
        if given.customer not in known:
            known.add(given.customer)
            consents = [
                {"channel": channel, "purpose": purpose, "granted": True, "at": given.arrives - DAY}
                for channel, purpose in run.channels
            ]
            agreed = {"customer_id": given.customer, "updated_at": given.arrives - DAY, "consents": consents}
            found.append((given.arrives, -1, "customer-profiles", agreed))
        if given.event == PROFILE:
            profile = {**given.data, "customer_id": given.customer, "updated_at": given.at}
            found.append((given.arrives, place, "customer-profiles", profile))
            continue
        record = {**given.data, "customer_id": given.customer, "event": given.event, "event_time": given.at}
        found.append(
            (given.arrives, place, CATALOGUE.events[given.event].topic, {**record, "event_id": f"given-{place}"})
        )
    return found


def scenarios_of(folder: Path, definitions: Definitions) -> list[Scenario]:
    """Return the tests of a folder that let events alone happen."""
    problems = Problems()
    found = [
        scenario
        for path, text in read_directory(folder).items()
        if path.endswith(TESTS)
        for scenario in parse_scenarios(text, path, definitions, problems)
    ]
    assert not problems.errors
    return [
        renamed(scenario, number)
        for number, scenario in enumerate(found)
        if all(given.decided is None for given in scenario.given)
    ]


@pytest.mark.parametrize(
    ("pack", "tests", "worth"),
    [(RETAIL, "*", None), (RETAIL.with_name("retail_plus"), "series", None), (RETAIL, "*", 900.0)],
    ids=["retail", "series", "retail by value"],
)
def test_the_tests_of_a_pack_decide_what_a_worker_and_a_back_test_decide(
    embedded: EmbeddedBroker, tmp_path: Path, pack: Path, tests: str, worth: float | None
) -> None:
    """Every test's events go through a worker and a back-test under the barriers that the test itself takes.

    What they expect is written for the order of priority; by value they only have to be decided alike.
    """
    folder = with_little_luck(pack, tests, tmp_path / "pack")
    if worth is not None:
        policy = folder / "policy.yaml"
        policy.write_text(policy.read_text().replace("method: priority", "method: expected_value"))
    definitions, _ = load(read_directory(folder))
    assert definitions is not None
    program = Program(definitions, CATALOGUE.topic_by_event)
    scenarios = scenarios_of(folder, definitions)
    products = [{"effective_from": 0, **product} for scenario in scenarios for product in scenario.products]
    reference = Reference(product_of(record) for record in products)
    snapshots = [] if worth is None else [learned(definitions, 1, worth)]
    for snapshot in snapshots:
        reference.put_policy(snapshot)
    runs = [ScenarioRun(scenario, program, reference) for scenario in scenarios]
    for run in runs:
        assert run.failures() == [] or worth is not None
    stream = Stream(embedded.bootstrap, tmp_path, partitions=2, DEFINITIONS=str(folder), SESSION_TIMEOUT="2s")
    until = replay(stream, runs, products, snapshots)

    worker = decided_by_a_worker(stream, tmp_path, until)
    tested = back_tested(stream, TopicRange.open(stream.settings), definitions, tmp_path / "out")
    assert tested == worker

    encode = CODEC.encoder(stream.topics.decisions)
    of_tests = [to_record(one) for run in runs for one in run.simulation.decisions]
    # A test's time ends with its last expectation, the stream's with the last of all.
    ends = {given.customer: run.simulation.clock for run in runs for given in run.scenario.given}
    of_worker = [one for one in stream.decisions if one["decided_at"] <= ends[one["customer_id"]]]
    assert len(of_tests) >= 20
    assert encoded(encode, of_tests) == encoded(encode, of_worker)


def replay(
    stream: Stream,
    runs: Sequence[ScenarioRun],
    products: Iterable[dict[str, Any]],
    snapshots: Iterable[PolicySnapshot],
) -> int:
    """Write what the tests let happen with a barrier before and after each; return the instant of the last."""
    replayer = replayer_of(stream)
    for snapshot in snapshots:
        for key, leaf in records_of(snapshot).items():
            replayer.send("policy", key, replayer.encode("policy", leaf))
    for product in products:
        replayer.send("products", product["sku"], replayer.encode("products", product))
    agenda = sorted((one for run in runs for one in happenings(run)), key=lambda one: one[:2])
    for arrives, place, topic, record in agenda:
        if place >= 0:  # what a customer agrees to is known in the step before
            replayer.barrier(arrives)
        replayer.send(topic, record["customer_id"], replayer.encode(topic, record))
        if place >= 0:
            replayer.barrier(arrives)
    until = max(run.simulation.clock for run in runs)
    replayer.barrier(until)
    replayer.finish()
    return until
