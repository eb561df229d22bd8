"""`why` for everybody: it agrees with the records, and what it says would have to change is true when tried."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.backtest.files import Files
from orchestrator.backtest.history import Seen
from orchestrator.backtest.life import Life, Lives
from orchestrator.backtest.result import read_records
from orchestrator.backtest.run import backtest
from orchestrator.backtest.spool import Placed
from orchestrator.backtest.steps import EvenSteps
from orchestrator.cli import main
from orchestrator.customer import Customer
from orchestrator.events import DAY, HOUR, PROFILE, Event
from orchestrator.program import Program
from orchestrator.prospects import Change, Prospect, lines, prospects
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.settings import load
from orchestrator.view import CustomerView
from orchestrator.why import Clock
from tests.backtest.made import BEGIN, RETAIL, ROOT, made, write

PROGRAM = Program(load_folder(RETAIL))
STEPS = EvenSteps(HOUR, BEGIN // HOUR)


class World:
    """Recorded lives that can be lived again, up to any instant and with something added."""

    def __init__(self, folder: Path) -> None:
        self.files = Files(folder, load({}))
        self.reference = self.files.products()
        self.placed: dict[str, list[Placed]] = {}
        for reader in range(self.files.readers):
            for _, step, event in self.files.read(reader, Seen()):
                self.placed.setdefault(event.customer, []).append((step, event))

    def live(self, customer: str, at: int, until: int | None = None, *more: Event) -> Life:
        """Return what became of a customer by `until` when nothing else has happened since an instant."""
        until = at if until is None else until
        known = [(step, event) for step, event in self.placed.get(customer, []) if STEPS.time(step) <= at]
        added = [(STEPS.step_of(event.time), event) for event in more]
        return Lives(PROGRAM, self.reference, replace(STEPS, until=until)).alone(customer, [*known, *added])

    def prospects(self, customer: str, at: int, until: int | None = None, *more: Event) -> list[Prospect]:
        """Return how far everything has come."""
        life = self.live(customer, at, until, *more)
        now = at if until is None else until
        return list(prospects(PROGRAM, self.reference, customer, life.customer or Customer(), now))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the recorded lives of a thousand customers."""
    return World(write(made(1_000, days=8), tmp_path_factory.mktemp("history"), ".avro", per_block=5_000))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the recorded lives of some customers."""
    return World(write(made(60, days=8), tmp_path_factory.mktemp("few"), ".avro"))


def same(one: Prospect, found: list[Prospect]) -> Prospect | None:
    """Return a prospect's own successor: the same campaign for the same instance."""
    of_one = (one.moment, one.key, one.campaign)
    return next((other for other in found if (other.moment, other.key, other.campaign) == of_one), None)


def test_what_would_have_to_change_is_true_when_tried(world: World) -> None:
    """For a thousand customers, each at an instant of its own: the engine runs again with the change."""
    chance = Random(7)
    tried: Counter[str] = Counter()
    for number in range(1_000):
        customer, at = f"c{number}", BEGIN + chance.randrange(24, 8 * 24) * HOUR
        found = world.prospects(customer, at)
        assert {one.moment for one in found} == set(PROGRAM.definitions.moments)
        assert all(one.changes for one in found)
        for one in [*(one for one in found if one.state == "open"), chance.choice(found)]:
            for change in one.changes:
                tried[f"{change.kind} {change.reason}".strip()] += attempt(world, customer, at, one, change)

    print(dict(tried))
    for kind in ("time", "time slot_held", "time quiet_hours", "time holdout", "consent no_consent", "event", "value"):
        assert tried[kind] >= 3, tried


