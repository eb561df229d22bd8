"""The explanation says everything the records say, in words a marketer uses."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.reasons import Reason
from orchestrator.why import SENTENCES, Clock, explain, sentence

CART = "Put things in the cart and did not buy within 1 hour"
SAYS = {"abandoned_cart": CART, "birthday_week": "The 7 days that end on the birthday"}


def at(text: str) -> int:
    """Return the instant of a UTC text, milliseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def candidate(campaign: str, reason: str, **changes: Any) -> dict[str, Any]:
    """Return a candidate that answers an abandoned cart."""
    return {
        "campaign": campaign,
        "moment": "abandoned_cart",
        "moment_key": "cart-1",
        "opened_at": at("2024-03-05T08:00"),
        "reason": reason,
        "saw": "",
        "retry_at": None,
        "propensity": 0.0,
        "priority": 50,
        "checks": [],
    } | changes


def ended(state: str, reason: str, by: str = "", **changes: Any) -> dict[str, Any]:
    """Return the end of an abandoned cart."""
    return {
        "moment": "abandoned_cart",
        "moment_key": "cart-1",
        "started_at": at("2024-03-05T07:00"),
        "opened_at": at("2024-03-05T08:00"),
        "state": state,
        "reason": reason,
        "by": by,
    } | changes


def decision(when: str = "2024-03-05T08:00", **changes: Any) -> dict[str, Any]:
    """Return a decision about Ana that chose nothing."""
    return {
        "decision_id": f"d-{when}",
        "customer_id": "ana",
        "decided_at": at(when),
        "kind": "choice",
        "campaign": None,
        "arm": "none",
        "reason": "not_eligible",
        "window_until": None,
        "trigger_id": None,
        "voids": None,
        "candidates": [],
        "ended": [],
        "definitions_version": "1",
        "policy_version": "",
    } | changes


def taken(arm: str, when: str = "2024-03-05T08:00", until: str = "2024-03-12T08:00", **changes: Any) -> dict[str, Any]:
    """Return a decision that took the slot for cart_reminder."""
    return (
        decision(when)
        | {
            "campaign": "cart_reminder",
            "arm": arm,
            "reason": "chosen" if arm == "treatment" else "control",
            "window_until": at(until),
            "trigger_id": "t-1" if arm == "treatment" else None,
            "candidates": [candidate("cart_reminder", "chosen" if arm == "treatment" else "control")],
            "ended": [ended("acted", "chosen" if arm == "treatment" else "control", "cart_reminder")],
        }
        | changes
    )


def told(*decisions: dict[str, Any], **options: Any) -> str:
    """Return the whole explanation as one text."""
    return "\n".join(explain("ana", decisions, says=SAYS, **options).lines())


