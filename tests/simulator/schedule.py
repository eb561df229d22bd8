"""A schedule: everything that one run depends on, as a value made from one seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from confluent_kafka import KafkaError

from orchestrator.events import SECOND
from tests.simulator.world import LASTS, PARTITIONS, Arrival, arrivals

LIVE, REPLAY = "live", "replay"

SESSION = 6 * SECOND
TRANSACTION = 12 * SECOND
MAX_POLL = 20 * SECOND

KILL, STOP, STALL, TWIN, REPLY = "kill", "stop", "stall", "twin", "reply"
JOIN, LEAVE, COMPACTION, STRANGER = "join", "leave", "compaction", "stranger"
SLOW_TOPIC, SLOW_MARKERS, SLOW_CLOCK = "slow topic", "slow markers", "clock set back"

POINTS: dict[str, int] = {
    "subscribe": 2,
    "init_transactions": 2,
    "assign": 3,
    "committed": 4,
    "store.open": 4,
    "restore.watermarks": 4,
    "restore.assign": 3,
    "restore.consume": 5,
    "seek": 12,
    "resume": 6,
    "pause": 6,
    "watermarks": 12,
    "references.consume": 40,
    "consume": 50,
    "poll": 50,
    "list_offsets": 30,
    "begin_transaction": 20,
    "produce": 120,
    "flush": 20,
    "send_offsets": 20,
    "commit_transaction": 20,
    "abort_transaction": 4,
    "store.write": 24,
    "store.close": 4,
    "close": 2,
    "probe.revoking": 2,
    "probe.consumed": 20,
    "probe.applied": 20,
    "probe.changelog_sent": 20,
    "probe.settling": 20,
    "probe.settled": 20,
    "probe.restoring": 5,
}
"""Where a process can be killed or stopped, and up to which pass of the point."""

_COMMITTING = ("flush", "send_offsets", "commit_transaction", "store.write", "produce", "probe.settling")
_TAKING_OVER = ("committed", "store.open", "restore.watermarks", "restore.consume", "seek", "assign")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: at the `nth` pass of a worker's point, or (without a point) at an instant after the start."""

    kind: str
    worker: int
    point: str = ""
    nth: int = 0
    after: bool = False
    amount: int = 0
    detail: tuple[object, ...] = ()

    def __str__(self) -> str:
        if not self.point:
            where = f"at {self.nth / 1_000:g} s"
        else:
            where = f"worker {self.worker}, {'after' if self.after else 'before'} {self.point} number {self.nth}"
        more = f", for {self.amount / 1_000:g} s" if self.amount else ""
        return f"{self.kind} {where}{more}{f' {self.detail}' if self.detail else ''}"


@dataclass(frozen=True, slots=True)
class Shape:
    """How the workers are set up."""

    workers: int = 2
    static: bool = False
    fetch_records: int = 1_000
    step_records: int = 5_000
    max_changed: int = 5_000
    scan_rows: int = 128
    cache_bytes: int = 1 << 20
    barrier_every: int = 3_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run."""

    seed: int
    mode: str
    shape: Shape
    arrivals: tuple[Arrival, ...]
    faults: tuple[Fault, ...]

    def without_faults(self) -> Schedule:
        """Return the same undisturbed."""
        return replace(self, faults=())


_KINDS = (
    *(KILL, KILL, KILL, STOP, STOP, STALL, TWIN, REPLY, REPLY, REPLY),
    *(JOIN, LEAVE, COMPACTION, SLOW_TOPIC, SLOW_MARKERS, SLOW_MARKERS, SLOW_CLOCK),
)
_SLOW = ("clickstream", "purchases", "email-engagement", "customer-profiles", "clock", "customer-state-changelog")


def schedule(seed: int, mode: str) -> Schedule:
    """Return the schedule of a seed."""
    random = Random(f"schedule-{mode}-{seed}")
    shape = Shape(
        workers=random.choice((1, 2, 2, 2, 3)),
        static=random.random() < 0.25,
        fetch_records=random.choice((1, 3, 1_000)),
        step_records=random.choice((2, 5_000)) if mode == LIVE else 5_000,
        max_changed=random.choice((2, 5_000, 5_000)),
        scan_rows=random.choice((2, 128)),
        cache_bytes=random.choice((0, 1 << 20)),
        barrier_every=random.choice((1_500, 4_000)),
    )
    faults = tuple(_fault(random, mode, shape) for _ in range(random.choice((1, 1, 2, 3, 4, 6))))
    return Schedule(seed, mode, shape, arrivals(seed, transactions=mode == LIVE), faults)


def _fault(random: Random, mode: str, shape: Shape) -> Fault:
    worker = random.randrange(shape.workers)
    kind = random.choice(_KINDS)
    if kind == REPLY:
        return _reply(random, worker)
    if kind in (KILL, STOP, STALL, TWIN):
        point = random.choice(random.choice((tuple(POINTS), _COMMITTING, _TAKING_OVER)))
        nth = random.randint(1, POINTS[point])
        after = random.random() < 0.5
        if kind == KILL:
            again = random.choice((500, 3_000, 10_000))
            return Fault(kind, worker, point, nth, after, again, ("with its volume",) if random.random() < 0.3 else ())
        longest = {STOP: (2_000, 9_000, 16_000), STALL: (9_000, 16_000, 25_000), TWIN: (500, 9_000, 16_000)}[kind]
        return Fault(kind, worker, point, nth, after, random.choice(longest) + random.randint(0, 2_000))
    at = random.randint(0, LASTS if mode == LIVE else LASTS // 2)
    if kind == JOIN:
        return Fault(kind, 3, nth=at)
    if kind == COMPACTION:
        return Fault(kind, worker, nth=at)
    if kind == LEAVE:
        return Fault(kind, worker, nth=at, amount=random.choice((500, 15_000)))
    if kind == SLOW_CLOCK:
        return Fault(kind, worker, nth=at, detail=(random.choice((700, 5_000)),))
    if kind == SLOW_TOPIC:
        place = random.choice((*((topic, random.randrange(PARTITIONS)) for topic in _SLOW), ("products", 0)))
        return Fault(kind, worker, nth=at, amount=random.randint(2_000, 20_000), detail=place)
    return Fault(kind, worker, nth=at, amount=random.randint(2_000, 30_000), detail=(random.choice((600, 4_000)),))


def _reply(random: Random, worker: int) -> Fault:
    point, nth, detail = random.choice(
        (
            ("commit_transaction", 20, (random.choice((1, 2, 3, 3)), random.choice((-1, -1, 500, 4_000, 20_000)))),
            ("commit_transaction", 20, (random.choice((1, 2, 3, 3)), random.choice((-1, -1, 500, 4_000, 20_000)))),
            ("commit_transaction", 20, (3, random.choice((-1, -1, 500, 4_000, 20_000)))),
            ("send_offsets", 20, (random.choice((1, 2, 3)),)),
            ("flush", 20, (random.choice(("stuck", "undelivered", "undelivered")),)),
            ("produce", 60, (2,)),
            ("committed", 3, (True,)),
            ("list_offsets", 20, (True,)),
            ("consume", 40, (random.choice((KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)),)),
            ("restore.consume", 4, ()),
        )
    )
    if not detail:
        return Fault(STALL, worker, point, random.randint(1, nth), True, 2_000)
    return Fault(REPLY, worker, point, random.randint(1, nth), detail=detail)
