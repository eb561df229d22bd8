"""Sub-personas for people and for programs: a row per part of a campaign, and how sure the splits are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from orchestrator.learning.personas import Found, Persona, Split
from orchestrator.report import labels

SURE = 1_000_000
"""From here on nobody needs to know how large an e-value is."""


def table(found: Found, currency: str) -> Table:
    """Return the sub-personas for the terminal: each campaign, and beneath it those with whom it differs."""
    said = Table(
        box=box.SIMPLE_HEAD,
        title="Margin per window beyond randomised control",
        title_style="bold",
        caption=_caption(found),
        caption_justify="left",
    )
    said.add_column("with whom", overflow="fold")
    said.add_column("uplift (95 %)", justify="right")
    said.add_column("windows", justify="right")
    said.add_column("it is")
    said.add_column("split by (e-value)", overflow="fold")
    for campaign, persona in found.campaigns.items():
        for row in _rows(campaign, persona, found, currency):
            said.add_row(*row)
    for campaign in found.too_few:
        said.add_row(campaign, "not enough data yet")
    return said


def as_dict(found: Found) -> dict[str, Any]:
    """Return everything for programs; amounts are in minor units."""
    return {
        "candidates": found.candidates,
        "e_value_needed": found.needed,
        "splits": found.splits,
        "limits": asdict(found.limits),
        "campaigns": {campaign: _plain(persona) for campaign, persona in found.campaigns.items()},
        "not_enough_data": list(found.too_few),
    }


def _rows(name: str, persona: Persona, found: Found, currency: str, depth: int = 0) -> Iterator[tuple[str, ...]]:
    worth = persona.worth
    mean, low, high = (labels.money(value, currency, signed=True) for value in (worth.mean, worth.low, worth.high))
    yield (
        "  " * depth + name,
        f"{mean} ({low} to {high})",
        f"{persona.windows:,}",
        persona.label + ", does harm" * persona.harmed,
        "" if persona.split is None else _split(persona.split, found, proven=bool(persona.parts)),
    )
    for part in persona.parts:
        yield from _rows(str(part.path[-1]), part, found, currency, depth + 1)


def _split(split: Split, found: Found, *, proven: bool) -> str:
    reached = f"over {SURE:,}" if split.e_value > SURE else f"{split.e_value:,.0f}"
    if proven:
        return f"{split.cut} ({reached})"
    if split.e_value >= found.needed:
        return f"not proven: {split.cut} ({reached}, but not clear in the half that measures)"
    return f"not proven: {split.cut} ({reached} of {found.needed:,.0f})"


def _caption(found: Found) -> str:
    return (
        f"{found.candidates:,} conditions were compared. One half of the customers chose among them, the other measured"
        f" the uplift; at most {found.limits.rate:.0%} of what is found is there by chance, however often one looks."
    )


def _plain(persona: Persona) -> dict[str, Any]:
    return {
        "condition": " and ".join(map(str, persona.path)),
        "windows": persona.windows,
        "treated": persona.treated,
        "control": persona.control,
        "worth": asdict(persona.worth),
        "label": persona.label,
        "harmed": persona.harmed,
        "split": None if persona.split is None else asdict(persona.split) | {"cut": str(persona.split.cut)},
        "parts": [_plain(part) for part in persona.parts],
    }
