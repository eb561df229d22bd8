"""Several messages of one campaign in one slot: each due in its turn, checked when it goes out, ended by events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.arbitration.campaign import Campaign, Send, SeriesStep, Unless
from orchestrator.arbitration.policy import Cap, QuietHours
from orchestrator.arbitration.series import NEXT_STEP, PINNED, SERIES
from orchestrator.customer import customer_from_bytes
from orchestrator.events import DAY, HOUR, MINUTE
from orchestrator.moments.rules import EventMatch
from orchestrator.program import Program
from orchestrator.records import Decision
from orchestrator.simulation import Simulation
from tests.builders import (
    ABANDONED_CART,
    ANA,
    ORDER_PLACED,
    campaign,
    cart_add,
    choices,
    compare,
    consent,
    event,
    fact,
    instant,
    line,
    order,
    policy,
    profile,
    program,
    simulation,
    unsubscribed,
)
from tests.test_engine_properties import check_audit
from tests.test_recall import rebuilt

CLICKED = "message.clicked"
VIEWED = "product.viewed"
CAME_BACK = Unless((VIEWED,), within=2 * DAY)
DISCOVERY = replace(
    campaign("discovery", "abandoned_cart", window=10 * DAY),
    send=Send("email", "inspire"),
    series=(
        SeriesStep("inspire", Send("email", "inspire")),
        SeriesStep("nudge", Send("sms", "nudge"), 2 * DAY, Unless((CLICKED,), origin="inspire")),
        SeriesStep("offer", Send("email", "offer"), 3 * DAY, CAME_BACK),
    ),
    stop_when=(EventMatch((ORDER_PLACED,)), EventMatch(("cart.emptied",), "cart_id")),
    cost=500,
    send_cost=2,
)


def of(discovery: Campaign = DISCOVERY, **rules: Any) -> Program:
    """Return definitions with one series about an abandoned cart."""
    return program(moments=[ABANDONED_CART], campaigns=[discovery], rules=policy(**rules))


def begun(compiled: Program | None = None, *, at: str = "09:00", **more: Any) -> Simulation:
    """Return a simulation in which Ana, who agreed to e-mail and SMS, left a cart behind at `at`."""
    simulated = simulation(of() if compiled is None else compiled, known=False, **more)
    simulated.feed(profile(consents=[consent(), consent(channel="sms")]), cart_add(at))
    return simulated


def sent(simulated: Simulation, action: str = "send") -> list[tuple[str, int]]:
    """Return the steps whose triggers were emitted, with their instants."""
    return [(one.step, one.decided_at) for one in simulated.triggers if one.action == action]


def steps(simulated: Simulation) -> list[tuple[str, str]]:
    """Return what was recorded of later steps, in order."""
    return [(one.step, one.reason) for one in simulated.decisions if one.kind == "step"]


def last_step(simulated: Simulation) -> Decision:
    """Return the newest record of a later step."""
    return [one for one in simulated.decisions if one.kind == "step"][-1]


def test_each_step_is_sent_when_it_is_due_in_one_slot() -> None:
    """Delays count from when the step before was due; one decision takes the slot, one trigger goes out per step."""
    simulated = begun()
    simulated.advance(instant("30d 00:00"))

    ten = instant("10:00")
    assert sent(simulated) == [("inspire", ten), ("nudge", ten + 2 * DAY), ("offer", ten + 5 * DAY)]
    assert [one.template for one in simulated.triggers] == ["inspire", "nudge", "offer"]
    assert [one.channel for one in simulated.triggers] == ["email", "sms", "email"]
    assert len({one.trigger_id for one in simulated.triggers}) == 3
    assert [one.window_until for one in simulated.triggers] == [ten + 10 * DAY] * 3
    assert [one.valid_until for one in simulated.triggers[1:]] == [ten + 5 * DAY, ten + 10 * DAY]
    [taken] = choices(simulated)
    assert [one.continues for one in simulated.decisions if one.kind == "step"] == [taken.decision_id] * 2
    assert [outcome.cost for outcome in simulated.outcomes] == [504]
    check_audit(simulated)


def test_ids_are_the_same_for_the_same_cause() -> None:
    """Whatever the barriers, and also after other definitions were published."""
    once, again = begun(), begun()
    once.advance(instant("30d 00:00"))
    for day in range(30):
        again.publish(program(moments=[ABANDONED_CART], campaigns=[DISCOVERY], version=f"v{day}"))
        again.advance(instant(f"{day + 1}d 00:00"))

    assert [one.trigger_id for one in once.triggers] == [one.trigger_id for one in again.triggers]
    assert [one.decision_id for one in once.decisions] == [one.decision_id for one in again.decisions]


def test_the_state_is_there_only_while_the_slot_is_held() -> None:
    """Afterwards nothing of the series is left."""
    simulated = begun()
    simulated.advance(instant("9d 00:00"))
    assert simulated.customers[ANA].fact(SERIES) is not None

    simulated.advance(instant("11d 00:00"))

    customer = simulated.customers[ANA]
    assert customer.fact(SERIES) is None
    assert SERIES not in customer.raw_facts
    assert NEXT_STEP not in customer.fires


def test_the_control_group_walks_the_same_series_and_hears_nothing() -> None:
    """Its steps are recorded, for the audit to see that none of them was sent."""
    simulated = begun(of(replace(DISCOVERY, control_bp=10_000)))
    simulated.advance(instant("30d 00:00"))

    assert simulated.triggers == []
    assert steps(simulated) == [("nudge", "control"), ("offer", "control")]
    assert {one.arm for one in simulated.decisions if one.kind == "step"} == {"control"}
    check_audit(simulated)


# --- stop_when --------------------------------------------------------------------------------------------------------


def test_an_exit_ends_the_messages_at_once_and_not_the_slot() -> None:
    """Every step to come is recorded as stopped, by what; the window runs to its end."""
    simulated = begun()
    simulated.advance(instant("1d 00:00"))
    simulated.feed(order("1d 12:00"))
    simulated.advance(instant("1d 12:00"))

    assert steps(simulated) == [("nudge", "stopped"), ("offer", "stopped")]
    assert last_step(simulated).candidates[0].saw == ORDER_PLACED
    assert last_step(simulated).decided_at == instant("1d 12:00")
    assert simulated.customers[ANA].window is not None
    simulated.advance(instant("30d 00:00"))
    assert sent(simulated) == [("inspire", instant("10:00"))]
    assert simulated.outcomes[0].window_until == instant("10d 10:00")
    check_audit(simulated)


def test_an_exit_about_another_cart_is_none() -> None:
    """With `matching` only the moment's own key counts."""
    simulated = begun()
    simulated.advance(instant("1d 00:00"))
    simulated.feed(event("cart.emptied", "1d 12:00", cart_id="other"))
    simulated.advance(instant("1d 13:00"))
    assert steps(simulated) == []

    simulated.feed(event("cart.emptied", "1d 14:00", cart_id="c1"))
    simulated.advance(instant("30d 00:00"))

    assert steps(simulated) == [("nudge", "stopped"), ("offer", "stopped")]


