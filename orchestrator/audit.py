"""Proves the promises from the output topics alone; it knows the records and none of the code that wrote them."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import accumulate
from operator import attrgetter
from sys import intern
from typing import Any

Record = Mapping[str, Any]
"""A decision or a trigger, exactly as its Avro schema has it."""

Place = tuple[str, int, int]
"""Topic, partition and offset of a record."""

Located = tuple[Record, Place]


RELEASE_LAG = 600_000
"""How long after its end a window may still be named as holding the slot, milliseconds: the engine waits that long, at
most, for stragglers before it lets go."""


FORGOTTEN = "(erased)"
"""Named as holding the slot where a customer was erased meanwhile: which campaign it was is not known any more."""


class Promise(StrEnum):
    """What every history must keep; a violation names the promise it breaks."""

    NO_OVERLAP = "no_overlap"
    """A customer's slot intervals [decided_at, window_until) never overlap; one that a decision says another cut in on
    ends there."""

    REAL_INTERVAL = "real_interval"
    """Treatment and control hold the slot until after the decision; nothing else holds it."""

    UNIQUE_DECISION = "unique_decision"
    """A decision id occurs once."""

    UNIQUE_TRIGGER = "unique_trigger"
    """A trigger id occurs once per action."""

    TRIGGER_HAS_DECISION = "trigger_has_decision"
    """Every send and addition to an audience has the treatment decision that it names, and says the same as that."""

    DECISION_HAS_TRIGGER = "decision_has_trigger"
    """Every treatment decision has its send."""

    STEP_CONTINUES = "step_continues"
    """Every later step of a series continues a slot of its campaign and arm while that is held, each of them once."""

    CONTROL_IS_SILENT = "control_is_silent"
    """Control customers get nothing in their window, hold-out customers nothing from their decision; transactional and
    legal messages excepted."""

    RETRACT_FOLLOWS = "retract_follows"
    """Every retraction comes after the send it takes back, and a void decision says why."""

    REMOVE_FOLLOWS = "remove_follows"
    """Whoever is removed from an audience was added to it before, and a removal or void decision says why; whom a
    decision removes is removed."""

    HOLDER_HOLDS = "holder_holds"
    """Whoever is named as holding the slot held it at that instant."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise, and the record that breaks it."""

    kind: Promise
    customer: str
    detail: str
    where: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """How much was read and every promise found broken."""

    decisions: int
    triggers: int
    intervals: int
    customers: int
    violations: tuple[Violation, ...]

    @property
    def clean(self) -> bool:
        """Return whether every promise was kept."""
        return not self.violations


def audit(
    decisions: Iterable[Located],
    triggers: Iterable[Located],
    later: Iterable[Located] = (),
    horizon: int | None = None,
) -> AuditReport:
    """Return what the records prove, reading *decisions*, then *triggers*, then *later*, each once.

    *later* are the decisions written while the triggers were read: they account for triggers, but need not have theirs
    yet. Before *horizon* (milliseconds) retention may have deleted a record's counterpart, so none is asked for.
    """
    ledger = _Ledger(horizon)
    for record, place in decisions:
        ledger.decision(record, place)
    settled = len(ledger.slots), len(ledger.removals)
    for record, place in triggers:
        ledger.trigger(record, place)
    for record, place in later:
        ledger.decision(record, place)
    ledger.conclude(*settled)
    order = {promise: number for number, promise in enumerate(Promise)}

    return AuditReport(
        decisions=ledger.decisions,
        triggers=ledger.triggers,
        intervals=sum(map(len, ledger.intervals.values())),
        customers=len(ledger.customers),
        violations=tuple(sorted(ledger.found, key=lambda found: (order[found.kind], found.customer, found.where))),
    )


@dataclass(frozen=True, slots=True)
class _Interval:
    """A decision that took the slot, was kept from it on purpose, or sent a message that needs none of its own."""

    decision_id: str
    customer: str
    campaign: str
    arm: str
    start: int
    end: int
    trigger_id: str | None
    kind: str
    step: str
    continues: str | None
    place: Place


@dataclass(frozen=True, slots=True)
class _Claim:
    """A record's word that *holder* held the slot at some instant from *first* to *last*."""

    holder: str
    first: int
    last: int
    place: Place


@dataclass(frozen=True, slots=True)
class _Removal:
    """A decision that ends what the decision *continues* added."""

    decision_id: str
    continues: str | None
    customer: str
    at: int
    place: Place


@dataclass(frozen=True, slots=True)
class _Send:
    """What a trigger says of its decision."""

    trigger_id: str
    decision_id: str
    customer: str
    campaign: str
    decided_at: int
    window_until: int
    step: str
    message_class: str
    added: bool
    place: Place


