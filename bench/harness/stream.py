"""The backlog as one worker decides it, without a broker: seeded customers, five-minute steps, and commits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness import seed
from bench.harness.backlog import STARTS_AT, Backlog, customer_name
from bench.harness.one_partition import ENCODERS, OnePartition
from orchestrator.events import DAY, MINUTE

STEP = 5 * MINUTE
STEPS_PER_COMMIT = 3

Records = dict[str, list[tuple[bytes | None, bytes | None]]]


def steps(backlog: Backlog) -> list[tuple[int, Records]]:
    """Return the backlog cut into steps, each with its instant, and a day more in which only time goes by."""
    found: list[tuple[int, Records]] = []
    at, records = STARTS_AT + STEP, Records()
    for one in backlog.happenings:
        while one.at >= at:
            found.append((at, records))
            at, records = at + STEP, Records()
        records.setdefault(one.topic, []).append((one.customer.encode(), ENCODERS[one.topic](one.record)))
    for later in range(at, backlog.ends_at + DAY, STEP):
        found.append((later, records))
        records = Records()
    return found


@dataclass
class Seeded:
    """One partition whose customers have a past, and what will happen to them."""

    bench: OnePartition
    steps: Sequence[tuple[int, Records]]
    events: int
    state_bytes: int

    def decide(self) -> None:
        """Take every step, with a commit now and then."""
        for number, (at, records) in enumerate(self.steps):
            self.bench.step(at, records)
            if number % STEPS_PER_COMMIT == 0:
                self.bench.commit()
        self.bench.commit()


def seeded(
    folder: Path, definitions: Path, backlog: Backlog, *, past: seed.Past | None = None, others: int = 0
) -> Seeded:
    """Return a partition that is ready to decide a backlog; `others` are customers to whom nothing happens."""
    names = [customer_name(number * backlog.stride) for number in range(backlog.customers)]
    names += [f"other-{number:07}" for number in range(others)]
    state = seed.seed(folder, definitions, names, 1, STARTS_AT - 1, past or seed.with_orders(4))
    bench = OnePartition(folder / "0", definitions=definitions, clock=STARTS_AT - 1)
    found = steps(backlog)
    return Seeded(bench, found, sum(map(len, _records(found))), state.median)


def _records(found: Sequence[tuple[int, Records]]) -> Iterator[list[tuple[bytes | None, bytes | None]]]:
    for _, records in found:
        yield from records.values()
