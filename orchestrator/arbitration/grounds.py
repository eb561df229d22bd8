"""What a decision goes by beyond the rules: whom the customer is like, how far they have come, what each arm is worth.

There are none where nobody learns: then priorities are all there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.choice import method_for
from orchestrator.arbitration.eligibility import Situation
from orchestrator.arbitration.leaf import leaf_of
from orchestrator.arbitration.stage import stage_of
from orchestrator.valuation import LeafValue, PolicySnapshot
from orchestrator.view import CustomerView


@dataclass(frozen=True, slots=True)
class Grounds:
    """How is chosen for one customer now, and by which values; those are empty before the first snapshot."""

    method: str
    leaf: str
    stage: str
    snapshot: PolicySnapshot | None
    values: LeafValue

    @property
    def version(self) -> str:
        """The snapshot in force, nothing before the first."""
        return "" if self.snapshot is None else self.snapshot.version

    def value(self, arm: str) -> int | None:
        """Return what an arm is expected to be worth beyond a free slot, minor units, None where that is unknown."""
        known = self.values.arms.get(arm)
        if known is None:
            return None
        worlds = self.values.advantages(known, self.stage)
        return round(fsum(worlds) / len(worlds))

    def control_bp(self, campaign: Campaign, arm: str) -> int:
        """Return the share of a campaign's winners that gets nothing: as learning asks, within its bounds."""
        known = self.values.arms.get(arm)
        if known is None:
            return campaign.control_bp
        return min(max(known.control_bp, campaign.control_floor_bp), campaign.control_bp)


def grounds_of(situation: Situation) -> Grounds | None:
    """Return what is known of a customer at the instant of a decision, None where nobody learns."""
    program = situation.program
    if not program.learns:
        return None
    leaf = leaf_of(CustomerView(program, situation.reference, situation.customer, situation.now))
    method = method_for(program.policy, situation.customer_id)
    # By priority alone nothing that was learned counts, so that it is the same whether anybody learns or not.
    snapshot = None if program.policy.method == "priority" else situation.reference.policy(situation.now)
    values = _NOTHING if snapshot is None else snapshot.leaf(leaf)
    return Grounds(method, leaf, stage_of(program, situation.customer, situation.now), snapshot, values)


_NOTHING = LeafValue()
