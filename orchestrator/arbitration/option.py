"""`Option`: one campaign for one open instance, with one of the offers that may go with it, examined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from orchestrator.arbitration.campaign import Campaign
from orchestrator.customer import Instance
from orchestrator.moments.rules import Moment
from orchestrator.reasons import Reason
from orchestrator.records import Candidate
from orchestrator.valuation import arm_of


@dataclass(frozen=True, slots=True)
class Option:
    """One campaign for one open instance; none where no campaign answers the moment."""

    campaign: Campaign | None
    moment: Moment
    key: str
    instance: Instance
    candidate: Candidate

    @property
    def arm(self) -> str:
        """What is chosen with it: the campaign, its offer and its channel."""
        assert self.campaign is not None
        return arm_of(self.campaign.name, self.candidate.offer, self.campaign.send.channel)

    def noted(self, **changes: Any) -> Option:
        """Return the option with other fields of its candidate."""
        noted = msgspec.structs.replace(self.candidate, **changes)
        return Option(self.campaign, self.moment, self.key, self.instance, noted)

    def with_every_offer(self) -> Iterator[Option]:
        """Yield the option once for each offer that this customer may have, in the order listed."""
        yield self
        if self.candidate.reason == Reason.CHOSEN:
            for check in self.candidate.offers:
                if check.passed and check.check != self.candidate.offer:
                    yield self.noted(offer=check.check)
