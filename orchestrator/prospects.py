"""How far every moment has come for a customer, and what would have to change for each campaign that answers it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.eligibility import Situation, examine, situation_of
from orchestrator.civil import period_of
from orchestrator.conditions import Condition
from orchestrator.customer import OPEN, Customer, Instance
from orchestrator.events import DAY, FOREVER
from orchestrator.identity import draw
from orchestrator.moments.rules import (
    Absence,
    Around,
    Calendar,
    During,
    Launch,
    Membership,
    Moment,
    Schedule,
    Sequence,
    Silence,
    Total,
)
from orchestrator.moments.wake import may_pick_from
from orchestrator.moments.watch import next_change
from orchestrator.needs import Need, needs
from orchestrator.program import Program
from orchestrator.reasons import Reason
from orchestrator.reference import Reference
from orchestrator.view import CustomerView
from orchestrator.why import EVENTS, Clock, sentence

SHOWN = 3
"""Waiting instances of one moment that are told one by one."""

_ENDS: Mapping[str, str] = {
    Reason.HOLDOUT: "the hold-out ends",
    Reason.SLOT_HELD: "the slot is free",
    Reason.CAP: "the cap is free",
    Reason.SKU_CAP: "the cap is free",
    Reason.QUIET_HOURS: "quiet hours end",
    Reason.EXCLUDED: "the exclusion ends",
    Reason.NONE_BETTER: "it is weighed again",
}

_LONGEST_LOOK = 4 * 366
"""Days ahead in which a period without hold-out is looked for."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that would have to be otherwise.

    `kind` is time (it is so by itself at `at`), event (one named `subject` must come), value (`need` says which),
    consent (to `subject`), moment (`subject` must be open), definition (somebody must write one) or never. `reason` is
    the check that fails until then, none where it is the moment's own.
    """

    kind: str
    at: int | None = None
    subject: str = ""
    need: Need | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Prospect:
    """One campaign and one moment it answers: how far that has come, why it is not further, and what would change it.

    `state` is none, waiting or open; all of `changes` are needed, the first is the next.
    """

    moment: str
    key: str
    state: str
    campaign: str
    reason: str
    saw: str
    changes: tuple[Change, ...]
    until: int | None = None


def prospects(
    program: Program, reference: Reference, customer_id: str, customer: Customer, now: int
) -> Iterator[Prospect]:
    """Yield how far each moment and campaign has come at an instant up to which the customer was decided."""
    situation = situation_of(program, reference, customer, customer_id, now)
    for filed in program.moments.values():
        instances = sorted(customer.peek(filed.name).items())
        for moment, campaigns in program.answers[filed.name]:
            for campaign in campaigns or (None,):
                if not instances:
                    yield _not_begun(situation, moment, campaign)
                for key, instance in instances:
                    if instance.state == OPEN:
                        yield _open(situation, moment, key, instance, campaign)
                    else:
                        yield _waiting(situation, filed, moment, key, instance, campaign)


def _not_begun(s: Situation, moment: Moment, campaign: Campaign | None) -> Prospect:
    name = "" if campaign is None else campaign.name
    changes = [*_beginning(s, moment), *_contact(s, campaign)]
    return Prospect(moment.name, "", "none", name, "", "", tuple(changes))


def _contact(s: Situation, campaign: Campaign | None) -> Iterator[Change]:
    """Yield what would keep any message away, whenever the moment comes."""
    if campaign is None:
        yield Change("definition", reason=Reason.NO_DEFINITION)
        return
    channel = f"{campaign.send.channel}/{campaign.send.purpose}"
    if not s.customer.consents.get(channel, (False, 0))[0]:
        yield Change("consent", subject=channel, reason=Reason.NO_CONSENT)
    if s.held_out and not campaign.exempt:
        yield _leaving_holdout(s)


def _beginning(s: Situation, moment: Moment) -> Iterator[Change]:
    """Yield what must come for a moment to begin."""
    shape = moment.shape
    if isinstance(shape, During):
        yield Change("moment", subject=shape.moment)
    elif isinstance(shape, Membership):
        segment = s.program.segments[shape.segment].condition
        yield from _until_holds(s, segment, moment, "", wanted=shape.entered)
    elif isinstance(shape, Calendar):
        yield Change("value", need=Need(f"profile.{shape.field} must be known and a true date"))
    elif isinstance(shape, Around):
        yield from (Change("event", subject=event) for event in s.program.features[shape.date].events[:1])
    elif isinstance(shape, Launch):
        yield from (Change("event", subject=event) for event in s.program.features[shape.feature].events[:1])
    elif isinstance(shape, Schedule):
        yield Change("time", s.customer.fires.get(moment.name))
        yield from _until_holds(s, s.program.segments[shape.segment].condition, moment, "")
    elif isinstance(shape, Absence):
        yield Change("event", subject=" or ".join(shape.starts_on.events))
    elif isinstance(shape, Silence | Total):
        yield Change("event", subject=" or ".join(shape.event.events))
    elif isinstance(shape, Sequence):
        yield Change("event", subject=" or ".join(shape.stages[0].event.events))


def _waiting(
    s: Situation, filed: Moment, moment: Moment, key: str, instance: Instance, campaign: Campaign | None
) -> Prospect:
    name = "" if campaign is None else campaign.name
    changes: list[Change] = []
    if not isinstance(moment.shape, During):
        pick_from = may_pick_from(filed, s.customer.peek(filed.name), s.customer.picked.get(filed.name))
        at = max(instance.due + s.program.disorder[filed.name], pick_from)
        changes.append(Change("time", None if at >= FOREVER else at))
    if moment.only_if is not None:
        changes += _until_holds(s, moment.only_if, moment, key)
    changes += _contact(s, campaign)
    return Prospect(moment.name, key, "waiting", name, "", "", tuple(changes) or (Change("time"),), instance.until)


def _open(s: Situation, moment: Moment, key: str, instance: Instance, campaign: Campaign | None) -> Prospect:
    if campaign is None:
        change = Change("definition", reason=Reason.NO_DEFINITION)
        return Prospect(moment.name, key, "open", "", Reason.NO_DEFINITION, "", (change,), instance.until)
    candidate = examine(s, campaign, moment, key, instance)
    reason, saw = candidate.reason, candidate.saw
    changes: list[Change] = []
    if reason == Reason.CHOSEN and instance.reason == Reason.NONE_BETTER:
        reason, saw = instance.reason, instance.by  # what a campaign is worth was weighed at the last decision
        changes.append(Change("time", s.customer.decide_at, reason=reason))
    elif reason == Reason.CHOSEN:
        changes.append(Change("time", s.customer.decide_at))
    elif reason == Reason.NO_CONSENT:
        changes.append(Change("consent", subject=f"{campaign.send.channel}/{campaign.send.purpose}", reason=reason))
    elif reason == Reason.HOLDOUT:
        changes.append(_leaving_holdout(s))
    elif reason in (Reason.NOT_ELIGIBLE, Reason.UNKNOWN_VALUE):
        for condition in (campaign.only_if, campaign.recheck_before_send):
            if condition is not None:
                changes += _until_holds(s, condition, moment, key)
        if not changes and campaign.after is not None:
            changes.append(Change("value", need=Need(f"{campaign.after.campaign} must be {campaign.after.outcome}")))
        changes = changes or [Change("value", need=Need(candidate.saw))]
    else:
        changes.append(Change("time", candidate.retry_at, reason=reason))
    return Prospect(moment.name, key, "open", campaign.name, reason, saw, tuple(changes), instance.until)


def _until_holds(s: Situation, condition: Condition, moment: Moment, key: str, *, wanted: bool = True) -> list[Change]:
    """Return what a condition needs, or the instant at which it comes to hold by itself."""
    view = CustomerView(s.program, s.reference, s.customer, s.now, moment, key)
    needed = needs(condition.expression, view, wanted=wanted)
    if not needed:
        return []
    at = next_change(condition.expression, view)
    if at < FOREVER:
        then = CustomerView(s.program, s.reference, s.customer, at, moment, key)
        if condition.holds(then) is wanted:
            return [Change("time", at)]
    return [Change("value", need=need) for need in needed]


def _leaving_holdout(s: Situation) -> Change:
    """Return the first midnight, UTC, of a period in which the customer is not held out, or that there is none."""
    rotate, share = s.program.policy.holdout_rotate, s.program.policy.holdout_bp
    known = period_of(s.now, rotate)
    first = s.now // DAY * DAY + DAY
    for at in range(first, first + _LONGEST_LOOK * DAY, DAY):
        period = period_of(at, rotate)
        if period != known and draw("holdout", s.customer_id, period) >= share:
            return Change("time", at, reason=Reason.HOLDOUT)
        known = period
    return Change("never", reason=Reason.HOLDOUT)


def lines(found: Iterable[Prospect], says: Mapping[str, str], clock: Clock) -> Iterator[str]:
    """Yield prospects as lines of text: a line per moment and key, and one per campaign with all that it needs."""
    told = ""
    waiting: Counter[str] = Counter()
    for one in found:
        say = f"“{says[one.moment]}”" if one.moment in says else one.moment
        key = f" ({one.key})" if one.key else ""
        state = {"none": "has not begun", "waiting": "is waiting", "open": "is open"}[one.state]
        until = f" until {clock.say(one.until)}" if one.state == "open" and one.until not in (None, FOREVER) else ""
        head = f"{say}{key} {state}{until}"
        if head != told:
            waiting[one.moment] += one.state == "waiting"
            told = head
            if waiting[one.moment] <= SHOWN:
                yield head
        if waiting[one.moment] > SHOWN and one.state == "waiting":
            continue
        why = f"{sentence(one.reason, one.saw)}; " if one.reason and one.reason != Reason.CHOSEN else ""
        needed = ", and ".join(_said(change, one, clock) for change in one.changes)
        yield f"  {one.campaign or 'no campaign'}: {why}{needed}"
    for moment, count in waiting.items():
        if count > SHOWN:
            yield f"{count - SHOWN} more of {moment} are waiting."


def _said(change: Change, one: Prospect, clock: Clock) -> str:
    if change.kind == "time":
        if change.at is None or change.at >= FOREVER:
            return (
                "it comes at its own times" if one.state == "none" else "it changes when another of its kind has ended"
            )
        stale = one.state == "open" and one.until is not None and change.at >= one.until
        late = f", but then it is stale: it lasts until {clock.say(one.until or 0)}" if stale else ""
        what = "changes" if change.reason else {"none": "comes", "waiting": "may open from"}.get(one.state, "changes")
        what = _ENDS.get(change.reason, f"it {what}")
        return f"{what} {clock.say(change.at)}{late}"
    if change.kind == "event":
        names = change.subject.split(" or ")
        return f"it begins with {' or '.join(EVENTS.get(name, name) for name in names)}"
    if change.kind == "value":
        return change.need.text if change.need is not None else ""
    if change.kind == "consent":
        return f"the customer must agree to {change.subject}"
    if change.kind == "moment":
        return f"{change.subject} must be open"
    if change.kind == "definition":
        return "a campaign with this moment in its `when` must be written"
    return "it never changes: this hold-out is for ever" if change.reason == Reason.HOLDOUT else "it never changes"
