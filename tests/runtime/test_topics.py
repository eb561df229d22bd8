"""`topics.yaml` is read strictly, and what is wrong is said with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.definitions.nodes import Problems
from orchestrator.events import DAY
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.topics import Always, EventMapping, Topics, load, parse_topics, schema_fields

ROOT = Path(__file__).parents[2]
BAD = sorted((Path(__file__).parent / "bad_topics").glob("*.yaml"))
SCHEMAS = schema_fields(ROOT / "schemas")

INPUT_EVENTS = "{name: event, time: event_time, id: event_id, customer: customer_id}"


@pytest.fixture(scope="module")
def shipped() -> Topics:
    """Return the topics of this repository."""
    return load(ROOT / "topics.yaml", ROOT / "schemas")


def with_input(events: str, schema: str = "clickstream_event") -> Topics:
    """Return the shipped topics and one more input called `extra`."""
    text = (ROOT / "topics.yaml").read_text(encoding="utf-8")
    text += f"""
  - topic: extra
    role: input
    key: customer_id
    co_partitioned: true
    schema: {schema}
    events: {events}
"""
    problems = Problems()
    topics = parse_topics(text, "topics.yaml", problems, SCHEMAS)
    assert topics is not None, problems.sorted()
    return topics


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_wrong_file_says_what_is_wrong_and_where(file: Path) -> None:
    """Each file in bad_topics has one fault; its first comment lines are exactly the problems reported."""
    text = file.read_text(encoding="utf-8")
    expected = []
    for line in text.splitlines():
        if not line.startswith("# ") or not line[2].isdigit():
            break
        expected.append(f"{file.name}:{line[2:]}")
    problems = Problems()

    topics = parse_topics(text, file.name, problems, SCHEMAS)

    assert topics is None
    assert expected == [str(problem) for problem in problems.sorted()]


def test_all_problems_are_shown_at_once(tmp_path: Path) -> None:
    """Whoever mends a file sees every problem in one go, as one error with exit code 2."""
    file = tmp_path / "topics.yaml"
    file.write_text("version: 2\ntopics:\n  - {topic: a, rol: input}\n  - {topic: b, role: inptu, key: k}\n")

    with pytest.raises(OperatorError, match="problems, nothing was done") as caught:
        load(file)

    assert caught.value.exit_code == 2
    assert len(caught.value.details) > 4
    assert any("did you mean 'role'?" in line for line in caught.value.details)
    assert any("did you mean 'input'?" in line for line in caught.value.details)


def test_a_missing_file_says_which_setting_names_it(tmp_path: Path) -> None:
    """The variable to set is in the message."""
    with pytest.raises(OperatorError, match="ORCHESTRATOR_TOPICS"):
        load(tmp_path / "nowhere.yaml")


def test_the_shipped_file_declares_every_role(shipped: Topics) -> None:
    """The topics of the design are there, by role."""
    assert [topic.name for topic in shipped.inputs] == ["clickstream", "purchases", "email-engagement"]
    assert [topic.name for topic in shipped.references] == [
        "products",
        "definitions",
        "snapshots",
        "similar-products",
        "policy",
    ]
    assert shipped.profiles.name == "customer-profiles"
    assert shipped.clock.name == "clock"
    assert shipped.triggers.name == "campaign-triggers"
    assert shipped.decisions.name == "decisions"
    assert shipped.outcomes.name == "campaign-outcomes"
    assert shipped.active.name == "active-campaign"
    assert shipped.dead_letters.name == "dead-letters"
    assert shipped.changelog.name == "customer-state-changelog"
    apart = {topic.name for topic in shipped} - {topic.name for topic in shipped.co_partitioned}
    assert apart == {"products", "definitions", "snapshots", "similar-products", "policy"}
    assert {"murmur2_random"} == {topic.partitioner for topic in shipped}


def test_every_input_says_where_its_events_are(shipped: Topics) -> None:
    """An event's name, time, id and customer come from declared fields."""
    expected = EventMapping(name="event", time="event_time", id="event_id", customer="customer_id")

    assert [expected] * 3 == [topic.events for topic in shipped.inputs]
    assert expected.fields == ("event", "event_time", "event_id", "customer_id")


