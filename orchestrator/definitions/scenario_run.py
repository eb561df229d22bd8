"""Runs tests in the simulation: the engine of the worker, a clock moved by hand, no Kafka.

An expectation at T is looked at once everything up to T was waited for, stragglers included, as a worker would. Chance
is switched off (no control group, no hold-out, nothing tried), and customers agree to every channel unless a profile
says otherwise: a test is about rules, not about luck. What campaigns are worth is what the test says; where it does
not, priority decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import asdict

from orchestrator.arbitration.series import begin_series
from orchestrator.customer import OPEN, Answered, Customer, Window
from orchestrator.definitions.scenarios import EVERYBODY_WORD, Expect, Given, Scenario
from orchestrator.events import DAY, FOREVER, PROFILE, Event
from orchestrator.measurement import SLOT
from orchestrator.moments.rules import Calendar, Launch
from orchestrator.program import Definitions, Program
from orchestrator.records import Candidate, Decision, EndedMoment
from orchestrator.reference import Reference, product_of
from orchestrator.simulation import Simulation
from orchestrator.valuation import PolicySnapshot


@dataclass(frozen=True, slots=True)
class Failure:
    """An expectation that did not hold: what was expected and what happened, and the customer's timeline."""

    scenario: Scenario
    expect: Expect
    expected: str
    happened: str
    timeline: tuple[str, ...]


def run_scenario(scenario: Scenario, definitions: Definitions) -> list[Failure]:
    """Return the expectations that did not hold, in the order written."""
    program = Program(without_chance(definitions))
    reference = Reference(product_of({"effective_from": -DAY, **product}) for product in scenario.products)
    return ScenarioRun(scenario, program, reference).failures()


def without_chance(definitions: Definitions) -> Definitions:
    """Return the same definitions without control groups, hold-out and exploration; one method chooses for all."""
    campaigns = {
        name: replace(campaign, control_bp=0, control_floor_bp=0) for name, campaign in definitions.campaigns.items()
    }
    policy = replace(definitions.policy, holdout_bp=0, explore_start_bp=0, explore_floor_bp=0, compare={})
    if policy.method == "compare":
        policy = replace(policy, method="expected_value")
    return replace(definitions, campaigns=campaigns, policy=policy)


