"""Records as nobody should send them: `python -m bench.mutated [--records N] [--seed S] [--json]`.

Records of every input are made odd in their bytes (flipped, cut, extended, of another schema, empty, repeated), in
their keys, or in their values (whatever the schema allows), and go through the real intake, partition, engine and
store. Every one must be accounted for: handed to a customer, irrelevant, a duplicate, or a dead letter; and none may
crash anything.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness.one_partition import (
    BEGIN,
    CLICKS,
    CODEC,
    ENCODERS,
    ENGAGEMENT,
    PROFILES,
    PURCHASES,
    ROOT,
    TOPICS,
    OnePartition,
)
from orchestrator.events import DAY, HOUR, MINUTE, Event
from orchestrator.runtime.outbox import Headers
from orchestrator.runtime.partition import Partition

STEP_RECORDS = 1_000
CUSTOMERS = 300
KNOWN_DUPLICATES = 200
"""The last records, of which some are sent again."""

Record = tuple[str, bytes | None, bytes | None]
"""Topic, key and value."""

SCHEMAS = {
    topic: json.loads((ROOT / "schemas" / f"{name}.avsc").read_text())
    for topic, name in (
        (CLICKS, "clickstream_event"),
        (PURCHASES, "purchase_event"),
        (ENGAGEMENT, "email_engagement_event"),
        (PROFILES, "customer_profile"),
    )
}
NAMES = {
    CLICKS: ("cart.item_added", "cart.emptied", "product.viewed", "page.viewed", "", "no.such.event"),
    PURCHASES: ("order.placed", "order.placed", "order.cancelled", "order.returned", "ORDER.PLACED"),
    ENGAGEMENT: ("message.sent", "message.opened", "message.clicked", "customer.unsubscribed", "message.\x00"),
}
TEXTS = (
    "", " ", "\x00", "null", "email", "sms", "UTC", "Not/A_Zone", "1900-01-01", "2000-02-30", "9999-12-31", "ES", "-1",
    "SKU-001", "NaN", "💥" * 9, "x" * 199, "x" * 201, "x" * 8_192, "x" * 8_193, "\ud7ff", "a/b", "../..",
)  # fmt: skip
NUMBERS = (0, 1, -1, 7, 999, 2**31 - 1, -(2**31), 10**15, 10**15 + 1, 2**53, 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 1.5, -1e9, 1e15, 1e16, 1e308, float("inf"), float("-inf"), float("nan"))


class Mutator:
    """Makes records, each from a seed of its own run."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._number = 0
        self._sent: list[Record] = []
        self.kinds: Counter[str] = Counter()

    def next(self, now: int) -> Record:
        """Return the next record and note what was done to it."""
        chance = self._chance
        self._number += 1
        topic = chance.choice((CLICKS, CLICKS, PURCHASES, ENGAGEMENT, PROFILES))
        customer = f"c{chance.randrange(CUSTOMERS)}"
        key: bytes | None = customer.encode()
        kind = chance.choice(("honest", "values", "values", "values", "bytes", "bytes", "key", "repeated", "tombstone"))
        self.kinds[kind] += 1
        if kind == "repeated" and self._sent:
            return chance.choice(self._sent)
        if kind == "tombstone":
            return (PROFILES if chance.random() < 0.3 else topic), key, None
        record = self._honest(topic, customer, now)
        if kind == "values":
            for field in chance.sample(SCHEMAS[topic]["fields"], chance.randint(1, 3)):
                if field["name"] != "customer_id" or chance.random() < 0.1:
                    record[field["name"]] = self._odd(field["type"], now)
        value: bytes | None = ENCODERS[topic](record)
        if kind == "bytes":
            value = self._odd_bytes(value or b"")
        if kind == "key":
            key = chance.choice((None, b"", b"\x00meta", b"\xff\xfe", b"x" * 513, b"c1 ", b"C1", key, b"somebody else"))
        found = (topic, key, value)
        self._sent.append(found)
        del self._sent[:-KNOWN_DUPLICATES]
        return found

    def _honest(self, topic: str, customer: str, now: int) -> dict[str, Any]:
        chance, number = self._chance, self._number
        if topic == PROFILES:
            granted = chance.random() < 0.8
            consents = [{"channel": channel, "purpose": "marketing", "granted": granted, "at": now - DAY}
                        for channel in ("email", "sms")]  # fmt: skip
            born = f"19{chance.randint(40, 99)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
            zone = chance.choice(("UTC", "Europe/Madrid", "Pacific/Apia"))
            return {
                "customer_id": customer, "updated_at": now, "time_zone": zone, "consents": consents, "birth_date": born
            }  # fmt: skip
        at = now - chance.randrange(3 * HOUR if chance.random() < 0.3 else MINUTE)
        record: dict[str, Any] = {
            "event_id": f"e{number}",
            "customer_id": customer,
            "event": chance.choice(NAMES[topic]),
            "event_time": at,
        }
        sku = f"SKU-{chance.randrange(70):03}"
        if topic == CLICKS:
            return {**record, "cart_id": f"k{number % 50}", "cart_total": chance.randrange(20_000), "sku": sku}
        if topic == PURCHASES:
            price = chance.randrange(9_000)
            lines = [{"sku": sku, "quantity": 1, "price": price, "margin": None}] * chance.randint(1, 4)
            return {**record, "order_id": f"o{number % 400}", "lines": lines, "total": price * len(lines)}
        return {**record, "channel": chance.choice(("email", "sms", "push"))}

    def _odd(self, kind: Any, now: int) -> Any:
        """Return a value that the schema allows and nobody expects."""
        chance = self._chance
        if isinstance(kind, list):
            return self._odd(chance.choice(kind), now)
        if isinstance(kind, dict):
            name = kind["type"]
            if name == "record":
                return {field["name"]: self._odd(field["type"], now) for field in kind["fields"]}
            if name == "array":
                count = chance.choice((0, 1, 3, 3, 20, 1_001)) if chance.random() < 0.1 else chance.choice((0, 1, 3))
                return [self._odd(kind["items"], now) for _ in range(count)]
            if name == "map":
                return {chance.choice(TEXTS): self._odd(kind["values"], now) for _ in range(chance.choice((0, 1, 5)))}
            if name == "enum":
                return chance.choice(kind["symbols"])
            return self._odd(name, now)
        if kind in ("int", "long"):
            times = (now + HOUR, now - 400 * DAY, now // 1000, now * 1000, now + 3 * MINUTE)
            value = chance.choice((*NUMBERS, *times, chance.getrandbits(63)))
            return value if kind == "long" else max(-(2**31), min(2**31 - 1, value))
        plain: dict[str, Sequence[Any]] = {
            "null": (None,), "boolean": (True, False), "string": TEXTS, "float": FLOATS[:4], "double": FLOATS,
            "bytes": (b"", b"\x00\xff"),
        }  # fmt: skip
        return chance.choice(plain[kind])

    def _odd_bytes(self, value: bytes) -> bytes:
        chance = self._chance
        kind = chance.randrange(7)
        if kind == 0:
            return value[: chance.randrange(len(value))]
        if kind == 1:
            return value + chance.randbytes(chance.randint(1, 20))
        if kind == 2:
            return chance.randbytes(chance.randrange(200))
        if kind == 3:
            return value[:1] + chance.randbytes(4) + value[5:]
        if kind == 4:
            return json.dumps({"event": "order.placed"}).encode()
        changed = bytearray(value)
        for _ in range(1 if kind == 5 else chance.randint(2, 10)):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed)