def test_an_exit_at_the_very_instant_of_a_step_comes_first() -> None:
    """As everywhere an event comes before the timer."""
    simulated = begun()
    simulated.feed(order("2d 10:00"))
    simulated.advance(instant("30d 00:00"))

    assert steps(simulated) == [("nudge", "stopped"), ("offer", "stopped")]


def test_an_order_from_before_the_decision_is_no_exit() -> None:
    """It proves the moment wrong instead, which takes back everything that was sent and ends the rest."""
    simulated = begun(of(default_accept_late=3 * DAY))
    simulated.advance(instant("2d 12:00"))
    assert len(sent(simulated)) == 2

    simulated.feed(order("09:30"))
    simulated.advance(instant("30d 00:00"))

    assert [name for name, _ in sent(simulated, "retract")] == ["inspire", "nudge"]
    assert steps(simulated) == [("nudge", "chosen"), ("offer", "cancelled")]
    assert [one.void for one in simulated.outcomes] == [True]
    check_audit(simulated)


@pytest.mark.parametrize("share", [0, 10_000], ids=["treatment", "control"])
def test_a_late_exit_takes_back_the_step_it_would_have_ended(share: int) -> None:
    """In both arms by the same rule; the first message was right when it went out, and the slot is kept."""
    simulated = begun(of(replace(DISCOVERY, control_bp=share)))
    simulated.advance(instant("2d 11:00"))

    simulated.feed(order("2d 09:00"))
    simulated.advance(instant("30d 00:00"))

    voids = [one for one in simulated.decisions if one.kind == "void"]
    assert [one.step for one in voids] == ["nudge"]
    assert [one.voids for one in voids] == [one.decision_id for one in simulated.decisions if one.step == "nudge"][:1]
    assert [name for name, _ in sent(simulated, "retract")] == ([] if share else ["nudge"])
    assert steps(simulated)[1:] == [("offer", "stopped")]
    assert [one.void for one in simulated.outcomes] == [False]
    check_audit(simulated)


