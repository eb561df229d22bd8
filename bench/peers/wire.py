"""Bytes to records and back for the Python peers: the frame and fastavro, as our own worker reads them.

It runs in the peers' own virtual environment, so it imports nothing of ours.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer

BOOTSTRAP = os.environ["BENCH_BOOTSTRAP"]
GROUP = os.environ["BENCH_GROUP"]
TOPIC = os.environ["BENCH_TOPIC"]
OUT = os.environ["BENCH_OUT"]
STATE = Path(os.environ["BENCH_STATE"])
PARTITIONS = int(os.environ["BENCH_PARTITIONS"])
WITHIN = int(os.environ["BENCH_WITHIN"])
COMMIT_SECONDS = int(os.environ["BENCH_COMMIT_MS"]) / 1000

_given = json.loads(Path(os.environ["BENCH_SCHEMAS"]).read_text())
_readers = {bytes.fromhex(frame): parse_schema(schema) for frame, schema in _given["readers"].items()}
_trigger_frame = bytes.fromhex(_given["trigger"]["frame"])
_trigger_schema = parse_schema(_given["trigger"]["schema"])


def decode(value: bytes) -> dict[str, Any]:
    """Return the record of a framed value."""
    body = io.BytesIO(value)
    body.seek(5)
    record: dict[str, Any] = schemaless_reader(body, _readers[value[:5]], None)  # type: ignore[assignment]  # a record
    return record


def trigger(customer: str, cart: str, due: int) -> bytes:
    """Return the trigger for a cart that no order followed."""
    out = io.BytesIO()
    out.write(_trigger_frame)
    schemaless_writer(
        out,
        _trigger_schema,
        {
            "trigger_id": hashlib.sha256(f"{customer}|{cart}|{due}".encode()).hexdigest()[:32],
            "action": "send",
            "decision_id": "",
            "customer_id": customer,
            "campaign": "cart_rescue",
            "step": "",
            "channel": "email",
            "template": "cart_rescue",
            "moment": "abandoned_cart",
            "moment_key": cart,
            "opened_at": due,
            "decided_at": due,
            "valid_until": due + 86_400_000,
            "window_until": due + 60_000,
            "content": {},
            "definitions_version": "",
        },
    )
    return out.getvalue()
