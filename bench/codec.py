"""Prints the cost of one record on the wire: `python -m bench.codec`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from orchestrator.runtime.avro import Codec, Record
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topics import load

_ROOT = Path(__file__).parents[1]
_ROUNDS, _CALLS = 7, 20_000

CLICK: Record = {
    "event_id": "e-0123456789",
    "customer_id": "c-123456",
    "event": "cart.item_added",
    "event_time": 1_700_000_000_000,
    "sku": "SKU-12345",
    "category": "DAIRY",
    "query": None,
    "cart_id": "cart-1234567",
    "quantity": 2,
    "unit_price": 399,
    "cart_total": 1299,
}
PURCHASE: Record = {
    "event_id": "e-0123456789",
    "customer_id": "c-123456",
    "event": "order.placed",
    "event_time": 1_700_000_000_000,
    "order_id": "o-1234567",
    "cart_id": None,
    "channel": "store",
    "lines": [{"sku": f"SKU-{line:05}", "quantity": 1, "price": 399, "margin": 99} for line in range(10)],
    "total": 3990,
}


def microseconds(call: Callable[[], object]) -> float:
    """Return the cost of one call, in the best of several rounds: others share the machine."""
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for _ in range(_CALLS):
            call()
        best = min(best, time.perf_counter() - start)
    return best / _CALLS * 1e6


def main() -> None:
    """Print one line a record."""
    topics = load(_ROOT / "topics.yaml")
    codec = Codec(FileRegistry(_ROOT / "schemas"))
    for name, record in (("clickstream", CLICK), ("purchases", PURCHASE)):
        encode, decode = codec.encoder(topics.by_name(name)), codec.decoder(topics.by_name(name))
        data = encode(record)
        written, read = microseconds(partial(encode, record)), microseconds(partial(decode, data))
        print(f"{name:12} {len(data):5} bytes   encode {written:5.1f} µs   decode {read:5.1f} µs")


if __name__ == "__main__":
    main()