def test_every_reason_has_exactly_one_sentence() -> None:
    """The table covers the closed set, no more and no less."""
    assert list(SENTENCES) == list(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_sentence_reads_well_without_values(reason: Reason) -> None:
    """A value that is not known leaves no hole."""
    for said in (sentence(reason), sentence(reason, "X", "Y")):
        assert said == said.strip()
        assert not set("[]{}") & set(said)
        assert "  " not in said


def test_sentence_shows_the_values_seen() -> None:
    """What decided it is part of the sentence."""
    assert sentence("slot_held", "reorder", "12 March 2024 09:00") == (
        "the slot was held by reorder until 12 March 2024 09:00"
    )
    assert sentence("quiet_hours", "22:31 UTC", "6 March 2024 09:00") == (
        "quiet hours until 6 March 2024 09:00 (it was 22:31 UTC)"
    )
    assert sentence("cap", "2 in 7d, at most 2") == "enough messages for now: 2 in 7d, at most 2"


def test_reason_of_a_newer_version_is_still_shown() -> None:
    """An unknown word is printed as it stands, not swallowed."""
    assert sentence("budget_spent", "9 of 9") == "budget spent: 9 of 9"


def test_message_sent() -> None:
    """A treatment says what was sent, on whose clock, and until when the slot is held."""
    text = told(taken("treatment"), zone="Europe/Madrid")

    assert "Customer ana: 1 decision: 1 triggered." in text
    assert "Times are in Europe/Madrid." in text
    assert "The slot was last taken by cart_reminder, until 12 March 2024 09:00." in text
    assert "5 March 2024 09:00  cart_reminder was triggered (t-1); the slot is held until 12 March 2024 09:00" in text
    assert f"“{CART}” (cart-1), since 5 March 2024 09:00" in text
    assert "cart_reminder: chosen" in text
    assert "ended:" not in text  # the moment that was answered is the one shown above


def test_control_is_said_to_be_on_purpose() -> None:
    """Nobody should think that a control customer was forgotten."""
    text = told(taken("control"))

    assert "in the control group: no message on purpose" in text
    assert "1 held back as control" in text
    assert "for the control group" in text


def test_none_says_why_first() -> None:
    """The line of a decision that chose nothing names the first reason, with its values."""
    text = told(
        decision(
            reason="quiet_hours",
            candidates=[
                candidate("cart_reminder", "quiet_hours", saw="22:31 UTC", retry_at=at("2024-03-06T09:00")),
                candidate("birthday_offer", "outranked", saw="cart_reminder"),
            ],
        )
    )

    assert "no message: quiet hours until 6 March 2024 09:00 (it was 22:31 UTC)" in text
    assert "birthday_offer: another campaign came first: cart_reminder" in text


def test_slot_held_names_the_holder_and_the_end_of_its_window() -> None:
    """The end is the holder's own, not the instant of the next look."""
    held = candidate("birthday_offer", "slot_held", saw="cart_reminder", retry_at=at("2024-03-12T08:02"))
    text = told(taken("treatment"), decision("2024-03-06T08:00", reason="slot_held", candidates=[held]))

    assert "birthday_offer: the slot was held by cart_reminder until 12 March 2024 08:00" in text


def test_value_of_the_check_that_failed_stands_in() -> None:
    """A candidate without a value of its own shows what the failed check saw."""
    checks = [{"check": "no_consent", "passed": True, "saw": "yes"}, {"check": "cap", "passed": False, "saw": "2 of 2"}]
    text = told(decision(reason="cap", candidates=[candidate("cart_reminder", "cap", checks=checks)]))

    assert "enough messages for now: 2 of 2" in text


def test_when_it_is_looked_at_again() -> None:
    """A reason that time can change says when."""
    again = candidate("cart_reminder", "not_eligible", saw="cart_value 12", retry_at=at("2024-03-06T08:00"))
    text = told(decision(candidates=[again]))

    assert "not meant for this customer: cart_value 12; looked at again 6 March 2024 08:00" in text


def test_hold_out() -> None:
    """A held-out customer is said to be one, and the moment let go for that."""
    held = candidate("cart_reminder", "holdout", saw="2024Q1")
    text = told(decision(arm="holdout", reason="holdout", candidates=[held], ended=[ended("acted", "holdout")]))

    assert "no message: in the hold-out group" in text
    assert "nobody writes to this customer in this period (2024Q1)" in text


@pytest.mark.parametrize(
    ("over", "said"),
    [
        (ended("cancelled", "cancelled", "order.placed"), "ended by an order"),
        (ended("cancelled", "cancelled", "shop.closed"), "ended by shop.closed"),
        (ended("cancelled", "cancelled", "product.stock"), "ended by a change of the product's stock"),
        (ended("expired", "expired"), "it went stale before it could be answered"),
        (ended("expired", "quiet_hours", "22:31 UTC"), "it went stale unanswered: quiet hours (it was 22:31 UTC)"),
        (ended("expired", "slot_held", "reorder"), "it went stale unanswered: the slot was held by reorder"),
        (ended("unmet", "not_eligible", "cart_value 12"), "not worth answering when it was due: not meant for this"),
        (ended("unmet", "too_old", "3 days"), "not worth answering when it was due: opened too long ago to act on: 3"),
        (ended("acted", "already_answered", "cart_reminder"), "already answered by cart_reminder"),
        (ended("acted", "chosen", "cart_reminder"), "answered by cart_reminder"),
    ],
)
def test_ended_moment_says_why(over: dict[str, Any], said: str) -> None:
    """However a moment's life ends, there is a sentence for it."""
    assert f"ended: “{CART}” (cart-1): {said}" in told(decision(kind="closing", ended=[over]))


def test_offers_say_what_was_given_and_why_the_others_were_not() -> None:
    """One line for each that there was to choose from."""
    offers = [
        {"check": "pct_10", "passed": False, "saw": "in_segment('heroes') = true"},
        {"check": "free_shipping", "passed": True, "saw": ""},
        {"check": "none", "passed": True, "saw": ""},
    ]
    chosen = candidate("cart_reminder", "chosen", offer="free_shipping", offers=offers)
    text = told(taken("treatment", offer="free_shipping", candidates=[chosen]))

    assert "cart_reminder was triggered with the offer free_shipping (t-1); the slot is held" in text
    assert "    offer pct_10: not for them (in_segment('heroes') = true)\n" in text
    assert "    offer free_shipping: it goes with it\n" in text
    assert text.endswith("    offer none: possible")


def test_staying_away_after_another_says_until_when() -> None:
    """And after which campaign."""
    until = at("2024-03-07T08:00")
    text = told(
        decision(reason="excluded", candidates=[candidate("other", "excluded", saw="last_units", retry_at=until)])
    )

    assert "other: it stays away for a time after last_units, until " in text
    assert "looked at again" not in text


def test_void_is_linked_to_what_it_takes_back() -> None:
    """Both the decision and its undoing say so."""
    first = taken("treatment")
    undo = decision("2024-03-05T09:00", kind="void", arm="treatment", voids=first["decision_id"])
    text = told(first, undo)

    assert "the slot is held until 12 March 2024 08:00, taken back later" in text
    assert "cart_reminder of 5 March 2024 08:00 was taken back: later data proved it wrong" in text
    assert "2 decisions: 1 triggered, 1 without a message" in text


def test_void_of_a_decision_no_longer_kept() -> None:
    """Where retention has deleted the decision, its id stands for it."""
    assert "an earlier decision (d9) was cut short" in told(decision(kind="interruption", voids="d9"))


def test_a_choice_by_value_tells_what_it_went_by() -> None:
    """Whom the customer is like, what each was expected to be worth, how likely it was, and how likely no message."""
    rivals = [
        candidate("cart_reminder", "chosen", propensity=0.745, value=220),
        candidate("nudge", "outranked", saw="cart_reminder", propensity=0.005, value=-1_203),
        candidate("gift", "cap", saw="2 in 7d, at most 2", value=900),
        candidate("new", "outranked", saw="cart_reminder", propensity=0.005, value=None),
    ]
    learned = {"leaf": "value_tier=high;heroes=yes", "stage": "welcome", "policy_version": "s1"}
    text = told(taken("treatment", candidates=rivals, chosen_by="expected_value", none_propensity=0.25, **learned))

    assert (
        "compared by what each is expected to earn beyond sending nothing, for value_tier high, heroes yes, "
        "who responded to welcome"
    ) in text
    assert "  no message: 25 % likely" in text
    assert "cart_reminder: chosen [expected to be worth 2.20, 74.5 % likely]" in text
    assert "nudge: another campaign came first: cart_reminder [expected to be worth -12.03, 0.5 % likely]" in text
    assert "gift: enough messages for now: 2 in 7d, at most 2 [expected to be worth 9.00]" in text
    assert "new: another campaign came first: cart_reminder [0.5 % likely]" in text


def test_what_was_tried_by_chance_says_so() -> None:
    """Nobody is to think that it was expected to be the best."""
    text = told(taken("treatment", chosen_by="explore", policy_version="s1", none_propensity=0.95))

    assert "until 12 March 2024 08:00; it was tried by chance, to learn what it is worth" in text
    assert "beyond sending nothing, for all customers" in text


def test_none_better_tells_what_the_best_was_worth() -> None:
    """And what a campaign would have forfeited."""
    saw = "worth -1.00; holding the slot over birthday_week costs 8.00"
    passed = candidate("cart_reminder", "none_better", saw=saw, retry_at=at("2024-03-06T08:00"), value=-100)
    text = told(decision(reason="none_better", candidates=[passed], chosen_by="expected_value", none_propensity=1.0))

    assert f"no message: sending nothing was expected to earn more ({saw}); looked at again 6 March 2024 08:00" in text


def test_a_window_that_was_cut_short_says_when() -> None:
    """Both where it began and where it ended."""
    first = taken("treatment")
    cut = decision("2024-03-07T09:00", kind="interruption", arm="treatment", voids=first["decision_id"])
    text = told(first, cut)

    assert "the slot is held until 12 March 2024 08:00, cut short 7 March 2024 09:00" in text
    assert "cart_reminder of 5 March 2024 08:00 was cut short by another that is worth much more" in text
    assert "The slot was last taken by cart_reminder, until 7 March 2024 09:00." in text


def test_time_order_and_other_customers() -> None:
    """Records may come in any order and with others among them."""
    text = told(taken("control", "2024-04-01T00:00", "2024-04-08T00:00"), decision(), decision(customer_id="ben"))

    assert text.index("5 March") < text.index("1 April")
    assert "Customer ana: 2 decisions" in text


def test_as_of_an_instant_shows_what_was_known_then() -> None:
    """Asked about a day, the answer leaves out what came later and says who held the slot."""
    decisions = [taken("treatment"), taken("control", "2024-04-01T00:00", "2024-04-08T00:00")]

    within = told(*decisions, as_of=at("2024-03-06T00:00"))
    between = told(*decisions, as_of=at("2024-03-20T00:00"))

    assert "April" not in within
    assert "The slot was held by cart_reminder until 12 March 2024 08:00." in within
    assert "The slot was free since 12 March 2024 08:00, when cart_reminder let it go." in between


def test_moment_without_a_sentence_goes_by_its_name() -> None:
    """Definitions may be gone; the records still speak."""
    assert "abandoned_cart (cart-1), since" in "\n".join(explain("ana", [taken("treatment")]).lines())


def test_no_decision_is_still_an_answer() -> None:
    """It says that there is none, and what was looked at."""
    lines = explain("zoe", [decision()], looked_at="partition 3 of decisions, 12 records").lines()

    assert lines[0] == "No decision about customer zoe."
    assert lines[1] == "Looked at partition 3 of decisions, 12 records."
    assert "check the id" in lines[2]


def test_unknown_zone_is_utc() -> None:
    """A zone nobody knows is not an error, and the times say which clock they are on."""
    assert "Times are in UTC." in told(decision(), zone="Mars/Olympus")


def test_json_has_the_records_and_the_sentences() -> None:
    """A program gets what a person gets."""
    read = json.loads(json.dumps(explain("ana", [taken("treatment")], says=SAYS, zone="Europe/Madrid").as_dict()))

    assert read["zone"] == "Europe/Madrid"
    assert read["slot"]["campaign"] == "cart_reminder"
    assert read["slot"]["until"] == at("2024-03-12T08:00")
    assert read["decisions"][0]["decision_id"] == "d-2024-03-05T08:00"
    assert read["decisions"][0]["sentence"].startswith("cart_reminder was triggered")
    assert "cart_reminder: chosen" in read["decisions"][0]["because"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-05T09:00+00:00", "2024-03-05T09:00"),
        ("2024-03-05T09:00", "2024-03-05T08:00"),
        ("2024-03-05 09:00:30", "2024-03-05T08:00:30"),
        ("2024-03-05", "2024-03-05T22:59:59.999"),
    ],
)
def test_instants_are_read_on_the_customers_clock(text: str, expected: str) -> None:
    """Without an offset the customer's clock counts, and a date means the whole day."""
    assert Clock("Europe/Madrid").read(text) == at(expected)


