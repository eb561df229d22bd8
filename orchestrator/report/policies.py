"""What a policy snapshot says: what each campaign is worth to whom, as a table and as values for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean, pstdev
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.valuation import EVERYBODY, START, LeafValue, PolicySnapshot


def as_dict(snapshot: PolicySnapshot, leaf: str | None = None) -> dict[str, Any]:
    """Return a snapshot, or one leaf of it, as values for programs: money in minor units, instants in milliseconds."""
    return {
        "version": snapshot.version,
        "effective_from": snapshot.effective_from,
        "as_of": snapshot.as_of,
        "definitions_version": snapshot.definitions_version,
        "outcomes": snapshot.outcomes,
        "draws": snapshot.draws,
        "explore_bp": snapshot.explore_bp,
        "leaves": [
            {
                "leaf": name,
                "arms": [
                    {
                        "arm": arm,
                        "gain": round(fmean(value.gain), 2),
                        "spread": round(pstdev(value.gain), 2),
                        "advantage": round(fmean(values.advantages(value, START)), 2),
                        "hold": value.hold,
                        "lift": value.lift,
                        "next": value.next,
                        "control_bp": value.control_bp,
                        "state": value.state,
                    }
                    for arm, value in sorted(values.arms.items())
                ],
                "stages": {stage: round(fmean(draws), 2) for stage, draws in sorted(values.stages.items())},
            }
            for name, values in _leaves(snapshot, leaf)
        ],
    }


def told(snapshot: PolicySnapshot, leaf: str | None = None, currency: str = "USD") -> RenderableType:
    """Return a snapshot, or one leaf of it, for people."""
    head = (
        f"version {snapshot.version}, in force from {_instant(snapshot.effective_from)}: {snapshot.outcomes:,} "
        f"outcomes known at {_instant(snapshot.as_of)}, {snapshot.explore_bp / 100:g} % of decisions explore, "
        f"definitions {snapshot.definitions_version}"
    )
    table = Table(title="What campaigns are worth", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("customers")
    table.add_column("campaign", no_wrap=True)
    for name in (f"gain, {currency}", "spread", "over a free slot", "control"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for name, values in _leaves(snapshot, leaf):
        for row in _rows(values):
            table.add_row(name or "everybody", *row)
            name = ""
        table.add_section()
    return Group(Text(head), "", table)


def differences(found: Mapping[str, Mapping[str, Any]], expected: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return where two snapshots, given as the records of their topic, say something else; nothing where none does."""
    lines = []
    for key in sorted({*found, *expected}):
        one, other = found.get(key), expected.get(key)
        if one is None or other is None:
            lines.append(f"{key}: {'is missing' if one is None else 'should not be there'}")
            continue
        lines += [f"{key}: {name} is another" for name in other if name != "arms" and one[name] != other[name]]
        arms, others = ({arm["arm"]: arm for arm in record["arms"]} for record in (one, other))
        lines += [f"{key}: {arm} is another" for arm in sorted({*arms, *others}) if arms.get(arm) != others.get(arm)]
    return lines


def _leaves(snapshot: PolicySnapshot, leaf: str | None) -> Iterator[tuple[str, LeafValue]]:
    """Yield everybody first, then the leaves by name; or the one that is asked for."""
    for name in sorted(snapshot.leaves, key=lambda one: (one != EVERYBODY, one)):
        if leaf is None or name == leaf:
            yield name, snapshot.leaves[name]


def _rows(values: LeafValue) -> Iterator[Sequence[str]]:
    by_worth = sorted(values.arms.items(), key=lambda one: (-fmean(values.advantages(one[1], START)), one[0]))
    for arm, value in by_worth:
        over = values.advantages(value, START)
        yield (
            arm,
            _money(fmean(value.gain)),
            f"± {_money(pstdev(value.gain))}",
            _money(fmean(over)),
            f"{value.control_bp / 100:g} %",
            value.state,
        )


def _money(amount: float) -> str:
    return f"{round(amount / 100, 2) + 0.0:,.2f}"  # no minus in front of nothing


def _instant(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