def test_durations_and_sizes_become_what_kafka_stores(shipped: Topics) -> None:
    """14d and 2MiB are written for people, milliseconds and bytes for brokers."""
    assert shipped.by_name("clickstream").config["retention.ms"] == "1209600000"
    assert shipped.dead_letters.config["max.message.bytes"] == "2097152"


def test_an_input_whose_records_are_all_one_event_needs_no_python() -> None:
    """A fixed event name, seconds and renamed properties are declared."""
    topics = with_input(
        "{name: {always: card.payment}, time: {field: event_time, unit: s}, id: event_id, customer: customer_id,"
        " properties: {shop: category}}"
    )

    events = topics.by_name("extra").events
    assert events is not None
    assert Always("card.payment") == events.name
    assert events.properties == {"shop": "category"}
    assert events.milliseconds(1_700_000_000) == 1_700_000_000_000
    assert events.fields == ("event_time", "event_id", "customer_id")


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("s", 1_700_000_000.5),
        ("ms", 1_700_000_000_500),
        ("us", 1_700_000_000_500_999),
        ("ns", 1_700_000_000_500_000_999),
    ],
)
def test_every_unit_of_time_becomes_milliseconds(unit: str, value: float) -> None:
    """Sources count in seconds to nanoseconds, the engine in milliseconds."""
    mapping = EventMapping(name="e", time="t", id="i", customer="c", time_unit=unit)

    assert mapping.milliseconds(value) == 1_700_000_000_500


def test_a_list_of_cleanup_policies_is_one_value() -> None:
    """`[delete, compact]` and `compact,delete` are the same, as Kafka may answer either."""
    text = (ROOT / "topics.yaml").read_text(encoding="utf-8")
    text = text.replace("cleanup.policy: delete, retention.ms: 400d", "cleanup.policy: [delete, compact]")

    topics = parse_topics(text, "topics.yaml", Problems())

    assert topics is not None
    assert topics.by_name("purchases").config["cleanup.policy"] == "compact,delete"


@pytest.mark.parametrize(
    ("policy", "days"),
    [
        ("cleanup.policy: delete, retention.ms: 400d", 400),
        ("cleanup.policy: delete, retention.ms: 20d", 90),
        ("cleanup.policy: delete, retention.ms: 2000d", 730),
        ("cleanup.policy: delete, retention.ms: -1", 730),
        ("cleanup.policy: delete", 730),
        ("cleanup.policy: compact, retention.ms: 1d", 730),
    ],
)
def test_an_erasure_is_remembered_for_as_long_as_any_input_may_hold_an_event(policy: str, days: int) -> None:
    """The longest retention counts; who keeps events for ever is trusted to send none that is two years old."""
    text = (ROOT / "topics.yaml").read_text(encoding="utf-8")
    assert text.count("cleanup.policy: delete, retention.ms: 400d") == 1

    topics = parse_topics(text.replace("cleanup.policy: delete, retention.ms: 400d", policy), "t.yaml", Problems())

    assert topics is not None
    assert topics.retention == days * DAY


def test_a_prefix_is_put_before_every_name(shipped: Topics) -> None:
    """Tests and tenants share a broker by a prefix; setting another one replaces it."""
    prefixed = shipped.with_prefix("t1-").with_prefix("t2-")

    assert all(topic.name.startswith("t2-") for topic in prefixed)
    assert prefixed.clock.name == "t2-clock"
    assert prefixed.plain_name("t2-clock") == "clock"
    assert [topic.name for topic in shipped] == [topic.name for topic in prefixed.with_prefix("")]


def test_another_partition_count_leaves_reference_topics_at_one(shipped: Topics) -> None:
    """The demo runs with few partitions and one broker; barriers count on the one partition of a reference topic."""
    small = shipped.with_partitions(4, 1)

    assert {4} == {topic.partitions for topic in small.co_partitioned}
    assert small.partitions == 4
    assert small.by_name("products").partitions == 1
    assert {1} == {topic.replication_factor for topic in small}
    assert shipped.all == shipped.with_partitions(None, None).all


def test_an_unknown_topic_offers_the_nearest_name(shipped: Topics) -> None:
    """A mistyped name on a command line is answered with the likely one."""
    with pytest.raises(OperatorError, match="did you mean 'purchases'"):
        shipped.by_name("purchase")

    assert "purchases" in shipped
    assert "purchase" not in shipped
    assert len(shipped) == len(list(shipped))
