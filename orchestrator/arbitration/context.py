"""How the campaign of a window was chosen, as its decision's record tells: the same when it is decided and recalled."""

from __future__ import annotations

from math import fsum

from orchestrator.customer import Context, Customer, Window
from orchestrator.program import Program
from orchestrator.reasons import Reason
from orchestrator.records import Candidate, Decision
from orchestrator.valuation import arm_of

ELIGIBLE = frozenset({Reason.CHOSEN, Reason.CONTROL, Reason.OUTRANKED, Reason.ALREADY_ANSWERED, Reason.NONE_BETTER})
"""What is said of candidates that passed every check."""


def context_of(program: Program, customer: Customer, decision: Decision, winner: Candidate) -> Context | None:
    """Return what who learns from a decision's outcome must know of it, None where nobody learns.

    The customer is as at the instant of the decision.
    """
    if not decision.chosen_by:
        return None
    arms = [(_arm(program, one), one.propensity) for one in decision.candidates if one.reason in ELIGIBLE]
    own = _arm(program, winner)
    last = customer.closed[-1] if customer.closed else None
    return Context(
        leaf=decision.leaf,
        stage=decision.stage,
        channel=_channel(program, winner),
        # The same arm may answer several moments, and whichever it answers, it is measured by the arm.
        propensity=fsum(chance for arm, chance in arms if arm == own),
        none_propensity=decision.none_propensity,
        control_bp=decision.control_bp,
        eligible=sorted({arm for arm, _ in arms}),
        free_for=-1 if last is None else decision.decided_at - last.end,
        chosen_by=decision.chosen_by,
        policy_version=decision.policy_version,
        interrupted=last is not None and _was_cut_short(last) and last.end == decision.decided_at,
    )


def _was_cut_short(window: Window) -> bool:
    return window.context is not None and window.context.interrupted


def _arm(program: Program, candidate: Candidate) -> str:
    return arm_of(candidate.campaign, candidate.offer, _channel(program, candidate))


def _channel(program: Program, candidate: Candidate) -> str:
    campaign = program.campaigns.get(candidate.campaign)
    return "email" if campaign is None else campaign.send.channel  # one that is gone since
