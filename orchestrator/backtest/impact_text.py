"""The impact of a change in words, short enough for a pull request; and as figures for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.backtest.impact import Impact, changed
from orchestrator.program import Definitions

ROWS = 12
"""Rows of a table at most: what matters most comes first, and the rest is counted."""


def markdown(
    impact: Impact, old: Definitions, new: Definitions, *, warnings: Sequence[str] = (), records: Mapping[str, int]
) -> str:
    """Return the impact as Markdown."""
    read = sum(records.values())
    lines = [
        "### What this change would have done",
        "",
        f"{impact.affected:,} of {impact.customers:,} customers are decided about differently, "
        f"on {read:,} recorded events (`{old.version}` → `{new.version}`).",
    ]
    if not impact.affected:
        lines += ["", "No message, no candidate and no reason differs."]
    lines += _table("Messages", ("campaign", "messages", "", "customers", "gained", "lost"), _messages(impact))
    lines += _table("Who may be reached", ("moment", "campaign", "customers", "gained", "lost"), _eligible(impact))
    lines += _table("Moments that are answered differently", ("before", "after", "moments"), _moves(impact))
    lines += _table("Split and replaced", ("campaign", "grew from", "what becomes of that"), _grown(old, new))
    lines += _table("Inside now", ("campaign", "customers in its window", "what happens"), _inside(impact, old, new))
    if warnings:
        lines += ["", "**New warnings**", "", *(f"- {warning}" for warning in warnings)]
    return "\n".join(lines) + "\n"


def figures(
    impact: Impact, old: Definitions, new: Definitions, *, warnings: Sequence[str] = (), records: Mapping[str, int]
) -> dict[str, Any]:
    """Return the impact for a program."""
    return {
        "old": old.version,
        "new": new.version,
        "records": dict(records),
        "customers": impact.customers,
        "affected": impact.affected,
        "messages": {campaign: {"old": was, "new": now} for campaign, (was, now) in sorted(impact.messages.items())},
        "reached": {campaign: _change(change) for campaign, change in sorted(impact.reached.items())},
        "eligible": [
            {"moment": moment, "campaign": campaign, **_change(change)}
            for (moment, campaign), change in sorted(impact.eligible.items())
        ],
        "moves": [
            {"from": was or None, "to": now or None, "moments": count}
            for (was, now), count in sorted(impact.moves.items())
        ],
        "inside": [
            {
                "campaign": campaign,
                "customers": count,
                "definition": changed(old.campaigns, new.campaigns).get(campaign),
                "on_change": "pin" if _pinned(campaign, old, new) else "follow",
            }
            for campaign, count in sorted(impact.inside.items())
        ],
        "definitions": {
            kind: changed(getattr(old, kind), getattr(new, kind))
            for kind in ("features", "segments", "moments", "campaigns")
        }
        | {"policy": "same" if old.policy == new.policy else "changed"},
        "grew_from": {campaign: parent for campaign, parent, _ in _grown(old, new)},
        "warnings": list(warnings),
    }


def _change(change: Any) -> dict[str, int]:
    return {"old": change.old, "new": change.new, "gained": change.gained, "lost": change.lost}


def _messages(impact: Impact) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for campaign, (was, now) in sorted(impact.messages.items(), key=lambda one: (-abs(one[1][1] - one[1][0]), one[0])):
        reached = impact.reached[campaign]
        if was != now or reached.moved:
            percent = f" ({(now - was) / was:+.0%})" if was else ""
            rows.append(
                (
                    campaign,
                    f"{was:,} → {now:,}",
                    f"{now - was:+,}{percent}",
                    f"{reached.old:,} → {reached.new:,}",
                    f"{reached.gained:,}",
                    f"{reached.lost:,}",
                )
            )
    return rows


def _eligible(impact: Impact) -> list[tuple[str, ...]]:
    moved = [(pairing, change) for pairing, change in impact.eligible.items() if change.moved]
    moved.sort(key=lambda one: (-one[1].gained - one[1].lost, one[0]))
    return [
        (moment, campaign, f"{change.old:,} → {change.new:,}", f"{change.gained:,}", f"{change.lost:,}")
        for (moment, campaign), change in moved
    ]


def _moves(impact: Impact) -> list[tuple[str, ...]]:
    ordered = sorted(impact.moves.items(), key=lambda one: (-one[1], one[0]))
    return [(was or "nobody", now or "nobody", f"{count:,}") for (was, now), count in ordered]


def _grown(old: Definitions, new: Definitions) -> list[tuple[str, str, str]]:
    """Return the campaigns that the change lets grow from another, and what becomes of that one."""
    differs = changed(old.campaigns, new.campaigns)
    said = {"changed": "goes on, changed", "gone": "is replaced"}
    return [
        (name, campaign.grew_from, said.get(differs.get(campaign.grew_from, ""), "goes on as it was"))
        for name, campaign in sorted(new.campaigns.items())
        if campaign.grew_from and (name not in old.campaigns or old.campaigns[name].grew_from != campaign.grew_from)
    ]


def _inside(impact: Impact, old: Definitions, new: Definitions) -> list[tuple[str, ...]]:
    differs = changed(old.campaigns, new.campaigns)
    said = {
        "changed": "follows the new definition; its window ends as it was promised",
        "pinned": "goes on as it was decided (on_change: pin), steps, templates and window",
        "gone": "gets no further message; the slot stays held until its window ends",
    }
    return [
        (campaign, f"{count:,}", said["pinned" if _pinned(campaign, old, new) else differs[campaign]])
        for campaign, count in sorted(impact.inside.items())
        if campaign in differs
    ]


def _pinned(campaign: str, old: Definitions, new: Definitions) -> bool:
    """Return whether customers inside a campaign go on with what they were decided by: only if both say so."""
    return all(campaign in one.campaigns and one.campaigns[campaign].pins for one in (old, new))


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    if not rows:
        return []
    numbers = [all(row[column][:1] in "0123456789+-" for row in rows) for column in range(len(head))]
    lines = ["", f"**{title}**", "", _row(head), _row("--:" if number else "---" for number in numbers)]
    lines += [_row(row) for row in rows[:ROWS]]
    if len(rows) > ROWS:
        lines += ["", f"… and {len(rows) - ROWS} more."]
    return lines


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
