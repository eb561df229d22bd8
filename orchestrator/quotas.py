"""Caps that customers share: whom one partition has told about which product, and when it may tell one more.

Partitions decide on their own, so the total of a cap is divided among them: each has its fixed share, the first ones
one more where it does not divide. That needs nobody to be asked, gives the same result in every run, and is never above
the total; the price is that one partition may have used its share while another has some left. What was used is part
of the partition's own state, committed with the decisions that used it.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable

from orchestrator.arbitration.campaign import SharedCap

MAX_USES = 20_000
"""Uses remembered by one partition; when there are more, nobody else is told until some are forgotten."""


class Quotas:
    """The uses of one partition of so many: for each campaign and key, the instants in order."""

    __slots__ = ("count", "number", "partitions", "uses")

    def __init__(self, uses: dict[str, list[int]] | None = None, number: int = 0, partitions: int = 1) -> None:
        self.uses = {} if uses is None else uses
        self.number = number
        self.partitions = partitions
        self.count = sum(map(len, self.uses.values()))

    def share(self, cap: SharedCap) -> int:
        """Return how much of a cap this partition may use; the shares of all partitions are the total."""
        return cap.total // self.partitions + (self.number < cap.total % self.partitions)

    def used(self, campaign: str, key: str, cap: SharedCap, now: int) -> int:
        """Return how much is used now."""
        instants = self.uses.get(_name(campaign, key), ())
        return bisect_right(instants, now) - bisect_right(instants, now - cap.over)

    def allows(self, campaign: str, key: str, cap: SharedCap, at: int) -> bool:
        """Return whether one more use at an instant keeps every stretch of time within the share.

        Customers are decided one after the other, so a later instant may have been used before an earlier one.
        """
        share = self.share(cap)
        if not share or self.count >= MAX_USES:
            return False
        instants = self.uses.get(_name(campaign, key), [])
        place = bisect_right(instants, at)
        around = [*instants[max(0, place - share) : place], at, *instants[place : place + share]]
        return all(last - first >= cap.over for first, last in zip(around, around[share:], strict=False))

    def free_at(self, campaign: str, key: str, cap: SharedCap, now: int) -> int | None:
        """Return from when on one more may be used, None when that cannot be told."""
        instants = self.uses.get(_name(campaign, key), ())
        later = (at + cap.over for at in instants if at + cap.over > now)
        return next((at for at in later if self.allows(campaign, key, cap, at)), None)

    def use(self, campaign: str, key: str, at: int) -> None:
        """Count one use."""
        insort(self.uses.setdefault(_name(campaign, key), []), at)
        self.count += 1

    def forget(self, caps: Iterable[tuple[str, SharedCap]], before: int) -> None:
        """Forget the uses that count for nothing decided at an instant or later; those of campaigns that are gone."""
        lengths = {campaign: cap.over for campaign, cap in caps}
        for name in list(self.uses):
            over = lengths.get(name.partition("/")[0])
            instants = self.uses[name]
            old = len(instants) if over is None else bisect_right(instants, before - over)
            self.count -= old
            if old == len(instants):
                del self.uses[name]
            else:
                del instants[:old]


def _name(campaign: str, key: str) -> str:
    return f"{campaign}/{key}"
