"""Records to segments, and the order in which they depend on one another."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from orchestrator.conditions import InSegment, walk
from orchestrator.definitions.expressions import Declared, Scope, compile_condition
from orchestrator.definitions.nodes import Place, Problems, Scalar
from orchestrator.definitions.records import Record
from orchestrator.program import Segment

MAX_DEPTH = 10
MAX_PARTS = 1_000
"""How many parts a segment's condition may have, those of the segments it asks about included each time."""


def build_segment(
    name: str, record: Record, features: Mapping[str, Declared], segments: frozenset[str], problems: Problems
) -> Segment | None:
    """Return the segment that a record describes, or None if anything is wrong with it."""
    text = record.get("is", Scalar)
    if text is None:
        return None
    condition = compile_condition(text, Scope(features=features, segments=segments), problems)
    say = record.get("say", str)
    return None if condition is None or say is None else Segment(name, say, condition)


def check_nesting(segments: Mapping[str, Segment], places: Mapping[str, Place], problems: Problems) -> None:
    """Note segments that depend on themselves, or on others too deep down."""
    asked = {
        name: [node.segment for node in walk(segment.condition.expression) if isinstance(node, InSegment)]
        for name, segment in segments.items()
    }
    try:
        order = list(TopologicalSorter(asked).static_order())
    except CycleError as error:
        # graphlib names each one before the one that asks about it; the circle reads better the other way round.
        cycle: list[str] = error.args[1][:0:-1]
        first = cycle.index(min(cycle))
        circle = " -> ".join([*cycle[first:], *cycle[:first], cycle[first]])
        problems.error(places[min(cycle)], "E053", f"segment '{min(cycle)}' asks about itself: {circle}")
        return
    depth: dict[str, int] = {}
    parts: dict[str, int] = {}
    for name in order:
        own = len(list(walk(segments[name].condition.expression))) if name in segments else 0
        parts[name] = own + sum(parts[other] for other in asked.get(name, ()))
        if parts[name] > MAX_PARTS:
            says = f"segment '{name}' has {parts[name]:,} parts with those it asks about, at most {MAX_PARTS:,}"
            problems.error(places[name], "E053", says)
            parts[name] = 0
        depth[name] = 1 + max((depth[other] for other in asked.get(name, ())), default=0)
        if depth[name] == MAX_DEPTH + 1:
            problems.error(places[name], "E053", f"segment '{name}' asks about segments more than {MAX_DEPTH} deep")
