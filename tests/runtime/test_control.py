"""The running audit finds every broken promise once, whatever Kafka delivers again, and survives a restart."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.audit import Promise
from orchestrator.runtime.control_app import credentials
from orchestrator.runtime.control_book import GRACE, Book, Place
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.oauth import ClientCredentials
from orchestrator.runtime.running_audit import KEPT, RECENT, WAITING, Facts, fold_decision, fold_trigger
from orchestrator.runtime.settings import load

DAY = 86_400_000
NOW = 1_700_000_000_000
Record = dict[str, Any]


def decision(number: int, day: int, arm: str = "treatment", until: int | None = None, **changes: Any) -> Record:
    """Return a decision of some day, which holds the slot for a day where its arm does."""
    holds = arm in ("treatment", "control")
    return {
        "decision_id": f"d{number}",
        "customer_id": "ana",
        "kind": "choice",
        "campaign": "cart",
        "arm": arm,
        "reason": "chosen" if arm == "treatment" else arm,
        "decided_at": day * DAY,
        "window_until": (until or day + 1) * DAY if holds else None,
        "trigger_id": f"t{number}" if arm == "treatment" else None,
    } | changes


def trigger(of: Record, **changes: Any) -> Record:
    """Return the trigger of a decision."""
    return {
        "trigger_id": of["trigger_id"] or "t-none",
        "action": "send",
        "decision_id": of["decision_id"],
        "customer_id": of["customer_id"],
        "campaign": of["campaign"],
        "decided_at": of["decided_at"],
        "window_until": of["window_until"] or of["decided_at"] + DAY,
        "message_class": "marketing",
    } | changes


class History:
    """One customer's records, folded as they are given, each topic counting its offsets."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.offsets = {"decisions": 0, "triggers": 0}

    def decided(self, *records: Record) -> None:
        for record in records:
            fold_decision(self.facts, record, self._next("decisions"))

    def triggered(self, *records: Record) -> None:
        for record in records:
            fold_trigger(self.facts, record, self._next("triggers"), NOW)

    def _next(self, topic: str) -> int:
        self.offsets[topic] += 1
        return self.offsets[topic]


def a_clean_year(history: History) -> None:
    """Give four decisions, every one in another arm, and the one trigger; steps of a series, and a receipt."""
    treated = decision(1, day=1)
    history.decided(treated, decision(2, day=2, arm="control"), decision(3, day=3, arm="holdout"))
    history.decided(decision(4, day=4, arm="none"))
    step = decision(7, day=1, kind="step", decided_at=DAY + 1, window_until=None)
    receipt = decision(8, day=2, kind="exempt", decided_at=2 * DAY + 1, window_until=None)
    history.decided(step, decision(9, day=2, arm="control", kind="step", window_until=None), receipt)
    history.triggered(
        trigger(treated),
        trigger(step, window_until=2 * DAY),
        trigger(receipt, window_until=2 * DAY + 1, message_class="transactional"),
    )


def an_overlap(history: History) -> None:
    """Give a decision within the window of another."""
    first, second = decision(5, day=5, until=7), decision(6, day=6)
    history.decided(first, second)
    history.triggered(trigger(first), trigger(second))


def a_decision_again(history: History) -> None:
    """Give a decision under an id that was there."""
    history.decided(decision(5, day=5, arm="control"), decision(5, day=5, arm="control"))


def a_trigger_again(history: History) -> None:
    """Give a trigger under an id that was there."""
    treated = decision(5, day=5)
    history.decided(treated)
    history.triggered(trigger(treated), trigger(treated))


def a_trigger_of_another_window(history: History) -> None:
    """Give a trigger that says something else than its decision."""
    treated = decision(5, day=5)
    history.decided(treated)
    history.triggered(trigger(treated, window_until=6 * DAY + 1))


def a_trigger_within_control(history: History) -> None:
    """Give a trigger within a control window, of a decision that overlaps nothing."""
    history.decided(decision(5, day=5, arm="control"))
    history.triggered(trigger(decision(6, day=5), decided_at=5 * DAY + 1))


