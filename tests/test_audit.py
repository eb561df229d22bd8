"""The audit finds every kind of broken promise, and nothing in a history that keeps them."""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import orchestrator.audit as module
from orchestrator.audit import RELEASE_LAG, AuditReport, Located, Promise, audit

DAY = 86_400_000


def candidate(campaign: str = "cart", reason: str = "chosen", saw: str = "") -> dict[str, Any]:
    """Return a candidate as a decision carries it."""
    return {
        "campaign": campaign,
        "moment": "abandoned_cart",
        "moment_key": "cart-1",
        "opened_at": 0,
        "reason": reason,
        "saw": saw,
        "retry_at": None,
        "propensity": 0.0,
        "priority": 0,
        "checks": [],
    }


def decision(decision_id: str, at: int, until: int | None = None, **changes: Any) -> dict[str, Any]:
    """Return a decision record: treatment when it has a window, else none."""
    taken = until is not None
    return {
        "decision_id": decision_id,
        "customer_id": "ana",
        "decided_at": at,
        "kind": "choice",
        "campaign": "cart" if taken else None,
        "arm": "treatment" if taken else "none",
        "reason": "chosen" if taken else "not_eligible",
        "window_until": until,
        "trigger_id": f"t-{decision_id}" if taken else None,
        "voids": None,
        "candidates": [],
        "ended": [],
        "definitions_version": "1",
        "policy_version": "",
        "step": "",
        "continues": None,
    } | changes


def cut(of: dict[str, Any], at: int) -> dict[str, Any]:
    """Return the decision that another campaign cut in on a window."""
    return decision(
        f"cut-{of['decision_id']}", at, kind="interruption", arm=of["arm"], reason="outranked", voids=of["decision_id"]
    )


def step(of: dict[str, Any], name: str, at: int, **changes: Any) -> dict[str, Any]:
    """Return the decision of a later step of the series that a decision began, sent in treatment."""
    control = of["arm"] == "control"
    own = {"kind": "step", "campaign": of["campaign"], "step": name, "continues": of["decision_id"]}
    own |= {"arm": of["arm"], "reason": of["reason"], "trigger_id": None if control else f"t-{name}"}
    told = {"candidates": [candidate(of["campaign"], of["reason"])]}
    return decision(f"{of['decision_id']}-{name}", at) | own | told | changes


def exempt(decision_id: str, at: int, **changes: Any) -> dict[str, Any]:
    """Return the decision of a transactional message."""
    sent = {"arm": "treatment", "reason": "chosen", "campaign": "receipt", "trigger_id": f"t-{decision_id}"}
    told = {"kind": "exempt", "candidates": [candidate("receipt")]}
    return decision(decision_id, at) | sent | told | changes


