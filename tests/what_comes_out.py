"""Prints a digest of every byte that comes out of some journeys: by it two builds of the product are compared."""

from __future__ import annotations

import json
import tempfile
from hashlib import sha256
from pathlib import Path

from bench.harness import seed
from bench.harness.backlog import STARTS_AT, Backlog, customer_name
from bench.harness.one_partition import OnePartition
from bench.harness.stream import STEPS_PER_COMMIT, steps
from bench.mutated import run
from orchestrator import engine
from orchestrator.runtime.outbox import Headers

ROOT = Path(__file__).parents[1]
PACKS = ("bench/definitions/one_moment", "bench/definitions/twenty_moments", "deploy/definitions/retail_plus")
CUSTOMERS = 150
MUTATED = 20_000


class Recorded(OnePartition):
    """A partition of which everything that is sent and staged goes into a digest."""

    def __init__(self, folder: Path, definitions: Path) -> None:
        super().__init__(folder, definitions=definitions, clock=STARTS_AT - 1)
        self.digest = sha256()

    def commit(self) -> None:
        """Stage the changes, take them in, and write them to the store."""
        records, meta = self.partition.stage("bench")
        for key, value in sorted(records):
            self._take(key, value)
        self._take(repr(meta).encode(), None)
        self.partition.settle(0)

    def _send(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None
    ) -> None:
        super()._send(topic, partition, key, value, headers)
        self._take(topic.encode(), key, value, repr(headers).encode())

    def _take(self, *parts: bytes | None) -> None:
        for part in parts:
            self.digest.update(b"-" if part is None else b"%d:%b" % (len(part), part))


def digest(folder: Path, definitions: Path) -> str:
    """Decide a backlog of customers with a past; return the digest of what comes out."""
    backlog = Backlog(CUSTOMERS)
    names = [customer_name(number) for number in range(CUSTOMERS)]
    seed.seed(folder, definitions, names, 1, STARTS_AT - 1, seed.with_orders(4))
    one = Recorded(folder / "0", definitions)
    for number, (at, records) in enumerate(steps(backlog)):
        one.step(at, records)
        if number % STEPS_PER_COMMIT == 0:
            one.commit()
    one.commit()
    one.partition.close()
    assert one.sent["decisions"] > CUSTOMERS // 4, one.sent
    return one.digest.hexdigest()


def main() -> None:
    """Print which build this is, and what comes out of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {pack: digest(folder / Path(pack).name, ROOT / pack) for pack in PACKS}
        mutated = run(MUTATED, 1, folder / "mutated")
    del mutated["CPU-µs per record"]
    print(json.dumps({"compiled": not engine.__file__.endswith(".py"), "digests": found, "mutated": mutated}))


if __name__ == "__main__":
    main()
