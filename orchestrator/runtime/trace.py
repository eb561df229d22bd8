"""W3C trace context: the trace that a trigger belongs to.

A trigger that is decided in the step of an event goes on with the trace of that event, its headers unchanged: we report
no spans, so none of ours stands between. What time alone decides, often days later, begins a trace of its own. Its id
is derived from the decision, so that a run done again writes the same bytes. Nothing is kept with a moment that waits:
55 bytes in every state, for traces that have long ended when it opens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import cast

from confluent_kafka import Message

Context = list[tuple[str, str | bytes | None]]
"""The headers `traceparent` and, where there is one, `tracestate`."""

_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(rb"[\x20-\x7e]{1,512}")


def context_of(message: Message) -> Context | None:
    """Return the trace context of a record, None when it brings none that is valid."""
    given = cast("list[tuple[str, str | bytes | None]] | None", message.headers())
    if not given:
        return None
    found = {name: value.encode() if isinstance(value, str) else value for name, value in given}
    parent, state = found.get("traceparent"), found.get("tracestate")
    if parent is None or _PARENT.fullmatch(parent) is None:
        return None
    context: Context = [("traceparent", parent)]
    if state is not None and _STATE.fullmatch(state) is not None:
        context.append(("tracestate", state))
    return context


def context_for(decision_id: str, causes: Iterable[Message]) -> Context:
    """Return the context of the first record that brings one, else a new one that is linked to the decision."""
    for message in causes:
        context = context_of(message)
        if context is not None:
            return context
    ids = blake2b(decision_id.encode(), digest_size=24, person=b"journey-trace").hexdigest()
    return [("traceparent", f"00-{ids[:32]}-{ids[32:]}-01".encode()), ("tracestate", f"journey={decision_id}".encode())]
