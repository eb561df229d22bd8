"""Answers "why did this customer get it, or not?" in the marketer's words, from the decision records alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orchestrator.reasons import Reason

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Record = Mapping[str, Any]
"""A decision, a candidate or an ended moment, exactly as the Avro schema has it."""

SENTENCES: Mapping[Reason, str] = {
    Reason.CHOSEN: "chosen[: {saw}]",
    Reason.CONTROL: "in the control group: no message on purpose, to measure what the campaign is worth",
    Reason.HOLDOUT: "in the hold-out group: nobody writes to this customer in this period[ ({saw})]",
    Reason.NONE_BETTER: "sending nothing was expected to earn more[ ({saw})]",
    Reason.OUTRANKED: "another campaign came first[: {saw}]",
    Reason.SLOT_HELD: "the slot was held[ by {saw}][ until {until}]",
    Reason.REST: "some quiet after the last campaign[: {saw}][, until {until}]",
    Reason.NOT_ELIGIBLE: "not meant for this customer[: {saw}]",
    Reason.EXCLUDED: "it stays away for a time[ after {saw}][, until {until}]",
    Reason.NO_CONSENT: "the customer has not agreed to be written to[: {saw}]",
    Reason.SUPPRESSED: "the customer is on a list of people nobody may write to[: {saw}]",
    Reason.CAP: "enough messages for now[: {saw}][; again from {until}]",
    Reason.QUIET_HOURS: "quiet hours[ until {until}][ (it was {saw})]",
    Reason.SKU_CAP: "enough people have been told about this product[: {saw}]",
    Reason.TOO_OLD: "opened too long ago to act on[: {saw}]",
    Reason.EXPIRED: "it went stale before it could be answered[: {saw}]",
    Reason.CANCELLED: "no longer true[: {saw}]",
    Reason.STOPPED: "the messages were ended[ by {saw}]",
    Reason.ALREADY_ANSWERED: "already answered[ by {saw}]",
    Reason.UNKNOWN_VALUE: "a value is not known, and then nothing is sent[: {saw}]",
    Reason.NO_DEFINITION: "no campaign answers it[: {saw}]",
}
"""What each reason means to a marketer; a part in brackets is left out where its value is not known."""

EVENTS: Mapping[str, str] = {
    "order.placed": "an order",
    "order.returned": "a return",
    "order.cancelled": "a cancelled order",
    "cart.emptied": "the cart being emptied",
    "customer.unsubscribed": "unsubscribing",
    "message.clicked": "a click on a message",
    "site.visited": "a visit",
    "product.stock": "a change of the product's stock",
}
"""How to say that an event ended a moment or a series; other events go by their name."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Who holds or held a customer's slot, and from when until when."""

    campaign: str
    arm: str
    decision_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision: its instant, what came of it, and the lines that say why, indented by two spaces per level."""

    at: int
    title: str
    lines: tuple[str, ...]
    record: Record


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every decision about one customer, in time order."""

    customer: str
    zone: str
    as_of: int | None
    slot: Slot | None
    entries: tuple[Entry, ...]
    looked_at: str

    def lines(self) -> list[str]:
        """Return the explanation as lines of text, never none."""
        clock = Clock(self.zone)
        until = "" if self.as_of is None else f" up to {clock.say(self.as_of)}"
        if not self.entries:
            return [
                f"No decision about customer {self.customer}{until}.",
                f"Looked at {self.looked_at}." if self.looked_at else "Looked at the records given.",
                "A decision is recorded when a moment opens or ends for a customer: check the id letter for letter, "
                "that the worker has read the customer's events, and that some moment fits them.",
            ]
        lines = [
            f"Customer {self.customer}{until}: {_tally([entry.record for entry in self.entries])}.",
            f"Times are in {self.zone}.",
            _slot_line(self.slot, self.as_of, clock),
        ]
        for entry in self.entries:
            lines += ["", f"{clock.say(entry.at)}  {entry.title}", *(f"  {line}" for line in entry.lines)]

        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return the same for a program to read: the records themselves, with the sentences beside them."""
        slot = self.slot
        return {
            "customer": self.customer,
            "zone": self.zone,
            "as_of": self.as_of,
            "slot": slot
            and {"campaign": slot.campaign, "arm": slot.arm, "decision_id": slot.decision_id}
            | {"from": slot.start, "until": slot.end},
            "looked_at": self.looked_at,
            "decisions": [
                {**entry.record, "sentence": entry.title, "because": [line.strip() for line in entry.lines]}
                for entry in self.entries
            ],
        }


def explain(
    customer: str,
    decisions: Iterable[Record],
    *,
    says: Mapping[str, str] | None = None,
    zone: str | None = None,
    as_of: int | None = None,
    looked_at: str = "",
) -> Explanation:
    """Return what the records say about *customer*: everything, or only what was decided up to *as_of*.

    *says* has a moment's sentence by its name, *zone* is the customer's (else UTC), *looked_at* says where the records
    come from.
    """
    own = [record for record in decisions if record["customer_id"] == customer]
    known = sorted(
        (record for record in own if as_of is None or record["decided_at"] <= as_of),
        key=lambda record: record["decided_at"],
    )
    clock = Clock(zone or "UTC")
    teller = _Teller(known, says or {}, clock)

    return Explanation(
        customer=customer,
        zone=clock.name,
        as_of=as_of,
        slot=teller.slots[-1] if teller.slots else None,
        entries=tuple(
            Entry(record["decided_at"], teller.title(record), teller.because(record), record) for record in known
        ),
        looked_at=looked_at,
    )


def sentence(reason: str, saw: str = "", until: str = "") -> str:
    """Return a reason as a sentence with the values seen."""
    try:
        template = SENTENCES[Reason(reason)]
    except ValueError:  # a newer version's record
        template = reason.replace("_", " ") + "[: {saw}]"
    values = {"saw": saw, "until": until}

    def part(match: re.Match[str]) -> str:
        text = match[1]
        return text.format(**values) if all(values[name] for name in re.findall(r"{(\w+)}", text)) else ""

    return re.sub(r"\[([^]]*)]", part, template)


class Clock:
    """Says instants on the clock of a zone; an unknown zone is UTC."""

    def __init__(self, zone: str) -> None:
        self.zone: tzinfo = UTC
        self.name = "UTC"
        with suppress(ZoneInfoNotFoundError, ValueError, OSError):
            self.zone, self.name = ZoneInfo(zone), zone

    def say(self, instant: int) -> str:
        """Return an instant such as 12 March 2024 09:00."""
        local = (_EPOCH + timedelta(milliseconds=instant)).astimezone(self.zone)
        return f"{local.day} {local:%B %Y %H:%M}"

    def read(self, text: str) -> int:
        """Return the instant of an ISO date (its end) or date and time; without an offset it is in this zone."""
        local = datetime.fromisoformat(text)
        if local.tzinfo is None:
            local = local.replace(tzinfo=self.zone)
        if re.fullmatch(r"[\d-]+", text):
            local += timedelta(days=1, milliseconds=-1)
        return (local - _EPOCH) // timedelta(milliseconds=1)


class _Teller:
    """Puts decisions into words, knowing the customer's other decisions."""

    def __init__(self, decisions: Sequence[Record], says: Mapping[str, str], clock: Clock) -> None:
        self.says = says
        self.clock = clock
        self.by_id = {record["decision_id"]: record for record in decisions}
        self.voided = {record["voids"] for record in decisions if record["kind"] == "void"}
        self.cut = {record["voids"]: record["decided_at"] for record in decisions if record["kind"] == "interruption"}
        self.slots = sorted(
            (
                Slot(
                    record["campaign"],
                    record["arm"],
                    record["decision_id"],
                    record["decided_at"],
                    self.cut.get(record["decision_id"]) or record["window_until"],
                )
                for record in decisions
                if record["window_until"] is not None
            ),
            key=lambda slot: slot.start,
        )

    def title(self, record: Record) -> str:
        """Return what came of a decision."""
        kind, arm, campaign = record["kind"], record["arm"], record["campaign"]
        if kind in {"void", "interruption"}:
            what = (
                "taken back: later data proved it wrong"
                if kind == "void"
                else "cut short by another that is worth much more: it is not measured"
            )
            return f"{self._earlier(record['voids'])} was {what}"
        if kind == "closing":
            return (
                "nothing to decide: a moment ended" if len(record["ended"]) == 1 else "nothing to decide: moments ended"
            )
        if kind in {"step", "exempt"}:
            return self._message(record)
        if kind == "removal":
            return f"taken out of the audience of {campaign} again: {self._removal(record['candidates'][0])}"
        if record["window_until"] is not None:
            held = f"the slot is held until {self.clock.say(record['window_until'])}"
            undone = ", taken back later" if record["decision_id"] in self.voided else ""
            if record["decision_id"] in self.cut:
                undone = f", cut short {self.clock.say(self.cut[record['decision_id']])}{undone}"
            if record.get("chosen_by") == "explore":
                undone += "; it was tried by chance, to learn what it is worth"
            if arm == "control":
                return f"{campaign} was held back: {sentence(Reason.CONTROL)}; {held}{undone}"
            offer = record.get("offer", "")
            given = f" with the offer {offer}" if offer not in ("", "none") else ""
            return f"{campaign} was triggered{given} ({record['trigger_id']}); {held}{undone}"
        if arm == "holdout":
            return f"no message: {sentence(Reason.HOLDOUT)}"
        first = next((one for one in record["candidates"] if one["reason"] == record["reason"]), None)
        why = sentence(record["reason"]) if first is None else self._fate(first, record)
        return f"no message: {why}"

    def _message(self, record: Record) -> str:
        """Return what became of a message that needs no slot of its own: a later step of a series, or an exempt one."""
        what, candidate = record["campaign"], record["candidates"][0]
        if record["step"]:
            what = f"step {record['step']} of {what}"
        if record["trigger_id"] is not None:
            undone = ", taken back later" if record["decision_id"] in self.voided else ""
            exempt = "; it needs no slot" if record["kind"] == "exempt" else ""
            return f"{what} was triggered ({record['trigger_id']}){exempt}{undone}"
        verb = "was held back" if record["arm"] == "control" else "was not sent"
        if candidate["retry_at"] is not None:
            verb = "has to wait"
        return f"{what} {verb}: {self._fate(candidate, record)}"

    def _removal(self, candidate: Record) -> str:
        if candidate["reason"] == Reason.STOPPED:
            return f"after {EVENTS.get(candidate['saw'], candidate['saw'])}"
        return "the window is over"

    def because(self, record: Record) -> tuple[str, ...]:
        """Return a line for every moment, and below it one for every candidate."""
        lines = list(_compared(record))
        answered = set()
        for instance, candidates in _by_instance(record["candidates"]).items():
            lines.append(f"{self._moment(candidates[0])}, since {self.clock.say(candidates[0]['opened_at'])}")
            for one in candidates:
                name = f"{one['campaign']}: " if one["campaign"] else ""
                lines.append(f"  {name}{self._fate(one, record)}{_odds(one, record)}")
                lines += [f"    offer {offer['check']}: {_allowed(offer, one)}" for offer in one.get("offers", ())]
                if one["reason"] in {Reason.CHOSEN, Reason.CONTROL}:
                    answered.add(instance)
        lines += [
            f"ended: {self._moment(ended)}: {self._end(ended, record)}"
            for ended in record["ended"]
            if ended["state"] != "acted" or _instance(ended) not in answered
        ]

        return tuple(lines)

    def _fate(self, candidate: Record, record: Record) -> str:
        reason, saw = candidate["reason"], candidate["saw"]
        if not saw:
            saw = next((check["saw"] for check in reversed(candidate["checks"]) if not check["passed"]), "")
        retry_at = candidate["retry_at"]
        until = "" if retry_at is None else self.clock.say(retry_at)
        if record["kind"] == "removal":
            return self._removal(candidate)
        if reason == Reason.SLOT_HELD:
            until = self._held_until(saw, record["decided_at"]) or until
        elif reason in {Reason.STOPPED, Reason.CANCELLED}:
            saw = " or ".join(EVENTS.get(event, event) for event in saw.split(" or "))
            if reason == Reason.CANCELLED and record["kind"] == "step":
                return f"there is no need for it any more after {saw}"
        said = sentence(reason, saw, until)
        if until and until not in said:
            said += f"; looked at again {until}"
        return said

    def _end(self, ended: Record, record: Record) -> str:
        state, reason, by = ended["state"], ended["reason"], ended["by"]
        if state == "acted":
            if reason in {Reason.HOLDOUT, Reason.ALREADY_ANSWERED}:
                return sentence(reason, by)
            return f"answered by {by}" if by else "answered"
        if state == "cancelled":
            return f"ended by {EVENTS.get(by, by)}" if by else "no longer true"
        until = self._held_until(by, record["decided_at"] - 1) if reason == Reason.SLOT_HELD else ""
        said = sentence(reason, by, until)
        if state == "unmet":
            return f"not worth answering when it was due: {said}"
        return said if reason == Reason.EXPIRED else f"it went stale unanswered: {said}"

    def _held_until(self, holder: str, instant: int) -> str:
        for slot in self.slots:
            if slot.campaign == holder and slot.start <= instant < slot.end:
                return self.clock.say(slot.end)
        return ""

    def _moment(self, of: Record) -> str:
        said = self.says.get(of["moment"]) or EVENTS.get(of["moment"])
        name = f"“{said}”" if said else of["moment"]
        return f"{name} ({of['moment_key']})" if of["moment_key"] else str(name)

    def _earlier(self, decision_id: str) -> str:
        record = self.by_id.get(decision_id)
        if record is None:
            return f"an earlier decision ({decision_id})"
        step = f"step {record['step']} of " if record["kind"] == "step" else ""
        return f"{step}{record['campaign']} of {self.clock.say(record['decided_at'])}"


