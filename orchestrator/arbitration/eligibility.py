"""May this campaign speak to this customer now: one check after the other, each with the value it saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.history import excluded_until, follows
from orchestrator.arbitration.offers import choose_offer
from orchestrator.arbitration.policy import Policy
from orchestrator.civil import period_of, quiet_until, to_local, zone_for
from orchestrator.conditions import Condition, readable
from orchestrator.customer import Customer, Instance, Profile
from orchestrator.events import DAY, FOREVER
from orchestrator.identity import draw
from orchestrator.moments.rules import Moment
from orchestrator.program import Program
from orchestrator.quotas import Quotas
from orchestrator.reasons import Reason
from orchestrator.records import Candidate, Check
from orchestrator.reference import Reference
from orchestrator.view import CustomerView


class Examined(NamedTuple):
    """The checks up to the first that failed, and what they came to; its reason is `chosen` if none did."""

    checks: tuple[Check, ...]
    reason: Reason
    saw: str
    retry_at: int | None


@dataclass(frozen=True, slots=True)
class Situation:
    """One customer at one instant, as every candidate of one decision sees it."""

    program: Program
    reference: Reference
    customer: Customer
    customer_id: str
    now: int
    zone: ZoneInfo
    held_out: bool
    quotas: Quotas | None = None
    contacts: dict[tuple[str, str], Examined] = field(default_factory=dict)
    """What the contact rules say of each channel and purpose, found once for all candidates."""
    withheld: tuple[tuple[int, str], ...] = ()
    """Messages that count as sent though the control group did not get them, where both arms are to be alike."""


def situation_of(
    program: Program,
    reference: Reference,
    customer: Customer,
    customer_id: str,
    now: int,
    quotas: Quotas | None = None,
) -> Situation:
    """Return the situation that all candidates of a decision share."""
    policy = program.policy
    profile = customer.profile or _NO_PROFILE
    zone = zone_for(profile.time_zone, profile.country, policy)
    held = held_out(policy, customer_id, now)
    return Situation(program, reference, customer, customer_id, now, zone, held, quotas)


def held_out(policy: Policy, customer_id: str, now: int) -> bool:
    """Return whether nobody writes to a customer in the period of an instant."""
    return draw("holdout", customer_id, period_of(now, policy.holdout_rotate)) < policy.holdout_bp


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `retry_at` is the instant at which it can answer differently by itself, None if none."""

    passed: bool
    saw: str
    retry_at: int | None = None


_CheckFunction = Callable[[Situation, Campaign, Moment | None, str], Finding | None]


def examine(situation: Situation, campaign: Campaign, moment: Moment, key: str, instance: Instance) -> Candidate:
    """Return the candidate with every check up to the first that failed; its reason is `chosen` if none did."""
    by = campaign.send.channel, campaign.send.purpose
    contact = situation.contacts.get(by)
    if contact is None:
        contact = situation.contacts[by] = _checked(_CONTACT_CHECKS, situation, campaign, moment, key)
    examined = contact
    if contact.reason is Reason.CHOSEN:
        own = _checked(_CHECKS, situation, campaign, moment, key)
        # Candidates without checks of their own share one tuple, which is written once.
        examined = own._replace(checks=contact.checks + own.checks) if own.checks else contact
    return _candidate(examined, situation, campaign, moment, moment.name, key, instance.due)


def examine_beside(situation: Situation, campaign: Campaign, moment: Moment, key: str, instance: Instance) -> Candidate:
    """Return the candidate as it would be, were the slot free."""
    examined = _checked((*_CONTACT_CHECKS_BUT_SLOT, *_CHECKS), situation, campaign, moment, key)
    return _candidate(examined, situation, campaign, moment, moment.name, key, instance.due)


def may_answer(situation: Situation, campaign: Campaign, moment: Moment, key: str) -> tuple[str, ...]:
    """Return the offers with which a campaign may answer a moment to come, as far as that can be told now.

    A campaign without offers has one, "". What changes until then by itself is not asked for: quiet hours, caps.
    """
    if (
        _checked(((Reason.NO_CONSENT, _consent), *_CHECKS), situation, campaign, moment, key).reason
        is not Reason.CHOSEN
    ):
        return ()
    if campaign.offer is None:
        return ("",)
    _, offers = choose_offer(campaign.offer, _view(situation, moment, key))
    return tuple(check.check for check in offers if check.passed)


def examine_step(situation: Situation, campaign: Campaign, moment: str, key: str, opened: int) -> Candidate:
    """Return the candidate that a later step of a series is: the slot is its own, but every contact rule holds."""
    about = situation.program.find(moment)
    examined = _checked(_STEP_CHECKS, situation, campaign, about, key)
    return _candidate(examined, situation, campaign, about, moment, key, opened)


