"""How far somebody has come in a sequence: the times of its events by key, until all are there."""

from __future__ import annotations

from typing import Final

from orchestrator.moments.rules import Sequence

MAX_KEYS: Final = 20
"""Keys of one sequence that are under way for one customer; beyond, the one touched longest ago is let go."""

Progress = dict[str, list[int | None]]


def follow(shape: Sequence, progress: Progress, key: str, place: int, time: int) -> tuple[int, int] | None:
    """Note one event of a sequence; return the times of the first and the last when they are complete.

    The newest event of each place counts, so that it does not matter in which order they arrive.
    """
    times = progress.pop(key, None)
    if times is None or len(times) != len(shape.stages):  # what another shape left under the same name is over
        times = [None] * len(shape.stages)
    before = times[place]
    times[place] = time if before is None else max(before, time)
    ends = _complete(shape, times)
    if ends is not None:
        return ends
    progress[key] = times
    for old in [old for old, seen in progress.items() if _newest(seen) < time - shape.longest]:
        del progress[old]
    while len(progress) > MAX_KEYS:
        del progress[next(iter(progress))]
    return None


def _newest(times: list[int | None]) -> int:
    return max(time for time in times if time is not None)


def _complete(shape: Sequence, times: list[int | None]) -> tuple[int, int] | None:
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return None
    first, last = min(known), max(known)
    if not shape.ordered:
        return (first, last) if last - first <= shape.longest else None
    for before, after, stage in zip(known, known[1:], shape.stages[1:], strict=False):
        if not before <= after <= before + stage.within:
            return None
    return first, last
