"""A back-test from a history and definitions to a folder with its records, figures and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.backtest.history import History
from orchestrator.backtest.pool import Pool, Progress
from orchestrator.backtest.result import KINDS, between, figures, keep, kept, write_json, written
from orchestrator.events import FOREVER
from orchestrator.program import Definitions
from orchestrator.report.data import ReportData
from orchestrator.report.document import render
from orchestrator.runtime.schema_registry import FileRegistry

TITLE = "A back-test"


@dataclass(frozen=True, slots=True)
class Backtest:
    """What a back-test found: its figures, and the aggregates that the report shows."""

    figures: Mapping[str, Any]
    data: ReportData


def backtest(
    history: History,
    definitions: Definitions,
    out: Path,
    schemas: Path,
    *,
    processes: int,
    progress: Progress,
    report_from: int = -FOREVER,
) -> Backtest:
    """Decide a history as a worker with these definitions would have done, and write what came of it into a folder.

    Decisions before `report_from` are made, because they hold slots and count for caps, but not reported.
    """
    out.mkdir(parents=True, exist_ok=True)
    registry = FileRegistry(schemas)
    with Pool(history, [definitions], processes) as pool:
        seen = pool.read(progress)
        counted = pool.decide(keep, history.steps(seen), progress)
        wanted = between(report_from, FOREVER)
        summary = {
            "events": f"{seen.events:,} of {sum(one.customers for one in counted):,} customers",
            "records that cannot be used": f"{seen.unusable.total():,}",
            "definitions": definitions.version,
        }
        data = ReportData.fold(
            *(
                written(out, kind, registry.named(schema), filter(wanted, kept(pool.job.folder, kind)))
                for kind, schema in KINDS.items()
            ),
            summary=summary,
        )
    found = figures(data, seen, counted, version=definitions.version, said=history.said())
    write_json(out / "result.json", found)
    (out / "report.html").write_text(render(data, definitions.policy.currency, title=TITLE), encoding="utf-8")
    return Backtest(found, data)