def send(of: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the trigger that belongs to a treatment decision."""
    return {
        "trigger_id": of["trigger_id"],
        "action": "send",
        "decision_id": of["decision_id"],
        "customer_id": of["customer_id"],
        "campaign": of["campaign"],
        "step": "",
        "channel": "email",
        "template": "cart",
        "moment": "abandoned_cart",
        "moment_key": "cart-1",
        "opened_at": of["decided_at"],
        "decided_at": of["decided_at"],
        "valid_until": of["decided_at"] + DAY,
        "window_until": of["window_until"],
        "content": {},
        "definitions_version": "1",
        "message_class": "marketing",
    } | changes


@dataclass
class History:
    """A clean history for a test to spoil: treatment, control, a held slot, holdout, retractions, series, receipts."""

    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    triggers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first = decision("d1", at=0, until=7 * DAY)
        held = [candidate("birthday", "slot_held", saw="cart")]
        spoilt = decision("d4", at=20 * DAY, until=27 * DAY)
        silent = decision("d3", at=7 * DAY, until=14 * DAY, arm="control", reason="control", trigger_id=None)
        nudge, gone = step(first, "nudge", 3 * DAY), step(spoilt, "nudge", 22 * DAY)
        receipts = [exempt("e1", 8 * DAY), exempt("e2", 22 * DAY, customer_id="ben")]
        added = decision("d8", at=30 * DAY, until=33 * DAY, customer_id="cleo")
        for record in (
            first,
            decision("d2", at=DAY, candidates=held),
            nudge,
            step(first, "offer", 4 * DAY, arm="none", reason="cap", trigger_id=None),
            step(first, "last", 5 * DAY, arm="none", reason="stopped", trigger_id=None),
            silent,
            step(silent, "nudge", 9 * DAY),
            *receipts,
            spoilt,
            gone,
            decision("d7", at=23 * DAY, kind="void", voids="d4-nudge", arm="treatment", campaign="cart"),
            decision("d5", at=21 * DAY, kind="void", voids="d4", arm="treatment", campaign="cart"),
            added,
            decision("d9", at=31 * DAY, customer_id="cleo", kind="removal", continues="d8", reason="stopped"),
            decision("d6", at=22 * DAY, customer_id="ben", arm="holdout", reason="holdout", campaign="cart"),
        ):
            self.decisions[record["decision_id"]] = record
        of_step = {"window_until": first["window_until"], "step": "nudge"}
        gone_with = {"window_until": spoilt["window_until"], "step": "nudge", "trigger_id": "t-gone"}
        gone["trigger_id"] = "t-gone"
        self.triggers = {
            "t1": send(first, step="inspire"),
            "s1": send(nudge, **of_step),
            "t4": send(spoilt),
            "s4": send(gone, **gone_with),
            "r4": send(spoilt, action="retract"),
            "a8": send(added, action="add"),
            "x8": send(added, action="remove", decided_at=31 * DAY),
            "rs4": send(gone, action="retract", **gone_with),
        } | {
            one["decision_id"]: send(one, message_class="transactional", window_until=one["decided_at"])
            for one in receipts
        }

    def audit(self, horizon: int | None = None) -> AuditReport:
        """Return the report on this history."""
        return audit(
            located("decisions", self.decisions.values()),
            located("campaign-triggers", self.triggers.values()),
            (),
            horizon,
        )


def located(topic: str, records: Any) -> Iterator[Located]:
    """Yield records with the places they would have in one partition."""
    for offset, record in enumerate(records):
        yield record, (topic, 0, offset)


def kinds(report: AuditReport) -> set[Promise]:
    """Return the promises a report found broken."""
    return {violation.kind for violation in report.violations}


def test_clean_history_is_clean() -> None:
    """Nothing is found where every promise was kept, and everything is counted."""
    report = History().audit()

    assert report.violations == ()
    assert report.clean
    assert (report.decisions, report.triggers, report.intervals, report.customers) == (16, 10, 4, 3)


def _overlap(history: History) -> None:
    history.decisions["d3"]["decided_at"] = 7 * DAY - 1


def _empty_window(history: History) -> None:
    history.decisions["d3"]["window_until"] = 7 * DAY


def _missing_window(history: History) -> None:
    history.decisions["d3"]["window_until"] = None


def _holdout_with_window(history: History) -> None:
    history.decisions["d6"]["window_until"] = 30 * DAY


def _void_with_window(history: History) -> None:
    history.decisions["d5"]["window_until"] = 30 * DAY


def _repeated_decision(history: History) -> None:
    history.decisions["again"] = history.decisions["d1"]


def _repeated_send(history: History) -> None:
    history.triggers["again"] = history.triggers["t1"]


def _repeated_retract(history: History) -> None:
    history.triggers["again"] = history.triggers["r4"]


def _send_without_decision(history: History) -> None:
    stray = decision("d9", at=40 * DAY, until=41 * DAY)
    history.triggers["stray"] = send(stray)


def _send_for_none(history: History) -> None:
    history.triggers["stray"] = send(history.decisions["d2"], trigger_id="t2", campaign="cart", window_until=DAY)


def _send_of_other_campaign(history: History) -> None:
    history.triggers["t1"]["campaign"] = "birthday"


def _send_to_other_customer(history: History) -> None:
    history.triggers["t1"]["customer_id"] = "carla"


def _send_with_other_id(history: History) -> None:
    history.decisions["d1"]["trigger_id"] = "t9"


def _send_with_other_window(history: History) -> None:
    history.triggers["t1"]["window_until"] = 6 * DAY


def _treatment_without_send(history: History) -> None:
    del history.triggers["t1"]


def _treatment_that_names_no_trigger(history: History) -> None:
    history.decisions["d1"]["trigger_id"] = None


def _send_to_control(history: History) -> None:
    history.triggers["t3"] = send(history.decisions["d3"], trigger_id="t3")


def _control_that_names_a_trigger(history: History) -> None:
    history.decisions["d3"]["trigger_id"] = "t3"


def _stray_send_in_a_control_window(history: History) -> None:
    history.triggers["t3"] = send(decision("d9", at=9 * DAY, until=10 * DAY))


def _send_to_holdout(history: History) -> None:
    history.triggers["t6"] = send(history.decisions["d6"], trigger_id="t6", window_until=30 * DAY)


def _holdout_that_names_a_trigger(history: History) -> None:
    history.decisions["d6"]["trigger_id"] = "t6"


def _stray_send_at_a_holdout(history: History) -> None:
    history.triggers["t6"] = send(decision("d9", at=22 * DAY, until=30 * DAY, customer_id="ben"))


def _retract_of_nothing(history: History) -> None:
    history.triggers["r4"]["trigger_id"] = "t9"


def _retract_before_send(history: History) -> None:
    history.triggers = {"r4": history.triggers["r4"], **history.triggers}


def _retract_without_void(history: History) -> None:
    history.decisions["d5"]["voids"] = "d1"


def _retract_of_another_customers(history: History) -> None:
    history.triggers["r4"]["customer_id"] = "carla"


def _holder_is_another(history: History) -> None:
    history.decisions["d2"]["candidates"][0]["saw"] = "birthday"


def _holder_is_nobody(history: History) -> None:
    history.decisions["d2"]["candidates"][0]["saw"] = ""


def _holder_had_let_go(history: History) -> None:
    history.decisions["d2"]["decided_at"] = 14 * DAY + RELEASE_LAG


def _ended_moment_names_no_holder(history: History) -> None:
    gone = {"moment": "birthday", "moment_key": "", "started_at": 0, "opened_at": 28 * DAY, "state": "expired"}
    history.decisions["d2"] |= {"decided_at": 30 * DAY, "candidates": []}
    history.decisions["d2"]["ended"] = [gone | {"reason": "slot_held", "by": "cart"}]


def _step_of_nothing(history: History) -> None:
    history.decisions["d1-nudge"]["continues"] = "d99"


def _step_of_no_slot(history: History) -> None:
    history.decisions["d1-nudge"]["continues"] = "d2"


def _step_after_the_window(history: History) -> None:
    for record in (history.decisions["d1-nudge"], history.triggers["s1"]):
        record["decided_at"] = 16 * DAY


def _step_of_another_campaign(history: History) -> None:
    for record in (history.decisions["d1-nudge"], history.triggers["s1"]):
        record["campaign"] = "birthday"


def _step_of_the_other_arm(history: History) -> None:
    history.decisions["d3-nudge"] |= {"arm": "treatment", "trigger_id": "t-loud"}
    history.triggers["loud"] = send(history.decisions["d3-nudge"], step="nudge", window_until=14 * DAY)


def _step_sent_twice(history: History) -> None:
    again = history.decisions["again"] = step(history.decisions["d1"], "nudge", 4 * DAY)
    again |= {"decision_id": "again", "trigger_id": "t-again"}
    history.triggers["again"] = send(again, step="nudge", window_until=7 * DAY)


def _step_without_send(history: History) -> None:
    del history.triggers["s1"]


def _second_send_of_a_slot(history: History) -> None:
    history.triggers["more"] = send(history.decisions["d1"], trigger_id="t-more", step="nudge", decided_at=3 * DAY)


def _send_of_another_step(history: History) -> None:
    history.triggers["s1"]["step"] = "offer"


def _send_of_a_step_with_other_window(history: History) -> None:
    history.triggers["s1"]["window_until"] += 1


def _step_that_takes_the_slot(history: History) -> None:
    history.decisions["d1-nudge"]["window_until"] = 7 * DAY


def _control_step_that_names_a_trigger(history: History) -> None:
    history.decisions["d3-nudge"]["trigger_id"] = "t-secret"


def _step_taken_back_without_void(history: History) -> None:
    history.decisions["d7"]["voids"] = "d1-nudge"


def _marketing_that_calls_itself_transactional(history: History) -> None:
    history.triggers["t1"]["message_class"] = "transactional"


def _receipt_that_calls_itself_marketing(history: History) -> None:
    history.triggers["e1"]["message_class"] = "marketing"


def _receipt_without_send(history: History) -> None:
    del history.triggers["e2"]


def _removed_twice(history: History) -> None:
    history.triggers["x9"] = history.triggers["x8"]


def _removed_but_never_added(history: History) -> None:
    history.triggers["x8"] |= {"trigger_id": "t-nobody"}


def _removed_before_added(history: History) -> None:
    history.triggers["a8"], history.triggers["x8"] = history.triggers["x8"], history.triggers["a8"]


def _removed_for_another_decision(history: History) -> None:
    history.triggers["x8"]["decision_id"] = "d1"


def _a_message_is_removed(history: History) -> None:
    history.triggers["a8"]["action"] = "send"


def _removed_without_a_word(history: History) -> None:
    del history.decisions["d9"]


def _not_removed(history: History) -> None:
    del history.triggers["x8"]


def _added_in_control(history: History) -> None:
    history.decisions["d8"] |= {"arm": "control", "reason": "control", "trigger_id": None}


def _cut_in(history: History, **changes: Any) -> None:
    """Let the control group's campaign cut in on the first one."""
    history.decisions["cut"] = cut(history.decisions["d1"], 6 * DAY) | changes
    history.decisions["d3"]["decided_at"] = 6 * DAY


def _cut_in_for_another_customer(history: History) -> None:
    _cut_in(history, customer_id="ben")


def _step_after_another_cut_in(history: History) -> None:
    history.decisions["cut"] = cut(history.decisions["d1"], 2 * DAY)


PLANTED: list[tuple[Callable[[History], None], set[Promise]]] = [
    (_overlap, {Promise.NO_OVERLAP}),
    (_cut_in_for_another_customer, {Promise.NO_OVERLAP}),
    (_step_after_another_cut_in, {Promise.STEP_CONTINUES}),
    (_empty_window, {Promise.REAL_INTERVAL, Promise.STEP_CONTINUES}),
    (_missing_window, {Promise.REAL_INTERVAL, Promise.STEP_CONTINUES}),
    (_holdout_with_window, {Promise.REAL_INTERVAL}),
    (_void_with_window, {Promise.REAL_INTERVAL, Promise.NO_OVERLAP}),
    (_repeated_decision, {Promise.UNIQUE_DECISION}),
    (_repeated_send, {Promise.UNIQUE_TRIGGER}),
    (_repeated_retract, {Promise.UNIQUE_TRIGGER}),
    (_send_without_decision, {Promise.TRIGGER_HAS_DECISION}),
    (_send_for_none, {Promise.TRIGGER_HAS_DECISION}),
    (_send_of_other_campaign, {Promise.TRIGGER_HAS_DECISION}),
    (_send_to_other_customer, {Promise.TRIGGER_HAS_DECISION}),
    (_send_with_other_id, {Promise.TRIGGER_HAS_DECISION, Promise.DECISION_HAS_TRIGGER}),
    (_send_with_other_window, {Promise.TRIGGER_HAS_DECISION}),
    (_treatment_without_send, {Promise.DECISION_HAS_TRIGGER}),
    (_treatment_that_names_no_trigger, {Promise.DECISION_HAS_TRIGGER, Promise.TRIGGER_HAS_DECISION}),
    (_send_to_control, {Promise.CONTROL_IS_SILENT, Promise.TRIGGER_HAS_DECISION}),
    (_control_that_names_a_trigger, {Promise.CONTROL_IS_SILENT}),
    (_stray_send_in_a_control_window, {Promise.CONTROL_IS_SILENT, Promise.TRIGGER_HAS_DECISION}),
    (_send_to_holdout, {Promise.CONTROL_IS_SILENT, Promise.TRIGGER_HAS_DECISION}),
    (_holdout_that_names_a_trigger, {Promise.CONTROL_IS_SILENT}),
    (_stray_send_at_a_holdout, {Promise.CONTROL_IS_SILENT, Promise.TRIGGER_HAS_DECISION}),
    (_retract_of_nothing, {Promise.RETRACT_FOLLOWS}),
    (_retract_before_send, {Promise.RETRACT_FOLLOWS}),
    (_retract_without_void, {Promise.RETRACT_FOLLOWS}),
    (_retract_of_another_customers, {Promise.RETRACT_FOLLOWS}),
    (_holder_is_another, {Promise.HOLDER_HOLDS}),
    (_holder_is_nobody, {Promise.HOLDER_HOLDS}),
    (_holder_had_let_go, {Promise.HOLDER_HOLDS}),
    (_ended_moment_names_no_holder, {Promise.HOLDER_HOLDS}),
    (_step_of_nothing, {Promise.STEP_CONTINUES}),
    (_step_of_no_slot, {Promise.STEP_CONTINUES}),
    (_step_after_the_window, {Promise.STEP_CONTINUES}),
    (_step_of_another_campaign, {Promise.STEP_CONTINUES}),
    (_step_of_the_other_arm, {Promise.STEP_CONTINUES, Promise.CONTROL_IS_SILENT}),
    (_step_sent_twice, {Promise.STEP_CONTINUES}),
    (_step_without_send, {Promise.DECISION_HAS_TRIGGER}),
    (_second_send_of_a_slot, {Promise.TRIGGER_HAS_DECISION}),
    (_send_of_another_step, {Promise.TRIGGER_HAS_DECISION}),
    (_send_of_a_step_with_other_window, {Promise.TRIGGER_HAS_DECISION}),
    (_step_that_takes_the_slot, {Promise.REAL_INTERVAL, Promise.NO_OVERLAP}),
    (_control_step_that_names_a_trigger, {Promise.CONTROL_IS_SILENT}),
    (_step_taken_back_without_void, {Promise.RETRACT_FOLLOWS}),
    (_marketing_that_calls_itself_transactional, {Promise.TRIGGER_HAS_DECISION}),
    (_receipt_that_calls_itself_marketing, {Promise.TRIGGER_HAS_DECISION}),
    (_receipt_without_send, {Promise.DECISION_HAS_TRIGGER}),
    (_removed_twice, {Promise.UNIQUE_TRIGGER}),
    (_removed_but_never_added, {Promise.REMOVE_FOLLOWS}),
    (_removed_before_added, {Promise.REMOVE_FOLLOWS}),
    (_removed_for_another_decision, {Promise.REMOVE_FOLLOWS}),
    (_a_message_is_removed, {Promise.REMOVE_FOLLOWS}),
    (_removed_without_a_word, {Promise.REMOVE_FOLLOWS}),
    (_not_removed, {Promise.REMOVE_FOLLOWS}),
    (_added_in_control, {Promise.CONTROL_IS_SILENT, Promise.TRIGGER_HAS_DECISION}),
]


@pytest.mark.parametrize(("spoil", "broken"), PLANTED, ids=[spoil.__name__[1:] for spoil, _ in PLANTED])
def test_planted_violation_is_found(spoil: Callable[[History], None], broken: set[Promise]) -> None:
    """Each way to break a promise is reported under the name of that promise, and no other."""
    history = History()
    spoil(history)

    assert kinds(history.audit()) == broken


def test_every_promise_has_a_planted_violation() -> None:
    """No promise goes untested."""
    assert set().union(*(broken for _, broken in PLANTED)) == set(Promise)


def test_violation_says_who_what_and_where() -> None:
    """An operator can go and look."""
    history = History()
    _overlap(history)

    found = history.audit().violations[0]

    assert (found.customer, found.where) == ("ana", "decisions[0]@5")
    assert found.detail == "cart [604799999, 1209600000) begins within cart [0, 604800000)"


def test_touching_intervals_do_not_overlap() -> None:
    """The slot is free at the very instant at which a window ends."""
    report = audit_treatments([(0, 10), (10, 20), (20, 21)])

    assert report.clean


def test_a_window_on_which_another_cut_in_ends_there() -> None:
    """A decision says so, and the next may begin."""
    history = History()
    _cut_in(history)

    assert history.audit().violations == ()


def test_slot_may_be_let_go_a_little_late() -> None:
    """While stragglers are waited for, the slot counts as held, and a decision then says so."""
    first = decision("d1", at=0, until=10)
    held = decision("d2", at=10 + RELEASE_LAG - 1, candidates=[candidate("birthday", "slot_held", saw="cart")])
    beyond = decision("d3", at=10 + RELEASE_LAG, candidates=[candidate("birthday", "slot_held", saw="cart")])

    assert audit(located("decisions", [first, held]), located("campaign-triggers", [send(first)])).clean
    assert not audit(located("decisions", [first, beyond]), located("campaign-triggers", [send(first)])).clean


def test_after_an_erasure_any_window_may_be_what_holds_the_slot() -> None:
    """Which campaign it was is forgotten, that there was one is not."""
    first = decision("d1", at=0, until=10)
    erased = [candidate("birthday", "slot_held", saw="(erased)")]
    held, beyond = decision("d2", at=5, candidates=erased), decision("d3", at=10 + RELEASE_LAG, candidates=erased)

    assert audit(located("decisions", [first, held]), located("campaign-triggers", [send(first)])).clean
    report = audit(located("decisions", [first, beyond]), located("campaign-triggers", [send(first)]))
    assert kinds(report) == {Promise.HOLDER_HOLDS}


def test_one_long_interval_overlaps_all_that_begin_within() -> None:
    """A short interval does not hide the long one that is still running."""
    report = audit_treatments([(0, 100), (10, 20), (30, 40), (100, 110)])

    assert [violation.kind for violation in report.violations] == [Promise.NO_OVERLAP] * 2


def test_decisions_written_while_reading_need_no_trigger_yet() -> None:
    """Auditing a running system finds nothing that is only in flight, and still sees an overlap there."""
    old, new = decision("d1", at=0, until=10), decision("d2", at=5, until=20)
    report = audit(located("decisions", [old]), located("campaign-triggers", [send(old)]), [(new, ("decisions", 0, 1))])

    assert kinds(report) == {Promise.NO_OVERLAP}


def test_send_may_belong_to_a_decision_written_while_reading() -> None:
    """A trigger read last finds its decision among those that came later."""
    new = decision("d1", at=0, until=10)

    assert audit((), located("campaign-triggers", [send(new)]), located("decisions", [new])).clean


def test_what_retention_deleted_is_not_missed() -> None:
    """Before the horizon a counterpart may be gone; after it, it may not."""
    lost, kept = decision("d1", at=0, until=DAY), decision("d2", at=8 * DAY, until=9 * DAY)
    held = decision("d0", at=DAY // 2, candidates=[candidate("birthday", "slot_held", saw="cart")])
    decisions, triggers = [held, kept], [send(lost)]

    def broken(horizon: int | None) -> set[Promise]:
        return kinds(audit(located("decisions", decisions), located("campaign-triggers", triggers), (), horizon))

    assert broken(None) == {Promise.TRIGGER_HAS_DECISION, Promise.HOLDER_HOLDS, Promise.DECISION_HAS_TRIGGER}
    assert broken(2 * DAY) == {Promise.DECISION_HAS_TRIGGER}
    assert broken(9 * DAY) == set()


def audit_treatments(intervals: list[tuple[int, int]]) -> AuditReport:
    """Return the report on one customer's treatments with these windows."""
    made = [decision(f"d{number}", at=start, until=end) for number, (start, end) in enumerate(intervals)]
    return audit(located("decisions", made), located("campaign-triggers", map(send, made)))


spans = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 50)), max_size=20)


@given(gaps_and_lengths=spans, shuffle=st.randoms(use_true_random=False))
def test_intervals_that_do_not_overlap_are_clean(gaps_and_lengths: list[tuple[int, int]], shuffle: Any) -> None:
    """However many windows follow each other, in whatever order they are read."""
    at, intervals = 0, []
    for gap, length in gaps_and_lengths:
        intervals.append((at + gap, at + gap + length))
        at += gap + length
    shuffle.shuffle(intervals)

    assert audit_treatments(intervals).clean


@given(intervals=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), min_size=2, max_size=8))
def test_overlap_is_found_exactly_when_there_is_one(intervals: list[tuple[int, int]]) -> None:
    """Compared with looking at every instant."""
    windows = [(start, start + length) for start, length in intervals]
    overlapping = any(sum(start <= instant < end for start, end in windows) > 1 for instant in range(61))

    assert (Promise.NO_OVERLAP in kinds(audit_treatments(windows))) is overlapping


def test_audit_imports_only_the_standard_library() -> None:
    """It cannot share a mistake with the engine, because it shares nothing with it."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(node.module or "")

    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
