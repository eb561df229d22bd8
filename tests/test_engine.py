"""The whole decision, from events and time to records: steps, lateness, repetition and replays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.customer import Customer
from orchestrator.engine import MAX_SEEN, advance
from orchestrator.events import ERASED, HOUR, SECOND, Event
from orchestrator.moments.rules import Absence, EventMatch
from tests.builders import (
    ABANDONED_CART,
    ANA,
    REFERENCE,
    campaign,
    cart_add,
    cart_emptied,
    choices,
    compare,
    consent,
    ends,
    event,
    fact,
    instant,
    message,
    order,
    policy,
    profile,
    program,
    reasons,
    simulation,
    unsubscribed,
)

# --- an absence, to the second ----------------------------------------------------------------------------------------


def test_exact_gap() -> None:
    """A cart left for exactly the hour is abandoned, and answered at that instant."""
    shop = simulation()
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))

    [trigger] = shop.triggers
    assert (trigger.opened_at, trigger.decided_at) == (instant("10:00"), instant("10:00"))
    assert (trigger.campaign, trigger.moment_key, trigger.action) == ("cart_rescue", "c1", "send")
    assert (trigger.valid_until, trigger.window_until) == (instant("2d 10:00"), instant("3d 10:00"))
    assert trigger.content == {"cart_id": "c1"}


def test_one_second_before() -> None:
    """A second before the hour is over nothing is said."""
    shop = simulation()
    shop.feed(cart_add("09:00"))
    shop.advance(instant("09:59:59"))

    assert shop.decisions == []


@pytest.mark.parametrize("bought_at", ["09:00", "09:30", "10:00"])
def test_purchase_within_the_hour_silences_the_reminder(bought_at: str) -> None:
    """A cart that was bought is not abandoned: at the instant of the last item and at the due instant it counts."""
    shop = simulation()
    shop.feed(cart_add("09:00"), order(bought_at))
    shop.advance(instant("12:00"))

    assert shop.decisions == []


def test_purchase_before_the_first_item_silences_nothing() -> None:
    """A purchase is no answer to what came after it."""
    shop = simulation()
    shop.feed(order("08:59:59"), cart_add("09:00"))
    shop.advance(instant("10:00"))

    assert reasons(shop) == ["chosen"]


def test_the_hour_counts_from_the_last_item() -> None:
    """Every item starts the hour anew, also one at the due instant."""
    shop = simulation()
    shop.feed(cart_add("09:00"), cart_add("09:40"), cart_add("10:40"))
    shop.advance(instant("11:39:59"))
    assert shop.decisions == []

    shop.advance(instant("11:40"))
    assert [trigger.opened_at for trigger in shop.triggers] == [instant("11:40")]


def test_an_emptied_cart_is_over_and_another_cart_is_not() -> None:
    """An event that carries a key ends the instance with that key only."""
    shop = simulation()
    shop.feed(cart_add("09:00", cart="c1"), cart_add("09:00", cart="c2"), cart_emptied("09:30", cart="c1"))
    shop.advance(instant("10:00"))

    assert [trigger.moment_key for trigger in shop.triggers] == ["c2"]


def test_a_small_cart_is_recorded_and_left_alone() -> None:
    """A moment whose condition is not true when it is due never opens; the record says what it saw."""
    shop = simulation()
    shop.feed(cart_add("09:00", total=1_999))
    shop.advance(instant("10:00"))

    [over] = ends(shop)
    assert (over.state, over.reason, over.by) == ("unmet", "not_eligible", "cart_value = 19.99")
    assert shop.triggers == []


def test_an_unknown_value_fails_closed() -> None:
    """Where nobody knows what a condition asks for, nothing is done."""
    shop = simulation()
    shop.feed(cart_add("09:00", total=None))
    shop.advance(instant("10:00"))

    [over] = ends(shop)
    assert (over.state, over.reason, over.by) == ("unmet", "unknown_value", "cart_value = unknown")


# --- steps ------------------------------------------------------------------------------------------------------------


def test_a_timer_waits_for_stragglers_as_long_as_its_topics_need() -> None:
    """The slowest topic whose events could still end a moment decides how long it waits beyond its due instant."""
    rules = policy(disorder={"clickstream": 30 * SECOND, "purchases": 60 * SECOND, "email-engagement": 0})
    shop = simulation(program(rules=rules))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00:59"))
    assert shop.decisions == []

    shop.feed(order("09:59:59"))  # 61 seconds late, and in time
    shop.advance(instant("10:01"))
    assert shop.decisions == []


def test_a_timer_also_waits_for_what_would_restart_it() -> None:
    """An item that arrives within the disorder of its own topic starts the hour anew."""
    carts = replace(ABANDONED_CART, cancelled_by=())
    shop = simulation(program(moments=[carts], rules=policy(disorder={"clickstream": 60 * SECOND, "purchases": 0})))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00:30"))
    shop.feed(cart_add("09:59:50"))
    shop.advance(instant("10:30"))

    assert shop.decisions == []


def test_what_only_restarts_starts_nothing() -> None:
    """A look at a product starts the hour anew where a cart waits, and is no cart where none does."""
    shape = Absence(
        EventMatch(("cart.item_added",)), EventMatch(("product.viewed",)), EventMatch(("order.placed",)), HOUR
    )
    looked = replace(ABANDONED_CART, shape=shape, key=None, only_if=None, cancelled_by=())
    shop = simulation(program(moments=[looked]))
    shop.feed(event("product.viewed", "07:00"), cart_add("09:00"), event("product.viewed", "09:30"))
    shop.advance(instant("12:00"))

    assert [trigger.opened_at for trigger in shop.triggers] == [instant("10:30")]


def test_what_ends_at_one_instant_is_in_the_order_of_the_definitions() -> None:
    """Not in the order in which it began, which other barriers might have changed."""
    shape = Absence(EventMatch(("product.viewed",)), None, EventMatch(("order.placed",)), 2 * HOUR)
    never = compare("orders_lifetime", ">=", 100)
    moments = [replace(ABANDONED_CART, only_if=never), replace(ABANDONED_CART, name="looked", key=None, shape=shape)]
    shop = simulation(program(moments=[moments[0], replace(moments[1], only_if=never)]))
    shop.feed(event("product.viewed", "08:00"), cart_add("09:00"))
    shop.advance(instant("10:00"))

    assert [over.moment for over in shop.decisions[0].ended] == ["abandoned_cart", "looked"]


def test_a_moment_opens_at_its_due_instant_and_is_decided_when_stragglers_are_in() -> None:
    """Waiting for stragglers moves the decision, not the moment."""
    shop = simulation(program(rules=policy(default_disorder=60 * SECOND)))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:01"))

    [trigger] = shop.triggers
    assert (trigger.opened_at, trigger.decided_at) == (instant("10:00"), instant("10:01"))


def test_event_after_the_due_instant_ends_a_waiting_instance() -> None:
    """While records are read and the clock stands still, a moment opens and ends without being acted on."""
    shop = simulation()
    shop.feed(cart_add("09:00"), order("10:30"))
    shop.advance(instant("09:30"))  # the clock has come this far, the records further

    [over] = ends(shop)
    assert (over.state, over.reason, over.by) == ("cancelled", "cancelled", "order.placed")
    assert (over.started_at, over.opened_at) == (instant("09:00"), instant("10:00"))
    shop.advance(instant("2d 00:00"))
    assert shop.triggers == []


def test_after_an_outage_a_message_is_judged_by_when_it_would_go_out() -> None:
    """A purchase made during the outage is read before anything is decided as of its end."""
    shop = simulation(max_lag=5 * SECOND)
    shop.feed(cart_add("09:00"), order("10:30"))
    shop.advance(instant("12:00"))

    assert reasons(shop) == ["closing: cancelled"]


def test_after_an_outage_nothing_is_dated_back() -> None:
    """What was due while nobody looked is decided as of now, but for the lag that is normal."""
    shop = simulation(max_lag=5 * SECOND)
    shop.feed(cart_add("09:00"))
    shop.advance(instant("12:00"))

    [trigger] = shop.triggers
    assert (trigger.opened_at, trigger.decided_at) == (instant("10:00"), instant("11:59:55"))


def test_a_replay_decides_as_of_then() -> None:
    """Without a limit to the lag one barrier a week later decides what a barrier a second would have decided."""
    shop = simulation()
    shop.feed(cart_add("09:00"))
    shop.advance(instant("7d 00:00"))

    assert [trigger.decided_at for trigger in shop.triggers] == [instant("10:00")]


def test_an_irrelevant_event_changes_nothing() -> None:
    """An event that no definition asks for leaves no trace."""
    known = Customer()
    before = known.to_bytes()
    effects = advance(program(), REFERENCE, ANA, known, [event("page.scrolled", "09:00")], instant("10:00"))

    assert effects.decisions == []
    assert known.to_bytes() == before


def test_an_erased_customer_is_forgotten() -> None:
    """Nothing that was known before the erasure is known after it."""
    shop = simulation()
    shop.feed(cart_add("09:00"), Event(ERASED, ANA, instant("09:30")))
    shop.advance(instant("12:00"))

    assert shop.decisions == []
    assert ANA not in shop.customers


def test_what_lags_does_not_bring_an_erased_customer_back() -> None:
    """In a later step as in the erasure's own; what happens after the erasure begins anew."""
    shop = simulation()
    shop.feed(profile(), cart_add("09:00"))
    shop.advance(instant("09:10"))
    shop.feed(Event(ERASED, ANA, instant("09:30")), Event("cart.item_added", ANA, instant("09:30"), topic=1))
    shop.advance(instant("09:35"))
    shop.feed(cart_add("09:20"))
    shop.advance(instant("09:40"))
    assert ANA not in shop.customers

    shop.feed(profile())
    shop.advance(instant("09:45"))
    shop.feed(cart_add("09:25"))
    shop.advance(instant("10:50"))
    assert shop.decisions == []

    shop.feed(cart_add("11:00"))
    shop.advance(instant("12:30"))
    assert [decision.reason for decision in shop.decisions] == ["chosen"]


