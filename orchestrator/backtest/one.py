"""One customer's recorded life, decided again: what `why` knows of somebody about whom nothing was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.backtest.history import History, Seen
from orchestrator.backtest.life import Life, Lives
from orchestrator.backtest.pool import Progress
from orchestrator.backtest.spool import Placed
from orchestrator.customer import Customer
from orchestrator.program import Definitions, Program
from orchestrator.prospects import Prospect, prospects
from orchestrator.runtime.partitioner import partition_of


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one customer at an instant: their events, what was decided, and what may come of it."""

    events: Sequence[Placed]
    life: Life
    prospects: Sequence[Prospect]
    at: int


def decide_again(history: History, definitions: Definitions, customer: str, progress: Progress) -> Known:
    """Take one customer through the whole history, up to its end."""
    seen, placed = Seen(), []
    for reader in range(history.readers):
        placed += [(step, event) for _, step, event in history.read(reader, seen, customer)]
        progress("reading", reader + 1, history.readers)
    program, reference = Program(definitions), history.products()
    partition = partition_of(customer.encode(), history.partitions)
    steps = history.steps(seen)[partition]
    lives = Lives(program, reference, steps, history.max_lag, partition, history.partitions)
    life = lives.alone(customer, placed)
    found = prospects(program, reference, customer, life.customer or Customer(), steps.until)
    return Known(placed, life, list(found), steps.until)
