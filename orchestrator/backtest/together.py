"""Which products are bought by the same customers: counted over all customers of a history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from orchestrator.backtest.history import History
from orchestrator.backtest.pool import Partition, Pool, Progress
from orchestrator.backtest.spool import read_spool
from orchestrator.events import ORDERED
from orchestrator.learning.similar import LEAST_BUYERS, MOST_PRODUCTS, Pairs, Together
from orchestrator.program import Definitions
from orchestrator.reference import SimilarProducts


def similar_products(
    history: History, definitions: Definitions, *, processes: int, progress: Progress
) -> list[SimilarProducts]:
    """Return the products that are close to each product, effective from the end of the history on."""
    with Pool(history, [definitions], processes) as pool:
        steps = history.steps(pool.read(progress))
        buyers = sum(pool.decide(_buyers, steps, progress), Counter[str]())
        often = sorted(
            (sku for sku, count in buyers.items() if count >= LEAST_BUYERS), key=lambda sku: (-buyers[sku], sku)
        )
        compared = tuple(often[:MOST_PRODUCTS])
        together = Together(compared)
        for pairs in pool.decide(partial(_pairs, skus=compared), steps, progress):
            together.add(pairs)
    return together.snapshots(max((one.until for one in steps.values()), default=0))


def _bought(partition: Partition) -> Iterator[tuple[str, set[str]]]:
    """Yield every customer with what they ordered."""
    for customer, placed in read_spool(partition.job.folder, partition.number).items():
        orders = (event for _, event in placed if event.name == ORDERED)
        skus = {line.get("sku") for event in orders for line in event.data.get("lines") or ()}
        yield customer, {sku for sku in skus if sku is not None}


def _buyers(partition: Partition) -> Counter[str]:
    return Counter(sku for _, skus in _bought(partition) for sku in skus)


def _pairs(partition: Partition, skus: Sequence[str]) -> Pairs:
    together = Together(skus)
    for customer, bought in _bought(partition):
        together.put(customer, bought)
    return together.pairs()
