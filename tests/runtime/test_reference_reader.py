"""Reference data that engines cannot use is left out and counted, so that it does not stop every start."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from confluent_kafka import Message

from orchestrator.reference import Reference
from orchestrator.runtime import reference_reader
from orchestrator.runtime.compose import codec_of, topics_of
from orchestrator.runtime.policy_log import policy_topic
from orchestrator.runtime.reference_reader import ReferenceReader
from orchestrator.runtime.settings import load
from orchestrator.valuation import ArmValue, LeafValue, MalformedError, PolicySnapshot, records_of, snapshot_of

TOPIC = policy_topic(topics_of(load({})))
CODEC = codec_of(load({}))


def leaf(since: int, **changed: Any) -> dict[str, Any]:
    """Return the record of a snapshot with one leaf, changed as told; `gain`, `hold` and `value` are its only arm's."""
    arms = {"rescue@email": ArmValue((5.0, 6.0), 0.5)}
    (record,) = records_of(PolicySnapshot(since, since, "d", 2, 0, {"": LeafValue(arms, {"": (1.0, 1.0)})})).values()
    for name, value in changed.items():
        where = record["stages"][0] if name == "value" else record["arms"][0] if name in ("gain", "hold") else record
        where[name] = value
    return record


MALFORMED: list[dict[str, Any]] = [
    {"gain": b"123"},
    {"gain": b"1234"},
    {"value": b"123412341234"},
    {"gain": pack("<2f", 1.0, float("nan"))},
    {"value": pack("<2f", float("inf"), -float("inf"))},
    {"hold": float("nan")},
    {"leaf": "value=high"},
    {"draws": 0},
    {"draws": -1},
]


@pytest.mark.parametrize("changed", MALFORMED, ids=str)
def test_records_that_are_no_snapshot_are_refused_when_read(changed: dict[str, Any]) -> None:
    """Not when somebody decides by them."""
    with pytest.raises(MalformedError):
        snapshot_of([leaf(1, **changed)])


@pytest.mark.parametrize("changed", MALFORMED, ids=str)
def test_engines_start_with_a_malformed_snapshot_in_the_topic(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    """They go on with those before and after it."""
    encode = CODEC.encoder(TOPIC)
    values = [encode(leaf(1)), encode(leaf(2, **changed)), encode(leaf(3))]

    class Consumer:
        """Gives the three."""

        def consume(self, *_: Any) -> list[Message]:
            """Return them all."""
            return [Message(topic=TOPIC.name, partition=0, offset=at, value=value) for at, value in enumerate(values)]

        def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
            """Return the ends."""
            return 0, len(values)

        def assign(self, _: Any) -> None:
            """Know them already."""

    monkeypatch.setattr(reference_reader, "Consumer", lambda _: Consumer())
    reference = Reference()
    reader = ReferenceReader(
        {}, {TOPIC.name: CODEC.decoder(TOPIC)}, lambda _, record: reference.take("policy_leaf", record)
    )

    reader.read_all()

    assert reader.undecodable == 1
    found = [reference.policy(at) for at in (2, 3)]
    assert [one and one.effective_from for one in found] == [1, 3]