def examine_exempt(situation: Situation, campaign: Campaign, event: str, key: str, at: int) -> Candidate:
    """Return the candidate that a transactional or legal message about an event is."""
    examined = _checked(_EXEMPT_CHECKS, situation, campaign, None, key)
    return _candidate(examined, situation, campaign, None, event, key, at)


def _checked(
    rules: tuple[tuple[Reason, _CheckFunction], ...],
    situation: Situation,
    campaign: Campaign,
    moment: Moment | None,
    key: str,
) -> Examined:
    checks: list[Check] = []
    reason, saw, retry_at = Reason.CHOSEN, "", None
    for failure, check in rules:
        finding = check(situation, campaign, moment, key)
        if finding is None:
            continue
        checks.append(Check(failure.value, finding.passed, finding.saw))
        if not finding.passed:
            reason, saw, retry_at = failure, finding.saw, finding.retry_at
            if failure is Reason.NOT_ELIGIBLE and finding.retry_at is None:
                reason = Reason.UNKNOWN_VALUE
                retry_at = situation.now + DAY
            break
    return Examined(tuple(checks), reason, saw, retry_at)


def _candidate(
    examined: Examined,
    situation: Situation,
    campaign: Campaign,
    moment: Moment | None,
    about: str,
    key: str,
    opened: int,
) -> Candidate:
    checks, reason, saw, retry_at = examined
    offer = ""
    offers: tuple[Check, ...] = ()
    if campaign.offer is not None and reason is Reason.CHOSEN:
        given, offers = choose_offer(campaign.offer, _view(situation, moment, key))
        offer = given or ""
        if given is None:
            reason, saw, retry_at = Reason.NOT_ELIGIBLE, f"no offer fits: {offers[-1].saw}", situation.now + DAY
    return Candidate(
        campaign.name,
        about,
        key,
        opened,
        reason.value,
        saw,
        retry_at,
        0.0,
        campaign.priority,
        checks,
        offer,
        offers,
    )


def _view(s: Situation, moment: Moment | None, key: str) -> CustomerView:
    return CustomerView(s.program, s.reference, s.customer, s.now, moment, key)


def _consent(s: Situation, campaign: Campaign, moment: Moment | None, key: str) -> Finding | None:  # noqa: ARG001
    channel = f"{campaign.send.channel}/{campaign.send.purpose}"
    granted = s.customer.consents.get(channel)
    if granted is None:
        return Finding(passed=False, saw=f"no record for {channel}")
    return Finding(granted[0], f"{channel} {'granted' if granted[0] else 'refused'}")


def _holdout(s: Situation, campaign: Campaign, moment: Moment | None, key: str) -> Finding | None:  # noqa: ARG001
    if s.program.policy.holdout_bp == 0:
        return None
    return Finding(not s.held_out, period_of(s.now, s.program.policy.holdout_rotate))


def _slot(s: Situation, campaign: Campaign, moment: Moment | None, key: str) -> Finding | None:  # noqa: ARG001
    window = s.customer.window
    if window is None:
        return Finding(passed=True, saw="free")
    return Finding(passed=False, saw=window.campaign, retry_at=window.end + s.program.order_disorder)


def _rest(s: Situation, campaign: Campaign, moment: Moment | None, key: str) -> Finding | None:  # noqa: ARG001
    rest = s.program.policy.rest
    if not rest or not s.customer.closed:
        return None
    last = s.customer.closed[-1]
    saw = f"{last.campaign} ended {readable(s.now - last.end, 'duration')} ago"
    return Finding(last.end + rest <= s.now, saw, last.end + rest)


def _caps(s: Situation, campaign: Campaign, moment: Moment | None, key: str) -> Finding | None:  # noqa: ARG001
    counted: list[str] = []
    reached: list[tuple[int, str]] = []
    for cap in s.program.policy.caps:
        if cap.channel not in (None, campaign.send.channel):
            continue
        told = (*s.customer.sent, *s.withheld) if s.withheld else s.customer.sent
        sent = sorted(at for at, channel in told if at > s.now - cap.per and cap.channel in (None, channel))
        saw = f"{len(sent)} in {readable(cap.per, 'duration')}, at most {cap.max}"
        counted.append(saw)
        if len(sent) >= cap.max:
            reached.append((sent[-cap.max] + cap.per if cap.max else FOREVER, saw))
    if reached:
        free_at, saw = max(reached)
        return Finding(passed=False, saw=saw, retry_at=free_at)
    return Finding(passed=True, saw="; ".join(counted)) if counted else None


