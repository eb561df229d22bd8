"""What a customer did in a measurement window: every order in it counts, in treatment and control alike.

No click is asked for and no order attributed: the outcome is the customer's whole margin between the decision and the
end of the window (intention to treat). A closed window can still be amended by late orders and returns for as long as
the policy's `amend_for` says; each amendment is the next revision of the same outcome.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orchestrator.arbitration.history import counts, responded
from orchestrator.customer import Context, Customer, Window
from orchestrator.events import CLICKED, DAY, FOREVER, ORDERED, Event
from orchestrator.features import MAX_KEY, line_margin
from orchestrator.identity import fingerprint
from orchestrator.program import Program
from orchestrator.records import ActiveCampaign, CampaignOutcome
from orchestrator.step import Step

SLOT: Final = ""
"""The name under which the end of the running measurement window waits among the moments' timers."""

FORGOTTEN: Final = "(erased)"
"""What a slot is named that was held before its customer was erased: no campaign has such a name."""

NEW_CATEGORY: Final = "new_category"
"""The objective that counts the categories which a customer bought for the first time."""

RETENTION: Final = "retention"
"""The objective that asks who still orders when the campaign is long over: in the second half of its window.

Not in the time after the window, for that belongs to other campaigns.
"""

FIRST_BOUGHT: Final = "first_bought.category"
"""The feature behind it: since when each category was bought."""

WEEK: Final = 7 * DAY
HISTORY: Final = 12
"""Weeks of a customer's own past that are kept, to take noise out of what they earn in a window (docs/decisions.md)."""

MAX_ORDERS: Final = 200
"""Orders counted in one window; who orders more often is no person, and would only cost state."""


def hold_slot(step: Step, window: Window) -> None:
    """Let a window take the customer's slot until it ends; stragglers are waited for before anybody else may."""
    step.customer.window = window
    window.earned_before = earned_before(step.customer, window.start)
    step.customer.fires[SLOT] = window.end + step.program.order_disorder
    step.effects.hold(active_of(window, step.customer_id))