class ScenarioRun:
    """One test being run: its simulation, and what did not hold in it."""

    def __init__(self, scenario: Scenario, program: Program, reference: Reference) -> None:
        self.scenario = scenario
        self.program = program
        self.simulation = Simulation(program, reference)
        # Long enough for any topic's stragglers, so that what is due at T has happened when T is looked at.
        waits = [*program.disorder.values(), *map(program.series_wait, program.campaigns.values())]
        self.patience = max([*waits, program.stock_disorder, program.order_disorder])
        sends = [send for campaign in program.campaigns.values() for send in campaign.sends]
        self.channels = sorted({(send.channel, send.purpose) for send in sends})

    def failures(self) -> list[Failure]:
        """Return what did not hold: play everything in the order of arrival, look when it is time to look."""
        agenda: list[tuple[int, int, int, Given | Expect]] = []
        agenda += [(given.arrives, 0, place, given) for place, given in enumerate(self.scenario.given)]
        agenda += [(expect.at + self.patience, 1, place, expect) for place, expect in enumerate(self.scenario.expect)]
        known: set[str] = set()
        failed: dict[int, Failure] = {}
        for instant, _, place, item in sorted(agenda, key=lambda entry: entry[:3]):
            customers = set() if self._is_of_nobody(item) else {self._customer(item)} - known
            for customer in sorted(customers):
                known.add(customer)
                self.simulation.feed(self._agrees(customer, instant))
            if isinstance(item, Given):
                self.simulation.advance(max(instant, self.simulation.clock))
                self._happen(item, place)
                self.simulation.advance(self.simulation.clock)
            else:
                self.simulation.advance(max(instant, self.simulation.clock))
                expected, happened = self._check(item)
                if expected not in happened:
                    failed[place] = self._failure(item, expected, "; ".join(happened))
        return [failed[place] for place in sorted(failed)]

    def _customer(self, item: Given | Expect) -> str:
        return item.customer or next((given.customer for given in self.scenario.given if given.customer), "ana")

    def _is_of_nobody(self, item: Given | Expect) -> bool:
        return isinstance(item, Given) and any((item.product, item.snapshot, item.policy))

    def _agrees(self, customer: str, at: int) -> Event:
        consents = [
            {"channel": channel, "purpose": purpose, "granted": True, "at": at - DAY}
            for channel, purpose in self.channels
        ]
        return Event(PROFILE, customer, at - DAY, data={"consents": consents})

    def _happen(self, given: Given, place: int) -> None:
        if given.decided is not None:
            self._decided(given)
            return
        if given.product is not None:
            before = self.simulation.reference.product(given.product["sku"], given.at)
            known = {} if before is None else asdict(before)
            self.simulation.reference.put(product_of({**known, **given.product, "effective_from": given.at}))
            return
        if given.snapshot is not None:
            one = given.snapshot
            self.simulation.reference.put_cut_points(one.feature, one.effective_from, one.least)
            return
        if given.policy is not None:
            self.simulation.reference.put_policy(given.policy)
            return
        event = Event(given.event, given.customer, given.at, f"given-{place}", 0, place, dict(given.data))
        self.simulation.feed(event)

    def _decided(self, given: Given) -> None:
        """Let a campaign hold the slot, as if it had been chosen."""
        campaign = self.program.campaigns[given.decided or ""]
        end = given.at + campaign.measure.window
        customer = self.simulation.customers.setdefault(given.customer, Customer())
        customer.window = Window(
            f"given-{given.place.line}", campaign.name, False, "", given.at, end, campaign.cost, self.program.version
        )
        customer.fires[SLOT] = end + self.program.order_disorder
        customer.sent.append((given.at, campaign.send.channel))
        if campaign.series:
            send, id_ = campaign.send, customer.window.decision_id
            about = ("", "", given.at, given.at, end, id_, given.at, campaign.name, send.channel, send.template, id_)
            begin_series(self.program, customer, campaign, Answered(*about))

    # --- looking ---

    def _check(self, expect: Expect) -> tuple[str, list[str]]:
        """Return what was expected and what is the case, in the same words."""
        customer = self._customer(expect)
        if expect.triggers is not None:
            sent = [
                trigger.campaign
                for trigger in self.simulation.triggers
                if trigger.action in ("send", "add")
                and trigger.decided_at <= expect.at
                and (expect.customer is None or trigger.customer_id == expect.customer)
            ]
            return f"triggers: [{', '.join(expect.triggers)}]", [f"triggers: [{', '.join(sent)}]"]
        if expect.moment is not None:
            wanted = _state(expect.moment, expect.key, expect.state, expect.because, expect.by)
            return wanted, list(self._moment(customer, expect)) or [f"{expect.moment} is absent"]
        wanted = _state(_named(expect), expect.key, expect.state, expect.because, expect.by, expect.offer)
        return wanted, self._campaign(customer, expect) or [f"{_named(expect)} is not_sent"]

    def _moment(self, customer: str, expect: Expect) -> Iterator[str]:
        """Yield the states of a moment's instances at the instant, newest last."""
        name, at = expect.moment or "", expect.at
        # A date is waited for from the day it is known; its moment starts when it opens.
        starts = not isinstance(self.program.definitions.moments[name].shape, Calendar | Launch)
        for ended, ended_at in self._ended(customer, name):
            if expect.key not in (None, ended.moment_key) or (starts and ended.started_at > at):
                continue
            state = "waiting" if at < ended.opened_at else "open" if at < ended_at else ended.state
            yield _state(
                name, expect.key and ended.moment_key, state, expect.because and ended.reason, expect.by and ended.by
            )
        state_of = self.simulation.customers.get(customer)
        filed = self.program.filed.filed_as.get(name, name)
        for key, instance in (state_of.instances(filed) if state_of is not None else {}).items():
            if expect.key not in (None, key) or (starts and instance.started > at):
                continue
            state = "open" if instance.state == OPEN and instance.due <= at else "waiting"
            yield _state(name, expect.key and key, state, expect.because and instance.reason, expect.by and instance.by)

    def _ended(self, customer: str, moment: str) -> Iterator[tuple[EndedMoment, int]]:
        for decision in self.simulation.decisions:
            if decision.customer_id == customer:
                yield from ((ended, decision.decided_at) for ended in decision.ended if ended.moment == moment)

    def _campaign(self, customer: str, expect: Expect) -> list[str]:
        """Return what the last decision up to the instant said of a campaign."""
        name = expect.campaign or ""
        series = self.program.campaigns[name].series
        # The first step of a series is decided with the campaign itself.
        step = "" if series and expect.step == series[0].name else expect.step
        last: list[str] = []
        for decision in self.simulation.decisions:
            # What is decided while stragglers are waited for belongs to the instant that is looked at.
            if decision.customer_id != customer or decision.decided_at > expect.at + self.patience:
                continue
            if decision.step != step:
                continue
            if decision.kind == "void" and decision.campaign == name:
                last = [_state(_named(expect), None, "retracted", expect.because and decision.reason, None)]
            said = [
                _state(
                    _named(expect),
                    expect.key and candidate.moment_key,
                    _fate(decision, candidate),
                    expect.because and candidate.reason,
                    expect.by and candidate.saw,
                    expect.offer and candidate.offer,
                )
                for candidate in _with_the_offer_chosen(decision.candidates)
                if candidate.campaign == name and expect.key in (None, candidate.moment_key)
            ]
            last = said or last
        return last

    def _failure(self, expect: Expect, expected: str, happened: str) -> Failure:
        return Failure(self.scenario, expect, expected, happened, tuple(self._timeline(self._customer(expect))))

    def _timeline(self, customer: str) -> Iterator[str]:
        """Yield the customer's history in order: what was given, what was decided, what waits."""
        lines: list[tuple[int, str]] = []
        for given in self.scenario.given:
            if given.customer in (customer, ""):
                late = "" if given.arrives == given.at else f", arrives {_clock(given.arrives)}"
                said = f"{given.event} {_told(given.data)}".rstrip()
                if given.product is not None:
                    said = f"product {_told(given.product)}"
                elif given.snapshot is not None:
                    said = f"snapshot {given.snapshot.feature} {_told(given.snapshot.least)}"
                elif given.policy is not None:
                    said = f"policy {'; '.join(_worths(given.policy))}"
                elif given.decided:
                    said = f"decided: {given.decided}"
                lines.append((given.at, said + late))
        for decision in self.simulation.decisions:
            if decision.customer_id != customer:
                continue
            what = f"{decision.campaign or 'none'} {decision.step}".rstrip()
            lines.append((decision.decided_at, f"=> {decision.kind}: {what} ({decision.reason})"))
            lines += [
                (
                    decision.decided_at,
                    f"   {ended.moment} {ended.moment_key} {ended.state}: {ended.reason} {ended.by}".rstrip(),
                )
                for ended in decision.ended
            ]
        state = self.simulation.customers.get(customer)
        for name in sorted(self.program.moments) if state is not None else ():
            assert state is not None
            for key, instance in state.instances(name).items():
                word = "open since" if instance.state == OPEN else "waits until"
                names = ", ".join(self.program.names_of(name))
                lines.append((FOREVER, f"   {names} {key} {word} {_clock(instance.due)}"))
        yield from (
            (f"{_clock(at)}  {said}" if at < FOREVER else f"{'':17} {said}")
            for at, said in sorted(lines, key=lambda line: line[0])
        )


