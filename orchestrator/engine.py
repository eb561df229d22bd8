"""The whole decision as one pure function: what we know about a customer, and what happened, to what we know now.

`advance` takes one customer through one step: its events in order, interleaved with what time alone brings, up to the
step's instant. It reads no clock, draws no chance and does no I/O; workers, replays and tests all drive this function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.arbitration.decide import Verdict, arbitrate, expected_margin
from orchestrator.arbitration.eligibility import situation_of
from orchestrator.civil import next_window, parse_birth_date, zone_for
from orchestrator.conditions import Condition
from orchestrator.contact import give_consent, learn_profile
from orchestrator.customer import OPEN, WAITING, Answered, Customer, Instance, Window
from orchestrator.events import FOREVER, PROFILE, Event
from orchestrator.features import keys_of
from orchestrator.identity import fingerprint, identify
from orchestrator.measurement import active_of, outcome_of, place_order, undo_order
from orchestrator.moments.detect import end_instances, ended, look_at, start_instance
from orchestrator.moments.rules import Absence, Around, Calendar, Moment, Silence
from orchestrator.moments.wake import Holds, Woken, may_pick_from, wake, wake_and_pick
from orchestrator.program import Program, Role
from orchestrator.reasons import Reason
from orchestrator.records import Decision, Effects, EndedMoment, Trigger
from orchestrator.reference import Reference
from orchestrator.view import CustomerView

SLOT = ""
"""The name under which the end of the running measurement window waits among the moments' timers."""

SEEN_BEFORE_PRUNING = 8
MAX_SEEN = 64
"""Event ids remembered per customer within `accept_late`; a repetition further back than these is not recognised."""

MAX_LATEST = 16


def advance(
    program: Program,
    reference: Reference,
    customer_id: str,
    customer: Customer,
    events: Sequence[Event],
    clock: int,
    *,
    clock_before: int = -FOREVER,
    not_before: int = -FOREVER,
) -> Effects:
    """Take a customer through one step, changing its state; return everything that is to be emitted.

    `events` are in order (`Event.order`); an event at the very instant of a timer comes first. Timers due up to `clock`
    fire, each evaluated as of its due instant but not before `not_before`. `clock_before` is the clock of the step
    before, against which lateness is judged.
    """
    step = _Step(program, reference, customer_id, customer, clock_before, not_before)
    for event in events:
        step.fire_until(min(event.time - 1, clock))
        step.observe(event)
    step.fire_until(clock)
    return step.effects