def _quiet_hours(s: Situation, campaign: Campaign, moment: Moment | None, key: str) -> Finding | None:  # noqa: ARG001
    quiet = s.program.policy.quiet_hours
    if quiet is None or campaign.to_audience:  # nobody is woken by being added
        return None
    until = quiet_until(s.now, quiet, s.zone)
    return Finding(until is None, f"{to_local(s.now, s.zone):%H:%M} {s.zone.key}", until)


def _audience(s: Situation, campaign: Campaign, moment: Moment | None, key: str) -> Finding | None:
    return None if campaign.only_if is None else _true(s, campaign.only_if, moment, key)


def _recheck(s: Situation, campaign: Campaign, moment: Moment | None, key: str) -> Finding | None:
    condition = campaign.recheck_before_send
    return None if condition is None else _true(s, condition, moment, key)


def _true(s: Situation, condition: Condition, moment: Moment | None, key: str) -> Finding:
    view = _view(s, moment, key)
    truth = condition.holds(view)
    # Features change without a timer of ours, so an answer of no is looked at again after a day, not sooner.
    return Finding(truth is True, condition.saw(view), None if truth is None else s.now + DAY)


def _excluded(s: Situation, campaign: Campaign, moment: Moment | None, key: str) -> Finding | None:  # noqa: ARG001
    if not campaign.exclusions:
        return None
    untils = ((excluded_until(s.customer, exclusion), exclusion.after) for exclusion in campaign.exclusions)
    kept_away = [(until, other) for until, other in untils if until is not None and until > s.now]
    if not kept_away:
        return Finding(passed=True, saw="no " + ", no ".join(e.after for e in campaign.exclusions))
    until, other = max(kept_away)
    return Finding(passed=False, saw=other, retry_at=until)


def _after(s: Situation, campaign: Campaign, moment: Moment | None, key: str) -> Finding | None:  # noqa: ARG001
    if campaign.after is None:
        return None
    passed, saw = follows(s.customer, campaign.after, s.now)
    return Finding(passed, saw, s.now + DAY)


def _shared_cap(s: Situation, campaign: Campaign, moment: Moment | None, key: str) -> Finding | None:  # noqa: ARG001
    cap = campaign.cap
    if cap is None:
        return None
    if s.quotas is None:
        return Finding(passed=False, saw="nobody counts", retry_at=s.now + DAY)
    used, share = s.quotas.used(campaign.name, key, cap, s.now), s.quotas.share(cap)
    saw = f"{used} about {key} in {readable(cap.over, 'duration')}, at most {share} of {cap.total}"
    if s.quotas.allows(campaign.name, key, cap, s.now):
        return Finding(passed=True, saw=saw)
    return Finding(passed=False, saw=saw, retry_at=s.quotas.free_at(campaign.name, key, cap, s.now))


_NO_PROFILE: Final = Profile()

_CONTACT_CHECKS: Final[tuple[tuple[Reason, _CheckFunction], ...]] = (
    (Reason.NO_CONSENT, _consent),
    (Reason.HOLDOUT, _holdout),
    (Reason.SLOT_HELD, _slot),
    (Reason.REST, _rest),
    (Reason.CAP, _caps),
    (Reason.QUIET_HOURS, _quiet_hours),
)
"""The checks that come first, each named by the reason it gives when it fails; they ask for channel and purpose."""

_CONTACT_CHECKS_BUT_SLOT: Final = tuple(check for check in _CONTACT_CHECKS if check[0] is not Reason.SLOT_HELD)

_CHECKS: Final = (
    (Reason.NOT_ELIGIBLE, _audience),
    (Reason.EXCLUDED, _excluded),
    (Reason.NOT_ELIGIBLE, _after),
    (Reason.SKU_CAP, _shared_cap),
    (Reason.NOT_ELIGIBLE, _recheck),
)
"""The checks after them, which ask for the campaign and the moment."""

_STEP_CHECKS: Final = (
    (Reason.NO_CONSENT, _consent),
    (Reason.CAP, _caps),
    (Reason.QUIET_HOURS, _quiet_hours),
    (Reason.NOT_ELIGIBLE, _recheck),
)
"""What is looked at again for a later step of a series: its slot is held, and whom it is for was settled at first."""

_EXEMPT_CHECKS: Final = (
    (Reason.NO_CONSENT, _consent),
    (Reason.NOT_ELIGIBLE, _audience),
    (Reason.NOT_ELIGIBLE, _recheck),
)
"""What holds for a transactional or legal message too: it waits for no slot, no cap and no morning."""