class Accounting(OnePartition):
    """A partition of which every record is followed to where it ends."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, cache_bytes=1 << 20)
        self.buried: Counter[str] = Counter()
        self.handed_over = 0
        self._decode = CODEC.decoder(TOPICS.dead_letters)
        self.partition.__class__ = Followed  # the same partition, which counts what it hands to customers
        Followed.accounting = self

    def _send(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None
    ) -> None:
        super()._send(topic, partition, key, value, headers)
        if topic == TOPICS.dead_letters.name and value is not None:
            self.buried[self._decode(value)["reason"]] += 1


class Followed(Partition):
    """Counts the events that reach a customer."""

    accounting: Accounting

    def _advance(self, key: bytes, events: Sequence[Event], clock: int, before: int, not_before: int) -> None:
        self.accounting.handed_over += len(events)
        super()._advance(key, events, clock, before, not_before)


def run(records: int, seed: int, folder: Path) -> dict[str, Any]:
    """Send so many odd records, and return where they ended."""
    mutator, one = Mutator(seed), Accounting(folder)
    now = BEGIN
    crashes: list[str] = []
    started = time.process_time()
    for first in range(0, records, STEP_RECORDS):
        step: dict[str, list[tuple[bytes | None, bytes | None]]] = {
            PROFILES: [],
            CLICKS: [],
            PURCHASES: [],
            ENGAGEMENT: [],
        }
        for _ in range(min(STEP_RECORDS, records - first)):
            topic, key, value = mutator.next(now)
            step[topic].append((key, value))
        try:
            one.step(now, step)
            one.commit()
        except Exception:
            crashes.append(traceback.format_exc())
            if len(crashes) == 3:
                break
        now += 20 * MINUTE
    largest = max((len(stored.state) for _, stored in one.store.customers()), default=0)
    one.partition.close()
    tally = one.tally
    duplicates = tally.duplicates
    dead = sum(one.buried.values())
    return {
        "records": records,
        "crashes": len(crashes),
        "decided": one.handed_over - duplicates,
        "duplicates": duplicates,
        "irrelevant": tally.irrelevant,
        "dead letters": dead,
        "unaccounted for": records - one.handed_over - tally.irrelevant - dead,
        "dead letters by reason": dict(one.buried.most_common()),
        "mutations": dict(mutator.kinds.most_common()),
        "decisions": one.sent[TOPICS.decisions.name],
        "triggers": one.sent[TOPICS.triggers.name],
        "largest state": largest,
        "CPU-µs per record": round((time.process_time() - started) / records * 1e6, 1),
        "first crash": crashes[0] if crashes else "",
    }


def main() -> int:
    """Print where the records ended; exit 1 if one is lost or has crashed anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.records, options.seed, Path(folder) / "0")
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24} {value:,}" if isinstance(value, int) else f"{name:24} {value}")
    return 1 if found["crashes"] or found["unaccounted for"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