def _compared(record: Record) -> Iterator[str]:
    """Yield how a choice was made by what campaigns are worth, where it was."""
    if not record.get("policy_version") or record["kind"] != "choice":
        return
    alike = record.get("leaf", "").replace(";", ", ").replace("=", " ") or "all customers"
    stage = f", who responded to {record['stage']}" if record.get("stage") else ""
    yield f"compared by what each is expected to earn beyond sending nothing, for {alike}{stage}"
    if record.get("chosen_by") in _BY_VALUE:
        yield f"  no message: {_percent(record['none_propensity'])} likely"


def _odds(candidate: Record, record: Record) -> str:
    """Return what a candidate was expected to be worth and how likely it was, where that is known."""
    value, said = candidate.get("value"), []
    if value is not None:
        said.append(f"expected to be worth {'-' if value < 0 else ''}{abs(value) // 100}.{abs(value) % 100:02d}")
    if candidate["propensity"] and record.get("chosen_by") in _BY_VALUE:
        said.append(f"{_percent(candidate['propensity'])} likely")
    return f" [{', '.join(said)}]" if said else ""


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


_BY_VALUE = frozenset({"expected_value", "explore"})


def _instance(of: Record) -> tuple[str, str, int]:
    return of["moment"], of["moment_key"], of["opened_at"]


