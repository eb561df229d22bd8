"""The promises, followed as records come in: what is remembered of one customer, and what one more record breaks.

What is remembered is bounded, so a promise must break soon after it was made to be found here; `orchestrator audit`
proves the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from orchestrator.audit import Promise

Record = Mapping[str, Any]
"""A decision or a trigger, exactly as its Avro schema has it."""

RECENT = 20
"""Decisions that can be asked for."""

KEPT = 50
"""Decisions with an arm, and triggers, that further records are compared with."""

WAITING = 200
"""Triggers that may wait for their decision; it is far away only while old records are read in another order."""

FOLLOWED = (
    Promise.NO_OVERLAP,
    Promise.UNIQUE_DECISION,
    Promise.UNIQUE_TRIGGER,
    Promise.TRIGGER_HAS_DECISION,
    Promise.CONTROL_IS_SILENT,
)
"""The promises that are followed; the others need all records at once."""

_SILENT = ("control", "holdout")
_GOES_OUT = frozenset({"send", "add"})


class Taken(Struct, frozen=True, array_like=True):
    """A decision that took the slot, kept the customer without a message, or sent one without a slot of its own."""

    decision_id: str
    arm: str
    start: int
    until: int | None
    trigger_id: str | None
    exempt: bool = False


class Trigger(Struct, array_like=True):
    """A trigger that was read; it waits until its decision accounts for it."""

    trigger_id: str
    action: str
    decision_id: str
    decided_at: int
    window_until: int
    written_at: int
    waits: bool
    exempt: bool = False


class Facts(Struct, array_like=True):
    """What is remembered of one customer.

    `decisions_read` and `triggers_read` are the newest offsets folded: what Kafka delivers again changes nothing.
    """

    decisions_read: int = -1
    triggers_read: int = -1
    decisions: int = 0
    triggers: int = 0
    intervals: int = 0
    recent: list[int] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    sent: list[Trigger] = field(default_factory=list)
    forgotten: int = -1
    broken: dict[str, int] = field(default_factory=dict)

    @property
    def waiting(self) -> list[Trigger]:
        """The triggers whose decision was not read, leaving out those that it is too late to judge."""
        return [trigger for trigger in self.sent if trigger.waits and trigger.decided_at > self.forgotten]


def fold_decision(facts: Facts, record: Record, offset: int) -> list[Promise] | None:
    """Take note of a decision; return the promises it breaks, None when it was folded before."""
    if offset <= facts.decisions_read:
        return None
    facts.decisions_read = offset
    facts.decisions += 1
    facts.recent = [*facts.recent, offset][-RECENT:]
    taken = _taken(record)
    if taken is None:
        return []
    found = _broken_by_decision(facts, taken)
    if Promise.UNIQUE_DECISION not in found:
        _remember(facts, taken)
    return _counted(facts, found)


def fold_trigger(facts: Facts, record: Record, offset: int, written_at: int) -> list[Promise] | None:
    """Take note of a trigger written at an instant; return the promises it breaks, None when it was folded before.

    One whose decision is missing breaks its promise only when the decision does not come: see `waiting`.
    """
    if offset <= facts.triggers_read:
        return None
    facts.triggers_read = offset
    facts.triggers += 1
    trigger = Trigger(
        trigger_id=record["trigger_id"],
        action=record["action"],
        decision_id=record["decision_id"],
        decided_at=record["decided_at"],
        window_until=record["window_until"],
        written_at=written_at,
        waits=record["action"] in _GOES_OUT,
        exempt=record["message_class"] != "marketing",
    )
    if any((other.trigger_id, other.action) == (trigger.trigger_id, trigger.action) for other in facts.sent):
        return _counted(facts, [Promise.UNIQUE_TRIGGER])
    found = []
    if trigger.waits:
        found += [Promise.CONTROL_IS_SILENT for taken in facts.taken if _is_disturbed(taken, trigger)]
        decision = next((taken for taken in facts.taken if taken.decision_id == trigger.decision_id), None)
        if decision is not None:
            found += _account(trigger, decision)
    facts.sent.append(trigger)
    return _counted(facts, found + _forget_triggers(facts))


def _taken(record: Record) -> Taken | None:
    kind, arm, until = record["kind"], record["arm"], record["window_until"]
    if kind in ("step", "exempt"):
        if arm != "treatment":
            return None  # it sent nothing; the control group's slot is remembered by itself
    elif until is None and (arm == "none" or kind != "choice"):
        return None
    return Taken(record["decision_id"], arm, record["decided_at"], until, record["trigger_id"], kind == "exempt")


def _broken_by_decision(facts: Facts, taken: Taken) -> list[Promise]:
    if any(other.decision_id == taken.decision_id for other in facts.taken):
        return [Promise.UNIQUE_DECISION]
    found = [Promise.NO_OVERLAP] if any(_overlap(taken, other) for other in facts.taken) else []
    for trigger in facts.sent:
        if trigger.action not in _GOES_OUT:
            continue
        if trigger.decision_id == taken.decision_id:
            found += _account(trigger, taken)
        if _is_disturbed(taken, trigger):
            found.append(Promise.CONTROL_IS_SILENT)
    return found


def _overlap(one: Taken, other: Taken) -> bool:
    if one.until is None or other.until is None:
        return False
    return max(one.start, other.start) < min(one.until, other.until)


def _account(trigger: Trigger, decision: Taken) -> list[Promise]:
    """Let a trigger wait no longer; return the promise that is broken where the two differ."""
    trigger.waits = False
    until = trigger.window_until if decision.until is None else decision.until  # a step's is its slot's
    said = ("treatment", trigger.trigger_id, trigger.decided_at, trigger.window_until, trigger.exempt)
    same = said == (decision.arm, decision.trigger_id, decision.start, until, decision.exempt)
    return [] if same else [Promise.TRIGGER_HAS_DECISION]


def _is_disturbed(taken: Taken, trigger: Trigger) -> bool:
    """Return whether the trigger was sent to a customer who was to hear nothing."""
    if taken.arm not in _SILENT or trigger.exempt:
        return False
    if taken.decision_id == trigger.decision_id:
        return True
    if taken.until is None:
        return trigger.decided_at == taken.start
    return taken.start <= trigger.decided_at < taken.until


def _remember(facts: Facts, taken: Taken) -> None:
    facts.intervals += taken.until is not None
    facts.taken.append(taken)
    if len(facts.taken) > KEPT:
        facts.forgotten = max(facts.forgotten, facts.taken.pop(0).start)


def _forget_triggers(facts: Facts) -> list[Promise]:
    """Drop the oldest triggers beyond what is kept; one that still waits has waited long enough to be judged."""
    settled = [trigger for trigger in facts.sent if not trigger.waits]
    waiting = [trigger for trigger in facts.sent if trigger.waits]
    dropped = {id(trigger) for trigger in (*_beyond(settled, KEPT), *_beyond(waiting, WAITING))}
    if not dropped:
        return []
    judged = [one for one in _beyond(waiting, WAITING) if one.decided_at > facts.forgotten]
    facts.sent = [trigger for trigger in facts.sent if id(trigger) not in dropped]
    return [Promise.TRIGGER_HAS_DECISION for _ in judged]


def _beyond(triggers: Sequence[Trigger], kept: int) -> Sequence[Trigger]:
    return triggers[: max(0, len(triggers) - kept)]


def _counted(facts: Facts, found: list[Promise]) -> list[Promise]:
    for promise in found:
        facts.broken[promise] = facts.broken.get(promise, 0) + 1
    return found


class Log(Struct, array_like=True):
    """What is remembered of one partition: where its decisions begin, and what in it could not be used."""

    horizon: int | None = None
    """No decision before this instant was there when the reading began, so triggers before it cannot be judged."""

    decisions_read: int = -1
    triggers_read: int = -1
    unusable: dict[str, int] = field(default_factory=dict)


def begin(log: Log, record: Record, offset: int) -> bool:
    """Take note of where decisions begin; return whether that was news."""
    if log.horizon is not None:
        return False
    log.horizon = record["decided_at"] if offset > 0 else 0
    return True


def fold_unusable(log: Log, source: str, reason: str, offset: int) -> bool:
    """Take note of a record of decisions or triggers that cannot be used; return whether it was news."""
    if offset <= (log.decisions_read if source == "decisions" else log.triggers_read):
        return False
    if source == "decisions":
        log.decisions_read = offset
    else:
        log.triggers_read = offset
    log.unusable[reason] = log.unusable.get(reason, 0) + 1
    return True