class _Step:
    """One customer inside one step."""

    __slots__ = ("clock_before", "customer", "customer_id", "effects", "not_before", "program", "reference")

    def __init__(
        self,
        program: Program,
        reference: Reference,
        customer_id: str,
        customer: Customer,
        clock_before: int,
        not_before: int,
    ) -> None:
        self.program = program
        self.reference = reference
        self.customer_id = customer_id
        self.customer = customer
        self.clock_before = clock_before
        self.not_before = not_before
        self.effects = Effects()

    # --- time -----------------------------------------------------------------------------------------------------

    def fire_until(self, limit: int) -> None:
        """Do everything that is due up to an instant, in order."""
        customer = self.customer
        while (due := customer.next_due) <= limit:
            now = customer.now = max(due, customer.now, self.not_before)
            if customer.fires.get(SLOT, FOREVER) <= now:
                self._release()
            over: list[EndedMoment] = []
            for name in [name for name, at in customer.fires.items() if at <= now and name != SLOT]:
                over += self._wake(name, now)
            if customer.decide_at <= now:
                self._decide(now, over)
            elif over:
                self._close(now, over)

    def _release(self) -> None:
        """End the running window: its outcome is final but for amendments, and the slot is free."""
        customer, window = self.customer, self.customer.window
        assert window is not None
        self.effects.outcomes.append(outcome_of(window, self.customer_id))
        self.effects.hold(None)
        keep_from = customer.now - self.program.policy.amend_for
        customer.closed[:] = [kept for kept in customer.closed if kept.end >= keep_from] + [window]
        customer.window = None
        del customer.fires[SLOT]
        customer.decide_at = customer.now

    def _wake(self, name: str, now: int) -> list[EndedMoment]:
        customer = self.customer
        moment = self.program.moments.get(name)
        if moment is None:  # a definition that is gone: its instances go with it
            customer.instances(name).clear()
            del customer.fires[name]
            return []
        instances = customer.instances(name)
        woken = self._open(moment, instances, now)
        if woken.opened:
            customer.decide_at = now
        if isinstance(moment.shape, Calendar):
            self._rearm(moment, now)
        self._schedule(moment, instances)
        return woken.over

    def _open(self, moment: Moment, instances: dict[str, Instance], now: int) -> Woken:
        disorder = self.program.disorder[moment.name]
        if moment.pick_one is None:
            return wake(moment, instances, now, disorder, self.program.policy.never_act_older_than, self._holds(moment))
        situation = situation_of(self.program, self.reference, self.customer, self.customer_id, now)
        last = self.customer.picked.get(moment.name)
        woken = wake_and_pick(
            moment,
            instances,
            now,
            disorder,
            may_pick_from(moment, instances, last),
            self._holds(moment),
            lambda key: expected_margin(situation, moment, key),
        )
        if woken.opened:
            self.customer.picked[moment.name] = now
        return woken

    def _holds(self, moment: Moment) -> Holds:
        def holds(condition: Condition, key: str) -> tuple[bool | None, str]:
            view = CustomerView(self.program, self.reference, self.customer, self.customer.now, moment, key)
            return condition.holds(view), condition.saw(view)

        return holds

    def _schedule(self, moment: Moment, instances: dict[str, Instance]) -> None:
        pick_from = may_pick_from(moment, instances, self.customer.picked.get(moment.name))
        at = look_at(moment, instances, self.program.disorder[moment.name], pick_from)
        if at == FOREVER:
            self.customer.fires.pop(moment.name, None)
        else:
            self.customer.fires[moment.name] = at

    def _rearm(self, moment: Moment, now: int) -> None:
        """Let the next yearly window wait: on a new profile, on a new zone, and when this year's has opened."""
        shape = moment.shape
        assert isinstance(shape, Calendar)
        customer, profile = self.customer, self.customer.profile
        instances = customer.instances(moment.name)
        for key, instance in instances.items():
            if instance.state == OPEN:
                customer.years[moment.name] = max(int(key), customer.years.get(moment.name, 0))
        for key in [key for key, instance in instances.items() if instance.state == WAITING]:
            del instances[key]
        if profile is None:
            return
        born = parse_birth_date(profile.birth_date, shape.ignore_dates)
        if born is None:
            return
        zone = zone_for(profile.time_zone, profile.country, self.program.policy)
        year, opens, closes = next_window(shape, born, zone, now, customer.years.get(moment.name, 0))
        instances[str(year)] = Instance(WAITING, now, max(opens, now), closes)

    # --- events ---------------------------------------------------------------------------------------------------

    def observe(self, event: Event) -> None:
        """Take in one event: facts, measurement, contact and moments."""
        if event.name == PROFILE:
            self._profile(event)
            return
        if self._repeated(event):
            return
        dispatch = self.program.dispatch(event.name)
        customer, policy = self.customer, self.program.policy
        for feature in dispatch.folds:
            state = feature.fold(customer.fact(feature.name), event, self.reference, policy.assumed_margin_bp)
            customer.set_fact(feature.name, state)
        if event.time < self.clock_before - self.program.accept_late(event.name):
            return  # beyond its lateness: a fact, but never a moment, a cancellation or an amendment
        self._measure(event)
        over: list[EndedMoment] = []
        for role in dispatch.roles:
            over += self._move(role, event)
        if over:
            self._close(max(event.time, customer.now), over)

    def _repeated(self, event: Event) -> bool:
        if not event.id:
            return False
        seen = self.customer.seen
        mark = fingerprint(event.id)
        if mark in seen:
            return True
        if len(seen) >= SEEN_BEFORE_PRUNING:
            for old in [old for old, forget_at in seen.items() if forget_at < self.clock_before]:
                del seen[old]
            while len(seen) >= MAX_SEEN:
                del seen[next(iter(seen))]
        seen[mark] = event.time + self.program.accept_late(event.name)
        return False

    def _profile(self, event: Event) -> None:
        customer = self.customer
        consents_changed = learn_profile(customer, event)
        for moment in self.program.calendars:
            self._rearm(moment, max(event.time, customer.now))
            self._schedule(moment, customer.instances(moment.name))
        if consents_changed:
            self._reconsider(event.time)

    def _reconsider(self, at: int) -> None:
        """Let the open moments be decided again, as soon as the clock has come to an instant."""
        self.customer.decide_at = min(self.customer.decide_at, max(at, self.customer.now))

    def _measure(self, event: Event) -> None:
        customer, window = self.customer, self.customer.window
        assumed = self.program.policy.assumed_margin_bp
        if event.name == "order.placed":
            self._amend(place_order(customer, event, self.reference, assumed))
        elif event.name in ("order.cancelled", "order.returned"):
            self._amend(undo_order(customer, event, self.reference, assumed))
        elif event.name == "customer.unsubscribed":
            if give_consent(customer, f"{event.data['channel']}/marketing", granted=False, at=event.time):
                self._reconsider(event.time)
            if window is not None:
                window.unsubscribed = True
        elif event.name == "message.sent" and event.data.get("trigger_id") is None:
            # A campaign that is not ours. Our own sends were counted when they were decided.
            self._count_message(event.time, event.data["channel"])
            if window is not None and window.start <= event.time < window.end:
                window.contaminated = True

    def _amend(self, windows: Iterable[Window]) -> None:
        self.effects.outcomes.extend(outcome_of(window, self.customer_id) for window in windows)

    def _count_message(self, at: int, channel: str) -> None:
        keep_from = max(at, self.customer.now) - self.program.longest_cap
        self.customer.sent[:] = [kept for kept in self.customer.sent if kept[0] > keep_from] + [(at, channel)]

    def _move(self, role: Role, event: Event) -> list[EndedMoment]:
        """Let one event end, start or restart the instances of one moment."""
        moment, shape = role.moment, role.moment.shape
        instances = self.customer.instances(moment.name)
        over: list[EndedMoment] = []
        for match in role.ends:
            keys = None if match.matching is None else keys_of(event, match.matching, self.reference)
            over += end_instances(moment, instances, list(instances) if keys is None else keys, event.time, event.name)
            self._retract(moment, keys, event)
            if isinstance(shape, Absence):
                self._remember_end(moment, keys, event.time)
        if role.starts or role.restarts:
            over += self._start(role, event, instances)
        self._schedule(moment, instances)
        return over

    def _start(self, role: Role, event: Event, instances: dict[str, Instance]) -> list[EndedMoment]:
        moment, shape = role.moment, role.moment.shape
        over: list[EndedMoment] = []
        for key in ("",) if moment.key is None else keys_of(event, moment.key, self.reference):
            new = self._waiting(moment, key, event)
            if new is None:
                continue
            if isinstance(shape, Absence) and (role.restarts and not role.starts) and key not in instances:
                continue
            restarts = role.restarts
            over += start_instance(moment, instances, key, new, restarts=restarts, by=event.name)
        return over

    def _waiting(self, moment: Moment, key: str, event: Event) -> Instance | None:
        """Return the instance that an event starts, or None when there is nothing to wait for."""
        shape = moment.shape
        if isinstance(shape, Absence):
            if self._ended_since(moment, key, event.time):
                return None
            return Instance(WAITING, event.time, event.time + shape.within, 0)
        view = CustomerView(self.program, self.reference, self.customer, event.time, moment, key)
        if isinstance(shape, Silence):
            gap = view.feature(shape.of)
            if gap is None:
                return None
            wait = min(max(gap * shape.times_permille // 1000, shape.min), shape.max)
            return Instance(WAITING, event.time, event.time + wait, 0)
        assert isinstance(shape, Around)
        date = view.feature(shape.date, key)
        if date is None or date + shape.end <= event.time:
            return None
        # Never before half of the way there: a reminder on the day after the purchase is none.
        opens = max(date + shape.start, (event.time + date) // 2)
        return Instance(WAITING, event.time, opens, date + shape.end)

    def _remember_end(self, moment: Moment, keys: Iterable[str] | None, time: int) -> None:
        """Keep when a moment was last ended, so that a start that arrives late finds that it was."""
        latest = self.customer.latest
        for key in ("",) if keys is None else keys:
            name = f"{moment.name}/{key}"
            latest[name] = max(time, latest.pop(name, -FOREVER))
        while len(latest) > MAX_LATEST:
            del latest[next(iter(latest))]

    def _ended_since(self, moment: Moment, key: str, time: int) -> bool:
        latest = self.customer.latest
        return max(latest.get(f"{moment.name}/", -FOREVER), latest.get(f"{moment.name}/{key}", -FOREVER)) >= time

    def _retract(self, moment: Moment, keys: Iterable[str] | None, event: Event) -> None:
        """Take back what late data proves wrong: an event from before a moment opened that would have ended it."""
        customer = self.customer
        if not customer.answered:
            return
        keep_from = self.clock_before - self.program.longest_late
        customer.answered[:] = [kept for kept in customer.answered if kept.opened >= keep_from]
        allowed = None if keys is None else set(keys)
        for answered in [a for a in customer.answered if a.moment == moment.name]:
            if (allowed is None or answered.key in allowed) and answered.started <= event.time <= answered.opened:
                customer.answered.remove(answered)
                self._void(answered, event)

    def _void(self, answered: Answered, event: Event) -> None:
        customer = self.customer
        now = max(event.time, customer.now)
        windows = [*customer.closed, *([] if customer.window is None else [customer.window])]
        window = next((w for w in windows if w.decision_id == answered.decision_id), None)
        if window is None or window.void:
            return
        window.void = True
        self.effects.decisions.append(
            Decision(
                decision_id=identify(self.customer_id, "void", answered.decision_id),
                customer_id=self.customer_id,
                decided_at=now,
                kind="void",
                arm="control" if window.control else "treatment",
                reason=Reason.CANCELLED.value,
                definitions_version=self.program.version,
                campaign=answered.campaign,
                voids=answered.decision_id,
            )
        )
        if answered.trigger_id:
            self.effects.triggers.append(self._trigger(answered, window, now, "retract"))
        if window is not customer.window:
            self._amend([window])

    # --- decisions ------------------------------------------------------------------------------------------------

    def _decide(self, now: int, over: list[EndedMoment]) -> None:
        customer = self.customer
        customer.decide_at = FOREVER
        situation = situation_of(self.program, self.reference, customer, self.customer_id, now)
        verdict = arbitrate(situation)
        if verdict is None:
            if over:
                self._close(now, over)
            return
        if verdict.winner is not None:
            over = over + self._act(verdict, now)
        elif verdict.arm == "holdout":
            over = over + self._hold_out(verdict)
        else:
            retries = [o.candidate.retry_at for o in verdict.options if o.candidate.retry_at is not None]
            customer.decide_at = max(min(retries), now + 1) if retries else FOREVER
        self._note_reasons(verdict)
        self._record(verdict, now, over)

    def _act(self, verdict: Verdict, now: int) -> list[EndedMoment]:
        """Give the slot to the winner, in either arm, and emit the trigger in treatment; return what it answered."""
        winner, customer = verdict.winner, self.customer
        assert winner is not None
        campaign = winner.campaign
        assert campaign is not None
        control = verdict.arm == "control"
        end = now + campaign.measure.window
        window = Window(
            verdict.decision_id,
            campaign.name,
            control,
            winner.moment.name,
            now,
            end,
            campaign.cost,
            self.program.version,
        )
        customer.window = window
        customer.fires[SLOT] = end + self.program.order_disorder
        self.effects.hold(active_of(window, self.customer_id))
        cause = (self.customer_id, campaign.name, winner.moment.name, winner.key, winner.instance.due, "")
        trigger_id = "" if control else identify(*cause)
        over = []
        for option in verdict.options:
            also = option.campaign is campaign and option.moment is winner.moment
            if not also:
                continue
            instances = customer.instances(option.moment.name)
            instance = instances.pop(option.key)
            won = option is winner
            reason = (Reason.CONTROL if control else Reason.CHOSEN) if won else Reason.ALREADY_ANSWERED
            over.append(ended(option.moment, option.key, instance, "acted", reason, campaign.name))
            if won:
                customer.answered.append(
                    Answered(
                        option.moment.name,
                        option.key,
                        instance.started,
                        instance.due,
                        verdict.decision_id,
                        campaign.name,
                        trigger_id,
                        now,
                    )
                )
                if trigger_id:
                    trigger = self._trigger(customer.answered[-1], window, now, "send", instance.until)
                    self.effects.triggers.append(trigger)
            self._schedule(option.moment, instances)
        if trigger_id:
            self._count_message(now, campaign.send.channel)
        return over

    def _hold_out(self, verdict: Verdict) -> list[EndedMoment]:
        over = []
        for moment, key in dict.fromkeys(
            (o.moment.name, o.key) for o in verdict.options if o.candidate.reason == Reason.HOLDOUT
        ):
            rule = self.program.moments[moment]
            instances = self.customer.instances(moment)
            over.append(ended(rule, key, instances.pop(key), "acted", Reason.HOLDOUT))
            self._schedule(rule, instances)
        return over

    def _note_reasons(self, verdict: Verdict) -> None:
        """Keep with every instance that stays open why it was not answered, for the record of its end."""
        for option in verdict.options:
            if self.customer.instances(option.moment.name).get(option.key) is not option.instance:
                continue
            candidate = option.candidate
            if candidate.reason == Reason.OUTRANKED and verdict.winner is not None:
                option.instance.reason, option.instance.by = Reason.SLOT_HELD.value, verdict.winner.candidate.campaign
            else:
                option.instance.reason, option.instance.by = candidate.reason, candidate.saw

    def _record(self, verdict: Verdict, now: int, over: list[EndedMoment]) -> None:
        candidates = tuple(option.candidate for option in verdict.options)
        mark = fingerprint(
            "|".join(f"{c.campaign}/{c.moment}/{c.moment_key}/{c.opened_at}/{c.reason}" for c in candidates)
        )
        winner = verdict.winner
        if winner is None and mark == self.customer.recorded and not over:
            return  # the same candidates for the same reasons: nothing changed
        self.customer.recorded = mark
        chosen = None if winner is None else winner.candidate
        window = self.customer.window if winner is not None else None
        trigger_id = self.effects.triggers[-1].trigger_id if verdict.arm == "treatment" else None
        self.effects.decisions.append(
            Decision(
                decision_id=verdict.decision_id,
                customer_id=self.customer_id,
                decided_at=now,
                kind="choice",
                arm=verdict.arm,
                reason=candidates[0].reason if chosen is None else chosen.reason,
                definitions_version=self.program.version,
                campaign=None if chosen is None else chosen.campaign,
                window_until=None if window is None else window.end,
                trigger_id=trigger_id,
                candidates=candidates,
                ended=tuple(over),
            )
        )

    def _close(self, now: int, over: list[EndedMoment]) -> None:
        """Record moments that ended unanswered."""
        identities = (f"{e.moment}/{e.moment_key}/{e.opened_at}/{e.started_at}" for e in over)
        self.effects.decisions.append(
            Decision(
                decision_id=identify(self.customer_id, now, "closing", *identities),
                customer_id=self.customer_id,
                decided_at=now,
                kind="closing",
                arm="none",
                reason=over[0].reason,
                definitions_version=self.program.version,
                ended=tuple(over),
            )
        )

    def _trigger(self, answered: Answered, window: Window, now: int, action: str, valid_until: int = 0) -> Trigger:
        send = self.program.campaigns[answered.campaign].send
        moment = self.program.moments[answered.moment]
        return Trigger(
            trigger_id=answered.trigger_id,
            decision_id=answered.decision_id,
            customer_id=self.customer_id,
            campaign=answered.campaign,
            channel=send.channel,
            template=send.template,
            moment=answered.moment,
            moment_key=answered.key,
            opened_at=answered.opened,
            decided_at=answered.decided_at,
            valid_until=valid_until or now,
            window_until=window.end,
            definitions_version=self.program.version,
            action=action,
            content={moment.key: answered.key} if moment.key else {},
        )
