"""What a change of definitions would have done: the same recorded events decided by the old and by the new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from orchestrator.backtest.history import History
from orchestrator.backtest.life import Life
from orchestrator.backtest.pool import Partition, Pool, Progress
from orchestrator.program import Definitions
from orchestrator.reasons import Reason
from orchestrator.records import Decision, Trigger

Pairing = tuple[str, str]
"""A moment and a campaign that may answer it."""

ELIGIBLE = frozenset({Reason.CHOSEN, Reason.CONTROL, Reason.OUTRANKED, Reason.ALREADY_ANSWERED, Reason.NONE_BETTER})
"""The reasons of candidates that passed every check, whichever of them was chosen in the end."""

NOBODY = ""
"""Stands for the campaign that did not answer."""


@dataclass(slots=True)
class Change:
    """How many customers there are by the old definitions and by the new, and who came and went between the two."""

    old: int = 0
    new: int = 0
    gained: int = 0
    lost: int = 0

    def count(self, *, old: bool, new: bool) -> None:
        """Count one customer."""
        self.old += old
        self.new += new
        self.gained += new and not old
        self.lost += old and not new

    def add(self, other: Change) -> None:
        """Take in what was counted elsewhere."""
        self.old += other.old
        self.new += other.new
        self.gained += other.gained
        self.lost += other.lost

    @property
    def moved(self) -> bool:
        """Whether anything differs."""
        return bool(self.gained or self.lost or self.old != self.new)


@dataclass(slots=True)
class Impact:
    """Everything that differs: who may be reached, what is sent, what moves, and who is inside when it happens.

    `eligible` has customers per moment and campaign, `reached` customers per campaign who got a message, `messages`
    their number; `moves` counts answered moments by the campaign before and after. `inside` has, per campaign, how many
    customers are in its measurement window where the history ends.
    """

    customers: int = 0
    affected: int = 0
    eligible: dict[Pairing, Change] = field(default_factory=dict)
    reached: dict[str, Change] = field(default_factory=dict)
    messages: dict[str, list[int]] = field(default_factory=dict)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)

    def compare(self, old: Life, new: Life) -> None:
        """Take in what the two say about one customer."""
        self.customers += 1
        self.affected += _told(old) != _told(new)
        before, after = _eligible(old.decisions), _eligible(new.decisions)
        for pairing in before | after:
            self.eligible.setdefault(pairing, Change()).count(old=pairing in before, new=pairing in after)
        sent_before, sent_after = _sent(old), _sent(new)
        for campaign in sent_before.keys() | sent_after.keys():
            was, is_now = sent_before[campaign], sent_after[campaign]
            self.reached.setdefault(campaign, Change()).count(old=was > 0, new=is_now > 0)
            both = self.messages.setdefault(campaign, [0, 0])
            both[0] += was
            both[1] += is_now
        answered_before, answered_after = _answered(old.decisions), _answered(new.decisions)
        for instance in answered_before.keys() | answered_after.keys():
            was_by, is_by = answered_before.get(instance, NOBODY), answered_after.get(instance, NOBODY)
            if was_by != is_by:
                self.moves[was_by, is_by] += 1
        if old.customer is not None and old.customer.window is not None:
            self.inside[old.customer.window.campaign] += 1

    def add(self, other: Impact) -> None:
        """Take in another partition's customers."""
        self.customers += other.customers
        self.affected += other.affected
        for pairing, change in other.eligible.items():
            self.eligible.setdefault(pairing, Change()).add(change)
        for campaign, change in other.reached.items():
            self.reached.setdefault(campaign, Change()).add(change)
        for campaign, (old, new) in other.messages.items():
            both = self.messages.setdefault(campaign, [0, 0])
            both[0] += old
            both[1] += new
        self.moves += other.moves
        self.inside += other.inside


def impact(
    history: History, old: Definitions, new: Definitions, *, processes: int, progress: Progress
) -> tuple[Impact, dict[str, int]]:
    """Return what differs, and how many records were read of each topic."""
    whole = Impact()
    with Pool(history, [old, new], processes) as pool:
        seen = pool.read(progress)
        for part in pool.decide(_compare, history.steps(seen), progress):
            whole.add(part)
    return whole, dict(sorted(seen.records.items()))


def _compare(partition: Partition) -> Impact:
    found = Impact()
    for _, _, (old, new) in partition.lives():
        found.compare(old, new)
    return found


def _eligible(decisions: list[Decision]) -> set[Pairing]:
    return {
        (candidate.moment, candidate.campaign)
        for decision in decisions
        for candidate in decision.candidates
        if candidate.reason in ELIGIBLE
    }


def _sent(life: Life) -> Counter[str]:
    return Counter(trigger.campaign for trigger in life.triggers if trigger.action in ("send", "add"))


def _answered(decisions: list[Decision]) -> dict[tuple[str, str, int], str]:
    """Return which campaign answered each instance of a moment, in either arm."""
    return {
        (candidate.moment, candidate.moment_key, candidate.opened_at): candidate.campaign
        for decision in decisions
        for candidate in decision.candidates
        if candidate.reason in (Reason.CHOSEN, Reason.CONTROL)
    }


def _told(life: Life) -> list[Decision | Trigger]:
    """Return what was decided and sent, without the version, which every change changes."""
    said: list[Decision | Trigger] = [*life.decisions, *life.triggers]
    return [replace(one, definitions_version="") for one in said]


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Return the definitions of a kind that differ, by name: `new`, `gone` or `changed`."""
    return {
        name: "new" if name not in old else "gone" if name not in new else "changed"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }
