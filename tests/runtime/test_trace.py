"""A trigger goes on with the trace of the event in whose step it is decided; what time alone decides begins one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from orchestrator.runtime.barriers import Barrier
from orchestrator.runtime.inbox import Step
from orchestrator.runtime.outbox import Headers
from orchestrator.runtime.trace import context_for, context_of
from tests.builders import ANA, instant
from tests.runtime.messages import CLICKSTREAM, PROFILES, TOPICS, Bench, item_added, message, profile, to

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
DECISION = "0f" * 16


def brought(*headers: tuple[str, Any]) -> Message:
    """Return a record with these headers."""
    return message(b"", headers=list(headers))


def test_the_context_of_an_event_is_carried_unchanged() -> None:
    """With the vendor's part; other headers stay behind."""
    given = brought(("secret", b"x"), ("tracestate", b"congo=t61rcWkgMzE"), ("traceparent", PARENT))

    assert context_of(given) == [("traceparent", PARENT), ("tracestate", b"congo=t61rcWkgMzE")]


@pytest.mark.parametrize(
    "parent",
    [
        None,
        b"",
        PARENT.upper(),
        PARENT[:-1],
        PARENT + b"-more",
        PARENT.replace(b"00-", b"ff-", 1),
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        "00-ä".encode(),
    ],
)
def test_what_is_no_traceparent_is_not_carried(parent: bytes | None) -> None:
    """Nor is the state that came with it."""
    assert context_of(brought(("traceparent", parent), ("tracestate", b"a=b"))) is None


def test_a_tracestate_that_is_too_long_is_left_out() -> None:
    """Headers are not a way to smuggle."""
    given = brought(("traceparent", PARENT), ("tracestate", b"a" * 513))

    assert context_of(given) == [("traceparent", PARENT)]


def test_a_record_without_headers_has_no_context() -> None:
    """As most have none."""
    assert context_of(message(b"")) is None


def test_the_first_cause_with_a_context_counts() -> None:
    """The causes come newest first."""
    other = PARENT.replace(b"00f0", b"11f0")
    found = context_for(DECISION, [message(b""), brought(("traceparent", PARENT)), brought(("traceparent", other))])

    assert found == [("traceparent", PARENT)]


def test_a_decision_without_a_context_begins_a_trace_the_same_each_time() -> None:
    """A replay writes the same bytes; another decision has another trace, and the link names it."""
    first, again = context_for(DECISION, []), context_for(DECISION, [message(b"")])

    assert first == again
    assert first != context_for("f0" * 16, [])
    assert first[1] == ("tracestate", f"journey={DECISION}".encode())
    assert context_of(brought(*first)) == first


def trigger_headers(folder: Path, *, traces: bool, cart: Headers, later: Headers | None) -> Headers:
    """Return the headers of a trigger for a cart, decided with a later event of the customer or by time alone."""
    bench = Bench(folder)
    partition = bench.partition
    partition._deciding = replace(partition._deciding, traces=traces)
    bench.step("08:00", [to(ANA, PROFILES, profile())])
    place = dict(bench.offsets)
    partition.apply(step("09:01", place, message(item_added("09:00"), headers=cart)))
    place[CLICKSTREAM] += 1
    more = [] if later is None else [message(item_added("10:00:10", cart="c2"), headers=later, offset=1)]
    partition.apply(step("10:00:30", place, *more))
    partition.close()
    (headers,) = [headers for topic, *_, headers in bench.sent.raw if topic == TOPICS.triggers.name]
    return headers or []


def step(at: str, place: dict[str, int], *records: Message) -> Step:
    """Return a step of clicks."""
    ends = {**place, CLICKSTREAM: place[CLICKSTREAM] + len(records)}
    return Step(Barrier(instant(at), ends), [(CLICKSTREAM, records)] if records else [], ends, advances=True)


CART: Headers = [("traceparent", PARENT.replace(b"00f0", b"11f0"))]
LATER: Headers = [("traceparent", PARENT), ("tracestate", b"a=b")]


def test_a_trigger_carries_the_trace_of_the_step_it_was_decided_in(tmp_path: Path) -> None:
    """Not that of the cart an hour before: nobody keeps it."""
    plain = trigger_headers(tmp_path / "0", traces=False, cart=CART, later=LATER)
    traced = trigger_headers(tmp_path / "1", traces=True, cart=CART, later=LATER)
    timed = trigger_headers(tmp_path / "2", traces=True, cart=CART, later=None)

    assert not {name for name, _ in plain} & {"traceparent", "tracestate"}
    assert traced == [*plain, *LATER]
    assert [name for name, _ in timed[-2:]] == ["traceparent", "tracestate"]
    assert str(timed[-1][1]).startswith("b'journey=")
    assert timed == trigger_headers(tmp_path / "3", traces=True, cart=[], later=None)
