"""What a decision goes by beyond the rules: whom the customer is like, how far they have come, what each arm is worth.

There are none where nobody learns: then priorities are all there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.choice import method_for
from orchestrator.arbitration.eligibility import Situation
from orchestrator.arbitration.leaf import leaf_of
from orchestrator.arbitration.stage import stage_of
from orchestrator.valuation import COLD, LeafValue, PolicySnapshot
from orchestrator.view import CustomerView


@dataclass(frozen=True, slots=True)
class Grounds:
    """How is chosen for one customer now, and by which values; those are empty before the first snapshot."""

    view: CustomerView
    method: str
    leaf: str
    stage: str
    snapshot: PolicySnapshot | None
    values: LeafValue
    found: dict[str, Sequence[float]] = field(default_factory=dict)
    """What each arm is worth, found once for all candidates."""

    @property
    def version(self) -> str:
        """The snapshot in force, nothing before the first."""
        return "" if self.snapshot is None else self.snapshot.version

    def state(self, arm: str) -> str:
        """Return how much is known of an arm."""
        known = self.values.arms.get(arm)
        return COLD if known is None else known.state

    def worlds(self, arm: str) -> Sequence[float]:
        """Return per world what an arm is worth beyond a free slot, minor units; nothing where nobody knows."""
        found = self.found.get(arm)
        if found is None:
            known = self.values.arms.get(arm)
            found = self.found[arm] = () if known is None else self.values.advantages(known, self.stage)
        return found

    def value(self, arm: str) -> int | None:
        """Return what an arm is expected to be worth beyond a free slot, minor units, None where nobody knows."""
        return expected(self.worlds(arm))

    def control_bp(self, campaign: Campaign, arm: str) -> int:
        """Return the share of a campaign's winners that gets nothing: as learning asks, within its bounds."""
        known = self.values.arms.get(arm)
        if known is None:
            return campaign.control_bp
        return min(max(known.control_bp, campaign.control_floor_bp), campaign.control_bp)


def expected(worlds: Sequence[float]) -> int | None:
    """Return what is expected of something over all worlds, minor units, None where nobody knows."""
    return round(fsum(worlds) / len(worlds)) if worlds else None


def grounds_of(situation: Situation) -> Grounds | None:
    """Return what is known of a customer at the instant of a decision, None where nobody learns."""
    program = situation.program
    if not program.learns:
        return None
    view = CustomerView(program, situation.reference, situation.customer, situation.now)
    leaf = leaf_of(view)
    method = method_for(program.policy, situation.customer_id)
    # By priority alone nothing that was learned counts, so that it is the same whether anybody learns or not.
    snapshot = None if program.policy.method == "priority" else situation.reference.policy(situation.now)
    values = _NOTHING if snapshot is None else snapshot.leaf(leaf)
    return Grounds(view, method, leaf, stage_of(program, situation.customer, situation.now), snapshot, values)


_NOTHING = LeafValue()
