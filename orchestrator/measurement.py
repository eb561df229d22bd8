"""What a customer did in a measurement window: every order in it counts, in treatment and control alike.

No click is asked for and no order attributed: the outcome is the customer's whole margin between the decision and the
end of the window (intention to treat). A closed window can still be amended by late orders and returns for as long as
the policy's `amend_for` says; each amendment is the next revision of the same outcome.
"""

from __future__ import annotations

from orchestrator.customer import Customer, Window
from orchestrator.events import Event
from orchestrator.features import line_margin
from orchestrator.records import ActiveCampaign, CampaignOutcome
from orchestrator.reference import Reference


def order_value(event: Event, reference: Reference, assumed_bp: int) -> tuple[int, int]:
    """Return what an order paid and earned, minor units."""
    margin = sum(line_margin(line, event.time, reference, assumed_bp) for line in event.data.get("lines", ()))
    return int(event.data.get("total") or 0), margin


def place_order(customer: Customer, event: Event, reference: Reference, assumed_bp: int) -> list[Window]:
    """Count an order in the windows it falls into; return the closed ones that this amends."""
    amended = []
    for window, closed in _windows(customer):
        if window.start <= event.time < window.end and event.data["order_id"] not in window.orders:
            window.orders[event.data["order_id"]] = order_value(event, reference, assumed_bp)
            if closed:
                amended.append(window)
    return amended


def undo_order(customer: Customer, event: Event, reference: Reference, assumed_bp: int) -> list[Window]:
    """Take a cancelled order, or what was returned of one, out of its windows; return the closed ones this amends."""
    amended = []
    order_id = event.data["order_id"]
    for window, closed in _windows(customer):
        if order_id not in window.orders:
            continue
        if event.name == "order.returned" and event.data.get("lines"):
            paid, earned = window.orders[order_id]
            back = sum(int(line["price"]) for line in event.data["lines"])
            lost = sum(line_margin(line, event.time, reference, assumed_bp) for line in event.data["lines"])
            window.orders[order_id] = (paid - back, earned - lost)
        else:
            del window.orders[order_id]
        if closed:
            amended.append(window)
    return amended


def _windows(customer: Customer) -> list[tuple[Window, bool]]:
    running = [] if customer.window is None else [(customer.window, False)]
    return running + [(window, True) for window in customer.closed]


def outcome_of(window: Window, customer_id: str) -> CampaignOutcome:
    """Return the window's outcome and raise its revision."""
    window.revision += 1
    return CampaignOutcome(
        outcome_id=window.decision_id,
        revision=window.revision,
        decision_id=window.decision_id,
        customer_id=customer_id,
        campaign=window.campaign,
        arm="control" if window.control else "treatment",
        moment=window.moment,
        window_from=window.start,
        window_until=window.end,
        orders=len(window.orders),
        revenue=sum(paid for paid, _ in window.orders.values()),
        margin=sum(earned for _, earned in window.orders.values()),
        cost=0 if window.control else window.cost,
        unsubscribed=window.unsubscribed,
        contaminated=window.contaminated,
        void=window.void,
        definitions_version=window.version,
    )


def active_of(window: Window, customer_id: str) -> ActiveCampaign:
    """Return the record that says this window holds the customer's slot."""
    arm = "control" if window.control else "treatment"
    return ActiveCampaign(customer_id, window.decision_id, window.campaign, arm, window.start, window.end)
