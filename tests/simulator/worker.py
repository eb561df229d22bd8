"""A worker of the simulation: the real loop over fake clients, as a process that faults can reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.programs import Programs
from orchestrator.reference import Reference, product_of
from orchestrator.runtime import reference_reader, restore
from orchestrator.runtime.barriers import BarrierSource, LiveBarriers, NoBarriers
from orchestrator.runtime.intake import Intake, sources_of
from orchestrator.runtime.loop import Loop, LoopConfig, sender
from orchestrator.runtime.outbox import Outbox
from orchestrator.runtime.partition import Deciding
from orchestrator.runtime.reference_reader import ReferenceReader
from orchestrator.runtime.restore import Restorer
from orchestrator.runtime.state_store import StateStore
from tests.simulator.clients import FakeAdmin, FakeConsumer, FakeProducer
from tests.simulator.disk import Rows, SimulatedStore
from tests.simulator.fake_kafka import FakeKafka
from tests.simulator.process import Killed, Process
from tests.simulator.schedule import KILL, LIVE, MAX_POLL, REPLY, TRANSACTION, Fault, Shape
from tests.simulator.strand import Strand
from tests.simulator.world import codec, program, topics

if TYPE_CHECKING:
    from tests.simulator.run import Run

GROUP = "engine"
ERASURE_SALT = "pepper"
COMMIT_EVERY = 1_500
MAX_LAG = 5_000
MAX_SKEW = 3_000

DELETE_RETENTION = 30_000
OLDEST_STORE = 12_000
"""How long compaction leaves tombstones alone, and how old a volume may be to be built upon; clocks are 5 s off."""

ENDLESS = 50_000
"""Passes of one point, of which a run has at most thousands."""


class Volume:
    """A worker's disk."""

    def __init__(self) -> None:
        self.partitions: dict[int, Rows] = {}

    def rows(self, number: int) -> Rows:
        """Return a partition's rows."""
        return self.partitions.setdefault(number, Rows())