def _by_instance(candidates: Iterable[Record]) -> dict[tuple[str, str, int], list[Record]]:
    grouped: dict[tuple[str, str, int], list[Record]] = {}
    for candidate in candidates:
        grouped.setdefault(_instance(candidate), []).append(candidate)
    return grouped


def _allowed(offer: Record, candidate: Record) -> str:
    """Return whether a customer may have an offer, and by which values."""
    said = (
        "it goes with it" if offer["check"] == candidate["offer"] else "possible" if offer["passed"] else "not for them"
    )
    return f"{said} ({offer['saw']})" if offer["saw"] else said


def _slot_line(slot: Slot | None, as_of: int | None, clock: Clock) -> str:
    if slot is None:
        return "The slot is free, and was never taken."
    group = " for the control group" if slot.arm == "control" else ""
    if as_of is None:
        return f"The slot was last taken by {slot.campaign}{group}, until {clock.say(slot.end)}."
    if slot.start <= as_of < slot.end:
        return f"The slot was held by {slot.campaign}{group} until {clock.say(slot.end)}."
    return f"The slot was free since {clock.say(slot.end)}, when {slot.campaign} let it go."


def _tally(records: Sequence[Record]) -> str:
    kinds = {"step", "exempt"}
    took = [record["arm"] for record in records if record["window_until"] is not None or record["kind"] in kinds]
    sent, control = took.count("treatment"), took.count("control")
    number = f"{len(records)} decision" + "s" * (len(records) != 1)
    parts = [f"{sent} triggered" * bool(sent), f"{control} held back as control" * bool(control)]
    rest = len(records) - sent - control
    parts.append(f"{rest} without a message" * bool(rest))

    return f"{number}: " + ", ".join(part for part in parts if part)