def test_a_late_exit_from_the_very_instant_of_a_step_takes_it_back() -> None:
    """On time it would have come first."""
    simulated = begun()
    simulated.advance(instant("2d 11:00"))
    simulated.feed(order("2d 10:00"))
    simulated.advance(instant("30d 00:00"))

    assert [name for name, _ in sent(simulated, "retract")] == ["nudge"]
    check_audit(simulated)


def test_an_exit_later_than_a_step_leaves_it_as_it_is() -> None:
    """What has gone out before the exit was right."""
    simulated = begun()
    simulated.advance(instant("2d 11:00"))
    simulated.feed(order("2d 10:30"))
    simulated.advance(instant("30d 00:00"))

    assert sent(simulated, "retract") == []
    assert steps(simulated) == [("nudge", "chosen"), ("offer", "stopped")]


# --- unless -----------------------------------------------------------------------------------------------------------


def clicked(at: str, trigger_id: str | None, **more: Any) -> Any:
    """Return a click on a message."""
    return event(CLICKED, at, trigger_id=trigger_id, **more)


def test_a_click_on_the_first_message_makes_the_second_pointless() -> None:
    """Only that one: the series goes on with the third."""
    simulated = begun()
    simulated.advance(instant("1d 00:00"))
    simulated.feed(clicked("1d 10:00", simulated.triggers[0].trigger_id))
    simulated.advance(instant("30d 00:00"))

    assert steps(simulated) == [("nudge", "cancelled"), ("offer", "chosen")]
    assert [name for name, _ in sent(simulated)] == ["inspire", "offer"]


@pytest.mark.parametrize(
    ("trigger_id", "about", "result"),
    [("another", "discovery", "chosen"), (None, "discovery", "cancelled"), (None, "another", "chosen")],
)
def test_whose_click_it_was(trigger_id: str | None, about: str, result: str) -> None:
    """Who names the trigger is believed; without one the campaign's name will do."""
    simulated = begun()
    simulated.advance(instant("1d 00:00"))
    simulated.feed(clicked("1d 10:00", trigger_id, campaign=about))
    simulated.advance(instant("3d 00:00"))

    assert steps(simulated) == [("nudge", result)]


@pytest.mark.parametrize(
    ("at", "result"), [("3d 09:59", "chosen"), ("3d 10:01", "cancelled"), ("5d 10:00", "cancelled")]
)
def test_how_far_back_a_step_looks(at: str, result: str) -> None:
    """`within` counts back from when it would go out."""
    simulated = begun()
    simulated.advance(instant("1d 00:00"))
    simulated.feed(event(VIEWED, at, sku="BOOK"))
    simulated.advance(instant("30d 00:00"))

    assert steps(simulated)[1:] == [("offer", result)]


def test_a_step_without_within_looks_back_to_the_one_before() -> None:
    """What happened since that was due."""
    series = (*DISCOVERY.series[:2], replace(DISCOVERY.series[2], unless=Unless((VIEWED,))))
    for at, result in (("2d 09:00", "chosen"), ("2d 11:00", "cancelled")):
        simulated = begun(of(replace(DISCOVERY, series=series)))
        simulated.advance(instant("1d 00:00"))
        simulated.feed(event(VIEWED, at, sku="BOOK"))
        simulated.advance(instant("30d 00:00"))
        assert steps(simulated)[1:] == [("offer", result)]


def test_a_late_event_takes_back_the_step_that_it_made_pointless() -> None:
    """The steps after it are not concerned."""
    simulated = begun()
    simulated.advance(instant("5d 11:00"))
    simulated.feed(event(VIEWED, "5d 09:00", sku="BOOK"))
    simulated.advance(instant("30d 00:00"))

    assert [name for name, _ in sent(simulated, "retract")] == ["offer"]
    check_audit(simulated)