def attempt(world: World, customer: str, at: int, one: Prospect, change: Change) -> bool:
    """Make one change and assert that it is what the answer depended on; return whether it could be tried."""
    if change.kind == "time" and change.at is not None and change.at > at:
        if one.until is not None and change.at >= one.until and not change.reason:
            return False  # it ends before
        return waited(world, customer, at, one, change, change.at)
    if change.kind == "consent":
        channel, purpose = change.subject.split("/")
        agreed = {"consents": [{"channel": channel, "purpose": purpose, "granted": True, "at": at}]}
        after = world.prospects(customer, at, at + HOUR, Event(PROFILE, customer, at + 1, "", 0, 10**9, agreed))
        assert not [one for one in after if any(one.subject == change.subject for one in one.changes)]
        return True
    if change.kind == "event" and change.subject == "cart.item_added":
        data = {"cart_id": "tried", "cart_total": 5_000, "sku": "S1"}
        event = Event(change.subject, customer, at + 1, "tried", 1, 10**9, data)
        begun = same(replace(one, key="tried"), world.prospects(customer, at, at + HOUR // 2, event))
        assert begun is not None
        assert begun.state == "waiting"
        return True
    if change.kind == "value" and one.state == "waiting":
        return valued(world, customer, at, one)
    return False


def waited(world: World, customer: str, at: int, one: Prospect, change: Change, until: int) -> bool:
    """Let time alone go on: an instant before it nothing has changed, and then it has."""
    if change.reason == "holdout":  # which concerns everything there is
        held = [
            [one for one in world.prospects(customer, at, then) if "holdout" in {c.reason for c in one.changes}]
            for then in (until - 1, until)
        ]
        assert held[0]
        assert not held[1]
        return True
    if until - 1 > at:
        before = same(one, world.prospects(customer, at, until - 1))
        if before is None or before.state != one.state:
            return False  # something else came first: another of its kind, or its own end
        if change.reason:
            assert change.reason in {before.reason, *(other.reason for other in before.changes)}
    then = same(one, world.prospects(customer, at, until))
    if change.reason:
        assert then is None or change not in then.changes  # the slot may have been taken anew, at this very instant
        return then is None or (then.reason, then.saw) != (one.reason, one.saw)
    # One of those that are due at once opens.
    picks = PROGRAM.definitions.moments[one.moment].pick_one is not None
    assert then is None or then.state != "waiting" or picks
    return not picks


class Overridden:
    """A view in which some values are others."""

    def __init__(self, view: CustomerView, others: dict[tuple[str, str], Any]) -> None:
        self.view = view
        self.now = view.now
        self.others = others

    def read(self, source: str, name: str, key: str | None) -> Any:
        """Return the other value, where there is one."""
        return self.others.get((source, name), self.view.read(source, name, key))

    def in_segment(self, name: str) -> bool | None:
        """Return whether the customer would be in a segment."""
        return PROGRAM.segments[name].condition.holds(self)


def valued(world: World, customer: str, at: int, one: Prospect) -> bool:
    """Give the values that are said to be needed: then the moment's condition holds, and without them it does not."""
    known = world.live(customer, at).customer
    condition = PROGRAM.definitions.moments[one.moment].only_if
    assert known is not None
    assert condition is not None
    moment = PROGRAM.definitions.moments[one.moment]
    view = CustomerView(PROGRAM, world.reference, known, at, moment, one.key)
    assert condition.holds(view) is not True
    needed = [change.need for change in one.changes if change.need is not None]
    others = {(need.read.source, need.read.name): need.value for need in needed if need.read is not None}
    assert condition.holds(Overridden(view, others)) is True, needed
    return True


def test_it_agrees_with_the_decision_records(few: World, tmp_path: Path) -> None:
    """Deciding one customer again gives exactly the records that deciding everybody gave."""
    settings = load({})
    nobody_looks = lambda what, behind, total: None  # noqa: ARG005, E731
    backtest(few.files, load_folder(RETAIL), tmp_path / "out", ROOT / "schemas", processes=1, progress=nobody_looks)
    records: dict[str, list[Any]] = {}
    for record in read_records(tmp_path / "out", "decisions"):
        records.setdefault(record["customer_id"], []).append(record)

    for customer in ("c1", "c2", "c3", "never-seen"):
        told = why(few, customer, "--json")
        assert [one["decision_id"] for one in told["decisions"]] == [
            one["decision_id"] for one in records.get(customer, [])
        ]
        assert {one["moment"] for one in told["prospects"]} == set(PROGRAM.definitions.moments)
    assert settings.topics == few.files.settings.topics


def why(few: World, customer: str, *options: str) -> Any:
    """Return what the command says, as JSON."""
    arguments = ["why", customer, "--definitions", str(RETAIL), "--events", str(few.files.path), *options]
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.output) if "--json" in options else ended.output


def test_nobody_gets_an_empty_answer(few: World) -> None:
    """Also whoever has never been heard of reads which moments there are and how each begins."""
    said = why(few, "never-seen", "--at", "2017-03-05")

    assert "“Put things in the cart and did not buy within 1 hour” has not begun" in said
    assert "cart_rescue: it begins with cart.item_added, and the customer must agree to email/marketing" in said
    assert "profile.birth_date must be known" in said


def test_what_is_known_then_is_told_in_the_customers_own_time(few: World) -> None:
    """`--at` is on the customer's clock, and nothing that came later is known."""
    customer = next(name for name, events in sorted(few.placed.items()) if len(events) > 6)
    early, late = why(few, customer, "--at", "2017-03-02T09:00"), why(few, customer)

    assert "by 2 March 2017 09:00" in early
    assert len(early) < len(late)


def test_a_need_is_told_with_the_value_it_saw(few: World) -> None:
    """As in: cart_value must be >= 20.00; it is 5.00."""
    at = BEGIN + DAY
    event = Event("cart.item_added", "low", at, "e1", 1, 1, {"cart_id": "c", "cart_total": 500, "sku": "S1"})
    found = few.prospects("low", at - HOUR, at + HOUR // 2, event)

    text = "\n".join(lines(found, {}, Clock("UTC")))

    assert "abandoned_cart (c) is waiting" in text
    assert "cart_value must be >= 20.00; it is 5.00" in text