# --- messages without a slot of their own -----------------------------------------------------------------------------


def step(when: str, reason: str, **changes: Any) -> dict[str, Any]:
    """Return what was recorded of step nudge of cart_reminder."""
    sent = {"chosen": "treatment", "control": "control"}.get(reason, "none")
    one = candidate("cart_reminder", reason, **changes)
    own = {"kind": "step", "campaign": "cart_reminder", "step": "nudge", "continues": "d-2024-03-05T08:00"}
    trigger = {"trigger_id": "t-2" if sent == "treatment" else None}
    return decision(when) | own | {"arm": sent, "reason": reason, "candidates": [one]} | trigger


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (step("2024-03-07T08:00", "chosen"), "step nudge of cart_reminder was triggered (t-2)"),
        (step("2024-03-07T08:00", "control"), "step nudge of cart_reminder was held back: in the control group"),
        (
            step("2024-03-07T22:00", "quiet_hours", saw="22:00 UTC", retry_at=at("2024-03-08T09:00")),
            "step nudge of cart_reminder has to wait: quiet hours until 8 March 2024 09:00 (it was 22:00 UTC)",
        ),
        (
            step("2024-03-07T08:00", "cap", saw="1 in 7d, at most 1"),
            "step nudge of cart_reminder was not sent: enough messages for now: 1 in 7d, at most 1",
        ),
        (
            step("2024-03-06T10:00", "stopped", saw="order.placed"),
            "step nudge of cart_reminder was not sent: the messages were ended by an order",
        ),
        (
            step("2024-03-07T08:00", "cancelled", saw="message.clicked or site.visited"),
            "step nudge of cart_reminder was not sent: there is no need for it any more after a click on a message or "
            "a visit",
        ),
    ],
)
def test_what_became_of_a_step(record: dict[str, Any], said: str) -> None:
    """Sent, held back, put off or skipped, and why."""
    assert said in told(taken("treatment"), record)


