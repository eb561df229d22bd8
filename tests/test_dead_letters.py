"""`orchestrator dead-letters` against a broker: what it lists and shows, and that a redrive happens once."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.cli import main
from orchestrator.runtime import settings as environment
from orchestrator.runtime import topics as declared
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.dead_letters import HEADER, Choice, DeadLetters
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.intake import DeadLetter
from orchestrator.runtime.outbox import MAX_DEAD_VALUE, Headers, Outbox
from orchestrator.runtime.partitioner import murmur2_partition
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_reader import Record, read_topic

PARTITIONS = 4
ANA = murmur2_partition(b"ana", PARTITIONS)
BO = murmur2_partition(b"bo", PARTITIONS)

pytestmark = pytest.mark.broker


@dataclass
class Stage:
    """Topics of a test's own, into which letters are buried as a worker does it."""

    bootstrap: str
    topics: Topics

    def __post_init__(self) -> None:
        self.codec = Codec(FileRegistry(Path("schemas")))
        transactional_id = f"{self.topics.prefix}worker"
        config = {"bootstrap.servers": self.bootstrap, "transactional.id": transactional_id, "log_level": 2}
        self._producer = Producer({**config, "message.max.bytes": 2 << 20})
        self._producer.init_transactions(20)

    def purchase(self, customer: str = "ana", at: int | None = None, order: str = "o1") -> bytes:
        """Return a purchase that any worker accepts."""
        record = {
            "event_id": f"e-{order}", "customer_id": customer, "event": "purchase.completed",
            "event_time": int(time.time() * 1000) if at is None else at, "order_id": order,
        }  # fmt: skip
        whole = {"cart_id": None, "channel": None, "lines": [], "total": 500, **record}
        return self.codec.encoder(self.topics.by_name(self.topics.prefix + "purchases"))(whole)

    def bury(
        self,
        value: bytes | None,
        *,
        reason: str = "undecodable",
        key: bytes | None = b"ana",
        partition: int = ANA,
        offset: int = 7,
        topic: str = "purchases",
        headers: Headers | None = None,
    ) -> None:
        """Write one dead letter in a transaction of its own."""
        name = self.topics.prefix + topic

        def send(to: str, into: int, key: bytes | None, value: bytes | None, headers: Headers | None) -> None:
            self._producer.produce(to, value, key, into, headers=headers)

        record = Message(topic=name, partition=partition, offset=offset, key=key, value=value, headers=headers)
        self._producer.begin_transaction()
        Outbox(self.topics, self.codec, send).bury(partition, name, record, DeadLetter(reason, "as a test says"))
        self._producer.commit_transaction(20)

    def run(self, *arguments: str, **more: str) -> Result:
        """Return what a command did, run in this process as an operator would run it."""
        given = {
            "ORCHESTRATOR_BOOTSTRAP_SERVERS": self.bootstrap,
            "ORCHESTRATOR_TOPIC_PREFIX": self.topics.prefix,
            **{f"ORCHESTRATOR_{name}": text for name, text in more.items()},
        }
        return CliRunner().invoke(main, ["dead-letters", *arguments], env=given)

    def json(self, *arguments: str, exit_code: int = 0) -> Any:
        """Return what a command printed for programs."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == exit_code, result.output
        return json.loads(result.output)

    def written(self, topic: str = "purchases") -> list[Record]:
        """Return what stands in a topic."""
        return list(read_topic({"bootstrap.servers": self.bootstrap}, self.topics.prefix + topic))

    def place(self, offset: int, partition: int = ANA) -> str:
        """Return the place of a dead letter as it is printed."""
        return f"{self.topics.dead_letters.name}/{partition}/{offset}"


@pytest.fixture
def stage(embedded: EmbeddedBroker, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Return empty topics for one test."""
    prefix = re.sub(r"[^a-z0-9]+", "-", request.node.name)[:60]
    topics = declared.load(Path("topics.yaml"), Path("schemas")).with_prefix(f"{prefix}-")
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap})
    names = [topics.dead_letters.name, *(topic.name for topic in topics.inputs), topics.profiles.name]
    for created in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
        created.result(20)
    yield Stage(embedded.bootstrap, topics)
    for deleted in admin.delete_topics(names).values():
        deleted.exception(20)


def moves(found: Mapping[str, Any]) -> list[tuple[str, int | None]]:
    """Return the letters a redrive named, with the partitions they go to."""
    return [(letter["place"], letter["to_partition"]) for letter in found["letters"]]


# --- list and show ----------------------------------------------------------------------------------------------------


def test_nothing_is_listed_where_nothing_died(stage: Stage) -> None:
    """An empty topic is good news, and no error."""
    result = stage.run("list")

    assert (result.exit_code, result.output) == (0, "no dead letters\n")