def _with_the_offer_chosen(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """Yield candidates, of a campaign that was chosen only with the offer that went with it."""
    both = list(candidates)
    chosen = {(c.campaign, c.moment, c.moment_key) for c in both if c.reason in ("chosen", "control")}
    for one in both:
        if one.reason in ("chosen", "control") or (one.campaign, one.moment, one.moment_key) not in chosen:
            yield one


def _fate(decision: Decision, candidate: Candidate) -> str:
    if decision.kind == "removal":
        return "removed"
    return candidate.reason if candidate.reason in ("chosen", "control") else "not_sent"


def _named(expect: Expect) -> str:
    """Return the campaign, or the step of its series, that an expectation is about."""
    return f"{expect.campaign} {expect.step}".rstrip()


def _state(
    name: str, key: str | None, state: str, because: str | None, by: str | None, offer: str | None = None
) -> str:
    parts = [
        name,
        f"({key})" if key else "",
        f"is {state}",
        f"because {because}" if because else "",
        f"by {by}" if by else "",
        f"with {offer}" if offer else "",
    ]
    return " ".join(part for part in parts if part)


def _worths(policy: PolicySnapshot) -> Iterator[str]:
    for leaf, values in policy.leaves.items():
        said = ", ".join(f"{arm.partition('@')[0]} {one.gain[0] / 100:.2f}" for arm, one in values.arms.items())
        yield f"{leaf or EVERYBODY_WORD}: {said}"


def _told(data: Mapping[str, Any]) -> str:
    said = {name: value for name, value in data.items() if value not in (None, [], False) and name != "consents"}
    return ", ".join(f"{name} {value}" for name, value in said.items())


def _clock(instant: int) -> str:
    return datetime.fromtimestamp(instant / 1000, UTC).strftime("%Y-%m-%d %H:%MZ")
