"""`Step`: one customer between two barriers: what is known, what may be looked up, and what is emitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from orchestrator.conditions import Condition
from orchestrator.customer import Customer
from orchestrator.events import FOREVER, Event
from orchestrator.features import Feature, keys_of
from orchestrator.identity import identify
from orchestrator.moments.rules import Moment
from orchestrator.program import Program
from orchestrator.quotas import Quotas
from orchestrator.reasons import Reason
from orchestrator.records import Decision, Effects, EndedMoment
from orchestrator.reference import Reference
from orchestrator.view import CustomerView

MAX_SENT: Final = 100
"""Messages remembered per customer for the caps: no cap allows that many."""


class Step:
    """One customer inside one step up to `clock`; `clock_before` is that of the step before: lateness goes by it.

    What goes out in it goes out at `not_before` at the earliest, whenever it was due.
    """

    __slots__ = (
        "_keys", "_keys_event", "clock", "clock_before", "customer", "customer_id", "effects", "not_before", "program",
        "quotas", "reference",
    )  # fmt: skip

    def __init__(
        self,
        program: Program,
        reference: Reference,
        customer_id: str,
        customer: Customer,
        clock_before: int,
        not_before: int = -FOREVER,
        clock: int = -FOREVER,
    ) -> None:
        self.program = program
        self.reference = reference
        self.customer_id = customer_id
        self.customer = customer
        self.clock_before = clock_before
        self.not_before = not_before
        self.clock = clock
        self.effects = Effects()
        self.quotas: Quotas | None = None
        self._keys: dict[str, tuple[str, ...]] = {}
        self._keys_event: Event | None = None

    def keys(self, event: Event, key: str) -> tuple[str, ...]:
        """Return the keys an event carries, looked up once for all that ask about one event."""
        if self._keys_event is not event:
            self._keys_event, self._keys = event, {}
        found = self._keys.get(key)
        if found is None:
            found = self._keys[key] = keys_of(event, key, self.reference)
        return found

    def learn(self, features: Iterable[Feature], event: Event) -> None:
        """Fold an event into the facts it concerns."""
        customer, assumed = self.customer, self.program.policy.assumed_margin_bp
        for feature in features:
            keys = None if feature.key is None or feature.kind == "next_order_date" else self.keys(event, feature.key)
            state = feature.fold(customer.fact(feature.name), event, self.reference, assumed, keys)
            customer.set_fact(feature.name, state)

    def holds(self, condition: Condition, moment: Moment, key: str) -> tuple[bool | None, str]:
        """Return the truth of a moment's condition now, None when unknown, and the values it saw."""
        view = CustomerView(self.program, self.reference, self.customer, self.customer.now, moment, key)
        return condition.holds(view), condition.saw(view)

    def reconsider(self, at: int) -> None:
        """Let the open moments be decided again, at an instant or as soon after it as no decision was taken before."""
        customer = self.customer
        # Strictly after the last instant evaluated, or two decisions over the same candidates would share an id.
        customer.decide_at = min(customer.decide_at, max(at, customer.now + 1))

    def count_message(self, at: int, channel: str) -> None:
        """Count a message for the caps."""
        customer = self.customer
        keep_from = max(at, customer.now) - self.program.longest_cap
        customer.sent[:] = [*(kept for kept in customer.sent[1 - MAX_SENT :] if kept[0] > keep_from), (at, channel)]

    def close(self, now: int, over: Sequence[EndedMoment]) -> None:
        """Record moments that ended unanswered."""
        over = self.named(over)
        self.effects.decisions.append(
            Decision(
                decision_id=identify(self.customer_id, now, "closing", *map(name_ended, over)),
                customer_id=self.customer_id,
                decided_at=now,
                kind="closing",
                arm="none",
                reason=over[0].reason,
                definitions_version=self.program.version,
                ended=over,
            )
        )

    def named(self, over: Sequence[EndedMoment]) -> tuple[EndedMoment, ...]:
        """Return what is over under every name it has, each as its own definition says it."""
        program = self.program
        if not program.filed.names:
            return tuple(over)
        said = {(one.moment, one.moment_key, one.opened_at) for one in over}
        found: list[EndedMoment] = []
        for one in over:
            filed = program.filed.filed_as.get(one.moment, one.moment)
            if one.moment != filed:
                found.append(one)  # answered under this name
            names = program.filed.names.get(filed)
            if names is None:
                found.append(one)
                continue
            others = (name for name in names if (name, one.moment_key, one.opened_at) not in said)
            found += [self._under(name, filed, one) for name in others]
        return tuple(found)

    def _under(self, name: str, filed: str, one: EndedMoment) -> EndedMoment:
        """Return what is over under another of its names."""
        own, reason, by = self.program.definitions.moments[name], one.reason, one.by
        if reason in (Reason.CHOSEN, Reason.CONTROL):
            reason = Reason.ALREADY_ANSWERED.value
        elif (
            one.state == "expired"
            and name in self.program.unanswered
            and reason not in (Reason.EXPIRED, Reason.TOO_OLD)
        ):
            reason, by = Reason.NO_DEFINITION.value, ""
        elif one.state == "unmet" and own.only_if is not None and own.only_if != self.program.moments[filed].only_if:
            view = CustomerView(self.program, self.reference, self.customer, self.customer.now, own, one.moment_key)
            by = own.only_if.saw(view) if " = " in by else by
        return msgspec.structs.replace(one, moment=name, reason=reason, by=by)


def name_ended(over: EndedMoment) -> str:
    """Return what names a moment that ended, for the id of the record that says so."""
    return f"{over.moment}/{over.moment_key}/{over.opened_at}/{over.started_at}"
