"""A worker that cannot work says in one line what to do, and ends with a code that is not 0, within 30 seconds."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.runtime.embedded_broker import LOOPBACK, EmbeddedBroker, free_ports
from orchestrator.runtime.state_store import StateStore
from tests.kafka.broker import KafkaBroker, Member
from tests.runtime.messages import CLICKSTREAM, PROFILES, TOPICS, item_added, profile
from tests.runtime.streams import RETAIL, Stream
from tests.runtime.test_state_store import fill, garble, mounted
from tests.runtime.worker_process import EngineProcess

SOON = 10.0
FENCED = 75


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return settings that would do, but for the broker: nobody listens there."""
    (port,) = free_ports(1)
    return {
        "ORCHESTRATOR_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{port}",
        "ORCHESTRATOR_DEFINITIONS": str(RETAIL),
        "ORCHESTRATOR_STATE_DIR": str(tmp_path / "state"),
        "ORCHESTRATOR_WEB_PORT": "0",
    }


def failure(environment: dict[str, str], **more: str) -> tuple[int, str, list[str]]:
    """Return how a worker with these settings ends: exit code, line and details."""
    given = environment | {f"ORCHESTRATOR_{name}": text for name, text in more.items()}
    with EngineProcess(given) as engine:
        return engine.failure()


# --- before there is a broker -----------------------------------------------------------------------------------------


def test_all_that_is_wrong_with_the_settings_is_said_at_once() -> None:
    """Nobody wants to start a worker once for every mistake."""
    code, line, details = failure(
        {}, DEFINITIONS="/nowhere", COMMIT_INTERVAL="soon", ORDINAL="first", STATE_DIRECTORY="/data"
    )

    assert (code, line) == (2, "orchestrator: the environment has 5 problems:")
    assert [problem.split(":")[0].split(" ")[0] for problem in details] == [
        "ORCHESTRATOR_STATE_DIRECTORY", "ORCHESTRATOR_BOOTSTRAP_SERVERS", "ORCHESTRATOR_ORDINAL",
        "ORCHESTRATOR_DEFINITIONS", "ORCHESTRATOR_COMMIT_INTERVAL",
    ]  # fmt: skip


def test_a_missing_broker_is_named(environment: dict[str, str]) -> None:
    """With the setting that would name another."""
    code, line, details = failure(environment)

    assert (code, details) == (1, [])
    assert line.startswith(f"orchestrator: no broker at {environment['ORCHESTRATOR_BOOTSTRAP_SERVERS']} (")
    assert line.endswith("start it, or set ORCHESTRATOR_BOOTSTRAP_SERVERS to one that runs")


def test_a_folder_without_definitions_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    """An engine that looks at nothing would seem to work."""
    (tmp_path / "empty").mkdir()

    code, line, _ = failure(environment, DEFINITIONS=str(tmp_path / "empty"))

    assert code == 2
    assert "no definitions" in line
    assert "no file that ends in .yaml" in line


def test_all_that_is_wrong_with_definitions_is_said_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    """As lint says it, with its places."""
    folder = shutil.copytree(RETAIL, tmp_path / "definitions")
    moments = (folder / "moments.yaml").read_text()
    (folder / "moments.yaml").write_text(moments.replace("within: 1h", "withn: 1h").replace("lasts: 48h", "lasts: 48"))

    code, line, details = failure(environment, DEFINITIONS=str(folder))

    assert code == 1
    assert "errors, correct them, and try again with: orchestrator lint" in line
    assert len(details) >= 2
    assert all(problem.startswith(f"{folder}/moments.yaml:") for problem in details)
    assert "'within'" in details[0]


