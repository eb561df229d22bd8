"""What was decided in aggregates: what the report and the summary show, folded from the output records in one pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

from orchestrator.learning.uplift import Results, compare
from orchestrator.reasons import Reason

Record = Mapping[str, Any]

WEEK = 7 * 86_400_000
_MONDAY = 4 * 86_400_000  # 1970 began on a Thursday

CUSTOMERS_SHOWN = 8

NO_RECORD, SEVERAL = "no record", "several records"
"""What became of a planted cart for which there is not exactly one record; both should not happen."""


class Planted(Protocol):
    """A cart whose fate was known before anything ran."""

    @property
    def customer_id(self) -> str:
        """Whose cart it is."""

    @property
    def cart_id(self) -> str:
        """The cart."""

    @property
    def kind(self) -> str:
        """What was planted to become of it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A slot: who held it, from when until when, with a message or, as control, without."""

    start: int
    end: int
    campaign: str
    arm: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at an instant: a hold-out, a decision taken back, or a moment that ended unanswered."""

    at: int
    kind: str
    what: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """One customer's year."""

    customer: str
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class PlantedCarts:
    """How many carts of a kind were planted, and what became of them; the fates sum to the number planted."""

    kind: str
    planted: int
    fates: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything the report shows."""

    decisions: int
    sends: int
    retracts: int
    customers: int
    slots: int
    first: int
    last: int
    kinds: Mapping[str, int]
    arms: Mapping[str, int]
    reasons: Mapping[str, int]
    weeks: tuple[int, ...]
    triggers_by_week: Mapping[str, tuple[int, ...]]
    moments: Mapping[str, Mapping[str, int]]
    carts: tuple[PlantedCarts, ...]
    results: Results
    timelines: tuple[Timeline, ...]
    summary: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def fold(
        cls,
        decisions: Iterable[Record],
        triggers: Iterable[Record],
        outcomes: Iterable[Record],
        *,
        summary: Mapping[str, str] | None = None,
        planted: Iterable[Planted] | None = None,
        cart_moment: str = "abandoned_cart",
    ) -> ReportData:
        """Return the aggregates of output records, each read once; *summary* is shown as it is."""
        history = _History(cart_moment)
        for decision in decisions:
            history.decision(decision)
        actions, by_week = _fold_triggers(triggers)
        weeks = tuple(sorted({week for of_campaign in by_week.values() for week in of_campaign}))
        weeks = tuple(range(weeks[0], weeks[-1] + WEEK, WEEK)) if weeks else ()

        return cls(
            decisions=history.kinds.total(),
            sends=actions["send"] + actions["add"],
            retracts=actions["retract"],
            customers=len(history.lives),
            slots=sum(len(life.bars) for life in history.lives.values()),
            first=history.first,
            last=history.last,
            kinds=dict(history.kinds),
            arms=dict(history.arms),
            reasons=_by_count(history.reasons),
            weeks=weeks,
            triggers_by_week={
                campaign: tuple(of_campaign[week] for week in weeks)
                for campaign, of_campaign in sorted(by_week.items())
            },
            moments={moment: dict(history.moments[moment]) for moment in sorted(history.moments)},
            carts=() if planted is None else _planted(planted, history.carts),
            results=compare(outcomes),
            timelines=_pick(history.lives),
            summary=dict(summary or {}),
        )


@dataclass(slots=True)
class _Life:
    """What is kept of one customer until the timelines are picked."""

    decisions: int = 0
    bars: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def variety(self) -> tuple[int, int]:
        """Return how many different things happened, and how many in all."""
        kinds = {(bar.campaign, bar.arm) for bar in self.bars} | {(mark.kind, "") for mark in self.marks}
        return len(kinds), self.decisions


class _History:
    """The fold over decisions."""

    def __init__(self, cart_moment: str) -> None:
        self.cart_moment = cart_moment
        self.first = self.last = 0
        self.kinds: Counter[str] = Counter()
        self.arms: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.moments: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.carts: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self.lives: defaultdict[str, _Life] = defaultdict(_Life)

    def decision(self, record: Record) -> None:
        at, kind, customer = record["decided_at"], record["kind"], record["customer_id"]
        self.first = at if not self.kinds else min(self.first, at)
        self.last = max(self.last, at)
        self.kinds[kind] += 1
        life = self.lives[customer]
        life.decisions += 1
        if kind == "choice":
            self.arms[record["arm"]] += 1
            self.reasons[record["reason"]] += 1
        elif kind in {"void", "interruption"}:
            life.marks.append(Mark(at, kind, record["campaign"] or ""))
        if record["window_until"] is not None:
            life.bars.append(Bar(at, record["window_until"], record["campaign"], record["arm"]))
        elif kind == "choice" and record["arm"] == "holdout":
            life.marks.append(Mark(at, "holdout", ""))
        for ended in record["ended"]:
            self._ended(customer, life, at, ended)

    def _ended(self, customer: str, life: _Life, at: int, ended: Record) -> None:
        fate = fate_of(ended["state"], ended["reason"])
        self.moments[ended["moment"]][fate] += 1
        if ended["moment"] == self.cart_moment:
            self.carts[customer, ended["moment_key"]].append(fate)
        if ended["state"] != "acted":
            life.marks.append(Mark(at, ended["state"], ended["moment"]))


def fate_of(state: str, reason: str) -> str:
    """Return what became of a moment in one word or two: the reason, and the state where that adds something."""
    if state in {"acted", "cancelled"} or reason == Reason.EXPIRED:
        return reason
    return f"{state}: {reason}"


def _fold_triggers(triggers: Iterable[Record]) -> tuple[Counter[str], dict[str, Counter[int]]]:
    actions: Counter[str] = Counter()
    by_week: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for trigger in triggers:
        actions[trigger["action"]] += 1
        if trigger["action"] in {"send", "add"}:
            at = trigger["decided_at"]
            by_week[trigger["campaign"]][at - (at - _MONDAY) % WEEK] += 1
    return actions, by_week


def _planted(carts: Iterable[Planted], records: Mapping[tuple[str, str], list[str]]) -> tuple[PlantedCarts, ...]:
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for cart in carts:
        fates = records.get((cart.customer_id, cart.cart_id), [])
        kinds[cart.kind][NO_RECORD if not fates else fates[0] if len(fates) == 1 else SEVERAL] += 1
    return tuple(PlantedCarts(kind, fates.total(), _by_count(fates)) for kind, fates in sorted(kinds.items()))


def _pick(lives: Mapping[str, _Life]) -> tuple[Timeline, ...]:
    """Return the customers to whom most different things happened, in the order of their ids."""
    order = sorted(lives, key=lambda customer: (*(-number for number in lives[customer].variety()), customer))
    shown = sorted(order[:CUSTOMERS_SHOWN], key=lambda customer: (len(customer), customer))
    return tuple(
        Timeline(
            customer,
            tuple(sorted(lives[customer].bars, key=lambda bar: bar.start)),
            tuple(sorted(lives[customer].marks, key=lambda mark: (mark.at, mark.kind, mark.what))),
        )
        for customer in shown
    )


def _by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def campaigns_of(data: ReportData) -> list[str]:
    """Return every campaign the report speaks of, each once and always in the same order."""
    held = (bar.campaign for timeline in data.timelines for bar in timeline.bars)
    return sorted({*chain(data.triggers_by_week, (one.campaign for one in data.results.campaigns), held)})