def test_a_click_counts_however_long_ago_the_message_went_out() -> None:
    """With `from` it is about that message, also when another step was due since."""
    offer = replace(DISCOVERY.series[2], unless=Unless((CLICKED,), origin="inspire"))
    simulated = begun(of(replace(DISCOVERY, series=(*DISCOVERY.series[:2], offer))))
    simulated.advance(instant("1d 09:00"))
    simulated.feed(clicked("1d 10:00", simulated.triggers[0].trigger_id))
    simulated.advance(instant("30d 00:00"))

    assert steps(simulated) == [("nudge", "cancelled"), ("offer", "cancelled")]


# --- the rules of contact, per step -----------------------------------------------------------------------------------


def test_a_step_waits_for_the_morning_and_the_next_one_does_not_shift() -> None:
    """Delays count from when the step before was due, not from when it went out."""
    night = QuietHours(9 * 60 + 30, 11 * 60)
    simulated = begun(of(quiet_hours=night), at="12:00")
    simulated.advance(instant("1d 00:00"))
    late = of(quiet_hours=QuietHours(12 * 60, 18 * 60))
    simulated.publish(late)
    simulated.advance(instant("4d 00:00"))
    simulated.publish(of())
    simulated.advance(instant("30d 00:00"))

    assert steps(simulated) == [("nudge", "quiet_hours"), ("nudge", "chosen"), ("offer", "chosen")]
    one = instant("13:00")
    assert sent(simulated)[1:] == [("nudge", instant("2d 18:00")), ("offer", one + 5 * DAY)]


def test_a_step_under_a_cap_waits_until_the_next_one_is_due_and_is_then_skipped() -> None:
    """The cap lets go on the fourth day at the earliest, and the third step is due on the fifth."""
    four, six = (begun(of(caps=(Cap(1, days * DAY),))) for days in (4, 6))
    for simulated in (four, six):
        simulated.advance(instant("30d 00:00"))

    assert steps(four)[:2] == [("nudge", "cap"), ("nudge", "chosen")]
    assert sent(four)[1] == ("nudge", instant("4d 10:00"))
    assert steps(six) == [("nudge", "cap"), ("offer", "cap"), ("offer", "chosen")]
    assert six.decisions[1].candidates[0].retry_at is None  # it is over, not put off
    assert sent(six)[1] == ("offer", instant("6d 10:00"))


def test_who_unsubscribes_from_one_channel_still_gets_the_other() -> None:
    """Consent is asked for when a step goes out, for its own channel."""
    simulated = begun()
    simulated.advance(instant("1d 00:00"))
    simulated.feed(unsubscribed("1d 10:00", "sms"))
    simulated.advance(instant("30d 00:00"))

    assert steps(simulated) == [("nudge", "no_consent"), ("offer", "chosen")]


def test_own_messages_count_for_caps_and_facts_from_each_step() -> None:
    """Three steps, three messages."""
    simulated = begun(of(caps=(Cap(9, 30 * DAY),)))
    simulated.advance(instant("30d 00:00"))

    customer = simulated.customers[ANA]
    assert [channel for _, channel in customer.sent] == ["email", "sms", "email"]
    feature = simulated.program.features["messages_90d"]
    assert feature.read(fact(simulated, "messages_90d"), None, simulated.clock, simulated.reference) == 3


def test_recheck_asks_when_a_step_goes_out() -> None:
    """What was true at the decision may not be true any more."""
    poor = replace(DISCOVERY, recheck_before_send=compare("orders_lifetime", "<", 1), stop_when=())
    simulated = begun(of(poor))
    simulated.advance(instant("3d 00:00"))
    simulated.feed(order("3d 10:00", lines=[line("SOAP")]))
    simulated.advance(instant("30d 00:00"))

    assert steps(simulated) == [("nudge", "chosen"), ("offer", "not_eligible")]
    assert last_step(simulated).candidates[0].saw == "orders_lifetime = 1"


def test_recheck_asks_at_the_first_message_too() -> None:
    """It is the truth at the time of sending, which a single message's decision is."""
    simulated = begun(of(replace(DISCOVERY, recheck_before_send=compare("orders_lifetime", ">", 3))))
    simulated.advance(instant("12:00"))

    assert simulated.triggers == []
    assert simulated.decisions[-1].reason == "not_eligible"


