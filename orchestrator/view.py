"""What a condition can ask about one customer at one instant, perhaps about one moment."""

from __future__ import annotations

from typing import Any, Final

from orchestrator.customer import Customer
from orchestrator.features import Feature
from orchestrator.moments.rules import Moment
from orchestrator.program import Program
from orchestrator.reference import Reference
from orchestrator.rhythm import STAGES, stage_of


class CustomerView:
    """Answers conditions from a customer's state; unknown is None."""

    __slots__ = ("customer", "key", "moment", "now", "program", "reference")

    def __init__(
        self,
        program: Program,
        reference: Reference,
        customer: Customer,
        now: int,
        moment: Moment | None = None,
        key: str = "",
    ) -> None:
        self.program = program
        self.reference = reference
        self.customer = customer
        self.now = now
        self.moment = moment
        self.key = key

    def read(self, source: str, name: str, key: str | None) -> Any:
        """Return a value by its source and name, None when it is unknown."""
        if source == "feature":
            return self.feature(name, key)
        if source == "profile":
            profile = self.customer.profile
            if profile is None:
                return None
            return getattr(profile, name, None) if name in _PROFILE_FIELDS else profile.attributes.get(name)
        if source == "moment":
            return self.key or None
        if source == "product":
            product = self.reference.product(self.key, self.now)
            return getattr(product, name, None)
        return None

    def feature(self, name: str, key: str | None = None) -> Any:
        """Return a feature's value; a keyed one without a key is asked for the moment's own key."""
        feature = self.program.features[name]
        if feature.kind == "age_of":
            since = self.feature(feature.of or "", key)
            return None if since is None else self.now - since
        if feature.kind == "stage":
            stages = [stage for stage, _ in feature.bands]
            return stage_of(self.customer.fact(feature.of or "") or [], self.now, stages or STAGES)
        if feature.kind == "quantile":
            return self._band(feature, self.feature(feature.of or ""))
        if feature.key is not None and key is None:
            key = self.key
        return feature.read(self.customer.fact(feature.name), key, self.now, self.reference)

    def _band(self, feature: Feature, amount: int | None) -> str | None:
        """Return the highest band whose least value is reached: the snapshot's, before the first the definition's.

        None when neither says where a band begins that the amount might be in.
        """
        if amount is None:
            return None
        least = self.reference.cut_points(feature.name, self.now)
        for band, fixed in feature.bands:
            begins = fixed if least is None else least.get(band, fixed)
            if begins is None:
                return None
            if amount >= begins:
                return band
        return None

    def in_segment(self, name: str) -> bool | None:
        """Return whether the customer is in a segment now, None when that is unknown."""
        return self.program.segments[name].condition.holds(self)


_PROFILE_FIELDS: Final = frozenset({"birth_date", "time_zone", "country", "city"})