def test_letters_are_counted_by_topic_and_reason_and_the_latest_are_shown(stage: Stage) -> None:
    """The first look says what is wrong with which producer; nothing of a customer is in it."""
    for number in range(3):
        stage.bury(b"{json}", offset=number)
    stage.bury(stage.purchase("bo"), key=b"bo", reason="wrong_partition", partition=ANA, offset=9, topic="clickstream")

    shown = stage.run("list", "--last", "2").output
    found = stage.json("list", "--last", "2")

    prefix = stage.topics.prefix
    assert f"        3  {prefix}purchases  undecodable\n" in shown
    assert f"        1  {prefix}clickstream  wrong_partition\n" in shown
    assert "        4  dead letters\n" in shown
    assert [letter["source"] for letter in found["latest"]] == [
        f"{prefix}purchases/{ANA}/2", f"{prefix}clickstream/{ANA}/9",
    ]  # fmt: skip
    assert "key" not in shown
    assert "key" not in found["latest"][0]
    assert "  key bo" in stage.run("list", "--show-keys").output


def test_a_list_is_narrowed_by_reason_source_and_time(stage: Stage) -> None:
    """Each filter leaves out the rest; topics are named as in topics.yaml."""
    stage.bury(b"1")
    stage.bury(b"2", reason="too_large")
    stage.bury(b"3", topic="clickstream")

    def sources(*filters: str) -> int:
        return sum(count["letters"] for count in stage.json("list", *filters)["counts"])

    assert sources("--reason", "undecodable") == 2
    assert sources("--reason", "undecodable", "--source", "clickstream") == 1
    assert sources("--since", "2020-01-01", "--until", "2020-01-02T12:00") == 0
    assert sources("--since", "2020-01-01") == 3


def test_a_letter_is_shown_by_its_source_or_by_its_own_place(stage: Stage) -> None:
    """An operator has the one from a log and the other from the list."""
    stage.bury(b"\x00\x00\x00\x00\x01{rest", headers=[("trace", b"abc"), ("raw", b"\xff")], offset=41)

    by_source, by_place = stage.run("show", f"purchases/{ANA}/41"), stage.run("show", stage.place(0))

    assert by_source.exit_code == 0, by_source.output
    assert by_source.output == by_place.output
    for line in (
        f"record       {stage.topics.prefix}purchases/{ANA}/41",
        "reason       undecodable: as a test says",
        "schema id    1",
        "key          ana",
        "header       trace: abc",
        "header       raw: 0xff",
        "value        cannot be read today: unknown_schema: schema id 1 is of no file in",
        "  00000000  00 00 00 00 01 7b 72 65 73 74                    .....{rest",
    ):
        assert line in by_source.output


def test_a_value_that_can_be_read_today_is_shown_decoded(stage: Stage) -> None:
    """Once the schema is there, what was unknown is known."""
    stage.bury(stage.purchase(order="o42"), reason="unknown_schema")

    found = stage.json("show", stage.place(0))

    assert (found["decoded"]["order_id"], found["undecodable"], found["redriven"]) == ("o42", None, False)
    assert '"order_id": "o42"' in stage.run("show", stage.place(0)).output


@pytest.mark.parametrize(
    ("place", "said", "exit_code"),
    [
        ("purchases/0/99", "there is no dead letter of", 1),
        ("purchases:0:99", "is no place of a record, write it like purchases/3/1200", 2),
        ("purchase/0/99", "no topic 'purchase' in topics.yaml", 2),
    ],
    ids=["nothing there", "not a place", "no such topic"],
)
def test_a_place_without_a_letter_says_so(stage: Stage, place: str, said: str, exit_code: int) -> None:
    """A typing error is told apart from a letter that is not there."""
    result = stage.run("show", place)

    assert result.exit_code == exit_code
    assert said in result.output


# --- redrive ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_is_the_default_and_sends_nothing(stage: Stage) -> None:
    """It says what would happen, and how to make it happen."""
    stage.bury(stage.purchase())

    result = stage.run("redrive")

    assert result.exit_code == 0, result.output
    assert "1 of 1 dead letters would be sent; --apply sends them" in result.output
    assert stage.written() == []


def test_a_redriven_record_is_the_original_in_the_partition_of_its_key(stage: Stage) -> None:
    """Key, value and headers are the very bytes; a header says where it comes from."""
    value = stage.purchase("bo")
    wrong = (BO + 1) % PARTITIONS
    stage.bury(value, key=b"bo", reason="wrong_partition", partition=wrong, headers=[("trace", b"abc")])

    result = stage.run("redrive", "--apply")
    (record,) = stage.written()

    assert result.exit_code == 0, result.output
    assert (record.partition, record.key, record.value) == (BO, b"bo", value)
    assert dict(record.headers) == {"trace": b"abc", HEADER: stage.place(0, wrong).encode()}