class _Ledger:
    """What must be remembered of the records to check them against each other."""

    def __init__(self, horizon: int | None) -> None:
        self.horizon = horizon
        self.decisions = 0
        self.triggers = 0
        self.found: list[Violation] = []
        self.customers: set[str] = set()
        self.arms: dict[str, _Interval | None] = {}
        self.slots: list[_Interval] = []
        self.steps: dict[tuple[str | None, str], _Interval] = {}
        self.intervals: defaultdict[str, list[_Interval]] = defaultdict(list)
        self.silent: defaultdict[str, list[_Interval]] = defaultdict(list)
        self.claims: defaultdict[str, list[_Claim]] = defaultdict(list)
        self.voided: set[tuple[str, str]] = set()
        self.cut: dict[str, tuple[str, int]] = {}
        self.sends: dict[str, _Send] = {}
        self.retracts: dict[str, tuple[str, str, int, Place]] = {}
        self.removes: dict[str, tuple[str, str, int, Place]] = {}
        self.removals: dict[tuple[str, str | None], _Removal] = {}

    def decision(self, record: Record, place: Place) -> None:
        """Take note of a decision."""
        self.decisions += 1
        customer = intern(record["customer_id"])
        self.customers.add(customer)
        decision_id, arm = record["decision_id"], record["arm"]
        if decision_id in self.arms:
            return self._report(Promise.UNIQUE_DECISION, customer, f"decision {decision_id} is there again", place)
        kind = record["kind"]
        message = kind in {"choice", "step", "exempt"}
        plain = record["window_until"] is None and (arm == "none" or not message)
        interval = None if plain else _interval(record, customer, place)
        self.arms[decision_id] = interval
        if interval is not None:
            self._take(interval, record["window_until"])
        if kind == "removal":
            removal = _Removal(decision_id, record["continues"], customer, record["decided_at"], place)
            self.removals[customer, removal.continues] = removal
        if kind == "void":
            self.voided.add((customer, record["voids"]))
        elif kind == "interruption":
            self.cut[record["voids"]] = (customer, record["decided_at"])
        self._claims(record, customer, place)

        return None

    def trigger(self, record: Record, place: Place) -> None:
        """Take note of a trigger."""
        self.triggers += 1
        customer, trigger_id, action = intern(record["customer_id"]), record["trigger_id"], record["action"]
        self.customers.add(customer)
        back = self.removes if action == "remove" else self.retracts
        goes_out = action in {"send", "add"}
        if trigger_id in (self.sends if goes_out else back):
            self._report(Promise.UNIQUE_TRIGGER, customer, f"{action} {trigger_id} is there again", place)
        elif goes_out:
            self.sends[trigger_id] = _Send(
                trigger_id=trigger_id,
                decision_id=record["decision_id"],
                customer=customer,
                campaign=intern(record["campaign"]),
                decided_at=record["decided_at"],
                window_until=record["window_until"],
                step=intern(record["step"]),
                message_class=intern(record["message_class"]),
                added=action == "add",
                place=place,
            )
        else:
            back[trigger_id] = (customer, record["decision_id"], record["decided_at"], place)

    def conclude(self, settled: int, settled_removals: int) -> None:
        """Check everything noted, asking for the triggers of the first *settled* slots and removals only."""
        for send in self.sends.values():
            self._check_send(send)
        for trigger_id, (customer, decision_id, decided_at, place) in self.retracts.items():
            self._check_retract(trigger_id, customer, decision_id, decided_at, place)
        for trigger_id, (customer, decision_id, _, place) in self.removes.items():
            self._check_remove(trigger_id, customer, decision_id, place)
        for slot in self.slots[:settled]:
            self._check_treatment(slot)
        removed = {decision_id for _, decision_id, _, _ in self.removes.values()}
        for removal in list(self.removals.values())[:settled_removals]:
            if removal.continues not in removed and not self._forgotten(removal.at):
                said = f"decision {removal.decision_id} removes what {removal.continues} added, and no trigger does"
                self._report(Promise.REMOVE_FOLLOWS, removal.customer, said, removal.place)
        for step in self.steps.values():
            self._check_step(step)
        for customer, intervals in self.intervals.items():
            intervals[:] = sorted(map(self._as_held, intervals), key=attrgetter("start", "end"))
            self._check_overlap(customer, intervals)
        for customer, claims in self.claims.items():
            self._check_claims(customer, claims)

    def _as_held(self, interval: _Interval) -> _Interval:
        """Return an interval as the slot was really held: until a decision says that another cut in."""
        customer, cut = self.cut.get(interval.decision_id, ("", interval.end))
        if customer != interval.customer or not interval.start < cut < interval.end:
            return interval
        return replace(interval, end=cut)

    def _take(self, interval: _Interval, window_until: int | None) -> None:
        choice = interval.kind == "choice"
        holds = choice and interval.arm in {"treatment", "control"}
        if holds or interval.kind in {"step", "exempt"}:
            self.slots.append(interval)
        if interval.kind == "step":
            if (interval.continues, interval.step) in self.steps:
                said = f"step {interval.step} of decision {interval.continues} is decided again"
                self._report(Promise.STEP_CONTINUES, interval.customer, said, interval.place)
            self.steps[interval.continues, interval.step] = interval
        if interval.arm in {"control", "holdout"}:
            if choice:
                self.silent[interval.customer].append(interval)
            if interval.trigger_id is not None:
                said = f"{interval.arm} decision {interval.decision_id} names trigger {interval.trigger_id}"
                self._report(Promise.CONTROL_IS_SILENT, interval.customer, said, interval.place)
        if holds != (window_until is not None) or (holds and interval.end <= interval.start):
            said = "no window" if window_until is None else f"the window {interval.start} to {window_until}"
            said = f"decision {interval.decision_id} with arm {interval.arm} has {said}"
            self._report(Promise.REAL_INTERVAL, interval.customer, said, interval.place)
        if interval.end > interval.start and window_until is not None:
            self.intervals[interval.customer].append(interval)

    def _claims(self, record: Record, customer: str, place: Place) -> None:
        at = record["decided_at"]
        held = {(candidate["saw"], at) for candidate in record["candidates"] if candidate["reason"] == "slot_held"}
        held.update((end["by"], min(at, end["opened_at"])) for end in record["ended"] if end["reason"] == "slot_held")
        if held:
            self.claims[customer].extend(_Claim(intern(holder), first, at, place) for holder, first in sorted(held))

    def _check_step(self, step: _Interval) -> None:
        slot = self.arms.get(step.continues or "")
        if slot is None or slot.kind != "choice":
            missing = step.continues not in self.arms
            problem = "" if missing and self.horizon is not None else "which is missing or took no slot"
        elif (slot.customer, slot.campaign, slot.arm) != (step.customer, step.campaign, step.arm):
            problem = "which is of another customer, campaign or arm"
        else:
            problem = "" if slot.start < step.start < self._as_held(slot).end else "outside of its window"
        if problem:
            said = f"step {step.step} ({step.decision_id}) continues decision {step.continues}, {problem}"
            self._report(Promise.STEP_CONTINUES, step.customer, said, step.place)

    def _check_send(self, send: _Send) -> None:
        decision = self.arms.get(send.decision_id)
        exempt = decision is not None and decision.kind == "exempt"
        for silent in () if exempt else map(self._as_held, self.silent.get(send.customer, ())):
            at_once = silent.arm == "holdout" and send.decided_at == silent.start
            if at_once or silent.start <= send.decided_at < silent.end or send.decision_id == silent.decision_id:
                said = f"trigger {send.trigger_id} was sent within {silent.arm} decision {silent.decision_id}"
                self._report(Promise.CONTROL_IS_SILENT, send.customer, said, send.place)
        if send.decision_id not in self.arms:
            if not self._forgotten(send.decided_at):
                said = f"trigger {send.trigger_id} names decision {send.decision_id}, which is missing"
                self._report(Promise.TRIGGER_HAS_DECISION, send.customer, said, send.place)
            return
        slot = self.arms.get(decision.continues or "") if decision is not None and decision.kind == "step" else None
        differs = _differences(send, decision, slot)
        if differs:
            said = f"trigger {send.trigger_id} and decision {send.decision_id} differ: {differs}"
            self._report(Promise.TRIGGER_HAS_DECISION, send.customer, said, send.place)

    def _check_retract(self, trigger_id: str, customer: str, decision_id: str, decided_at: int, place: Place) -> None:
        send = self.sends.get(trigger_id)
        problem = ""
        if send is None:
            problem = "" if self._forgotten(decided_at) else "was never sent"
        elif send.customer != customer or send.decision_id != decision_id:
            problem = "was sent to another customer or for another decision"
        elif send.place[:2] != place[:2] or send.place[2] > place[2]:
            problem = "was sent only after it was taken back"
        elif (customer, decision_id) not in self.voided:
            problem = f"is taken back, and no decision voids {decision_id}"
        if problem:
            self._report(Promise.RETRACT_FOLLOWS, customer, f"trigger {trigger_id} {problem}", place)

    def _check_remove(self, trigger_id: str, customer: str, decision_id: str, place: Place) -> None:
        send = self.sends.get(trigger_id)
        said_why = (customer, decision_id) in self.removals or (customer, decision_id) in self.voided
        problem = ""
        if send is None:
            problem = "was never added" if self.horizon is None else ""
        elif not send.added or (send.customer, send.decision_id) != (customer, decision_id):
            problem = "was added for another customer or decision, or not to an audience"
        elif send.place[:2] != place[:2] or send.place[2] > place[2]:
            problem = "was added only after it was removed"
        elif not said_why:
            problem = f"is removed, and no decision ends {decision_id}"
        if problem:
            self._report(Promise.REMOVE_FOLLOWS, customer, f"trigger {trigger_id} {problem}", place)

    def _check_treatment(self, slot: _Interval) -> None:
        if slot.arm == "treatment" and slot.trigger_id not in self.sends and not self._forgotten(slot.start):
            said = f"treatment decision {slot.decision_id} has no trigger"
            self._report(Promise.DECISION_HAS_TRIGGER, slot.customer, said, slot.place)

    def _check_overlap(self, customer: str, intervals: list[_Interval]) -> None:
        holder = intervals[0]
        for interval in intervals[1:]:
            if interval.start < holder.end:
                said = f"{_span(interval)} begins within {_span(holder)}"
                self._report(Promise.NO_OVERLAP, customer, said, interval.place)
            if interval.end > holder.end:
                holder = interval

    def _check_claims(self, customer: str, claims: list[_Claim]) -> None:
        by_campaign: defaultdict[str, list[_Interval]] = defaultdict(list)
        own = self.intervals.get(customer, [])
        for interval in own:
            by_campaign[interval.campaign].append(interval)
        if any(claim.holder == FORGOTTEN for claim in claims):
            by_campaign[FORGOTTEN] = own
        held = {
            campaign: ([one.start for one in intervals], list(accumulate((one.end for one in intervals), max)))
            for campaign, intervals in by_campaign.items()
        }
        for claim in claims:
            starts, latest_ends = held.get(claim.holder, ([], []))
            begun = bisect_right(starts, claim.last)
            if begun and latest_ends[begun - 1] + RELEASE_LAG > claim.first:
                continue
            if self.horizon is not None and (not own or claim.first < own[0].start):
                continue  # retention may have deleted the holder, which then came before every interval still there
            said = f"slot_held names {claim.holder or 'nobody'}, which did not hold the slot at {claim.last}"
            self._report(Promise.HOLDER_HOLDS, customer, said, claim.place)

    def _forgotten(self, instant: int) -> bool:
        return self.horizon is not None and instant < self.horizon

    def _report(self, kind: Promise, customer: str, detail: str, place: Place) -> None:
        topic, partition, offset = place
        self.found.append(Violation(kind, customer, detail, f"{topic}[{partition}]@{offset}"))


