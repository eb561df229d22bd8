"""The paths that customers really took: moment, campaign, order or none, next campaign; folded from output records."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.learning.uplift import newest_of
from orchestrator.reasons import Reason
from orchestrator.report.data import Record, fate_of

Pair = tuple[str, str]
"""Where a path comes from and where it goes."""

NOTHING, TOO_EARLY = "(nothing further)", "(too early to tell)"
"""What comes after a window when no campaign does, and while one still may; no name is written like that."""


@dataclass(slots=True)
class Walked:
    """How many windows took a path, in each arm, and in how many of them the customer ordered."""

    treatment: int = 0
    treatment_ordered: int = 0
    control: int = 0
    control_ordered: int = 0

    @property
    def windows(self) -> int:
        """Return how many there were in both arms."""
        return self.treatment + self.control

    def count(self, window: _Window) -> None:
        """Take in one window."""
        if window.arm == "control":
            self.control += 1
            self.control_ordered += window.ordered
        else:
            self.treatment += 1
            self.treatment_ordered += window.ordered


@dataclass(frozen=True, slots=True)
class Journeys:
    """All paths: from the moment to the campaign that answered it, and from there to what came next.

    A campaign comes next when it is decided no later than `within` after the window before it has ended. `imagined` are
    the pairs of `leads_to`; `unanswered` has, per moment, what became of it without a campaign; `unmeasured` counts
    windows without an outcome so far, which have no order that we know of.
    """

    within: int
    customers: int
    answered: Mapping[Pair, Walked]
    followed: Mapping[Pair, Walked]
    unanswered: Mapping[str, Mapping[str, int]]
    unmeasured: int = 0
    imagined: frozenset[Pair] = frozenset()

    @classmethod
    def fold(
        cls,
        decisions: Iterable[Record],
        outcomes: Iterable[Record],
        *,
        within: int,
        imagined: Iterable[Pair] = (),
    ) -> Journeys:
        """Return the paths in decision and outcome records, in whatever order these come."""
        found = _Fold()
        for decision in decisions:
            found.decision(decision)
        for outcome in newest_of(outcomes):
            found.outcome(outcome)
        return found.journeys(within, frozenset(imagined))

    @property
    def untaken(self) -> list[Pair]:
        """Return what `leads_to` imagines and nobody did."""
        return sorted(self.imagined - self.followed.keys())

    def as_dict(self) -> dict[str, Any]:
        """Return everything for programs; the time is in milliseconds."""

        def listed(paths: Mapping[Pair, Walked], source: str, target: str) -> list[dict[str, Any]]:
            return [{source: pair[0], target: pair[1]} | asdict(walked) for pair, walked in paths.items()]

        followed = listed(self.followed, "campaign", "next")
        return {
            "within": self.within,
            "customers": self.customers,
            "answered": listed(self.answered, "moment", "campaign"),
            "followed": [one | {"imagined": (one["campaign"], one["next"]) in self.imagined} for one in followed],
            "untaken": [{"campaign": source, "next": target} for source, target in self.untaken],
            "unanswered": {moment: dict(fates) for moment, fates in self.unanswered.items()},
            "unmeasured": self.unmeasured,
        }


@dataclass(slots=True)
class _Window:
    """One measurement window, in either arm."""

    start: int
    end: int
    campaign: str
    arm: str
    moment: str
    ordered: bool = False
    measured: bool = False


@dataclass(slots=True)
class _Fold:
    """What is kept until all records are read: every window by its decision, and the decisions taken back."""

    windows: dict[str, dict[str, _Window]] = field(default_factory=lambda: defaultdict(dict))
    void: set[str] = field(default_factory=set)
    ended: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    last: int = 0

    def decision(self, record: Record) -> None:
        """Take in one decision."""
        self.last = max(self.last, record["decided_at"])
        if record["kind"] == "void":
            self.void.add(record["voids"])
        elif record["kind"] == "choice" and record["window_until"] is not None:
            window = _Window(
                record["decided_at"], record["window_until"], record["campaign"], record["arm"], _moment_of(record)
            )
            self.windows[record["customer_id"]][record["decision_id"]] = window
        for ended in record["ended"]:
            if ended["state"] != "acted":
                self.ended[ended["moment"]][fate_of(ended["state"], ended["reason"])] += 1

    def outcome(self, record: Record) -> None:
        """Take in what a window came to."""
        self.last = max(self.last, record["window_until"])
        if record["void"]:
            self.void.add(record["decision_id"])
        elif window := self.windows.get(record["customer_id"], {}).get(record["decision_id"]):
            window.measured, window.ordered = True, record["orders"] > 0

    def journeys(self, within: int, imagined: frozenset[Pair]) -> Journeys:
        """Return the counts."""
        answered: defaultdict[Pair, Walked] = defaultdict(Walked)
        followed: defaultdict[Pair, Walked] = defaultdict(Walked)
        customers = unmeasured = 0
        for windows in self.windows.values():
            path = sorted(
                (one for decision, one in windows.items() if decision not in self.void), key=lambda one: one.start
            )
            customers += bool(path)
            for window, after in zip(path, [*path[1:], None], strict=True):
                unmeasured += not window.measured
                answered[window.moment, window.campaign].count(window)
                followed[window.campaign, self._next(window, after, within)].count(window)
        return Journeys(
            within,
            customers,
            dict(sorted(answered.items())),
            dict(sorted(followed.items())),
            {moment: dict(sorted(fates.items())) for moment, fates in sorted(self.ended.items())},
            unmeasured,
            imagined,
        )

    def _next(self, window: _Window, after: _Window | None, within: int) -> str:
        limit = window.end + within
        if after is not None and after.start <= limit:
            return after.campaign
        return NOTHING if after is not None or self.last >= limit else TOO_EARLY


def _moment_of(decision: Record) -> str:
    """Return the moment that the chosen campaign answers."""
    moment: str = next(
        one["moment"]
        for one in decision["candidates"]
        if one["campaign"] == decision["campaign"] and one["reason"] in (Reason.CHOSEN, Reason.CONTROL)
    )
    return moment
