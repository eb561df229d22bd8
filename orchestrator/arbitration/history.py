"""What became of earlier campaigns, from the customer's own windows: received, responded to, ignored.

Somebody received a campaign whose message was sent to them and not taken back. They responded if, before its window
ended, they clicked on one of its messages or placed an order of which something was kept; returns and late orders amend
that as they amend the outcome. They ignored it if its window is over and they did not respond. The control group has
received nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.arbitration.campaign import After, Exclusion
from orchestrator.conditions import readable
from orchestrator.customer import Customer, Window
from orchestrator.program import ADVANCED


def windows_of(customer: Customer, campaign: str) -> Iterator[Window]:
    """Yield a campaign's windows, the newest first."""
    if customer.window is not None and customer.window.campaign == campaign:
        yield customer.window
    yield from (window for window in reversed(customer.closed) if window.campaign == campaign)


def became_of(window: Window, now: int) -> str:
    """Return what became of a campaign as far as it is known: a word that `After` asks for, or why it is none."""
    if window.control:
        return "control group"
    if window.void:
        return "taken back"
    if responded(window):
        return "responded"
    return "ignored" if window.end <= now else "received"


def responded(window: Window) -> bool:
    """Return whether the customer clicked on a message of a window, or placed an order of which something was kept.

    In the control group, which got no message to click on, that is who would have come anyway.
    """
    return window.clicked or any(paid > 0 for paid, _ in window.orders.values())


def counts(window: Window, outcome: str, now: int) -> bool:
    """Return whether what became of a campaign is what is asked for."""
    if outcome == ADVANCED:
        return responded(window) and not window.void
    return counts_as(became_of(window, now), outcome)


def counts_as(became: str, outcome: str) -> bool:
    """Return whether a word for it is what is asked for; "" asks for nothing but that it was decided."""
    if outcome == "received":
        return became in ("received", "responded", "ignored")
    return not outcome or became == outcome


def follows(customer: Customer, after: After, now: int) -> tuple[bool, str]:
    """Return whether what a campaign must come after has happened in time, and what did."""
    newest = ""
    for window in windows_of(customer, after.campaign):
        if window.start < now - after.within:
            break
        became = became_of(window, now)
        said = f"{after.campaign}: {became}, {readable(now - window.start, 'duration')} ago"
        if counts_as(became, after.outcome):
            return True, said
        newest = newest or said
    return False, newest or f"{after.campaign}: not in {readable(after.within, 'duration')}"


def excluded_until(customer: Customer, exclusion: Exclusion) -> int | None:
    """Return until when an earlier campaign keeps another away, in both arms alike; None if it never was."""
    newest = next(windows_of(customer, exclusion.after), None)
    return None if newest is None else newest.start + exclusion.length
