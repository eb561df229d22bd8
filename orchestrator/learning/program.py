"""What all campaigns together are worth, and one way to choose against another: whole customers, drawn by hash.

Here nothing depends on whether a campaign was sent: a group is everybody whose hash says so (intention to treat), and
what counts is all they earned us, less what was spent on them. So it also sees what single windows cannot: orders
that only come earlier, and customers who tire.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate, chain
from typing import Any, NamedTuple

from orchestrator.arbitration.choice import EXPECTED_VALUE, EXPLORE, PRIORITY, method_for
from orchestrator.arbitration.eligibility import held_out
from orchestrator.arbitration.policy import Policy
from orchestrator.civil import period_of
from orchestrator.events import DAY, ERASED, FOREVER, ORDERED, PROFILE, Event
from orchestrator.features import line_margin
from orchestrator.learning.uplift import Comparison, Outcome, Unit, contrast, newest_of
from orchestrator.reference import Reference

BEFORE = 84 * DAY
"""How much of a customer's own past takes noise out of what they earn."""


class UnmeasurableError(ValueError):
    """Why nothing can be said of the program, and what to do, in words for a marketer."""


@dataclass(slots=True)
class _Order:
    at: int
    customer: str
    margin: int


class TooEarlyError(UnmeasurableError):
    """Nothing is known yet of what windows cost; waiting is all there is to do."""


class Span(NamedTuple):
    """A measurement window, and the method that must have chosen for it, empty where its record proves none."""

    start: int
    end: int
    method: str = ""


@dataclass(slots=True)
class Ledger:
    """What every customer earned us and cost us, from orders, what became of them, profiles, outcomes and decisions."""

    known: set[str] = field(default_factory=set)
    """Everybody who has a profile."""
    orders: dict[str, _Order] = field(default_factory=dict)
    _undone: dict[str, int | None] = field(default_factory=dict)
    _spent: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    _windows: dict[str, list[Span]] = field(default_factory=dict)
    _held: dict[str, list[int]] = field(default_factory=dict)
    longest: int = 0
    """The length of the longest window, also of those that are still open."""

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
        customer, start, end = outcome["customer_id"], outcome["window_from"], outcome["window_until"]
        self._windows.setdefault(customer, []).append(Span(start, end, _proven(outcome)))
        self.longest = max(self.longest, end - start)
        if cost:
            self._spent.setdefault(customer, []).append((start, cost))

    def decision(self, decision: Mapping[str, Any]) -> None:
        """Take in who was held out when, and how long a window is that may still be open."""
        customer, at, until = decision["customer_id"], decision["decided_at"], decision["window_until"]
        if decision["arm"] == "holdout":
            self._held.setdefault(customer, []).append(at)
        elif until is not None and decision["kind"] == "choice":
            self.longest = max(self.longest, until - at)

    def accounts(self, since: int) -> Iterator[tuple[str, Account]]:
        """Yield everybody by their ids: who has a profile, or, where there are no profiles, who ordered before.

        Whether somebody orders from then on is what is measured: to take those who did would leave out that more do.
        """
        booked: dict[str, list[tuple[int, int]]] = {}
        for order_id, order in self.orders.items():
            back = self._undone.get(order_id, 0)
            if back is not None:
                booked.setdefault(order.customer, []).append((order.at, order.margin - back))
        for customer in sorted(self.known or {order.customer for order in self.orders.values() if order.at < since}):
            money, spent = (Money.of(of.get(customer, ())) for of in (booked, self._spent))
            windows, held = self._windows.get(customer, ()), self._held.get(customer, ())
            yield customer, Account(money, spent, tuple(sorted(windows)), tuple(held))

    @property
    def last(self) -> int:
        """The last instant at which anybody ordered."""
        return max((order.at for order in self.orders.values()), default=0)

    @property
    def first(self) -> int:
        """The instant at which the first window began."""
        return min((window.start for windows in self._windows.values() for window in windows), default=FOREVER)

    def until(self, policy: Policy) -> int:
        """Return the instant before which it is known of every window when it was and what it cost.

        That is known once a window has ended and late orders were waited for. Orders are known at once: to count them
        up to the last would leave out what was spent on those messages.
        """
        waits = max((policy.default_disorder, *policy.disorder.values())) if self.longest else 0
        return self.last + 1 - self.longest - waits


def _proven(outcome: Outcome) -> str:
    """Return the method that must have chosen a campaign, empty where either can have."""
    by = outcome.get("chosen_by")
    if by in (EXPECTED_VALUE, EXPLORE):
        return EXPECTED_VALUE
    # Before anything is known, value takes the first as well; but it explores, so that it is never sure among several.
    sure = outcome.get("propensity", 0.0) == 1.0 and len(outcome.get("eligible", ())) > 1
    return PRIORITY if by == "" or (by == PRIORITY and sure) else ""


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
    """What one customer earned us and cost us, their measurement windows, oldest first, and when they were held out."""

    earned: Money
    spent: Money
    windows: tuple[Span, ...]
    held: tuple[int, ...] = ()

    def unit(self, customer: str, arm: str, start: int, end: int, drawn: int) -> Unit:
        """Return what a span of the customer's time counts, with what they had earned before the groups were drawn.

        What they earned since is no history: it is an effect already.
        """
        cost = self.spent.between(start, end)
        return Unit(
            customer, arm, self.earned.between(start, end) - cost, self.earned.between(drawn - BEFORE, drawn), cost
        )

    def straddles(self, drawn: int, start: int) -> bool:
        """Return whether a window from before groups were drawn runs on after an instant: that is of no group alone."""
        return any(window.start < drawn and window.end > start for window in self.windows)