def a_second_trigger_of_a_slot(history: History) -> None:
    """Give a trigger that is no step of any series: its decision is that of another."""
    treated = decision(5, day=5)
    history.decided(treated)
    history.triggered(trigger(treated), trigger(treated, trigger_id="t-more", decided_at=5 * DAY + 1))


def a_marketing_trigger_called_legal(history: History) -> None:
    """Give a trigger that claims to need no slot, of a decision that took one."""
    treated = decision(5, day=5)
    history.decided(treated)
    history.triggered(trigger(treated, message_class="legal"))


def a_trigger_for_holdout(history: History) -> None:
    """Give a trigger at the instant of a hold-out."""
    history.decided(decision(5, day=5, arm="holdout"))
    history.triggered(trigger(decision(6, day=5)))


PLANTED: list[tuple[Callable[[History], None], Promise, int]] = [
    (an_overlap, Promise.NO_OVERLAP, 0),
    (a_decision_again, Promise.UNIQUE_DECISION, 0),
    (a_trigger_again, Promise.UNIQUE_TRIGGER, 0),
    (a_trigger_of_another_window, Promise.TRIGGER_HAS_DECISION, 0),
    (a_second_trigger_of_a_slot, Promise.TRIGGER_HAS_DECISION, 0),
    (a_marketing_trigger_called_legal, Promise.TRIGGER_HAS_DECISION, 0),
    (a_trigger_within_control, Promise.CONTROL_IS_SILENT, 1),
    (a_trigger_for_holdout, Promise.CONTROL_IS_SILENT, 1),
]


def test_a_clean_history_breaks_nothing() -> None:
    """Treatment, control, hold-out and none side by side are what is wanted."""
    history = History()
    a_clean_year(history)

    assert history.facts.broken == {}
    assert history.facts.waiting == []
    assert (history.facts.decisions, history.facts.triggers, history.facts.intervals) == (7, 3, 2)


@pytest.mark.parametrize(("plant", "promise", "waiting"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED])
def test_every_planted_violation_is_found_once(
    plant: Callable[[History], None], promise: Promise, waiting: int
) -> None:
    """A broken promise counts once, and no other is said to be broken by it."""
    history = History()
    a_clean_year(history)
    plant(history)
    history.decided(decision(9, day=9, arm="control"))

    assert history.facts.broken == {promise: 1}
    assert len(history.facts.waiting) == waiting


@pytest.mark.parametrize(("plant", "promise", "_"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED])
def test_triggers_may_be_read_before_their_decisions(
    plant: Callable[[History], None], promise: Promise, _: int
) -> None:
    """The two topics are read apart, so either may be ahead."""
    told = History()
    told_decisions: list[Record] = []
    told.decided = lambda *records: told_decisions.extend(records)  # type: ignore[method-assign]  # held back
    a_clean_year(told)
    plant(told)
    assert told.facts.broken in ({}, {Promise.UNIQUE_TRIGGER: 1})

    History.decided(told, *told_decisions)

    assert told.facts.broken == {promise: 1}


def test_a_trigger_waits_for_its_decision_and_no_longer() -> None:
    """Only a decision that does not come breaks the promise."""
    history = History()
    treated = decision(1, day=1)
    history.triggered(trigger(treated))
    waited = len(history.facts.waiting)
    history.decided(treated)

    assert (waited, len(history.facts.waiting)) == (1, 0)
    assert history.facts.broken == {}


def test_a_retraction_needs_no_decision_of_its_own() -> None:
    """The same trigger id with another action is another record, but twice the same action is not."""
    history = History()
    treated = decision(1, day=1)
    history.decided(treated, decision(2, day=2, arm="none", kind="void", voids="d1"))
    history.triggered(trigger(treated), trigger(treated, action="retract"))
    once = dict(history.facts.broken)
    history.triggered(trigger(treated, action="retract"))

    assert once == {}
    assert history.facts.broken == {Promise.UNIQUE_TRIGGER: 1}


