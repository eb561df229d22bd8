"""Stock Faust: one agent, one table on rocksdict, at-least-once.

Faust has no timers per key. The way that costs least is a heap in memory beside the table, rebuilt from the table at
the start; scanning the table from `@app.timer` costs all that is pending at every scan. Time is the partition's newest
event time. A timer row is set once per cart and moved on when it comes up, not at every item.
"""

from __future__ import annotations

import heapq
from collections import defaultdict

import faust

from bench.peers.wire import BOOTSTRAP, GROUP, OUT, PARTITIONS, STATE, TOPIC, WITHIN, decode, trigger

app = faust.App(
    GROUP,
    broker=f"kafka://{BOOTSTRAP}",
    store="rocksdb://",
    datadir=str(STATE),
    topic_partitions=PARTITIONS,
    topic_replication_factor=1,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    cython_optimizations=True,  # off by default; its manual says that it pays
    web_enabled=False,
)
events = app.topic(TOPIC, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
triggers = app.topic(OUT, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
carts = app.Table("carts", key_type=str, partitions=PARTITIONS, options={"driver": "rocksdict"})

_Timer = tuple[int, str, str]
_heaps: dict[int, list[_Timer]] = defaultdict(list)
_armed: set[tuple[str, str]] = set()


@app.agent(events)
async def watch(stream: faust.StreamT[bytes]) -> None:
    """Keep every cart's hour, and send what is due before each event."""
    async for event in stream.events():
        partition = event.message.partition
        record = decode(event.value)
        at, name = record["event_time"], record["event"]
        heap = _heaps[partition]
        while heap and heap[0][0] < at:
            await fire(heap, *heapq.heappop(heap))
        customer = record["customer_id"]
        if name == "cart.item_added":
            cart = record["cart_id"]
            held = carts.get(customer) or {}
            held[cart] = at + WITHIN
            carts[customer] = held
            if (customer, cart) not in _armed:
                _armed.add((customer, cart))
                heapq.heappush(heap, (at + WITHIN, customer, cart))
        elif name == "order.placed" and carts.get(customer):
            carts[customer] = {}


async def fire(heap: list[_Timer], due: int, customer: str, cart: str) -> None:
    """Send the trigger of a timer, or let it wait on where an item has moved it."""
    held = carts.get(customer) or {}
    stands = held.get(cart)
    if stands is not None and stands > due:
        heapq.heappush(heap, (stands, customer, cart))
        return
    _armed.discard((customer, cart))
    if stands is not None:
        del held[cart]
        carts[customer] = held
        await triggers.send(key=customer.encode(), value=trigger(customer, cart, due))


@app.on_partitions_assigned.connect
async def rebuild(*_: object, **__: object) -> None:
    """Forget the heaps: after a restart they are built again from the table."""
    _heaps.clear()
    _armed.clear()


if __name__ == "__main__":
    app.main()