@dataclass(frozen=True, slots=True)
class Whole:
    """The program from `since` to `until`: against nobody at all, and one way to choose against another.

    Each is None where no group was drawn for it. `straddling` counts the customers' periods that are left out, because
    a campaign of the period before still ran when they came to be held out, or were no longer. `notes` are what a
    reader of the figures has to know, one sentence each.
    """

    since: int
    until: int
    customers: int
    against_none: Comparison | None
    methods: Comparison | None
    straddling: int = 0
    notes: tuple[str, ...] = ()


def whole_program(ledger: Ledger, policy: Policy, since: int, until: int) -> Whole:
    """Return what the program was worth; who is in which group is found as the engine does, from the hashes alone.

    Raise an UnmeasurableError where that is not who was, or where it is not known who there was.
    """
    if until <= since:
        raise TooEarlyError(
            f"too early to measure from {_day(since)} on: what a window cost is known when it has ended, and the "
            f"longest takes {-(-ledger.longest // DAY)} days"
        )
    origin = min(since, ledger.first)
    spans = list(periods(origin, until, policy.holdout_rotate)) if policy.holdout_bp else []
    held: list[Unit] = []
    compared: list[Unit] = []
    belied: tuple[list[int], ...] = ([], [], [])
    customers = straddling = 0
    for customer, account in ledger.accounts(since):
        customers += 1
        for found, instants in zip(belied, _belied(policy, customer, account), strict=True):
            found += (at for at in instants if at > since)
        for drawn, end in spans:
            start = max(drawn, since)
            if end <= since:
                continue
            if drawn > origin and account.straddles(drawn, start):
                straddling += 1
                continue
            arm = "control" if held_out(policy, customer, start) else "treatment"
            held.append(account.unit(customer, arm, start, end, drawn))
        if policy.compare:
            arm = "control" if method_for(policy, customer) == PRIORITY else "treatment"
            compared.append(account.unit(customer, arm, since, until, origin))
    if not customers:
        raise UnmeasurableError(
            f"no profile was read, and nobody ordered before {_day(since)}: nobody knows who did not order; read the "
            "profiles as well, or name a later --since"
        )
    _check(belied, since)
    return Whole(
        since,
        until,
        customers,
        contrast("everybody else against the hold-out", held) if spans else None,
        contrast("expected_value against priority", compared) if policy.compare else None,
        straddling,
        tuple(_notes(ledger, since, until)),
    )


_BELIED = (
    "customers of the hold-out had {:,} windows",
    "customers who are not in the hold-out were held out {:,} times",
    "{:,} windows were chosen by the other method of `compare`",
)


def _check(belied: Sequence[list[int]], since: int) -> None:
    """Raise an UnmeasurableError where records say another group than today's hash, with the day from which none does.

    Who was written to before the hold-out was introduced would count as held out, and hide what campaigns do.
    """
    said = [
        f"{text.format(len(instants))} before {_day(_after(instants))}"
        for text, instants in zip(_BELIED, belied, strict=True)
        if instants
    ]
    if said:
        raise UnmeasurableError(
            f"{'; '.join(said)}: `holdout` or `compare` was introduced or changed later than {_day(since)}, so the "
            f"groups were others; measure from then on: --since {_day(_after(chain(*belied)))}"
        )


def _belied(policy: Policy, customer: str, account: Account) -> tuple[list[int], list[int], list[int]]:
    """Return when windows of the hold-out ended, when others were held out, and when windows of the other method ended.

    The ends, for what a window does goes on until then.
    """
    written_to: list[int] = []
    left_alone: list[int] = []
    dealt: list[int] = []
    if policy.holdout_bp:
        written_to = [window.end for window in account.windows if held_out(policy, customer, window.start)]
        left_alone = [at + 1 for at in account.held if not held_out(policy, customer, at)]
    if policy.compare:
        method = method_for(policy, customer)
        # Value that does not explore is as sure as priority.
        telling = (EXPECTED_VALUE, PRIORITY) if policy.explore_floor_bp else (EXPECTED_VALUE,)
        dealt = [window.end for window in account.windows if window.method in telling and window.method != method]
    return written_to, left_alone, dealt


def _after(instants: Iterable[int]) -> int:
    """Return the first midnight that is not before any of some instants."""
    return -(-max(instants) // DAY) * DAY


def _notes(ledger: Ledger, since: int, until: int) -> Iterator[str]:
    if until <= ledger.last:
        yield (
            f"The program is measured to {_day(until)}, not to the last order on {_day(ledger.last)}: what was spent "
            "is known of windows that have ended."
        )
    if not ledger.known:
        yield f"No profile was read: only customers who had ordered before {_day(since)} are compared."


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")


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