def test_pages_that_cannot_be_served_are_said(environment: dict[str, str]) -> None:
    """Another worker on this machine may have the port."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]

        code, line, _ = failure(environment, WEB_PORT=str(port))

    assert code == 1
    assert f"the pages cannot be served on {LOOPBACK}:{port}" in line
    assert "ORCHESTRATOR_WEB_PORT" in line


def test_a_state_directory_that_cannot_be_written_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    """Here a file is in its way."""
    (tmp_path / "file").write_text("")

    code, line, _ = failure(environment, STATE_DIR=str(tmp_path / "file"))

    assert code == 1
    assert f"cannot write to the state directory {tmp_path / 'file'}" in line


def test_a_worker_that_is_stopped_while_it_looks_for_its_broker_just_ends(environment: dict[str, str]) -> None:
    """There is nothing to finish, and nothing to complain about."""
    with EngineProcess(environment) as engine:
        engine.wait_until_said("its pages are on")
        engine.terminate()

        assert engine.ended(SOON) == 0
        assert "orchestrator: " not in engine.said.split(" starts, ")[1]


# --- with a broker ----------------------------------------------------------------------------------------------------


@pytest.mark.broker
def test_missing_topics_are_listed(embedded: EmbeddedBroker, environment: dict[str, str]) -> None:
    """With the command that creates them."""
    code, line, details = failure(environment, BOOTSTRAP_SERVERS=embedded.bootstrap, TOPIC_PREFIX="nobody-made-these-")

    assert (code, line) == (1, "orchestrator: the topics are not as topics.yaml declares them:")
    assert details[0] == "nobody-made-these-clickstream is missing: run 'orchestrator topics apply'"
    assert len(details) == len(TOPICS)


@pytest.mark.broker
def test_another_partition_count_is_refused(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Customers would move to other partitions than their state."""
    stream = Stream(embedded.bootstrap, tmp_path, partitions=2)

    code, line, details = failure(stream.environment, PARTITIONS="3")

    assert (code, line) == (1, "orchestrator: the topics are not as topics.yaml declares them:")
    assert "co-partitioned topics have 2 partitions, but declared are 3" in details[0]


@pytest.mark.broker
def test_one_topic_with_more_partitions_than_the_others_is_named(
    embedded: EmbeddedBroker, environment: dict[str, str]
) -> None:
    """Somebody added partitions to it; a customer's events would meet different workers."""
    prefix = "uneven-"
    topics = Stream.declared(embedded.bootstrap, prefix, partitions=2)
    new = [NewTopic(topic.name, 3 if topic.name == "uneven-purchases" else topic.partitions, 1) for topic in topics]
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap})
    for created in admin.create_topics(new).values():
        created.result(20)

    code, _, details = failure(
        environment, BOOTSTRAP_SERVERS=embedded.bootstrap, TOPIC_PREFIX=prefix, PARTITIONS="2", REPLICATION="1"
    )

    assert code == 1
    assert details == [
        "uneven-purchases has 3 partitions, but all co-partitioned topics need 2: "
        "a customer's events would meet different workers"
    ]


