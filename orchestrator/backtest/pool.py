"""The processes of a back-test: they read the history into partitions, then take each partition through the engine."""

from __future__ import annotations

import copyreg
import multiprocessing
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from orchestrator import conditions, features, program
from orchestrator.arbitration import campaign, policy
from orchestrator.backtest.history import History, Seen
from orchestrator.backtest.life import Life, Lives
from orchestrator.backtest.spool import SpoolWriter, partitions_in, read_spool
from orchestrator.backtest.steps import Steps
from orchestrator.moments import rules
from orchestrator.program import Definitions, Program
from orchestrator.reference import Reference

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is behind us, and of how much."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """What every process of a back-test works with; events are spooled for all of the definitions."""

    history: History
    definitions: Sequence[Definitions]
    reference: Reference
    folder: Path


@dataclass(frozen=True)
class Partition:
    """One partition that was read: its customers' lives, one after the other."""

    number: int
    programs: Sequence[Program]
    job: Job
    steps: Steps

    def lives(self) -> Iterator[tuple[str, int, tuple[Life, ...]]]:
        """Yield every customer in order of their ids, how many events they have, and what each program decided."""
        job = self.job
        customers = read_spool(job.folder, self.number)
        history = job.history
        each = [
            Lives(one, job.reference, self.steps, history.max_lag, self.number, history.partitions).of(customers)
            for one in self.programs
        ]
        for lived in zip(*each, strict=True):
            customer = lived[0][0]
            yield customer, len(customers[customer]), tuple(life for _, life in lived)


class Pool:
    """Processes with one job; with one process everything happens here, with the same result."""

    def __init__(self, history: History, definitions: Sequence[Definitions], processes: int) -> None:
        self._history = history
        self._definitions = definitions
        self._processes = processes
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the processes."""
        reference = self._history.products()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-backtest-")))
        self.job = Job(self._history, self._definitions, reference, folder)
        self._executor: ProcessPoolExecutor | None = None
        if self._processes > 1:
            context = multiprocessing.get_context("spawn")
            executor = ProcessPoolExecutor(self._processes, context, _start, (self.job,))
            self._executor = executor
            self._stack.callback(executor.shutdown, wait=True, cancel_futures=True)
        else:
            _start(self.job)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes and delete what they left."""
        self._stack.close()

    def read(self, progress: Progress) -> Seen:
        """Read the whole history; return what was seen."""
        seen = Seen()
        readers = range(self._history.readers)
        for done, found in enumerate(self._each(_read, [(reader,) for reader in readers]), 1):
            seen.add(found)
            progress("reading", done, len(readers))
        return seen

    def decide(
        self, take: Callable[[Partition], Result], steps: Mapping[int, Steps], progress: Progress
    ) -> list[Result]:
        """Return what `take`, a function of a module, makes of each partition, in the order of the partitions."""
        numbers = partitions_in(self.job.folder)
        results: dict[int, Result] = {}
        tasks = [(take, number, steps[number]) for number in numbers]
        for done, (number, result) in enumerate(self._each(_decide, tasks), 1):
            results[number] = result
            progress("deciding", done, len(numbers))
        return [results[number] for number in numbers]

    def _each(self, function: Callable[..., Result], tasks: Iterable[tuple[object, ...]]) -> Iterator[Result]:
        if self._executor is None:
            yield from (function(*task) for task in tasks)
            return
        futures: list[Future[Result]] = [self._executor.submit(function, *task) for task in tasks]
        for future in as_completed(futures):
            yield future.result()


class _Worker:
    """What one process has at hand once it has started."""

    job: Job
    programs: tuple[Program, ...]


def _start(job: Job) -> None:
    _Worker.job = job
    _Worker.programs = tuple(Program(one) for one in job.definitions)


def _read(reader: int) -> Seen:
    job, seen = _Worker.job, Seen()
    relevant = frozenset[str]().union(*(one.relevant for one in _Worker.programs))
    writer = SpoolWriter(job.folder, reader)
    for partition, step, event in job.history.read(reader, seen):
        if event.name in relevant:
            writer.put(partition, step, event)
    writer.close()
    return seen


def _decide(take: Callable[[Partition], Result], number: int, steps: Steps) -> tuple[int, Result]:
    return number, take(Partition(number, _Worker.programs, _Worker.job, steps))


def _by_fields(value: Any) -> tuple[type, tuple[Any, ...]]:
    return type(value), tuple(getattr(value, field.name) for field in fields(value))


# Compiled, what is frozen cannot be filled in by unpickling either: it is made anew from its fields, in both builds.
for _module in (campaign, conditions, features, policy, program, rules):
    for _kind in vars(_module).values():
        if isinstance(_kind, type) and is_dataclass(_kind):
            copyreg.pickle(_kind, _by_fields)
