"""What a decision leaves behind, field by field as the schemas of the output topics say; times in milliseconds."""

from __future__ import annotations

from typing import Any

import msgspec

from orchestrator.events import FOREVER


class Check(msgspec.Struct, frozen=True, gc=False):
    """One check and the value it saw."""

    check: str
    passed: bool
    saw: str


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One campaign that could have answered one open moment, and why it did or did not."""

    campaign: str
    moment: str
    moment_key: str
    opened_at: int
    reason: str
    saw: str = ""
    retry_at: int | None = None
    propensity: float = 0.0
    priority: int = 0
    checks: tuple[Check, ...] = ()
    offer: str = ""
    offers: tuple[Check, ...] = ()
    value: int | None = None


class EndedMoment(msgspec.Struct, frozen=True, gc=False):
    """A moment instance whose life ended."""

    moment: str
    moment_key: str
    started_at: int
    opened_at: int
    state: str
    reason: str
    by: str = ""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One decision about one customer, also when it is none."""

    decision_id: str
    customer_id: str
    decided_at: int
    kind: str
    arm: str
    reason: str
    definitions_version: str
    campaign: str | None = None
    window_until: int | None = None
    trigger_id: str | None = None
    voids: str | None = None
    candidates: tuple[Candidate, ...] = ()
    ended: tuple[EndedMoment, ...] = ()
    policy_version: str = ""
    step: str = ""
    continues: str | None = None
    offer: str = ""
    cost: int = 0
    cost_bp: int = 0
    leaf: str = ""
    stage: str = ""
    none_propensity: float = 0.0
    chosen_by: str = ""
    control_bp: int = 0
    features: dict[str, float | str] = {}


class NamedProduct(msgspec.Struct, frozen=True, gc=False):
    """A product as a message names it; name and list price, minor units, as far as they are known."""

    sku: str
    name: str | None = None
    price: int | None = None


class CartLine(msgspec.Struct, frozen=True, gc=False):
    """What lies in a cart of one product; the price of one unit, minor units."""

    sku: str
    quantity: int
    price: int | None = None
    name: str | None = None


class ReorderWindow(msgspec.Struct, frozen=True, gc=False):
    """When the next order is due: before `earliest` and after `latest` come what the coverage leaves."""

    earliest: int
    expected: int
    latest: int
    coverage_bp: int


class Subscription(msgspec.Struct, frozen=True, gc=False):
    """A subscription to what somebody orders regularly, and what one delivery costs at the list price."""

    sku: str
    every_days: int
    quantity: int
    price: int | None = None


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What a message is to say: None or nothing where its campaign does not ask for it, or it is not known."""

    cart_lines: tuple[CartLine, ...] = ()
    product: NamedProduct | None = None
    due_product: NamedProduct | None = None
    next_quantity: int | None = None
    reorder_window: ReorderWindow | None = None
    subscription: Subscription | None = None
    new_collection: tuple[NamedProduct, ...] = ()
    recommended: tuple[NamedProduct, ...] = ()
    liked_by_similar: tuple[NamedProduct, ...] = ()


class Trigger(msgspec.Struct, frozen=True, gc=False):
    """What we ask a sender to do, or to take back."""

    trigger_id: str
    decision_id: str
    customer_id: str
    campaign: str
    channel: str
    template: str
    moment: str
    moment_key: str
    opened_at: int
    decided_at: int
    valid_until: int
    window_until: int
    definitions_version: str
    action: str = "send"
    step: str = ""
    content: dict[str, str] = {}
    message_class: str = "marketing"
    requested: tuple[str, ...] = ()
    offer: str = ""
    cost: int = 0
    cost_bp: int = 0
    facts: Facts | None = None


class CampaignOutcome(msgspec.Struct, frozen=True, gc=False):
    """What a customer did in one measurement window; money in minor units."""

    outcome_id: str
    revision: int
    decision_id: str
    customer_id: str
    campaign: str
    arm: str
    moment: str
    window_from: int
    window_until: int
    orders: int
    revenue: int
    margin: int
    cost: int
    unsubscribed: bool
    contaminated: bool
    void: bool
    definitions_version: str
    objective: str = "margin"
    new_categories: int = 0
    offer: str = ""
    earned_before: int = 0
    channel: str = ""
    responded: bool = False
    leaf: str = ""
    stage: str = ""
    propensity: float = 0.0
    none_propensity: float = 0.0
    control_bp: int = 0
    eligible: tuple[str, ...] = ()
    free_for: int = 0
    chosen_by: str = ""
    policy_version: str = ""
    known_at: int = 0
    interrupted: bool = False
    retained: bool = False


class ActiveCampaign(msgspec.Struct, frozen=True, gc=False):
    """What holds a customer's slot now."""

    customer_id: str
    decision_id: str
    campaign: str
    arm: str
    held_from: int
    held_until: int


class Effects:
    """Everything one customer's step emits, in order; `active` is the slot after it: a record, None when free, or
    unchanged when nothing was said. `repeated` counts events that were seen before; `next_due` is the instant at which
    time alone changes something next.
    """

    __slots__ = ("active", "active_changed", "decisions", "next_due", "outcomes", "repeated", "triggers")

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.triggers: list[Trigger] = []
        self.outcomes: list[CampaignOutcome] = []
        self.active: ActiveCampaign | None = None
        self.active_changed = False
        self.repeated = 0
        self.next_due = FOREVER

    def hold(self, active: ActiveCampaign | None) -> None:
        """Say what holds the slot now, None when it is free."""
        self.active = active
        self.active_changed = True


def to_record(value: msgspec.Struct) -> dict[str, Any]:
    """Return a value as the plain dict that Avro writes."""
    record: dict[str, Any] = msgspec.to_builtins(value)
    return record