# --- time goes wrong --------------------------------------------------------------------------------------------------


def test_after_an_outage_a_step_that_the_next_has_overtaken_is_skipped() -> None:
    """What is found due at once is not sent at once."""
    simulated = begun(max_lag=MINUTE)
    simulated.advance(instant("12:00"))
    simulated.advance(instant("5d 12:00"))
    simulated.advance(instant("30d 00:00"))

    assert steps(simulated) == [("nudge", "expired"), ("offer", "chosen")]


def test_after_a_long_outage_a_step_is_too_old() -> None:
    """As moments are, by the same rule."""
    simulated = begun(max_lag=MINUTE)
    simulated.advance(instant("12:00"))
    simulated.advance(instant("4d 12:00"))

    assert steps(simulated) == [("nudge", "too_old")]


def test_an_outage_longer_than_the_window_ends_the_series_first() -> None:
    """Every step is accounted for before the slot is free."""
    simulated = begun(max_lag=MINUTE)
    simulated.advance(instant("12:00"))
    simulated.advance(instant("20d 12:00"))

    assert steps(simulated) == [("nudge", "expired"), ("offer", "expired")]
    assert simulated.customers[ANA].window is None
    check_audit(simulated)


def test_a_step_waits_for_stragglers() -> None:
    """An exit that arrives within the disorder of its topic is not late; the cart's moment waited an hour as well."""
    simulated = begun(of(disorder={"purchases": HOUR, "clickstream": 0}, default_disorder=0))
    simulated.advance(instant("2d 11:30"))
    simulated.feed(order("2d 10:59"))
    simulated.advance(instant("30d 00:00"))

    assert sent(simulated) == [("inspire", instant("11:00"))]
    assert sent(simulated, "retract") == []
    assert steps(simulated) == [("nudge", "stopped"), ("offer", "stopped")]


# --- after the loss of every state ------------------------------------------------------------------------------------


def test_what_was_seen_before_a_loss_makes_a_step_pointless_after_it() -> None:
    """It is read from the inputs again."""
    events = [profile(consents=[consent(), consent(channel="sms")]), cart_add("09:00")]
    events += [event(VIEWED, "4d 10:00", sku="BOOK")]
    simulated = simulation(of(), known=False)
    simulated.feed(*events)
    simulated.advance(instant("4d 12:00"))
    again = rebuilt(simulated, events)
    again.advance(instant("30d 00:00"))

    assert steps(again) == [("nudge", "chosen"), ("offer", "cancelled")]


def test_a_step_taken_back_before_a_loss_is_not_taken_back_again() -> None:
    """Our own record of it says so."""
    events = [profile(consents=[consent(), consent(channel="sms")]), cart_add("09:00")]
    simulated = simulation(of(), known=False)
    simulated.feed(*events)
    simulated.advance(instant("2d 11:00"))
    events.append(order("2d 09:00"))
    simulated.feed(events[-1])
    simulated.advance(instant("2d 12:00"))
    again = rebuilt(simulated, events)
    again.feed(order("2d 09:30"))
    again.advance(instant("30d 00:00"))

    assert [name for name, _ in sent(again, "retract")] == ["nudge"]
    check_audit(again)


# --- other definitions ------------------------------------------------------------------------------------------------


def test_a_series_that_is_gone_ends_with_a_word() -> None:
    """The slot is held as it was."""
    simulated = begun()
    simulated.advance(instant("12:00"))
    simulated.publish(of(replace(DISCOVERY, name="another")))
    simulated.advance(instant("30d 00:00"))

    assert steps(simulated) == [("", "no_definition")]
    assert len(simulated.outcomes) == 1
    check_audit(simulated)


def test_a_step_that_is_published_later_than_planned_waits_as_published() -> None:
    """Campaigns follow their definition."""
    simulated = begun()
    simulated.advance(instant("12:00"))
    slower = (DISCOVERY.series[0], replace(DISCOVERY.series[1], after=4 * DAY))
    simulated.publish(of(replace(DISCOVERY, series=slower)))
    simulated.advance(instant("30d 00:00"))

    assert sent(simulated)[1:] == [("nudge", instant("4d 10:00"))]


PINNING = replace(DISCOVERY, pins=True)
OTHER_STEPS = (
    DISCOVERY.series[0],
    SeriesStep("nudge", Send("sms", "shout", ("product",)), 1 * DAY),
    SeriesStep("late", Send("email", "late"), 6 * DAY),
)