def test_whoever_comes_back_after_an_erasure_waits_for_the_window_that_ran() -> None:
    """Two windows of one customer never overlap, whatever is forgotten in between."""
    shop = simulation()
    shop.feed(profile(), cart_add("09:00"))
    shop.advance(instant("10:05"))
    (first,) = shop.decisions
    shop.feed(Event(ERASED, ANA, instant("10:10")))
    shop.advance(instant("10:15"))
    assert ANA not in shop.customers

    shop.feed(profile("10:20"), cart_add("10:20"))
    shop.advance(instant("12:00"))

    assert first.window_until is not None
    assert [decision.reason for decision in shop.decisions] == ["chosen", "slot_held"]
    assert shop.decisions[1].candidates[0].retry_at == first.window_until


# --- delivered twice --------------------------------------------------------------------------------------------------


def test_delivered_twice() -> None:
    """A repeated event changes nothing, not even a count."""
    shop = simulation()
    bought = order("09:00")
    shop.feed(bought, bought)
    shop.advance(instant("09:10"))
    shop.feed(bought)
    shop.advance(instant("09:20"))

    assert fact(shop, "orders_lifetime") == 1


def test_a_profile_delivered_twice_changes_nothing() -> None:
    """Profiles are compacted and read again; the same one again is no news."""
    once, twice = simulation(), simulation()
    news = profile("09:00", born="1980-07-04")
    once.feed(news)
    twice.feed(news, news)
    for shop in (once, twice):
        shop.advance(instant("1d 00:00"))
    twice.feed(news)
    for shop in (once, twice):
        shop.advance(instant("2d 00:00"))

    assert once.customers[ANA].to_bytes() == twice.customers[ANA].to_bytes()