def _interval(record: Record, customer: str, place: Place) -> _Interval:
    start, until = record["decided_at"], record["window_until"]
    return _Interval(
        decision_id=record["decision_id"],
        customer=customer,
        campaign=intern(record["campaign"] or ""),
        arm=intern(record["arm"]),
        start=start,
        end=start if until is None else until,
        trigger_id=record["trigger_id"],
        kind=intern(record["kind"]),
        step=intern(record["step"]),
        continues=record["continues"],
        place=place,
    )


def _differences(send: _Send, decision: _Interval | None, slot: _Interval | None) -> str:
    """Return where a send and its decision differ; *slot* is what a later step continues, as far as it is known."""
    if decision is None or decision.arm != "treatment":
        return f"the decision's arm is {'none' if decision is None else decision.arm}"
    pairs = {
        "customer": (send.customer, decision.customer),
        "campaign": (send.campaign, decision.campaign),
        "trigger id": (send.trigger_id, decision.trigger_id),
        "decided at": (send.decided_at, decision.start),
        "exempt": (send.message_class in {"transactional", "legal"}, decision.kind == "exempt"),
    }
    if decision.kind != "step":
        pairs["window until"] = (send.window_until, decision.end)
    else:
        pairs["step"] = (send.step, decision.step)
        if slot is not None:
            pairs["window until"] = (send.window_until, slot.end)

    return ", ".join(f"{name} {ours!r} is not {theirs!r}" for name, (ours, theirs) in pairs.items() if ours != theirs)


def _span(interval: _Interval) -> str:
    return f"{interval.campaign} [{interval.start}, {interval.end})"