@pytest.mark.broker
def test_state_that_another_process_holds_is_refused(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Two workers were given one directory."""
    stream = Stream(embedded.bootstrap, tmp_path)
    folder = stream.settings.state_dir / stream.settings.group / "0"
    holder = StateStore(folder)

    code, line, _ = failure(stream.environment)
    holder.close()

    assert code == 1
    assert line == (
        f"orchestrator: another process holds the state in {folder}: stop it, or set another ORCHESTRATOR_STATE_DIR"
    )


@pytest.mark.broker
def test_no_space_left_for_state_is_said(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Nothing is lost, and the worker ends rather than to go on without its state."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mounted(disk):
        pytest.skip("needs the right to mount a small tmpfs (root)")
    try:
        (disk / "faust").mkdir()
        fill(disk)
        stream = Stream(embedded.bootstrap, tmp_path, STATE_DIR=str(disk))

        code, line, _ = failure(stream.environment)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)

    assert code == 1
    assert f"no space left for state in {disk}" in line
    assert "free some or enlarge the volume, then start again; nothing is lost" in line


@pytest.mark.broker
def test_damaged_state_is_set_aside_and_restored(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """It is said where it went; the changelog has all of it, so the worker goes on with what it knew."""
    stream = Stream(embedded.bootstrap, tmp_path, partitions=1)
    folder = stream.settings.state_dir / stream.settings.group / "0"
    stream.send(PROFILES, b"ana", profile())
    stream.send(CLICKSTREAM, b"ana", item_added("12:00"))
    stream.advance("12:30")
    with EngineProcess(stream.environment) as engine:
        engine.wait_for(lambda: "journey_events_total 2.0" in engine.get("metrics")[1])
        engine.terminate()
        assert engine.ended() == 0
    garble(folder, "CURRENT")

    with EngineProcess(stream.environment) as engine:
        engine.wait_until_ready()
        assert f"the state of partition 0 was damaged and is set aside in {folder}.damaged-1" in engine.said
        stream.advance("14:00")
        engine.wait_for(lambda: len(stream.decisions) == 1)
        engine.terminate()
        assert engine.ended() == 0


@pytest.mark.broker
def test_a_worker_that_is_stopped_while_it_joins_just_ends(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Before it has partitions, as after."""
    stream = Stream(embedded.bootstrap, tmp_path)
    with EngineProcess(stream.environment) as engine:
        engine.wait_until_said("its pages are on")
        engine.wait_for(lambda: engine.get("readyz")[0] == 503)
        engine.terminate()

        assert engine.ended(SOON) == 0


# --- on Apache Kafka --------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(kafka: KafkaBroker) -> Iterator[str]:
    """Start Apache Kafka with a listener that asks for a password."""
    assert kafka.pid, "the shared broker is there only to skip or fail by name where Kafka cannot be had"
    *own, port = free_ports(3)
    member = Member(1, *own)
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    listeners = f"PLAINTEXT://{LOOPBACK}:{member.port},GUARDED://{LOOPBACK}:{port}"
    properties = {
        "listeners": f"{listeners},CONTROLLER://{LOOPBACK}:{member.controller_port}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": f'{module} required user_ana="right";',
    }
    with KafkaBroker(properties=properties, member=member):
        yield f"{LOOPBACK}:{port}"


@pytest.mark.kafka
def test_wrong_credentials_are_said_without_the_password(guarded: str, environment: dict[str, str]) -> None:
    """The user and the settings to check are named."""
    code, line, _ = failure(
        environment,
        BOOTSTRAP_SERVERS=guarded,
        SECURITY_PROTOCOL="sasl_plaintext",
        SASL_MECHANISM="PLAIN",
        SASL_USERNAME="ana",
        SASL_PASSWORD="wrong-word",
    )

    assert code == 1
    assert line.startswith(f"orchestrator: {guarded} refused user 'ana' (")
    assert "ORCHESTRATOR_SASL_PASSWORD" in line
    assert "wrong-word" not in line


@pytest.mark.kafka
def test_a_worker_whose_number_another_one_took_ends_with_its_own_code(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Two workers with one ordinal would fence each other for ever; the older one says so and stays away."""
    stream = Stream(kafka.bootstrap, tmp_path)
    stream.advance("09:00")
    other = stream.environment | {"ORCHESTRATOR_STATE_DIR": str(tmp_path / "other")}
    with EngineProcess(stream.environment) as older, ExitStack() as stack:
        older.wait_until_ready()
        newer = stack.enter_context(EngineProcess(other))
        newer.wait_until_ready()
        for customer in ("ana", "bob", "cleo", "dan"):
            stream.send(PROFILES, customer.encode(), profile(customer=customer))
        stream.advance("12:00")

        code, line, _ = older.failure(40)

        assert code == FENCED
        assert "give every worker of the group its own ORCHESTRATOR_ORDINAL" in line
        newer.wait_for(lambda: newer.get("metrics")[1].count("journey_clock_seconds{") == 2)
        newer.terminate()
        assert newer.ended() == 0
