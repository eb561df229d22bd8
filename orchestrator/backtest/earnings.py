"""What customers earned us, from recorded events: the orders, what became of them, and who there is."""

from __future__ import annotations

from orchestrator.arbitration.policy import Policy
from orchestrator.backtest.history import History, Seen
from orchestrator.backtest.pool import Progress
from orchestrator.learning.program import Ledger


def ledger_of(history: History, policy: Policy, progress: Progress) -> Ledger:
    """Return a ledger with everything that the recorded events say of money."""
    ledger, seen, reference = Ledger(), Seen(), history.products()
    for reader in range(history.readers):
        for _, _, event in history.read(reader, seen):
            ledger.event(event, reference, policy.assumed_margin_bp)
        progress("reading", reader + 1, history.readers)
    return ledger
