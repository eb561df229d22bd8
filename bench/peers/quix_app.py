"""Quix Streams, exactly-once, with state in RocksDB and its changelog.

It has no timers, and a function sees the state of its own key alone. So what is pending is a heap in memory, which is
all one can do with its API and is lost at a restart; the state keeps a durable copy that nothing can scan.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import Any

from quixstreams import (  # type: ignore[import-not-found]  # it has a virtual environment of its own
    Application,
    State,
    message_context,
)
from quixstreams.models import (  # type: ignore[import-not-found]
    SerializationContext,
    Serializer,
)

from bench.peers.wire import BOOTSTRAP, COMMIT_SECONDS, GROUP, OUT, STATE, TOPIC, WITHIN, decode, trigger

_Timer = tuple[int, str, str]
_heaps: dict[int, list[_Timer]] = defaultdict(list)
_due: dict[tuple[str, str], int] = {}


class Second(Serializer):  # type: ignore[misc]  # Quix is not installed where types are checked
    """Writes the second of a pair."""

    def __call__(self, value: tuple[bytes, bytes], ctx: SerializationContext) -> bytes:
        """Return the bytes of the record."""
        del ctx
        return value[1]


def watch(value: bytes, key: bytes, timestamp: int, headers: Any, state: State) -> list[tuple[bytes, bytes]]:
    """Keep every cart's hour; return what is due before this event."""
    del key, timestamp, headers
    record = decode(value)
    at, name = record["event_time"], record["event"]
    heap = _heaps[message_context().partition]
    found = fire(heap, at)
    customer = record["customer_id"]
    if name == "cart.item_added":
        cart = record["cart_id"]
        held = state.get("carts") or {}
        held = {kept: due for kept, due in held.items() if due >= at}  # what was fired meanwhile
        held[cart] = at + WITHIN
        state.set("carts", held)
        if (customer, cart) not in _due:
            heapq.heappush(heap, (at + WITHIN, customer, cart))
        _due[customer, cart] = at + WITHIN
    elif name == "order.placed":
        held = state.get("carts")
        if held is not None:
            state.delete("carts")
            for cart in held:
                if (customer, cart) in _due:
                    _due[customer, cart] = 0
    return found


def fire(heap: list[_Timer], before: int) -> list[tuple[bytes, bytes]]:
    """Return the triggers due before an instant; what an item has moved waits on."""
    found = []
    while heap and heap[0][0] < before:
        due, customer, cart = heapq.heappop(heap)
        stands = _due[customer, cart]
        if stands > due:
            heapq.heappush(heap, (stands, customer, cart))
            continue
        del _due[customer, cart]
        if stands == due:
            found.append((customer.encode(), trigger(customer, cart, due)))
    return found


def main() -> None:
    """Run until a signal."""
    app = Application(
        broker_address=BOOTSTRAP,
        consumer_group=GROUP,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=COMMIT_SECONDS,
        state_dir=STATE,
        loglevel="WARNING",
    )
    events = app.topic(TOPIC, key_deserializer="bytes", value_deserializer="bytes")
    triggers = app.topic(OUT, key_serializer="bytes", value_serializer=Second())
    frame = app.dataframe(events)
    frame = frame.apply(watch, stateful=True, metadata=True, expand=True)
    frame.to_topic(triggers, key=lambda pair: pair[0])
    app.run()


if __name__ == "__main__":
    main()