class Plan:
    """The faults of one ordinal that have not happened yet, and how often its points were passed."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = {
            (fault.point, 2 if fault.kind == REPLY else int(fault.after), fault.nth): fault for fault in faults
        }
        self.passes: dict[tuple[str, int], int] = {}

    def next(self, point: str, when: int) -> Fault | None:
        """Count a pass; return the fault that waits for it."""
        key = (point, when)
        number = self.passes[key] = self.passes.get(key, 0) + 1
        if number > ENDLESS:
            raise RuntimeError(f"{point} was passed {number} times: a call does not end")
        return self.faults.pop((point, when, number), None)

    @property
    def parks(self) -> bool:
        """Whether a fault is left that puts a call aside half-way."""
        return any(fault.kind not in (KILL, REPLY) for fault in self.faults.values())


class Worker(Process):
    """One process of one ordinal."""

    max_poll = MAX_POLL

    def __init__(self, run: Run, ordinal: int, plan: Plan, volume: Volume, shape: Shape) -> None:
        self.name = f"w{ordinal}"
        self.ordinal = ordinal
        self.plan = plan
        self.volume = volume
        self.fetch_records = shape.fetch_records
        self.alive = True
        self.asleep = False
        self.ready_at = run.clock.now
        self.replaced = False
        self.strand: Strand | None = None
        self.consumer: FakeConsumer
        self._run = run
        self._shape = shape
        self.loop = self._build()
        self._started = False

    # --- what faults reach ------------------------------------------------------------------------------------------

    def enter(self, point: str) -> None:
        """Pass the instant before a call."""
        self._pass(point, 0)

    def leave(self, point: str) -> None:
        """Pass the instant after a call."""
        self._pass(point, 1)

    def _pass(self, point: str, when: int) -> None:
        if not self.alive:
            raise Killed
        fault = self.plan.next(point, when)
        if fault is not None:
            self._run.strike(self, fault)
            if not self.alive:
                raise Killed

    def fault(self, point: str) -> Any:
        """Return the fault with which a call is to be answered."""
        fault = self.plan.next(point, 2)
        if fault is None:
            return None
        self._run.count(fault)
        return fault.detail if len(fault.detail) > 1 else fault.detail[0]

    def park(self) -> None:
        """Put the turn aside; returns when the process goes on, and not at all when it was killed meanwhile."""
        assert self.strand is not None
        self.strand.park()
        if not self.alive:
            raise Killed

    # --- turns ------------------------------------------------------------------------------------------------------

    def turn(self) -> bool:
        """Start, or take one turn, or go on with one that was put aside; return whether anything was done."""
        if self.strand is None and not self.plan.parks:
            return self._turn()
        if self.strand is None:
            self.strand = Strand(self._remembering)
        strand = self.strand
        try:
            strand.go()
        finally:
            if strand.done:
                self.strand = None
        return self._worked

    _worked = True

    def _remembering(self) -> None:
        self._worked = self._turn()

    def _turn(self) -> bool:
        if not self._started:
            self.loop.start()
            self._started = True
            return True
        return self.loop.step()

    def end(self) -> None:
        """Let what was put aside of a killed process unwind."""
        if self.strand is not None:
            try:
                self.turn()
            except Killed:
                self.strand = None

    # --- the parts --------------------------------------------------------------------------------------------------

    def _build(self) -> Loop:
        run, kafka, shape = self._run, self._run.kafka, self._shape
        live = run.mode == LIVE

        def now() -> int:
            return run.now(self.ordinal)

        declared, codes = topics(), codec()
        inputs = [topic.name for topic in sources_of(declared)]
        references = [topic.name for topic in declared.references]
        reference = Reference()
        decoders = {topic.name: codes.decoder(topic) for topic in declared.references}
        config: dict[str, Any] = {
            "group.id": GROUP,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
        if shape.static:
            config["group.instance.id"] = self.name
        transactional_id = run.transactional_id(self)
        self.consumer = FakeConsumer(kafka, self, config)
        producer = FakeProducer(
            kafka, self, {"transactional.id": transactional_id, "transaction.timeout.ms": TRANSACTION}
        )
        with consumers_of(kafka, self):
            restorer = Restorer({}, declared.changelog.name, now, OLDEST_STORE)
            reader = ReferenceReader({}, decoders, lambda _, record: reference.put(product_of(record)))
        source: BarrierSource = NoBarriers()
        if live:
            admin: Any = FakeAdmin(kafka, self, run.answer_delay)
            source = LiveBarriers(admin, inputs, references, now, shape.barrier_every)
        as_producer: Any = producer
        deciding = Deciding(
            Programs(program()),
            reference,
            intake(),
            Outbox(declared, codes, sender(as_producer)),
            MAX_LAG if live else None,
            records_barriers=live,
            erasure_salt=ERASURE_SALT,
            retention=declared.retention,
        )
        as_consumer: Any = self.consumer
        return Loop(
            LoopConfig(
                inputs=inputs,
                clock=None if live else declared.clock.name,
                changelog=declared.changelog.name,
                transactional_id=transactional_id,
                commit_interval=COMMIT_EVERY,
                transaction_timeout=TRANSACTION,
                step_records=shape.step_records,
                cache_bytes=shape.cache_bytes,
            ),
            as_consumer,
            as_producer,
            restorer,
            reader,
            source,
            deciding,
            self._open_store,
            codes.decoder(declared.clock),
            now,
            self._probe,
        )

    def _open_store(self, number: int) -> StateStore:
        return SimulatedStore(self.volume.rows(number), self)

    def _probe(self, point: str) -> None:
        self.enter(f"probe.{point}")


def intake() -> Intake:
    """Return what reads records."""
    return Intake(topics(), codec(), max_record_bytes=1 << 20, max_skew=MAX_SKEW)


@contextmanager
def consumers_of(kafka: FakeKafka, process: Process) -> Iterator[None]:
    """Let the parts that make their own consumers make fake ones."""

    def make(config: dict[str, Any]) -> FakeConsumer:
        return FakeConsumer(kafka, process, config)

    made: Callable[[dict[str, Any]], Any] = make
    before = vars(restore)["Consumer"], vars(reference_reader)["Consumer"]
    vars(restore)["Consumer"] = vars(reference_reader)["Consumer"] = made
    try:
        yield
    finally:
        vars(restore)["Consumer"], vars(reference_reader)["Consumer"] = before