def changed_inside(before: Campaign, after: Campaign) -> Simulation:
    """Return a simulation of somebody inside a series when it is changed, stored and loaded in between."""
    simulated = begun(of(before))
    simulated.advance(instant("12:00"))
    for customer_id, customer in simulated.customers.items():
        simulated.customers[customer_id] = customer_from_bytes(customer.to_bytes())
    simulated.publish(of(after))
    return simulated


def test_pinned_steps_go_on_as_they_were_decided() -> None:
    """Steps, templates, channels, waits and window are those of the decision; who comes later gets the new ones."""
    after = replace(PINNING, series=OTHER_STEPS, measure=replace(PINNING.measure, window=20 * DAY), send_cost=9)
    simulated = changed_inside(PINNING, after)
    simulated.advance(instant("10d 12:00"))
    unchanged = begun()
    unchanged.advance(instant("10d 12:00"))

    assert [(one.template, one.decided_at) for one in simulated.triggers] == [
        (one.template, one.decided_at) for one in unchanged.triggers
    ]
    assert simulated.outcomes[0].window_until == unchanged.outcomes[0].window_until
    assert simulated.outcomes[0].cost == unchanged.outcomes[0].cost
    assert simulated.customers[ANA].fact(PINNED) is None
    check_audit(simulated)


def test_pinned_steps_go_on_also_when_the_campaign_has_one_message_now() -> None:
    """What a campaign is for whoever comes next does not matter to who is inside."""
    simulated = changed_inside(PINNING, replace(PINNING, series=()))
    simulated.advance(instant("30d 00:00"))

    assert [name for name, _ in sent(simulated)] == ["inspire", "nudge", "offer"]
    check_audit(simulated)


@pytest.mark.parametrize(
    ("before", "after"),
    [(DISCOVERY, PINNING), (PINNING, DISCOVERY)],
    ids=["decided before it pinned", "published with follow"],
)
def test_what_is_not_pinned_at_both_times_follows(before: Campaign, after: Campaign) -> None:
    """To let go of those inside, publish the campaign with `follow`."""
    simulated = changed_inside(before, replace(after, series=OTHER_STEPS))
    simulated.advance(instant("9d 00:00"))

    assert [one.template for one in simulated.triggers] == ["inspire", "shout", "late"]
    check_audit(simulated)


def test_what_ended_a_pinned_series_still_ends_it() -> None:
    """Also an event that nothing published since asks for."""
    before = replace(PINNING, stop_when=(EventMatch((VIEWED,)),))
    after = replace(PINNING, series=OTHER_STEPS, stop_when=())
    simulated = changed_inside(before, after)
    simulated.feed(event(VIEWED, "1d 00:00"))
    simulated.advance(instant("30d 00:00"))

    assert [name for name, _ in sent(simulated)] == ["inspire"]
    assert steps(simulated) == [("nudge", "stopped"), ("offer", "stopped")]
    check_audit(simulated)


def test_a_pinned_campaign_that_is_gone_sends_nothing_more() -> None:
    """To take a campaign away stops it, whatever was pinned."""
    simulated = changed_inside(PINNING, replace(PINNING, name="another"))
    simulated.advance(instant("30d 00:00"))

    assert steps(simulated) == [("", "no_definition")]


def test_what_takes_back_a_pinned_step_repeats_what_it_said() -> None:
    """The retraction has the template and the content of the send, not those published since."""
    nudge = replace(DISCOVERY.series[1], send=Send("sms", "nudge", ("cart_lines",)))
    pinned = replace(PINNING, series=(DISCOVERY.series[0], nudge, DISCOVERY.series[2]))
    simulated = changed_inside(pinned, replace(pinned, series=OTHER_STEPS))
    simulated.advance(instant("2d 10:30"))
    simulated.feed(order("2d 09:00"))
    simulated.advance(instant("30d 00:00"))

    [send] = [one for one in simulated.triggers if one.step == "nudge" and one.action == "send"]
    [retract] = [one for one in simulated.triggers if one.action == "retract"]
    assert (retract.trigger_id, retract.template, retract.requested) == (send.trigger_id, "nudge", ("cart_lines",))
    check_audit(simulated)