@given(st.lists(st.integers(0, 7), max_size=3), st.integers(0, 7))
def test_what_is_delivered_again_changes_nothing(rewinds: list[int], start: int) -> None:
    """A consumer that goes back to what it committed leaves the facts as they were."""
    records = [decision(number, day=number, until=number + 2) for number in range(8)]
    straight, rewound = Facts(), Facts()
    for offset, record in enumerate(records):
        fold_decision(straight, record, offset)
        fold_trigger(straight, trigger(record), offset, NOW)
    for back in (start, *rewinds, 0):
        for offset in range(min(back, rewound.decisions_read + 1), 8):
            fold_decision(rewound, records[offset], offset)
            fold_trigger(rewound, trigger(records[offset]), offset, NOW)

    assert rewound == straight


def test_what_is_remembered_of_a_customer_is_bounded() -> None:
    """A customer of many years takes no more memory, and what is forgotten breaks nothing."""
    history = History()
    for number in range(3 * KEPT):
        treated = decision(number, day=number)
        history.decided(treated)
        history.triggered(trigger(treated))
    history.triggered(trigger(decision(999, day=1)))

    facts = history.facts
    assert facts.recent == list(range(3 * KEPT - RECENT + 1, 3 * KEPT + 1))
    assert len(facts.taken) == KEPT
    assert len(facts.sent) <= KEPT + 1
    assert facts.broken == {}
    assert facts.waiting == []


def test_triggers_without_decisions_take_bounded_memory_and_count() -> None:
    """An engine that stopped recording decisions is found out, at no cost."""
    history = History()
    history.triggered(*(trigger(decision(number, day=number)) for number in range(WAITING + 5)))

    assert len(history.facts.sent) == WAITING
    assert history.facts.broken == {Promise.TRIGGER_HAS_DECISION: 5}


class Desk:
    """A book over a plain dict, at an instant that only the test moves."""

    def __init__(self, table: dict[bytes, bytes] | None = None, partitions: int = 1) -> None:
        self.now = NOW
        self.table = {} if table is None else table
        self.book = Book(self.table, partitions, lambda: self.now)
        self.book.recover(range(partitions))

    def place(self, offset: int, at: int = NOW) -> Place:
        return Place("topic", 0, offset, at)


def test_the_totals_after_a_restart_are_those_before() -> None:
    """Everything that /audit says comes back from the table."""
    desk = Desk()
    for number in range(5):
        desk.book.decision(decision(number, day=number, until=number + 2), desk.place(number))
        desk.book.trigger(trigger(decision(number, day=number)), desk.place(number))
    desk.book.unusable("decisions", "undecodable", desk.place(5))
    before = desk.book.report()

    again = Desk(desk.table)

    assert again.book.report() == before
    assert before["violations"][Promise.NO_OVERLAP] == 4
    assert before["unusable"] == {"undecodable": 1}
    assert not before["clean"]
    assert again.book.recent("ana") == [0, 1, 2, 3, 4]


def test_only_partitions_that_are_ours_are_counted() -> None:
    """After a rebalance the table may still hold what another instance answers for."""
    desk = Desk(partitions=2)
    for customer in ("ana", "ben", "cleo", "dan"):
        number = desk.book.partition_of(customer)
        place = Place("decisions", number, 0, NOW)
        desk.book.decision(decision(1, day=1, customer_id=customer), place)
    ours = sum(desk.book.partition_of(customer) == 1 for customer in ("ana", "ben", "cleo", "dan"))

    desk.book.recover({1})

    assert 0 < ours < 4
    assert desk.book.report()["customers"] == ours
    assert desk.book.report()["partitions"] == [1]


def test_a_missing_decision_counts_only_after_a_grace() -> None:
    """Both are in one transaction, but the decision may be read a little later."""
    desk = Desk()
    desk.book.trigger(trigger(decision(1, day=1)), desk.place(0))
    at_once = desk.book.violations()[Promise.TRIGGER_HAS_DECISION]
    desk.now += GRACE + 1
    later = desk.book.violations()[Promise.TRIGGER_HAS_DECISION]
    desk.book.decision(decision(1, day=1), desk.place(0))

    assert (at_once, later) == (0, 1)
    assert desk.book.report()["clean"]


