"""A made-up history: carts, orders, late and repeated records, in files of any format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import fastavro

from orchestrator.backtest.files import with_arrival
from orchestrator.events import DAY, HOUR, MINUTE
from orchestrator.runtime.schema_registry import FileRegistry
from tests.builders import instant

ROOT = Path(__file__).parents[2]
RETAIL = ROOT / "deploy" / "definitions" / "retail"
REGISTRY = FileRegistry(ROOT / "schemas")
SCHEMAS = {
    "customer-profiles": "customer_profile",
    "clickstream": "clickstream_event",
    "purchases": "purchase_event",
    "email-engagement": "email_engagement_event",
    "products": "product",
}

BEGIN = instant("2017-03-01T00:00")

Record = dict[str, Any]
History = dict[str, list[Record]]


def made(customers: int, days: int = 20, seed: int = 1) -> History:
    """Return a history by topic, each in the order of arrival; the same for the same numbers."""
    chance = Random(seed)
    history: History = {topic: [] for topic in SCHEMAS}
    history["products"] = [
        {"sku": f"S{n}", "effective_from": 0, "category": "care", "family": f"F{n % 3}", "typical_days_of_supply": 5.0}
        for n in range(6)
    ]
    for number in range(customers):
        _life(history, f"c{number}", days, chance)
    for topic in SCHEMAS:
        history[topic].sort(key=lambda record: record.get("arrived_at", 0))
    return history


def _life(history: History, customer: str, days: int, chance: Random) -> None:
    agreed = chance.random() < 0.85
    consents = [{"channel": "email", "purpose": "marketing", "granted": agreed, "at": BEGIN - DAY}]
    born = f"1980-03-{chance.randrange(1, 28):02}"
    profile: Record = {"customer_id": customer, "updated_at": BEGIN, "time_zone": "Europe/Madrid", "birth_date": born}
    history["customer-profiles"].append({**profile, "consents": consents, "arrived_at": BEGIN})
    made_so_far = 0
    for day in range(days):
        if chance.random() > 0.3:
            continue
        at = BEGIN + day * DAY + chance.randrange(24) * HOUR + chance.randrange(60) * MINUTE + made_so_far
        cart = f"cart-{customer}-{day}"
        for _ in range(chance.randrange(1, 4)):
            made_so_far += 1
            at += chance.randrange(10 * MINUTE)
            total = chance.randrange(500, 9_000)
            record: Record = {
                "event_id": f"e-{customer}-{made_so_far}",
                "customer_id": customer,
                "event": "cart.item_added",
            }
            record |= {"event_time": at, "cart_id": cart, "sku": f"S{chance.randrange(6)}", "cart_total": total}
            late = chance.randrange(20_000) if chance.random() < 0.1 else 0
            history["clickstream"].append({**record, "arrived_at": at + late})
            if chance.random() < 0.05:
                history["clickstream"].append({**record, "arrived_at": at + late + 1})
        if chance.random() < 0.4:
            made_so_far += 1
            at += chance.randrange(3 * HOUR)
            lines = [{"sku": f"S{chance.randrange(6)}", "quantity": 1, "price": total, "margin": total // 3}]
            order: Record = {
                "event_id": f"o-{customer}-{made_so_far}",
                "customer_id": customer,
                "event": "order.placed",
            }
            order |= {"event_time": at, "order_id": f"o{customer}{day}", "cart_id": cart, "channel": "web"}
            history["purchases"].append({**order, "lines": lines, "total": total, "arrived_at": at})


def write(history: History, folder: Path, suffix: str = ".jsonl", *, per_block: int = 50) -> Path:
    """Write a history as one file per topic, in small blocks, so that several readers have something to do."""
    folder.mkdir(parents=True, exist_ok=True)
    for topic, records in history.items():
        path = folder / f"{topic}{suffix}"
        if suffix == ".avro":
            _write_avro(path, topic, records, per_block)
        elif suffix == ".parquet":
            _write_parquet(path, records, per_block)
        else:
            path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return folder


def _write_avro(path: Path, topic: str, records: Iterable[Record], per_block: int) -> None:
    schema = with_arrival(REGISTRY.named(SCHEMAS[topic]))
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), records, sync_interval=per_block * 100)


def _write_parquet(path: Path, records: list[Record], per_block: int) -> None:
    import pyarrow
    from pyarrow import parquet

    if records:
        parquet.write_table(pyarrow.Table.from_pylist(records), path, row_group_size=per_block)


def arrivals(history: History) -> Iterator[tuple[int, str, str, Record]]:
    """Yield a history as the replayer takes it: products first, then everything in the order of arrival."""
    for product in history["products"]:
        yield BEGIN, "products", product["sku"], product
    stream = [
        (record["arrived_at"], topic, record) for topic, of in history.items() if topic != "products" for record in of
    ]
    for at, topic, record in sorted(stream, key=lambda one: one[0]):
        kept = {name: value for name, value in record.items() if name != "arrived_at"}
        yield at, topic, record["customer_id"], kept
