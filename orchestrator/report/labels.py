"""Short words for what became of decisions and moments, for charts and tables."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.reasons import Reason
from orchestrator.report.data import NO_RECORD, SEVERAL

SHORT: Mapping[Reason, str] = {
    Reason.CHOSEN: "message triggered",
    Reason.CONTROL: "held back as control",
    Reason.HOLDOUT: "hold-out group",
    Reason.NONE_BETTER: "sending nothing was better",
    Reason.OUTRANKED: "another campaign came first",
    Reason.SLOT_HELD: "slot held by a campaign",
    Reason.NOT_ELIGIBLE: "not meant for the customer",
    Reason.EXCLUDED: "customer left out",
    Reason.NO_CONSENT: "no consent",
    Reason.SUPPRESSED: "suppressed",
    Reason.REST: "some quiet after the last campaign",
    Reason.CAP: "enough messages for now",
    Reason.QUIET_HOURS: "quiet hours",
    Reason.SKU_CAP: "enough people told",
    Reason.TOO_OLD: "too old to act on",
    Reason.EXPIRED: "went stale",
    Reason.CANCELLED: "ended by an event",
    Reason.STOPPED: "its messages were ended",
    Reason.ALREADY_ANSWERED: "answered with another",
    Reason.UNKNOWN_VALUE: "a value is not known",
    Reason.NO_DEFINITION: "no campaign answers it",
}

CARTS: Mapping[str, tuple[str, str]] = {
    "abandoned": ("left for good", "each has exactly one record of what became of it"),
    "low_value": ("left, worth little", "not worth a reminder"),
    "emptied": ("emptied within the hour", "given up on purpose, so no reminder"),
    "bought_in_time": ("bought within the hour", "never decided about"),
    "bought_late": ("bought later the same day", "the order ends what is still open"),
}
"""The planted kinds of cart: what they are, and what should happen to them."""


METRICS: Mapping[str, str] = {
    "conversions": "customers who ordered",
    "new_category": "new categories",
    "retention": "customers who kept ordering",
    "unsubscribed": "customers who unsubscribed",
}
"""What is measured, where its name is not what people call it."""


def metric(word: str) -> str:
    """Return what people call what is measured."""
    return METRICS.get(word, word)


def about(count: int) -> str:
    """Return a number that is an estimate itself: its first two digits."""
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{-(-count // step) * step:,}"


def points(value: float, signed: bool = False) -> str:
    """Return a share in percent, or a difference of shares, such as +0.12 %."""
    return f"{100 * value:{'+' if signed else ''}.2f} %".replace("-", "−")


def reason(word: str) -> str:
    """Return the short form of a reason, or the word itself if it is a newer one."""
    try:
        return SHORT[Reason(word)]
    except ValueError:
        return word.replace("_", " ")


def fate(word: str) -> str:
    """Return the short form of what became of a moment."""
    state, colon, why = word.partition(": ")
    if word in {NO_RECORD, SEVERAL}:
        return word
    if not colon:
        return reason(word)
    return f"{'went stale' if state == 'expired' else 'not worth answering'}: {reason(why)}"


def money(value: float, currency: str, signed: bool = False, *, cents: bool = True) -> str:
    """Return minor units as an amount, such as −$1.20, or without cents where they would only be noise."""
    symbol = {"USD": "$", "EUR": "€", "GBP": "£"}.get(currency, f"{currency} " if currency else "")
    amount = round(value) / 100
    sign = "−" if amount < 0 else "+" if signed and amount > 0 else ""
    return f"{sign}{symbol}{abs(amount):,.{2 if cents else 0}f}"
