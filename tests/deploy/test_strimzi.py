"""Topics and users as manifests: what topics.yaml declares, and no right that is not needed."""

from __future__ import annotations

import re

import pytest
import yaml
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.runtime import strimzi
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topics import load
from tests.deploy import generated, helm
from tests.deploy.helm import Document

READ, WRITE = {"Describe", "Read"}, {"Describe", "Write"}
CHANGELOG = "journey-control-customers-changelog"


@pytest.fixture(scope="module")
def topics() -> Topics:
    """Return the declared topics."""
    return load(helm.ROOT / "topics.yaml")


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    """Return the manifests for Strimzi."""
    return helm.documents(generated.manifests("topics-strimzi"))


def acls(documents: list[Document], user: str) -> dict[tuple[str, str, str], set[str]]:
    """Return what a user may do, by kind, pattern and name of the resource."""
    [found] = [each for each in documents if each["kind"] == "KafkaUser" and each["metadata"]["name"] == user]
    assert found["spec"]["authorization"]["type"] == "simple"
    return {
        (acl["resource"]["type"], acl["resource"]["patternType"], acl["resource"]["name"]): set(acl["operations"])
        for acl in found["spec"]["authorization"]["acls"]
    }


@pytest.mark.parametrize("name", generated.MANIFESTS)
def test_rendering_is_as_read_and_approved(name: str) -> None:
    """A change of topics.yaml shows as a change of what is applied."""
    assert generated.manifests(name) == generated.golden(name), "read it, then: python -m tests.deploy"


def test_every_topic_is_there_as_declared(documents: list[Document], topics: Topics) -> None:
    """With its partitions, replicas and configuration; and the control role's changelog beside."""
    found = {each["metadata"]["name"]: each for each in documents if each["kind"] == "KafkaTopic"}

    assert found.keys() == {topic.name for topic in topics} | {CHANGELOG}
    for topic in topics:
        spec = found[topic.name]["spec"]
        assert (spec["partitions"], spec["replicas"]) == (topic.partitions, topic.replication_factor)
        assert spec["config"] == topic.config
    assert all(each["metadata"]["labels"]["strimzi.io/cluster"] == "my-cluster" for each in documents)
    assert all(each["metadata"]["namespace"] == "kafka" for each in documents)


def test_the_engine_may_do_what_it_does_and_nothing_else(documents: list[Document], topics: Topics) -> None:
    """It reads inputs, writes outputs, keeps its changelog, and has transactions of its own group only."""
    allowed = acls(documents, "journey-engine")

    assert allowed.pop(("group", "literal", "journey")) == {"Read"}
    assert allowed.pop(("transactionalId", "prefix", "journey.")) == WRITE
    for lookup in ("orchestrator-references", "orchestrator-restore"):
        assert allowed.pop(("group", "literal", lookup)) == {"Describe"}
    assert {(kind, pattern) for kind, pattern, _ in allowed} == {("topic", "literal")}
    by_topic = {name: operations for (_, _, name), operations in allowed.items()}
    assert by_topic == {
        **{topic.name: READ for topic in (*topics.inputs, topics.profiles, *topics.references)},
        **{topic.name: WRITE for topic in (topics.triggers, topics.decisions, topics.outcomes, topics.active)},
        topics.dead_letters.name: WRITE,
        topics.clock.name: WRITE,
        topics.changelog.name: READ | WRITE,
    }


def test_in_a_replay_the_engine_reads_the_clock(topics: Topics) -> None:
    """It follows barriers that somebody else writes."""
    rules = {rule.name: rule.operations for rule in strimzi.engine(topics, "journey", live=False).rules}

    assert set(rules["clock"]) == READ


def test_control_reads_what_was_decided_and_writes_its_own_changelog_and_snapshots_only(
    documents: list[Document], topics: Topics
) -> None:
    """Of the others it sees that they are there; one instance at a time learns."""
    allowed = acls(documents, "journey-control")

    assert allowed.pop(("group", "literal", "journey-control")) == {"Read"}
    assert allowed.pop(("group", "literal", "orchestrator-reader")) == {"Describe"}
    assert allowed.pop(("transactionalId", "literal", "journey.learner")) == WRITE
    assert allowed.pop(("topic", "literal", CHANGELOG)) == READ | WRITE | {"DescribeConfigs"}
    by_topic = {name: operations for (kind, _, name), operations in allowed.items() if kind == "topic"}
    assert len(by_topic) == len(allowed)
    assert by_topic.keys() == {topic.name for topic in topics}
    assert by_topic.pop("policy") == READ | WRITE
    assert {name for name, operations in by_topic.items() if operations != {"Describe"}} == {
        topics.decisions.name,
        topics.triggers.name,
        topics.outcomes.name,
        topics.clock.name,
        "definitions",
    }
    assert "Write" not in {operation for operations in by_topic.values() for operation in operations}


def test_a_sender_sees_triggers_and_slots_only_and_reports_back(documents: list[Document]) -> None:
    """Nothing about a customer but what it is asked to send, and who holds the slot; it writes what became of it."""
    assert acls(documents, "journey-sender") == {
        ("group", "literal", "journey-sender"): {"Read"},
        ("topic", "literal", "campaign-triggers"): READ,
        ("topic", "literal", "active-campaign"): READ,
        ("topic", "literal", "email-engagement"): WRITE,
    }