def test_a_lagging_topic_of_decisions_accuses_nobody() -> None:
    """While old decisions are still being read, a trigger's own may be among those to come."""
    desk = Desk()
    desk.book.trigger(trigger(decision(2, day=2)), desk.place(0))
    desk.now += DAY
    desk.book.decision(decision(1, day=1, arm="none"), desk.place(0, at=NOW - DAY))
    while_lagging = desk.book.violations()[Promise.TRIGGER_HAS_DECISION]
    desk.book.decision(decision(3, day=3, arm="none"), desk.place(1, at=NOW + GRACE + 1))

    assert while_lagging == 0
    assert desk.book.violations()[Promise.TRIGGER_HAS_DECISION] == 1


def test_a_trigger_older_than_the_oldest_decision_is_not_judged() -> None:
    """Retention may have deleted its decision before the reading began."""
    desk = Desk()
    desk.book.decision(decision(5, day=5, arm="none"), desk.place(1_000))
    desk.book.trigger(trigger(decision(4, day=4)), desk.place(900))
    desk.book.trigger(trigger(decision(6, day=6)), desk.place(901))
    desk.now += 2 * GRACE

    assert desk.book.violations()[Promise.TRIGGER_HAS_DECISION] == 1
    assert Desk(desk.table).book.report()["waiting"] == 2


def test_a_redelivered_record_is_counted_as_such_and_nowhere_else() -> None:
    """Prometheus shows that something was read twice, and decisions by reason stay right."""
    desk = Desk()
    for _ in range(2):
        desk.book.decision(decision(1, day=1), desk.place(0))
        desk.book.trigger(trigger(decision(1, day=1)), desk.place(0))
        desk.book.unusable("triggers", "undecodable", desk.place(1))

    assert desk.book.redelivered == 3
    assert desk.book.reasons == {"chosen": 1}
    assert desk.book.campaigns == {"cart": 1}
    assert desk.book.unusables() == {"undecodable": 1}


def test_the_security_settings_reach_faust() -> None:
    """Every protocol and mechanism that the engine speaks, the control role speaks."""
    sasl = {"ORCHESTRATOR_SASL_USERNAME": "ana", "ORCHESTRATOR_SASL_PASSWORD": "secret"}

    def of(protocol: str, **more: str) -> Any:
        return credentials(load({"ORCHESTRATOR_SECURITY_PROTOCOL": protocol, **more}, hostname="h"))

    assert of("plaintext") is None
    assert isinstance(of("ssl").context, ssl.SSLContext)
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        plain = of("sasl_plaintext", **sasl, ORCHESTRATOR_SASL_MECHANISM=mechanism)
        assert (plain.protocol.value, plain.mechanism.value) == ("SASL_PLAINTEXT", mechanism)
        assert (plain.username, plain.password, plain.ssl_context) == ("ana", "secret", None)
    assert of("sasl_ssl", **sasl).protocol.value == "SASL_SSL"
    issuer = {"ORCHESTRATOR_SASL_MECHANISM": "OAUTHBEARER", "ORCHESTRATOR_SASL_TOKEN_URL": "https://issuer/token"}
    tokens = of("sasl_ssl", **sasl, **issuer)
    assert (tokens.protocol.value, tokens.mechanism.value) == ("SASL_SSL", "OAUTHBEARER")
    assert isinstance(tokens.oauth_cb, ClientCredentials)


def test_certificates_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path) -> None:
    """The line names the setting, not a place in OpenSSL."""
    file = tmp_path / "ca.pem"
    file.write_text("not a certificate")
    settings = load({"ORCHESTRATOR_SECURITY_PROTOCOL": "ssl", "ORCHESTRATOR_SSL_CA": str(file)}, hostname="h")

    with pytest.raises(OperatorError, match="ORCHESTRATOR_SSL_CA cannot be used"):
        credentials(settings)
