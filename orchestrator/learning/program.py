"""What all campaigns together are worth, and one way to choose against another: whole customers, drawn by hash.

Here nothing depends on whether a campaign was sent: a group is everybody whose hash says so (intention to treat), and
what counts is all they earned us, less what was spent on them. So it also sees what single windows cannot: orders
that only come earlier, and customers who tire.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from orchestrator.arbitration.choice import PRIORITY, method_for
from orchestrator.arbitration.eligibility import held_out
from orchestrator.arbitration.policy import Policy
from orchestrator.civil import period_of
from orchestrator.events import DAY, ERASED, ORDERED, PROFILE, Event
from orchestrator.features import line_margin
from orchestrator.learning.uplift import Comparison, Outcome, Unit, contrast, newest_of
from orchestrator.reference import Reference

BEFORE = 84 * DAY
"""How much of a customer's own past takes noise out of what they earn."""


@dataclass(slots=True)
class _Order:
    at: int
    customer: str
    margin: int


@dataclass(slots=True)
class Ledger:
    """What every customer earned us and cost us, from orders, what became of them, profiles and outcomes."""

    known: set[str] = field(default_factory=set)
    """Everybody who has a profile."""
    orders: dict[str, _Order] = field(default_factory=dict)
    _undone: dict[str, int | None] = field(default_factory=dict)
    _spent: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    _windows: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def event(self, event: Event, reference: Reference, assumed_bp: int) -> None:
        """Take in what an event says of money or of who there is; events may come in any order."""
        if event.name == PROFILE:
            self.known.add(event.customer)
        elif event.name == ERASED:
            self.known.discard(event.customer)
        elif event.name in (ORDERED, "order.cancelled", "order.returned"):
            lines = event.data.get("lines") or ()
            order_id = str(event.data.get("order_id") or event.id)
            margin = sum(line_margin(line, event.time, reference, assumed_bp) for line in lines)
            if event.name == ORDERED:
                self.book(order_id, event.customer, event.time, margin)
            elif event.name == "order.returned" and lines:
                back = self._undone.get(order_id, 0)
                self._undone[order_id] = None if back is None else back + margin
            else:
                self._undone[order_id] = None

    def book(self, order_id: str, customer: str, at: int, margin: int) -> None:
        """Enter an order, once under its id."""
        self.orders[order_id] = _Order(at, customer, margin)

    def outcome(self, outcome: Outcome, cost: int) -> None:
        """Take in when a window was, and what it cost."""
        customer, start = outcome["customer_id"], outcome["window_from"]
        self._windows.setdefault(customer, []).append((start, outcome["window_until"]))
        if cost:
            self._spent.setdefault(customer, []).append((start, cost))

    def accounts(self) -> Iterator[tuple[str, Account]]:
        """Yield everybody by their ids: who has a profile, or, where there are no profiles, who ever ordered."""
        booked: dict[str, list[tuple[int, int]]] = {}
        for order_id, order in self.orders.items():
            back = self._undone.get(order_id, 0)
            if back is not None:
                booked.setdefault(order.customer, []).append((order.at, order.margin - back))
        for customer in sorted(self.known or booked):
            money, spent = (Money.of(of.get(customer, ())) for of in (booked, self._spent))
            yield customer, Account(money, spent, tuple(sorted(self._windows.get(customer, ()))))

    @property
    def last(self) -> int:
        """The last instant at which anybody ordered."""
        return max((order.at for order in self.orders.values()), default=0)


@dataclass(frozen=True, slots=True)
class Money:
    """Amounts by their instants, and the sum of all before each."""

    instants: tuple[int, ...]
    sums: tuple[int, ...]

    @classmethod
    def of(cls, amounts: Iterable[tuple[int, int]]) -> Money:
        """Return amounts in the order of their instants."""
        ordered = sorted(amounts)
        return cls(tuple(at for at, _ in ordered), (0, *accumulate(amount for _, amount in ordered)))

    def between(self, start: int, end: int) -> int:
        """Return the sum from an instant to before another."""
        return self.sums[bisect_left(self.instants, end)] - self.sums[bisect_left(self.instants, start)]


@dataclass(frozen=True, slots=True)
class Account:
    """What one customer earned us and cost us, and their measurement windows, oldest first."""

    earned: Money
    spent: Money
    windows: tuple[tuple[int, int], ...]

    def unit(self, customer: str, arm: str, start: int, end: int) -> Unit:
        """Return what a span of the customer's time counts, with what they had earned before it."""
        cost = self.spent.between(start, end)
        return Unit(
            customer, arm, self.earned.between(start, end) - cost, self.earned.between(start - BEFORE, start), cost
        )

    def straddles(self, start: int) -> bool:
        """Return whether a window runs over an instant: what follows it is not of one group alone."""
        return any(begin < start < end for begin, end in self.windows)


@dataclass(frozen=True, slots=True)
class Whole:
    """The program from `since` to `until`: against nobody at all, and one way to choose against another.

    Each is None where no group was drawn for it. `straddling` counts the customers' periods that are left out, because
    a campaign of the period before still ran when they came to be held out, or were no longer.
    """

    since: int
    until: int
    customers: int
    against_none: Comparison | None
    methods: Comparison | None
    straddling: int = 0


def whole_program(ledger: Ledger, policy: Policy, since: int, until: int) -> Whole:
    """Return what the program was worth; who is in which group is found as the engine does, from the hashes alone."""
    spans = list(periods(since, until, policy.holdout_rotate)) if policy.holdout_bp else []
    held: list[Unit] = []
    compared: list[Unit] = []
    straddling = customers = 0
    for customer, account in ledger.accounts():
        customers += 1
        for start, end in spans:
            if start > since and account.straddles(start):
                straddling += 1
                continue
            arm = "control" if held_out(policy, customer, start) else "treatment"
            held.append(account.unit(customer, arm, start, end))
        if policy.compare:
            arm = "control" if method_for(policy, customer) == PRIORITY else "treatment"
            compared.append(account.unit(customer, arm, since, until))
    return Whole(
        since,
        until,
        customers,
        contrast("everybody else against the hold-out", held) if spans else None,
        contrast("expected_value against priority", compared) if policy.compare else None,
        straddling,
    )


def periods(since: int, until: int, rotate: str) -> Iterator[tuple[int, int]]:
    """Yield the hold-out periods between two instants, the first and the last as far as they lie within."""
    start, name = since, period_of(since, rotate)
    day = (since // DAY + 1) * DAY  # periods change at midnight, UTC
    while day < until:
        if (now := period_of(day, rotate)) != name:
            yield start, day
            start, name = day, now
        day += DAY
    if start < until:
        yield start, until


def first_of(outcomes: Iterable[Outcome]) -> int | None:
    """Return the instant of the first window, None before there is one."""
    return min((outcome["window_from"] for outcome in outcomes), default=None)


def fill(ledger: Ledger, outcomes: Iterable[Outcome], *, net: bool) -> None:
    """Enter every outcome, the newest revision of each, with what it cost where money is `net`.

    What was spent on a message that was taken back later was spent all the same.
    """
    for outcome in newest_of(outcomes):
        ledger.outcome(outcome, outcome["cost"] if net else 0)