def test_a_sender_reports_to_the_topic_of_reports_whatever_it_is_called(topics: Topics) -> None:
    """Its right is for the input with the schema that docs/senders.md names, with the prefix."""
    rules = {rule.name: rule.operations for rule in strimzi.sender(topics.with_prefix("prod."), "mail").rules}

    assert set(rules["prod.email-engagement"]) == WRITE
    assert strimzi.ENGAGEMENT in (helm.ROOT / "docs" / "senders.md").read_text(encoding="utf-8")


def test_groups_that_are_only_looked_up_are_those_of_the_code(documents: list[Document]) -> None:
    """A reader whose group has another name would be refused."""
    named = {
        name
        for path in (helm.ROOT / "orchestrator" / "runtime").glob("*.py")
        for name in re.findall(r'"group\.id": "([\w-]+)"', path.read_text(encoding="utf-8"))
    }
    users = [acls(documents, user) for user in ("journey-engine", "journey-control")]

    assert {name for user in users for (_, _, name), may in user.items() if may == {"Describe"}} >= named


def test_nobody_has_a_right_on_the_cluster_or_all_of_it(documents: list[Document]) -> None:
    """No `All`, no wildcard, no cluster operation for anybody."""
    users = [each for each in documents if each["kind"] == "KafkaUser"]
    rules = [acl for user in users for acl in user["spec"]["authorization"]["acls"]]

    assert len(users) == 3
    assert {acl["resource"]["type"] for acl in rules} == {"group", "topic", "transactionalId"}
    assert [acl for acl in rules if "*" in acl["resource"]["name"]] == []
    operations = {operation for acl in rules for operation in acl["operations"]}
    assert operations == {"Describe", "DescribeConfigs", "Read", "Write"}


def test_prefix_group_and_counts_are_those_of_the_environment(topics: Topics) -> None:
    """What is rendered is what a worker with the same environment needs."""
    environment = {
        "ORCHESTRATOR_TOPICS": str(helm.ROOT / "topics.yaml"),
        "ORCHESTRATOR_GROUP": "crm",
        "ORCHESTRATOR_TOPIC_PREFIX": "Test_",
        "ORCHESTRATOR_PARTITIONS": "6",
        "ORCHESTRATOR_REPLICATION": "1",
    }
    arguments = ["topics", "render", "--cluster", "c", "--authentication", "tls", "--api-version", "kafka.strimzi.io/x"]
    ended = CliRunner(env=environment).invoke(main, arguments)

    found = helm.documents(ended.output)
    by_name = {each["metadata"]["name"]: each for each in found}
    clicks = by_name["test-clickstream"]
    assert clicks["spec"] | {"config": {}} == {"topicName": "Test_clickstream", "partitions": 6, "replicas": 1} | {
        "config": {}
    }
    assert by_name["test-products"]["spec"]["partitions"] == 1
    assert ("transactionalId", "prefix", "crm.") in acls(found, "crm-engine")
    assert by_name["crm-sender"]["spec"]["authentication"] == {"type": "tls"}
    assert {each["apiVersion"] for each in found} == {"kafka.strimzi.io/x"}
    assert "namespace" not in clicks["metadata"]
    assert len(by_name) == len(topics) + 1 + 3


def test_jikkou_says_the_same(documents: list[Document]) -> None:
    """Both formats have the same topics and the same rights, in the words of each."""
    others = helm.documents(generated.manifests("topics-jikkou"))

    for one, other in zip(documents, others, strict=False):
        assert one["kind"] == "KafkaUser" or one["metadata"]["name"] == other["metadata"]["name"]
    [engine] = [each for each in others if each["metadata"]["name"] == "User:journey-engine"]
    told = {
        (acl["resource"]["type"], acl["resource"]["patternType"], acl["resource"]["pattern"]): set(acl["operations"])
        for acl in engine["spec"]["acls"]
    }
    kinds = {"topic": "TOPIC", "group": "GROUP", "transactionalId": "TRANSACTIONAL_ID"}
    patterns = {"literal": "LITERAL", "prefix": "PREFIXED"}
    assert told == {
        (kinds[kind], patterns[pattern], name): {operation.upper() for operation in operations}
        for (kind, pattern, name), operations in acls(documents, "journey-engine").items()
    }
    assert {"User:mail", "User:push"} <= {each["metadata"]["name"] for each in others}


def test_a_certificates_user_has_its_common_name() -> None:
    """With TLS Kafka knows a user by the subject of its certificate."""
    ended = CliRunner().invoke(main, ["topics", "render", "--format", "jikkou", "--authentication", "tls"])

    assert "name: User:CN=journey-engine\n" in ended.output


def test_strimzi_needs_the_clusters_name() -> None:
    """Without the label its operator would not look at the topics."""
    ended = CliRunner().invoke(main, ["topics", "render"])

    assert ended.exit_code == 2
    assert "give --cluster" in ended.stderr


def test_values_stay_texts() -> None:
    """A number as large as a year in milliseconds arrives as it was written."""
    [document] = yaml.safe_load_all(strimzi.as_yaml([{"retention.ms": "34560000000", "on": "compact,delete"}]))

    assert document == {"retention.ms": "34560000000", "on": "compact,delete"}
