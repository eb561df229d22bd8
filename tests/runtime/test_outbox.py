"""What is sent: dead letters with everything that is needed to mend them, and nothing too large for their topic."""

from __future__ import annotations

import pytest

from orchestrator.records import Trigger
from orchestrator.runtime.barriers import Barrier
from orchestrator.runtime.intake import DeadLetter
from orchestrator.runtime.outbox import Headers, Outbox, cloud_event
from tests.builders import instant
from tests.runtime.messages import CLICKSTREAM, CODEC, TOPICS, Sent, item_added, message

MAX_MESSAGE_BYTES = 2 << 20


def buried(value: bytes | None, *, key: bytes | None = b"ana", headers: Headers | None = None) -> Sent:
    """Return what was sent for a record that could not be used."""
    sent = Sent()
    record = message(value, key=key, headers=headers, offset=41, partition=3)
    Outbox(TOPICS, CODEC, sent).bury(3, CLICKSTREAM, record, DeadLetter("undecodable", "it is broken"))
    return sent


def test_a_dead_letter_holds_the_record_its_place_and_the_reason() -> None:
    """Whoever mends the producer can send the very bytes again."""
    value = item_added()
    sent = buried(value, headers=[("trace", b"abc"), ("text", "hé"), ("none", None)])

    ((topic, partition, key, _, _),) = sent.raw
    assert (topic, partition, key) == ("dead-letters", 3, b"ana")
    assert sent.dead_letters == [
        {
            "source_topic": CLICKSTREAM,
            "source_partition": 3,
            "source_offset": 41,
            "reason": "undecodable",
            "detail": "it is broken",
            "schema_id": int.from_bytes(value[1:5]),
            "key": b"ana",
            "value": value,
            "headers": {"trace": b"abc", "text": "hé".encode(), "none": b""},
        }
    ]


@pytest.mark.parametrize("value", [None, b"", b"\x00\x00\x01", b"json"])
def test_a_value_without_a_schema_id_says_none(value: bytes | None) -> None:
    """A frame is a zero and four bytes."""
    (letter,) = buried(value).dead_letters

    assert (letter["schema_id"], letter["value"]) == (None, value)


def test_a_record_without_a_key_keeps_having_none() -> None:
    """It stays in the partition it came from."""
    sent = buried(b"x", key=None)

    assert sent.raw[0][2] is None
    assert sent.dead_letters[0]["key"] is None


def test_whatever_is_buried_fits_the_topic() -> None:
    """A dead letter that the broker refuses would stop the stream for good."""
    huge = bytes(3 << 20)
    sent = buried(huge, key=huge, headers=[("small", b"kept"), ("h" * 60_000, huge), ("also", b"kept")])

    ((_, _, key, value, _),) = sent.raw
    assert len(key or b"") + len(value or b"") < MAX_MESSAGE_BYTES - 1_000
    (letter,) = sent.dead_letters
    assert letter["headers"]["small"] == b"kept"
    assert len(letter["value"]) == 1_700_000


def test_a_record_just_above_the_limit_is_kept_whole() -> None:
    """The default limit is 1 MiB; what was refused for one byte can be sent again."""
    (letter,) = buried(bytes((1 << 20) + 1)).dead_letters

    assert len(letter["value"]) == (1 << 20) + 1


def test_a_barrier_that_was_used_live_can_be_replayed() -> None:
    """It has its time, its ends and, when time stood still, its horizon."""
    sent = Sent()
    outbox = Outbox(TOPICS, CODEC, sent)

    outbox.note_barrier(2, Barrier(1_000, {"clickstream": 5}))
    outbox.note_barrier(2, Barrier(1_000, {"clickstream": 9}, 7_000))

    assert [(topic, partition, key) for topic, partition, key, _, _ in sent.raw] == [("clock", 2, b"2")] * 2
    assert sent.values("clock") == [
        {"time": 1_000, "ends": {"clickstream": 5}, "horizon": None},
        {"time": 1_000, "ends": {"clickstream": 9}, "horizon": 7_000},
    ]


def test_an_erasure_leaves_tombstones_in_our_compacted_topics() -> None:
    """They forget the customer; outcomes are keyed by their own ids."""
    sent = Sent()

    Outbox(TOPICS, CODEC, sent).erase(1, b"ana", ["o1", "o2"])

    assert [(topic, key, value) for topic, _, key, value, _ in sent.raw] == [
        ("active-campaign", b"ana", None),
        ("campaign-outcomes", b"o1", None),
        ("campaign-outcomes", b"o2", None),
    ]


def test_a_trigger_is_a_cloud_event() -> None:
    """A retraction is another event than the trigger it takes back."""
    trigger = Trigger(
        trigger_id="t1", decision_id="d1", customer_id="ana", campaign="c", channel="email", template="t", moment="m",
        moment_key="", opened_at=0, decided_at=instant("09:00"), valid_until=0, window_until=0,
        definitions_version="v1", action="retract",
    )  # fmt: skip

    headers = dict(cloud_event(trigger))

    assert headers["ce_id"] == "t1/retract"
    assert headers["ce_type"] == "journey.campaign-trigger.retract"
    assert headers["ce_time"] == "2017-03-01T09:00:00.000Z"
