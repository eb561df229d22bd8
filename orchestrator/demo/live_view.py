"""What one sees while the demo runs: how fast, how far in the year, and what was decided."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.report import labels


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at the run; counts since its start."""

    instant: int
    replayed: int
    events: int
    decisions: Mapping[str, float]
    triggers: Mapping[str, float]
    moments: Mapping[str, float]
    dead_letters: float
    cpu_seconds: float

    @property
    def lag(self) -> int:
        """Records that were replayed and not decided yet."""
        return max(0, self.replayed - self.events)


class LiveView:
    """A table that is redrawn on a terminal, and a line every few seconds anywhere else."""

    def __init__(self, console: Console, opens_at: int, until: int) -> None:
        self._console = console
        self._opens_at = opens_at
        self._until = until
        self._started = time.monotonic()
        self._last = (self._started, 0)
        self._printed = self._started
        self._rate = 0.0
        self._live = Live(console=console, transient=True, auto_refresh=False) if sys.stdout.isatty() else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Draw one look at the run."""
        now = time.monotonic()
        if now - self._last[0] >= 1:
            self._rate = (progress.events - self._last[1]) / (now - self._last[0])
            self._last = (now, progress.events)
        if self._live is not None:
            self._live.update(self._drawing(progress, now), refresh=True)
        elif now - self._printed >= 5:
            self._printed = now
            self._console.print(self._line(progress, now), highlight=False, soft_wrap=True)

    def _line(self, progress: Progress, now: float) -> str:
        return (
            f"{now - self._started:5.0f} s  {_date(progress.instant)}  {progress.events:>9,} events  "
            f"{self._rate:>7,.0f}/s  {sum(progress.decisions.values()):>7,.0f} decisions  "
            f"{sum(progress.triggers.values()):>6,.0f} triggers  lag {progress.lag:,}"
        )

    def _drawing(self, progress: Progress, now: float) -> RenderableType:
        share = (progress.instant - self._opens_at) / (self._until - self._opens_at)
        head = Text.assemble(
            (f"{_date(progress.instant)}  ", "bold"),
            f"{progress.events:,} events, {self._rate:,.0f} a second, lag {progress.lag:,}, ",
            f"{progress.cpu_seconds:.0f} CPU-s of the engine, {progress.dead_letters:.0f} dead letters, ",
            f"{now - self._started:.0f} s",
        )
        tables = Table.grid(padding=(0, 4))
        tables.add_row(
            _counts("decisions", {labels.reason(word): count for word, count in progress.decisions.items()}),
            _counts("triggers", progress.triggers),
            _counts("moments ended", progress.moments),
        )
        return Group(head, ProgressBar(total=1.0, completed=max(0.0, min(share, 1.0))), tables)


def _counts(title: str, counts: Mapping[str, float]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{count:,.0f}")
    return table


def _date(instant: int) -> str:
    return datetime.fromtimestamp(max(0, instant) / 1000, UTC).strftime("%d %b %Y")