def test_a_step_that_was_taken_back() -> None:
    """Both the step and its end say so."""
    sent = step("2024-03-07T08:00", "chosen")
    void = decision("2024-03-07T09:00", kind="void", voids=sent["decision_id"], arm="treatment", reason="cancelled")
    text = told(taken("treatment"), sent, void)

    assert "step nudge of cart_reminder was triggered (t-2), taken back later" in text
    assert "step nudge of cart_reminder of 7 March 2024 08:00 was taken back" in text


def test_a_transactional_message_needs_no_slot() -> None:
    """It is said what it is about, and it is counted as triggered."""
    about = {"moment": "order.placed", "moment_key": "o-1"}
    sent = {"kind": "exempt", "campaign": "confirmation", "step": "", "arm": "treatment", "reason": "chosen"}
    record = decision(candidates=[candidate("confirmation", "chosen", **about)], trigger_id="t-9") | sent
    text = told(record)

    assert "confirmation was triggered (t-9); it needs no slot" in text
    assert "“an order” (o-1), since 5 March 2024 08:00" in text
    assert "1 decision: 1 triggered" in text
    assert "The slot is free" in text


@pytest.mark.parametrize(
    ("reason", "saw", "said"),
    [("stopped", "order.placed", "after an order"), ("expired", "", "the window is over")],
)
def test_who_was_taken_out_of_an_audience(reason: str, saw: str, said: str) -> None:
    """A removal says what brought it about, in its title and below."""
    removal = decision(
        kind="removal", campaign="elsewhere", reason=reason, candidates=[candidate("elsewhere", reason, saw=saw)]
    )

    [entry] = explain("ana", [removal]).entries

    assert entry.title == f"taken out of the audience of elsewhere again: {said}"
    assert entry.lines[-1] == f"  elsewhere: {said}"
