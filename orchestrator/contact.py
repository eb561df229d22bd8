"""What a customer allowed us and what we know of them: consent and profile."""

from __future__ import annotations

from typing import Final

from orchestrator.customer import Customer, Profile
from orchestrator.events import Event

MAX_CONSENTS: Final = 32
"""Channels and purposes remembered per customer; beyond, the one that was answered first is forgotten, a no first.

No record means no message, so whoever floods us with opt-outs only silences themselves.
"""


def learn_profile(customer: Customer, event: Event) -> bool:
    """Take over a profile record, unless a newer one is known; return whether any consent changed."""
    data = event.data
    changed = False
    for consent in data.get("consents") or ():
        channel = f"{consent['channel']}/{consent.get('purpose', 'marketing')}"
        changed |= give_consent(customer, channel, consent["granted"], consent.get("at", event.time))
    known = customer.profile
    if known is None or event.time >= known.updated_at:
        customer.profile = Profile(
            event.time,
            data.get("birth_date"),
            data.get("time_zone"),
            data.get("country"),
            data.get("city"),
            data.get("attributes") or {},
        )
    return changed


def give_consent(customer: Customer, channel: str, granted: bool, at: int) -> bool:
    """Keep one consent, by `channel/purpose`; return whether the answer changed.

    An opt-out acts whatever its time, for the customer said no; an opt-in only if it is not older than what is known.
    """
    known = customer.consents.get(channel)
    if known is not None and known[0] == granted:
        customer.consents[channel] = (granted, max(at, known[1]))  # the last no is what a yes must be newer than
        return False
    if granted and known is not None and at < known[1]:
        return False
    consents = customer.consents
    consents[channel] = (granted, at)
    if len(consents) > MAX_CONSENTS:
        refused = (name for name, (yes, _) in consents.items() if not yes and name != channel)
        del consents[next(refused, next(iter(consents)))]
    return True