def test_ids_of_different_topics_do_not_meet() -> None:
    """Two sources may count from 1."""
    shop = simulation()
    shop.feed(cart_add("09:00", event_id="1"), order("09:00", event_id="1"))
    shop.advance(instant("12:00"))

    assert fact(shop, "orders_lifetime") == 1


def test_repetitions_are_remembered_within_a_bound() -> None:
    """A customer with a thousand events has a state of bounded size."""
    shop = simulation()
    shop.feed(*(order(instant("09:00") + number) for number in range(1_000)))
    shop.advance(instant("10:00"))

    assert len(shop.customers[ANA].seen) == MAX_SEEN


# --- late -------------------------------------------------------------------------------------------------------------


def test_late_by_a_day() -> None:
    """Beyond its lateness an event is a fact, but never a moment."""
    shop = simulation()
    shop.advance(instant("2d 09:00"))
    shop.feed(cart_add("1d 09:00"), order("1d 09:00"))
    shop.advance(instant("2d 12:00"))

    assert shop.decisions == []
    assert fact(shop, "orders_lifetime") == 1


def test_accept_late_is_inclusive() -> None:
    """An event exactly as late as is accepted still counts, a millisecond more is too late."""
    for late, expected in ((6 * HOUR, ["chosen"]), (6 * HOUR + 1, [])):
        shop = simulation()
        shop.advance(instant("1d 00:00"))
        shop.feed(cart_add(instant("1d 00:00") - late))
        shop.advance(instant("1d 00:01"))

        assert reasons(shop) == expected