def test_a_letter_is_redriven_once_ever(stage: Stage) -> None:
    """Asked again, all at once or by its place, it stays; new letters still go."""
    stage.bury(stage.purchase(order="o1"), offset=1)
    first = stage.json("redrive", "--apply")
    stage.bury(stage.purchase(order="o2"), offset=2)

    again = stage.json("redrive", "--apply")
    by_place = stage.json("redrive", "--apply", stage.place(0))

    assert moves(first) == [(stage.place(0), ANA)]
    assert [(place, to) for place, to in moves(again) if to is not None] == [(again["letters"][1]["place"], ANA)]
    assert again["letters"][0]["refusal"] == "it was redriven before"
    assert moves(by_place) == [(stage.place(0), None)]
    assert len(stage.written()) == 2
    counts = stage.json("list")["counts"]
    assert [(count["letters"], count["redriven"]) for count in counts] == [(2, 2)]


def test_what_would_die_again_stays(stage: Stage) -> None:
    """The reason is that of today; what was chosen and cannot go is a finding."""
    hour = 3_600_000
    now = int(time.time() * 1000)
    stage.bury(b"{json}", offset=1)
    stage.bury(stage.purchase(at=now + 5 * hour), reason="too_far_ahead", offset=2)
    stage.bury(stage.purchase(at=now - hour), reason="too_far_ahead", offset=3)
    stage.bury(None, key=None, reason="missing_customer", offset=4)
    stage.bury(bytes(MAX_DEAD_VALUE), reason="too_large", offset=5)

    found = stage.json("redrive", "--apply", exit_code=1)

    refusals = [(letter["refusal"] or "").split(":")[0] for letter in found["letters"]]
    assert refusals == [
        "it would be refused again, undecodable",
        "it would be refused again, too_far_ahead",
        "",
        "it has no key, so it belongs to no partition",
        "it was too large to be kept whole",
    ]
    assert len(stage.written()) == 1


def test_a_redrive_takes_only_what_was_chosen(stage: Stage) -> None:
    """By reason, by source, or by the places of records or letters."""
    stage.bury(stage.purchase(order="o1"), reason="unknown_schema", offset=1)
    stage.bury(stage.purchase(order="o2"), reason="too_large", offset=2)
    stage.bury(stage.purchase(order="o3"), reason="too_large", offset=3)

    by_reason = stage.json("redrive", "--reason", "unknown_schema")
    by_source = stage.json("redrive", "--source", "clickstream")
    by_place = stage.json("redrive", "--apply", f"purchases/{ANA}/3")

    assert len(by_reason["letters"]) == 1
    assert by_source["letters"] == []
    assert [letter["source"] for letter in by_place["letters"]] == [f"{stage.topics.prefix}purchases/{ANA}/3"]
    assert len(stage.written()) == 1


def test_a_record_that_dies_again_may_be_redriven_again(stage: Stage) -> None:
    """It is a new letter, and its header tells where the old one is."""
    stage.bury(stage.purchase())
    stage.json("redrive", "--apply")
    (record,) = stage.written()
    headers: Headers = list(record.headers)
    stage.bury(record.value, offset=record.offset, headers=headers)

    again = stage.json("redrive", "--apply", f"purchases/{ANA}/{record.offset}")
    second = stage.written()[-1]

    (letter,) = again["letters"]
    assert letter["to_partition"] == ANA
    assert stage.json("show", letter["place"])["headers"][HEADER] == stage.place(0)
    assert dict(second.headers) == {HEADER: letter["place"].encode()}


def test_many_letters_take_several_transactions(stage: Stage) -> None:
    """Each is sent once, whatever the size of a transaction."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.runtime.dead_letters._TRANSACTION_RECORDS", 3)
        for number in range(8):
            stage.bury(stage.purchase(order=f"o{number}"), offset=number)

        result = stage.run("redrive", "--apply")

    assert "8 of 8 dead letters were sent" in result.output
    assert len({record.value for record in stage.written()}) == len(stage.written()) == 8


def test_of_two_redrives_at_once_one_ends(stage: Stage) -> None:
    """The second takes the transactional id, so the first sends nothing any more, and nothing is sent twice."""
    for number in range(3):
        stage.bury(stage.purchase(order=f"o{number}"), offset=number)
    given = {
        "ORCHESTRATOR_BOOTSTRAP_SERVERS": stage.bootstrap,
        "ORCHESTRATOR_TOPIC_PREFIX": stage.topics.prefix,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.runtime.dead_letters._TRANSACTION_RECORDS", 1)
        slow = DeadLetters(environment.load(given), stage.topics).redrive(Choice(), int(time.time() * 1000))
        next(slow)

        second = stage.run("redrive", "--apply")

        with pytest.raises(OperatorError, match="another redrive has begun"):
            list(slow)
    assert "2 of 3 dead letters were sent" in second.output
    assert len({record.value for record in stage.written()}) == len(stage.written()) == 3
