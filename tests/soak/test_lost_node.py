"""A node that is gone holds nobody up: what librdkafka would ask of it for ever is asked of its successor."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.runtime.compose import consumer_config, producer_config
from orchestrator.runtime.restore import Restorer
from orchestrator.runtime.settings import Settings, load
from tests.kafka.broker import cluster
from tests.measured import MEASURED
from tests.soak.nodes import Nodes

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

PATIENCE = 45.0
TOPIC = "replicated"


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Run three nodes with one replicated topic."""
    with cluster(3) as started:
        nodes = Nodes(started)
        admin = AdminClient({"bootstrap.servers": nodes.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(TOPIC, 1, 3)])[TOPIC].result(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while not nodes.whole():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield nodes


@pytest.mark.usefixtures("kafka")
def test_sending_offsets_outlives_the_coordinator_of_the_group(nodes: Nodes) -> None:
    """The transaction goes on with the group's next coordinator, and does not wait for ever without an error."""
    settings = settings_for(nodes)
    consumer = Consumer(consumer_config(settings))
    consumer.subscribe([TOPIC], on_assign=lambda one, _: one.assign([TopicPartition(TOPIC, 0, 0)]))
    deadline = time.monotonic() + PATIENCE
    while not consumer.assignment():
        assert time.monotonic() < deadline
        consumer.poll(0.1)
    coordinator = nodes.group_coordinator(settings.group)
    Producer(producer_config(settings, "first")).init_transactions(PATIENCE)  # creates the coordinators' topic
    # The transactions' own coordinator stays, so that what is seen is the group's.
    ids = (f"{settings.group}.{ordinal}" for ordinal in range(100))
    transactional_id = next(one for one in ids if nodes.transaction_coordinator(one) != coordinator)
    producer = Producer(producer_config(settings, transactional_id))
    producer.init_transactions(PATIENCE)
    for offset in (1, 2):
        producer.begin_transaction()
        producer.produce(TOPIC, b"something")
        assert producer.flush(PATIENCE) == 0
        if offset == 2:
            nodes.stop(coordinator, hard=True)
            while coordinator in producer.list_topics(timeout=PATIENCE).brokers:
                time.sleep(0.2)  # from now on its connection, to which the client still looks, changes no more
        offsets = [TopicPartition(TOPIC, 0, offset)]
        arguments = (producer, offsets, consumer.consumer_group_metadata())
        sending = threading.Thread(target=send_offsets, args=arguments, daemon=True)
        began = time.monotonic()
        sending.start()
        sending.join(PATIENCE)
        took = time.monotonic() - began
        assert not sending.is_alive(), f"the offsets are not sent after {took:.0f} s"
        producer.commit_transaction(PATIENCE)
    consumer.close()
    print(f"{MEASURED}the coordinator killed, the offsets were sent in {took:.1f} s")


@pytest.mark.usefixtures("kafka")
def test_restoring_outlives_the_leader_of_the_changelog(nodes: Nodes) -> None:
    """The end of the changelog is told by its next leader, within the time that the restorer waits."""
    client = {"bootstrap.servers": nodes.bootstrap, "log_level": 0}
    restorer = Restorer(client, TOPIC)
    before = restorer.span(TOPIC, 0)
    nodes.stop(nodes.leader(TOPIC, 0), hard=True)
    began = time.monotonic()

    assert restorer.span(TOPIC, 0) == before
    print(f"{MEASURED}the leader killed, the end was told in {time.monotonic() - began:.1f} s")
    restorer.close()


def send_offsets(producer: Producer, offsets: list[TopicPartition], member: Any) -> None:
    """Send offsets as the loop does: again while the answer is merely late."""
    while True:
        try:
            producer.send_offsets_to_transaction(offsets, member, PATIENCE)
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
        else:
            return


def settings_for(nodes: Nodes) -> Settings:
    """Return the settings of a worker of these nodes."""
    names = {"BOOTSTRAP_SERVERS": nodes.bootstrap, "GROUP": "outlives", "SESSION_TIMEOUT": "60s"}
    return load({f"ORCHESTRATOR_{name}": text for name, text in names.items()})