def earned_before(customer: Customer, now: int) -> int:
    """Return the margin of the last twelve weeks, the running one included, minor units."""
    newest, *margins = customer.earned or [0]
    return sum(margins[: max(0, newest - now // WEEK + HISTORY)])


def remember_earned(step: Step, event: Event) -> None:
    """Add an order's margin to its week, however late it is told.

    Returns are not taken off again: anything that was known before a window may explain what happens in it.
    """
    week = event.time // WEEK
    newest, *margins = step.customer.earned or [week]
    if week > newest:
        margins = [0] * min(week - newest, HISTORY) + margins
        newest = week
    back = newest - week
    if back < HISTORY:
        margins += [0] * (back + 1 - len(margins))
        margins[back] += _margin(step, event)
        step.customer.earned = [newest, *margins[:HISTORY]]


def slot_left(customer: Customer) -> int:
    """Return the end of a customer's last window, which alone outlives an erasure; -FOREVER when there was none."""
    windows = customer.closed if customer.window is None else [*customer.closed, customer.window]
    return max((window.end for window in windows), default=-FOREVER)


def may_overlap(program: Program, until: int, clock_before: int) -> bool:
    """Return whether what is still to be decided after an instant could lie before the end of a window: late events."""
    return until > -FOREVER and until + program.longest_late > clock_before


def inherit_slot(program: Program, customer: Customer, until: int) -> None:
    """Let somebody who comes back after an erasure wait for the end of the window that ran before it."""
    customer.window = Window("", FORGOTTEN, control=False, moment="", start=until, end=until, cost=0, version="")
    customer.fires[SLOT] = until + program.order_disorder


def release_slot(step: Step) -> None:
    """End the running window: its outcome is final but for amendments, and the slot is free."""
    customer, window = step.customer, step.customer.window
    assert window is not None
    del customer.fires[SLOT]
    customer.window = None
    if window.campaign == FORGOTTEN:
        return  # what was measured in it is gone, and nobody was told that it holds the slot
    step.effects.outcomes.append(outcome_of(window, step.customer_id, customer.now))
    step.effects.hold(None)
    customer.closed[:] = [*_kept(step), window]


def _kept(step: Step) -> list[Window]:
    """Return the closed windows that returns may still amend, and those that answer what other campaigns ask.

    What became of an older one is final, so of all that answer the same question the last is enough.
    """
    closed, now = step.customer.closed, step.customer.now
    keep_from = now - step.program.policy.amend_for
    kept = [window for window in closed if window.end >= keep_from]
    old = [window for window in closed if window.end < keep_from]
    if not old:
        return kept
    answers = [_last(old, now, *question) for question in step.program.remembered]
    return [*(window for window in old if any(window is answer for answer in answers)), *kept]


def _last(windows: list[Window], now: int, campaign: str, outcome: str, length: int) -> Window | None:
    """Return the last window of which something became, made small: it is neither measured nor amended any more."""
    for window in reversed(windows):
        if window.campaign != campaign or window.start < now - length:
            continue
        if counts(window, outcome, now):
            window.clicked = responded(window)
            window.orders, window.categories, window.triggers, window.context, window.late = {}, {}, [], None, []
            return window
    return None


def measure(step: Step, event: Event) -> None:
    """Count an event in the windows that it falls into; each closed one that this changes is emitted again."""
    amended = [window for window, closed in _windows(step, event) if _count(step, window, event) and closed]
    emit_amended(step, amended, max(event.time, step.customer.now))


def emit_amended(step: Step, windows: Iterable[Window], at: int) -> None:
    """Emit the next revision of the outcomes of closed windows, by what is known at an instant."""
    step.effects.outcomes.extend(outcome_of(window, step.customer_id, at) for window in windows)


def _windows(step: Step, event: Event) -> list[tuple[Window, bool]]:
    """Return the windows an event may still change, and whether each is closed."""
    customer, amend_for = step.customer, step.program.policy.amend_for
    closed = [(window, True) for window in customer.closed if event.time <= window.end + amend_for]
    running = customer.window
    return closed if running is None or running.campaign == FORGOTTEN else [*closed, (running, False)]


def _count(step: Step, window: Window, event: Event) -> bool:
    """Let an event change one window; return whether it did."""
    if event.name in ("order.cancelled", "order.returned"):
        return _undo_order(step, window, event)
    if not window.start <= event.time < window.end:
        return False
    if event.name == ORDERED:
        return _place_order(step, window, event)
    if event.name == CLICKED:
        # Whoever names the trigger is believed; without one the campaign's name will do.
        trigger_id = event.data.get("trigger_id")
        ours = trigger_id in window.triggers if trigger_id else event.data.get("campaign") == window.campaign
        before = responded(window)
        window.clicked = window.clicked or (ours and not window.control)
        return responded(window) is not before
    if event.name == "customer.unsubscribed":
        changed, window.unsubscribed = not window.unsubscribed, True
        return changed
    # A message of a campaign that is not ours.
    changed, window.contaminated = not window.contaminated, True
    return changed


def _place_order(step: Step, window: Window, event: Event) -> bool:
    order_id = _order_id(event)
    if order_id in window.orders or len(window.orders) >= MAX_ORDERS:
        return False
    window.orders[order_id] = (int(event.data.get("total") or 0), _margin(step, event))
    if window.objective == NEW_CATEGORY:
        feature, since = step.program.features.get(FIRST_BOUGHT), window.start // 1000  # facts know seconds
        first = (None if feature is None else step.customer.fact(feature.name)) or {}
        window.categories[order_id] = [one for one in step.keys(event, "category") if first.get(one, since) >= since]
    if window.objective == RETENTION and 2 * event.time >= window.start + window.end:
        window.late.append(order_id)
    return True


def _undo_order(step: Step, window: Window, event: Event) -> bool:
    """Take a cancelled order, or what was returned of one, out of its window."""
    order_id = _order_id(event)
    if order_id not in window.orders:
        return False
    if event.name == "order.returned" and event.data.get("lines"):
        paid, earned = window.orders[order_id]
        back = sum(int(line["price"]) for line in event.data["lines"])
        window.orders[order_id] = (paid - back, earned - _margin(step, event))
        if window.orders[order_id][0] > 0:
            return True  # some of it was kept, and nobody knows which of its categories
    else:
        del window.orders[order_id]
    window.categories.pop(order_id, None)
    window.late = [one for one in window.late if one != order_id]
    return True


def _margin(step: Step, event: Event) -> int:
    assumed = step.program.policy.assumed_margin_bp
    return sum(line_margin(line, event.time, step.reference, assumed) for line in event.data.get("lines") or ())


def _order_id(event: Event) -> str:
    order_id = str(event.data.get("order_id") or event.id)
    return order_id if len(order_id) <= MAX_KEY else str(fingerprint(order_id))


def outcome_of(window: Window, customer_id: str, known_at: int) -> CampaignOutcome:
    """Return the window's outcome as it is known at an instant, and raise its revision."""
    window.revision += 1
    context = window.context or _UNKNOWN
    revenue = sum(paid for paid, _ in window.orders.values())
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
        revenue=revenue,
        margin=sum(earned for _, earned in window.orders.values()),
        cost=0 if window.control else window.cost + revenue * window.cost_bp // 10_000,
        unsubscribed=window.unsubscribed,
        contaminated=window.contaminated,
        void=window.void,
        definitions_version=window.version,
        objective=window.objective,
        new_categories=len({category for bought in window.categories.values() for category in bought}),
        offer=window.offer,
        earned_before=window.earned_before,
        channel=context.channel,
        responded=responded(window),
        leaf=context.leaf,
        stage=context.stage,
        propensity=context.propensity,
        none_propensity=context.none_propensity,
        control_bp=context.control_bp,
        eligible=tuple(context.eligible),
        free_for=context.free_for,
        chosen_by=context.chosen_by,
        policy_version=context.policy_version,
        known_at=known_at,
        interrupted=context.interrupted,
        retained=bool(window.late),
    )


_UNKNOWN = Context()
"""Of a window that nobody learns from."""


def active_of(window: Window, customer_id: str) -> ActiveCampaign:
    """Return the record that says this window holds the customer's slot."""
    arm = "control" if window.control else "treatment"
    return ActiveCampaign(customer_id, window.decision_id, window.campaign, arm, window.start, window.end)