def test_late_cart_add_whose_purchase_already_came_starts_nothing() -> None:
    """The purchase is remembered, so an item from before it is not waited for."""
    shop = simulation()
    shop.feed(order("09:30"))
    shop.advance(instant("10:00"))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("1d 00:00"))

    assert shop.decisions == []


def test_late_item_of_an_emptied_cart_starts_nothing() -> None:
    """What ended one key is remembered for that key only."""
    shop = simulation()
    shop.feed(cart_emptied("09:30", cart="c1"))
    shop.advance(instant("09:40"))
    shop.feed(cart_add("09:00", cart="c1"), cart_add("09:00", cart="c2"))
    shop.advance(instant("12:00"))

    assert [trigger.moment_key for trigger in shop.triggers] == ["c2"]


def test_late_item_of_an_answered_cart_does_not_answer_it_again() -> None:
    """The cart as it was has had its answer: the same trigger id must not occur twice."""
    shop = simulation(program(campaigns=[campaign("cart_rescue", "abandoned_cart", window=HOUR)]))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:30"))
    shop.feed(cart_add("09:00"), cart_add("08:30"), cart_add("09:50"))
    shop.advance(instant("1d 00:00"))

    assert len(shop.triggers) == 1


def test_late_restart_corrects_what_is_still_open() -> None:
    """An item that shows the cart was not yet left ends the open moment and waits anew."""
    shop = simulation(known=False)  # nobody agreed, so it stays open
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:30"))
    shop.feed(cart_add("09:50"))
    shop.advance(instant("11:00"))

    [over] = ends(shop)
    assert (over.state, over.opened_at, over.by) == ("cancelled", instant("10:00"), "cart.item_added")
    assert shop.customers[ANA].instances("abandoned_cart")["c1"].due == instant("10:50")


# --- consent ----------------------------------------------------------------------------------------------------------


def test_no_consent_record_means_no_message() -> None:
    """Who never agreed is not written to, and the record says so."""
    shop = simulation(known=False)
    shop.feed(cart_add("09:00"))
    shop.advance(instant("1d 00:00"))

    assert reasons(shop) == ["no_consent"]
    assert shop.decisions[0].candidates[0].saw == "no record for email/marketing"
    assert shop.triggers == []


def test_consent_given_reopens_the_decision() -> None:
    """A moment that waits is answered as soon as the customer agrees."""
    shop = simulation(known=False)
    shop.feed(cart_add("09:00"))
    shop.advance(instant("11:00"))
    shop.feed(profile("11:30", consents=[consent(at="11:30")]))
    shop.advance(instant("12:00"))

    assert reasons(shop) == ["no_consent", "chosen"]
    assert shop.triggers[0].decided_at == instant("11:30")


@pytest.mark.parametrize("said_at", ["-20d 00:00", "-3d 00:00", "09:30"])
def test_opt_out_acts_on_arrival(said_at: str) -> None:
    """A customer who said no is not written to, however late we hear of it."""
    shop = simulation(program(moments=[replace(ABANDONED_CART, cancelled_by=())]))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("09:45"))
    shop.feed(unsubscribed(said_at))
    shop.advance(instant("12:00"))

    assert reasons(shop) == ["no_consent"]


def test_an_old_yes_does_not_undo_a_newer_no() -> None:
    """Consent is by its own time, whatever the order of arrival, and a second no counts too."""
    shop = simulation()
    shop.feed(unsubscribed("08:00"), unsubscribed("10:00"))
    shop.advance(instant("11:00"))
    shop.feed(profile("10:30", consents=[consent(at="09:00")]))
    shop.advance(instant("12:00"))

    assert shop.customers[ANA].consents["email/marketing"] == (False, instant("10:00"))


def test_the_decision_that_consent_reopens_has_its_own_id() -> None:
    """Consent that comes and goes at one instant never makes two decisions of one id."""
    shop = simulation(known=False)
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    for number, granted in enumerate([False, True, False, True], 1):
        shop.feed(profile("09:30", consents=[consent(granted=granted, at=instant("09:30") + number)]))
        shop.advance(instant("10:00") + number * SECOND)

    ids = [decision.decision_id for decision in shop.decisions]
    assert len(ids) == len(set(ids))


