"""Which campaign grew from which, over the iterations in which campaigns are split and replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.arbitration.campaign import Campaign
from orchestrator.program import Definitions


@dataclass(frozen=True, slots=True)
class Lineage:
    """The campaigns of definitions by name, and the children of each in the order written; some are gone."""

    campaigns: Mapping[str, Campaign]
    children: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, definitions: Definitions) -> Lineage:
        """Return the lineage that `grew_from` tells."""
        children: dict[str, tuple[str, ...]] = {}
        for name, campaign in definitions.campaigns.items():
            if campaign.grew_from:
                children[campaign.grew_from] = (*children.get(campaign.grew_from, ()), name)
        return cls(definitions.campaigns, children)

    @property
    def first(self) -> tuple[str, ...]:
        """The campaigns that grew from no other, those that are gone included."""
        gone = [name for name in self.children if name not in self.campaigns]
        return (*gone, *(name for name, campaign in self.campaigns.items() if not campaign.grew_from))

    def lines(self) -> Iterator[str]:
        """Yield the trees line by line, each campaign with whom it is for and what it sends."""
        for name in self.first:
            yield from self._lines(name, "", "")

    def _lines(self, name: str, here: str, below: str) -> Iterator[str]:
        campaign = self.campaigns.get(name)
        if campaign is None:
            yield f"{here}{name} (gone)"
        else:
            sends = ", ".join(send.template for send in campaign.sends)
            whom = f", only if {campaign.only_if.text}" if campaign.only_if is not None else ""
            yield f"{here}{name}: {sends} by {campaign.send.channel}{whom}"
        children = self.children.get(name, ())
        for place, child in enumerate(children, 1):
            last = place == len(children)
            yield from self._lines(child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))

    def as_dict(self) -> dict[str, Any]:
        """Return the parent of every campaign that has one, for programs."""
        return {name: campaign.grew_from or None for name, campaign in self.campaigns.items()}
