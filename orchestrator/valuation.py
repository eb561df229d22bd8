"""What each campaign is worth to customers like this one: a learned policy snapshot as the engine reads it.

The learner (`orchestrator/learning`) makes snapshots out of outcomes; here they are plain values, and so are the draws.
A draw is one possible world, sampled from what the outcomes leave open. In each, taking an arm instead of keeping the
slot free is worth, in minor units of money,

    gain - hold x V(stage) + lift x V(next)

with `gain` what it earns beyond sending nothing, net of its cost and of what an unsubscription loses; V(stage) what the
customer's free slot is worth in their stage of the journey; `hold` the share of that which the arm uses up, for it
blocks the slot for its window; and `lift` the share of the next stage's value that a response opens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isfinite
from struct import pack
from typing import Any

EVERYBODY = ""
"""The leaf of the customers of whom nothing is known, or whose leaf has no values of its own: all of them together."""

START = ""
"""The stage of a journey that nothing has begun yet."""

COLD, PROVEN, STOPPED = "cold", "proven", "stopped"
"""How much is known of an arm in a leaf: too little to serve it at scale, enough, or that it does harm."""


class MalformedError(ValueError):
    """Records that their schema lets pass, and that are no snapshot: an engine would fail at it after every start."""


def arm_of(campaign: str, offer: str, channel: str) -> str:
    """Return the name of what can be chosen: a campaign with an offer on a channel, such as `rescue+pct_10@email`."""
    return f"{campaign}{'+' if offer else ''}{offer}@{channel}"


@dataclass(frozen=True, slots=True)
class ArmValue:
    """One arm in one leaf: `gain` per draw in minor units, the shares `hold` and `lift`, and the stage that follows.

    `control_bp` is the share of its winners that is to get nothing, basis points; `state` one of cold, proven, stopped.
    """

    gain: Sequence[float]
    hold: float
    lift: float = 0.0
    next: str = START
    control_bp: int = 0
    state: str = COLD


@dataclass(frozen=True, slots=True)
class LeafValue:
    """Everything about one leaf: its arms by name, and per stage what a free slot is worth, per draw in minor units."""

    arms: Mapping[str, ArmValue] = field(default_factory=dict)
    stages: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def advantages(self, arm: ArmValue, stage: str) -> list[float]:
        """Return per draw what an arm is worth more than a free slot, minor units, to a customer in a stage."""
        here = self.stages.get(stage) or self.stages.get(START) or (0.0,) * len(arm.gain)
        there = self.stages.get(arm.next) or here
        hold, lift = arm.hold, arm.lift
        return [gain - hold * now + lift * then for gain, now, then in zip(arm.gain, here, there, strict=True)]


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """What was learned up to `as_of` and counts from `effective_from` on; instants in milliseconds.

    `leaves` has EVERYBODY always. `explore_bp` is the share of decisions that try an eligible arm at random, in basis
    points. The version names the content: equal snapshots have equal versions.
    """

    effective_from: int
    as_of: int
    definitions_version: str
    draws: int
    explore_bp: int
    leaves: Mapping[str, LeafValue]
    outcomes: int = 0
    version: str = ""

    def leaf(self, name: str) -> LeafValue:
        """Return the values of a leaf, those of everybody where it has none of its own."""
        return self.leaves.get(name) or self.leaves[EVERYBODY]


def records_of(snapshot: PolicySnapshot) -> dict[str, dict[str, Any]]:
    """Return the records of the `policy` topic that a snapshot is, one per leaf, by their keys; they carry its version.

    Draws are little-endian 32-bit floats.
    """
    head = {
        "effective_from": snapshot.effective_from,
        "as_of": snapshot.as_of,
        "definitions_version": snapshot.definitions_version,
        "draws": snapshot.draws,
        "explore_bp": snapshot.explore_bp,
        "outcomes": snapshot.outcomes,
        "leaves": len(snapshot.leaves),
    }
    bodies = {
        leaf: {
            "leaf": leaf,
            "arms": [
                {
                    "arm": name,
                    "gain": _packed(arm.gain),
                    "hold": arm.hold,
                    "lift": arm.lift,
                    "next": arm.next,
                    "control_bp": arm.control_bp,
                    "state": arm.state,
                }
                for name, arm in sorted(values.arms.items())
            ],
            "stages": [{"stage": stage, "value": _packed(draws)} for stage, draws in sorted(values.stages.items())],
        }
        for leaf, values in sorted(snapshot.leaves.items())
    }
    version = blake2b(repr((head, bodies)).encode(), digest_size=8).hexdigest()
    return {f"{snapshot.effective_from}/{leaf}": {**head, "version": version, **body} for leaf, body in bodies.items()}


def snapshot_of(records: Iterable[Mapping[str, Any]]) -> PolicySnapshot | None:
    """Return the snapshot that records of one version are, None while any of its leaves is missing.

    MalformedError where they are no snapshot: a compacted topic keeps whatever was written to it once.
    """
    found = list(records)
    if not found or len({record["leaf"] for record in found}) < found[0]["leaves"]:
        return None
    head = found[0]
    snapshot = PolicySnapshot(
        effective_from=head["effective_from"],
        as_of=head["as_of"],
        definitions_version=head["definitions_version"],
        draws=head["draws"],
        explore_bp=head["explore_bp"],
        outcomes=head["outcomes"],
        version=head["version"],
        leaves={record["leaf"]: _leaf_of(record, head["draws"]) for record in found},
    )
    if EVERYBODY not in snapshot.leaves:
        raise MalformedError(f"snapshot {snapshot.version} has no leaf of everybody")
    return snapshot


def _leaf_of(record: Mapping[str, Any], draws: int) -> LeafValue:
    where = f"leaf '{record['leaf']}' of snapshot {record['version']}"
    for arm in record["arms"]:
        if not (isfinite(arm["hold"]) and isfinite(arm["lift"])):
            raise MalformedError(f"{where} has an arm whose shares are no numbers")
    return LeafValue(
        {
            arm["arm"]: ArmValue(
                _unpacked(arm["gain"], draws, where),
                arm["hold"],
                arm["lift"],
                arm["next"],
                arm["control_bp"],
                arm["state"],
            )
            for arm in record["arms"]
        },
        {stage["stage"]: _unpacked(stage["value"], draws, where) for stage in record["stages"]},
    )


def _packed(draws: Sequence[float]) -> bytes:
    return pack(f"<{len(draws)}f", *draws)


def _unpacked(data: bytes, draws: int, where: str) -> Sequence[float]:
    if draws < 1 or len(data) != 4 * draws:
        raise MalformedError(f"{where} has {len(data)} bytes of draws where it should have {4 * max(draws, 1)}")
    # A view instead of a tuple: a draw takes four bytes instead of 32, and hundreds of arms times leaves add up.
    found = memoryview(data).cast("f")
    if not isfinite(sum(found)):  # one that is none makes the sum none
        raise MalformedError(f"{where} has draws that are no numbers")
    return found