# --- replays into a live worker ---------------------------------------------------------------------------------------


def test_too_old_replays_send_nothing() -> None:
    """Three years of history through a live worker rebuild the state and say nothing."""
    shop = simulation(start="2020-03-01T00:00", max_lag=5 * SECOND)
    shop.feed(cart_add("2017-03-01T09:00"), cart_add("2018-03-01T09:00", cart="c2"), order("2017-06-01T09:00"))
    shop.feed(profile("2017-03-01T00:00", born="1980-07-04"))
    shop.advance(instant("2020-03-01T00:10"))

    assert shop.triggers == []
    assert choices(shop) == []


def test_a_moment_that_opened_long_ago_is_too_old() -> None:
    """It is the opening that is compared, so an old start may still be answered."""
    shop = simulation(max_lag=5 * SECOND)
    shop.feed(cart_add("09:00"))
    shop.advance(instant("2d 00:00"))

    [over] = ends(shop)
    assert (over.state, over.reason, over.opened_at) == ("expired", "too_old", instant("10:00"))
    assert shop.triggers == []


def test_lapsed_is_not_too_old_because_its_start_is() -> None:
    """The order that started the silence is months back; the silence opened just now."""
    shop = simulation(max_lag=5 * SECOND)
    shop.feed(order("08:00"), order("09:00"))
    shop.advance(instant("10:00"))
    shop.advance(instant("120d 09:00:04"))

    assert [trigger.campaign for trigger in shop.triggers] == ["winback"]


# --- our own messages -------------------------------------------------------------------------------------------------


def test_our_own_message_is_a_fact_when_it_is_decided() -> None:
    """What a topic reports of our own trigger later is not counted again."""
    shop = simulation()
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    counted = shop.program.features["messages_90d"]
    assert counted.read(fact(shop, "messages_90d"), None, instant("10:00"), REFERENCE) == 1

    shop.feed(message("10:05", trigger_id=shop.triggers[0].trigger_id), message("10:10"))
    shop.advance(instant("11:00"))
    assert counted.read(fact(shop, "messages_90d"), None, instant("11:00"), REFERENCE) == 2


# --- definitions change -----------------------------------------------------------------------------------------------


def test_definition_removed_while_instances_wait() -> None:
    """What waited is let go in silence, what was open ends with that reason; the customer lives on."""
    shop = simulation(known=False)
    shop.feed(cart_add("09:00", cart="open"), cart_add("09:55", cart="waiting"))
    shop.advance(instant("10:00"))
    shop.publish(program(moments=[], campaigns=[], version="v2"))
    shop.advance(instant("5d 00:00"))

    assert [(over.moment_key, over.state, over.reason) for over in ends(shop)] == [("open", "expired", "no_definition")]
    assert shop.customers[ANA].fires == {}


def test_a_campaign_that_is_gone_can_still_be_retracted() -> None:
    """A retraction repeats what the trigger said, whatever the definitions say now."""
    shop = simulation()
    shop.feed(cart_add("09:00"))
    shop.advance(instant("10:00"))
    shop.publish(program(campaigns=[], version="v2"))
    shop.feed(order("09:30"))
    shop.advance(instant("10:30"))

    sent, taken_back = shop.triggers
    assert (taken_back.action, taken_back.trigger_id) == ("retract", sent.trigger_id)
    assert (taken_back.channel, taken_back.template) == ("email", "cart_rescue")


def test_a_moment_without_campaign_says_so() -> None:
    """A moment that no campaign answers is recorded once, with that reason."""
    shop = simulation(program(campaigns=[]))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("1d 00:00"))

    assert reasons(shop) == ["no_definition"]


def test_every_record_carries_the_version() -> None:
    """A decision says which definitions it was taken under."""
    shop = simulation(program(version="2017-03"))
    shop.feed(cart_add("09:00"))
    shop.advance(instant("4d 00:00"))

    assert [decision.definitions_version for decision in shop.decisions] == ["2017-03"]
    assert [trigger.definitions_version for trigger in shop.triggers] == ["2017-03"]
    assert [outcome.definitions_version for outcome in shop.outcomes] == ["2017-03"]
