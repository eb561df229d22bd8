"""Choosing by value in the whole engine: what is sent or not, what is written down, and when it is asked again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.arbitration.campaign import After, Campaign, Measure, Offer, Send, SeriesStep
from orchestrator.events import DAY, HOUR, Event
from orchestrator.moments.rules import EventMatch
from orchestrator.program import Segment
from orchestrator.prospects import lines, prospects
from orchestrator.records import Decision
from orchestrator.simulation import Simulation
from orchestrator.valuation import EVERYBODY, START, STOPPED, LeafValue, PolicySnapshot, records_of
from orchestrator.why import Clock
from tests.builders import (
    ABANDONED_CART,
    ANA,
    FEATURES,
    campaign,
    cart_add,
    choices,
    compare,
    ends,
    event,
    instant,
    last_candidates,
    order,
    policy,
    profile,
    program,
    reasons,
    simulation,
    snapshot,
    worth,
)

SMALL = campaign("small", "abandoned_cart", priority=90)
LARGE = campaign("large", "abandoned_cart", priority=10)
BOTH = (SMALL, LARGE)
CART = replace(ABANDONED_CART, lasts=3 * DAY)
BUYERS = Segment("buyers", "Bought before", compare("orders_lifetime", ">=", 1))


def shop_with(
    *learned: PolicySnapshot,
    campaigns: Iterable[Campaign] = BOTH,
    events: Iterable[Event] = (),
    until: str = "10:00",
    **rules: Any,
) -> Simulation:
    """Return a shop that chooses by value, in which Ana has left a cart at nine."""
    rules = {"method": "expected_value", "explore_start_bp": 0, **rules}
    compiled = program(moments=[CART], campaigns=campaigns, segments=[BUYERS], rules=policy(**rules))
    shop = simulation(compiled, learned=learned)
    shop.feed(*events, cart_add("09:00"))
    shop.advance(instant(until))
    return shop


def test_worth_more_beats_a_higher_priority() -> None:
    """And every record says how likely that was."""
    shop = shop_with(snapshot({"small@email": worth(50, 50, 50, 90), "large@email": worth(70, 70, 70, 70)}))

    [decision] = choices(shop)
    chances = {candidate.campaign: candidate.propensity for candidate in decision.candidates}
    assert chances == {"large": 0.75, "small": 0.25}
    assert decision.policy_version == "s1"


def test_before_the_first_snapshot_priority_decides() -> None:
    """A snapshot from later on counts later."""
    shop = shop_with(snapshot({"large@email": worth(70)}, since="1d 00:00"))

    assert [(decision.campaign, decision.policy_version) for decision in choices(shop)] == [("small", "")]


def test_a_free_slot_may_be_worth_more() -> None:
    """Then nothing is sent, the moment stays open, and the slot free."""
    shop = shop_with(snapshot({"small@email": worth(-42), "large@email": worth(-7)}))

    decision = shop.decisions[-1]
    assert (decision.kind, decision.arm, decision.reason) == ("choice", "none", "none_better")
    assert {c.campaign: (c.reason, c.saw, c.retry_at) for c in decision.candidates} == {
        "small": ("none_better", "worth -0.42", instant("1d 10:00")),
        "large": ("none_better", "worth -0.07", instant("1d 10:00")),
    }
    assert (shop.triggers, shop.active, ends(shop)) == ([], {}, [])


def test_none_is_final_until_something_changes() -> None:
    """Asked again every day, the answer is the same, and nothing is written down."""
    shop = shop_with(snapshot({"small@email": worth(-42), "large@email": worth(-7)}), until="3d 12:00")

    assert reasons(shop) == ["none_better", "closing: none_better"]


def test_what_is_sent_is_as_frequent_as_the_records_say() -> None:
    """Over many customers, each of whom is a draw of their own; none and what is tried by chance included."""
    learned = snapshot(
        {"small@email": worth(9, 5, -1, -1, 2, 3, -4, 8), "large@email": worth(5, 9, 4, -1, -2, -3, -5, 9)},
        explore_bp=1_000,
    )
    shop = shop_with(learned, until="09:00")
    for number in range(2_000):
        name = f"c{number}"
        shop.feed(profile("09:00", name), cart_add("09:00", cart=name, customer=name))
    shop.advance(instant("10:00"))

    chances: dict[str | None, float] = {"large": 0.9 * 3 / 8 + 0.05, "small": 0.9 * 3 / 8 + 0.05, None: 0.9 * 2 / 8}
    counted = Counter(decision.campaign for decision in shop.decisions)
    for decision in shop.decisions:
        written: dict[str | None, float] = {one.campaign: one.propensity for one in decision.candidates}
        assert {**written, None: decision.none_propensity} == pytest.approx(chances)
    for chosen, chance in chances.items():
        assert abs(counted[chosen] - 2_001 * chance) < 4 * (2_001 * chance * (1 - chance)) ** 0.5


def test_what_would_have_to_change_is_what_they_are_worth() -> None:
    """Who asks is told when it is weighed again."""
    shop = shop_with(snapshot({"small@email": worth(-42)}), campaigns=[SMALL])
    found = prospects(shop.program, shop.reference, ANA, shop.customers[ANA], shop.clock)

    assert list(lines(found, {}, Clock("UTC")))[1:] == [
        "  small: sending nothing was expected to earn more (worth -0.42); it is weighed again 2 March 2017 10:00"
    ]


def test_another_snapshot_is_asked_within_a_day() -> None:
    """The moment that is still open is answered then."""
    learned = snapshot({"small@email": worth(-42)}), snapshot({"small@email": worth(5)}, since="1d 09:00", version="s2")
    shop = shop_with(*learned, campaigns=[SMALL], until="1d 10:00")

    assert reasons(shop) == ["none_better", "chosen"]
    assert [trigger.decided_at for trigger in shop.triggers] == [instant("1d 10:00")]


def test_another_moment_is_another_question() -> None:
    """The set has changed, so the answer may."""
    shop = shop_with(snapshot({"small@email": worth(-42), "large@email": worth(-7)}))
    shop.feed(cart_add("12:00", cart="c2"))
    shop.advance(instant("13:00"))

    assert [len(decision.candidates) for decision in shop.decisions] == [2, 4]


def test_rules_stay_above_values() -> None:
    """What may not be sent is not chosen, whatever it is worth, and takes no share."""
    picky = replace(LARGE, only_if=compare("orders_lifetime", ">=", 1))
    shop = shop_with(
        snapshot({"small@email": worth(1), "large@email": worth(900)}, explore_bp=10_000), campaigns=(SMALL, picky)
    )

    candidates = last_candidates(shop)
    assert (candidates["small"].reason, candidates["small"].propensity) == ("chosen", 1.0)
    assert (candidates["large"].reason, candidates["large"].propensity) == ("not_eligible", 0.0)


class TestOffers:
    """A campaign with offers is chosen together with one of those the customer may have."""

    COSTLY = replace(
        SMALL,
        offer=Offer(("none", "free_shipping", "pct_10"), {"pct_10": BUYERS.condition}, {}, {"free_shipping": (490, 0)}),
    )
    LEARNED = snapshot(
        {
            "small+none@email": worth(10),
            "small+free_shipping@email": worth(60),
            "small+pct_10@email": worth(500),
            "large@email": worth(30),
        }
    )

    def test_the_offer_that_is_worth_most_goes_with_it(self) -> None:
        """Of those that this customer may have."""
        shop = shop_with(self.LEARNED, campaigns=(self.COSTLY, LARGE))

        assert [(trigger.campaign, trigger.offer, trigger.cost) for trigger in shop.triggers] == [
            ("small", "free_shipping", 491)
        ]
        assert [(c.campaign, c.offer, c.reason, c.saw) for c in shop.decisions[-1].candidates] == [
            ("large", "", "outranked", "small"),
            ("small", "none", "outranked", "small with free_shipping"),
            ("small", "free_shipping", "chosen", ""),
        ]

    def test_it_answers_all_that_the_campaign_answers_once(self) -> None:
        """Two carts are one message, and each of them ends once."""
        shop = shop_with(self.LEARNED, campaigns=(self.COSTLY,), events=[cart_add("09:00", cart="c2")])

        assert [(over.moment_key, over.reason) for over in ends(shop)] == [("c1", "chosen"), ("c2", "already_answered")]
        window = shop.customers["ana"].window
        assert window is not None and window.context is not None
        assert window.context.eligible == ["small+free_shipping@email", "small+none@email"]

    def test_by_priority_the_first_goes_with_it(self) -> None:
        """Before anything is known."""
        shop = shop_with(campaigns=(self.COSTLY, LARGE))

        assert [(trigger.campaign, trigger.offer) for trigger in shop.triggers] == [("small", "none")]


class TestLeaf:
    """Customers who are alike have values of their own."""

    LEARNED = snapshot(
        {"small@email": worth(-1)}, leaves={"buyers=yes": LeafValue({"small@email": worth(1)}, {START: (0.0,)})}
    )

    @pytest.mark.parametrize(("orders", "reason"), [(0, "none_better"), (1, "chosen")])
    def test_values_are_those_of_the_leaf(self, orders: int, reason: str) -> None:
        """Those of everybody where it has none."""
        bought = [order(f"0{hour}:00") for hour in range(1, 1 + orders)]
        shop = shop_with(self.LEARNED, campaigns=[SMALL], events=bought, by=("buyers",))

        assert reasons(shop) == [reason]

    def test_what_is_unknown_is_a_value_too(self) -> None:
        """So is a segment of which nobody can tell."""
        gap = Segment("slow", "Rare", compare("order_gap", ">=", 5, "duration"))
        features = [
            replace(feature, otherwise=None) if feature.name == "order_gap" else feature for feature in FEATURES
        ]
        features.append(replace(FEATURES[0], name="cart", key=None, unit="text", field="cart_id"))
        rules = policy(method="expected_value", by=("slow", "cart"), explore_start_bp=0)
        shop = simulation(program(moments=[CART], campaigns=[SMALL], segments=[gap], features=features, rules=rules))
        shop.feed(cart_add("09:00", cart="a=b;c"))
        shop.advance(instant("10:00"))

        window = shop.customers["ana"].window
        assert window is not None and window.context is not None
        assert window.context.leaf == "slow=?;cart=a_b_c"


class TestStage:
    """How far the journey has come is told by the customer's own windows."""

    FIRST = replace(SMALL, leads_to=("large",))
    NEXT = replace(LARGE, after=After("small", "responded", 20 * DAY))

    def stage(self, *events: Event, control_bp: int = 0, at: str = "5d 09:00") -> str:
        """Return the stage in which the second cart is decided, after the first one's window has ended."""
        first = replace(self.FIRST, control_bp=control_bp)
        shop = shop_with(campaigns=[first, self.NEXT], events=events, by=("buyers",), until="4d 12:00")
        shop.feed(cart_add(at, cart="c2"))
        shop.advance(instant(at) + 2 * HOUR)
        window = shop.customers["ana"].window
        assert window is not None and window.context is not None
        return window.context.stage

    def test_who_responded_has_come_further(self) -> None:
        """By a click or by an order."""
        assert self.stage(event("message.clicked", "11:00", campaign="small")) == "small"
        assert self.stage(order("1d 11:00")) == "small"
        assert self.stage() == START

    def test_in_control_who_orders_has_come_further_too(self) -> None:
        """A click there is none of ours."""
        assert self.stage(order("1d 11:00"), control_bp=10_000) == "small"
        assert self.stage(event("message.clicked", "11:00", campaign="small"), control_bp=10_000) == START

    def test_what_was_sent_back_is_no_response(self) -> None:
        """All of it."""
        returned = event("order.returned", "2d 11:00", order_id="o1")

        assert self.stage(order("1d 11:00", "o1"), returned) == START

    def test_only_as_long_as_something_may_follow(self) -> None:
        """For as long as the campaigns that come after it say."""
        bought = order("1d 11:00")

        assert self.stage(bought, at="20d 09:00") == "small"
        assert self.stage(bought, at="20d 10:00") == START

    def test_the_stage_has_a_value_of_its_own(self) -> None:
        """What a campaign uses up of it."""
        learned = snapshot({"small@email": worth(50, hold=0.1)}, stages={START: [0.0], "small": [900.0]})
        shop = shop_with(learned, campaigns=[self.FIRST], events=[order("1d 11:00")], until="5d 00:00")
        shop.feed(cart_add("5d 09:00", cart="c2"))
        shop.advance(instant("5d 10:00"))

        assert reasons(shop) == ["chosen", "none_better"]

    def test_it_is_known_when_the_window_is_long_past_amending(self) -> None:
        """What is kept of it is small."""
        first = replace(self.FIRST, control_bp=10_000)
        shop = shop_with(campaigns=[first], events=[order("1d 11:00")], amend_for=10 * DAY, until="4d 12:00")
        for at in ("30d 09:00", "60d 09:00"):
            shop.feed(cart_add(at, cart=at))
            shop.advance(instant(at) + 5 * DAY)

        assert [outcome.stage for outcome in shop.outcomes] == [START, "small", "small"]


class TestControl:
    """The share that gets nothing shrinks with what is known, within what the campaign says."""

    @pytest.mark.parametrize(("learned", "share"), [(10_000, 3_000), (0, 500), (1_200, 1_200)])
    def test_it_is_learned_within_bounds(self, learned: int, share: int) -> None:
        """Never below the floor, never above the start."""
        bounded = replace(SMALL, control_bp=3_000, control_floor_bp=500)
        shop = shop_with(snapshot({"small@email": worth(1, control_bp=learned)}), campaigns=[bounded], until="4d 00:00")

        assert [outcome.control_bp for outcome in shop.outcomes] == [share]

    def test_it_is_drawn_in_that_share(self) -> None:
        """Over many customers."""
        bounded = replace(SMALL, control_bp=5_000, control_floor_bp=500)
        learned = snapshot({"small@email": worth(1, control_bp=2_000)})
        shop = shop_with(learned, campaigns=[bounded])
        for number in range(500):
            name = f"c{number}"
            shop.feed(profile("10:00", name), cart_add("10:00", cart=name, customer=name))
        shop.advance(instant("12:00"))

        arms = [decision.arm for decision in choices(shop)]
        assert 75 < arms.count("control") < 125


def test_the_outcome_tells_how_it_was_chosen() -> None:
    """Everything that a learner needs to weigh it."""
    learned = snapshot({"small@email": worth(5, -9), "large@email": worth(-1, -1)})
    shop = shop_with(learned, by=("buyers",), events=[order("07:00")], until="09:30")
    assert shop.decisions == []
    ids = [f"c{number}" for number in range(20)]
    for name in ids:
        shop.feed(profile("09:30", name), cart_add("09:30", cart=name, customer=name))
    shop.advance(instant("4d 00:00"))

    outcome = next(outcome for outcome in shop.outcomes if outcome.customer_id != "ana")
    assert (outcome.leaf, outcome.stage, outcome.channel) == ("buyers=no", START, "email")
    assert (outcome.propensity, outcome.none_propensity) == (0.5, 0.5)
    assert outcome.eligible == ("large@email", "small@email")
    assert (outcome.chosen_by, outcome.policy_version, outcome.control_bp) == ("expected_value", "s1", 0)
    assert (outcome.free_for, outcome.responded, outcome.known_at) == (-1, False, outcome.window_until)


def test_the_outcome_tells_how_long_the_slot_had_been_free() -> None:
    """From the end of the last window to the decision."""
    shop = shop_with(campaigns=[SMALL], until="4d 00:00")
    shop.feed(cart_add("5d 09:00", cart="c2"))
    shop.advance(instant("9d 00:00"))

    assert [outcome.free_for for outcome in shop.outcomes] == [-1, 2 * DAY]


def test_a_late_click_is_a_response_all_the_same() -> None:
    """The outcome is told again, with the instant up to which it counts."""
    shop = shop_with(campaigns=[SMALL], until="3d 10:00")
    shop.feed(event("message.clicked", "3d 09:00", campaign="small"))
    shop.advance(instant("3d 11:00"))

    told = [(outcome.revision, outcome.responded, outcome.known_at) for outcome in shop.outcomes]
    assert told == [(0, False, instant("3d 10:00")), (1, True, instant("3d 10:00"))]


def test_the_record_tells_what_it_went_by() -> None:
    """Also what a rule costs: what was kept away has its worth too."""
    picky = replace(LARGE, only_if=compare("orders_lifetime", ">=", 1))
    offers = replace(SMALL, name="offers", offer=Offer(("none", "pct_10")), only_if=picky.only_if)
    arms = {"small@email": worth(5, 6), "large@email": worth(900, -100)}
    arms |= {"offers+none@email": worth(10, 30), "offers+pct_10@email": worth(3, -7)}
    shop = shop_with(
        snapshot(arms), campaigns=(SMALL, picky, offers), by=("buyers",), split_on=("orders_lifetime", "order_gap")
    )

    [decision] = choices(shop)
    assert {candidate.campaign: candidate.value for candidate in decision.candidates} == {
        "small": 6,
        "large": 400,
        "offers": 20,
    }
    assert (decision.leaf, decision.stage, decision.none_propensity) == ("buyers=no", START, 0.0)
    assert (decision.chosen_by, decision.control_bp) == ("expected_value", 0)
    assert decision.features == {"orders_lifetime": 0.0, "order_gap": float(60 * DAY)}


def test_nothing_is_told_of_an_arm_that_nobody_knows() -> None:
    """No worth is not a worth of nothing."""
    shop = shop_with(snapshot({"small@email": worth(5)}))

    assert last_candidates(shop)["large"].value is None


def test_exploring_is_written_down() -> None:
    """As what it was."""
    learned = snapshot({"small@email": worth(5), "large@email": worth(3, state=STOPPED)}, explore_bp=10_000)
    shop = shop_with(learned, until="4d 00:00")

    assert [(outcome.chosen_by, outcome.propensity) for outcome in shop.outcomes] == [("explore", 0.5)]


def test_a_later_step_is_not_chosen_again() -> None:
    """A series was chosen as a whole: what is learned meanwhile changes nothing for those inside."""
    mail = Send("email", "small")
    series = replace(SMALL, series=(SeriesStep("one", mail), SeriesStep("two", mail, after=DAY)))
    learned = snapshot({"small@email": worth(5)}), snapshot({"small@email": worth(-9)}, since="12:00", version="s2")
    shop = shop_with(*learned, campaigns=[series], until="2d 00:00")

    assert [(trigger.campaign, trigger.step) for trigger in shop.triggers] == [("small", "one"), ("small", "two")]
    later = shop.decisions[-1]
    assert (later.kind, later.chosen_by, later.candidates[0].propensity) == ("step", "", 1.0)


def test_a_transactional_message_takes_part_in_no_choice() -> None:
    """It answers at once, whatever anything is worth, and leaves the slot alone."""
    send = Send("email", "receipt")
    receipt = Campaign(
        "receipt",
        (),
        send,
        Measure("margin", 0),
        0,
        0,
        message_class="transactional",
        on=(EventMatch(("order.placed",)),),
    )
    learned = snapshot({"small@email": worth(-5), "receipt@email": worth(-900)}, explore_bp=0)
    shop = shop_with(learned, campaigns=[SMALL, receipt], events=[order("08:00")])

    assert [(decision.kind, decision.campaign) for decision in shop.decisions] == [
        ("exempt", "receipt"),
        ("choice", None),
    ]
    assert [trigger.campaign for trigger in shop.triggers] == ["receipt"]


class TestPriority:
    """Choosing by priority is what it was."""

    def records(self, *learned: PolicySnapshot, **rules: Any) -> list[Decision]:
        """Return what was decided with these rules."""
        return shop_with(*learned, method="priority", until="4d 00:00", **rules).decisions

    def test_nothing_learned_counts(self) -> None:
        """Not even for the control group."""
        learned = snapshot({"small@email": worth(-5), "large@email": worth(900)})

        assert self.records(learned) == self.records()
        assert self.records(learned)[0].campaign == "small"

    def test_nothing_is_kept_that_nobody_asks_for(self) -> None:
        """Of a policy that tells no customers apart."""
        shop = shop_with(method="priority")

        window = shop.customers["ana"].window
        assert window is not None and window.context is None

    def test_what_learning_asks_for_is_told_where_customers_are_told_apart(self) -> None:
        """So that it can begin before anything is chosen by it."""
        shop = shop_with(method="priority", by=("buyers",), until="4d 00:00")

        [outcome] = shop.outcomes
        assert (outcome.leaf, outcome.chosen_by, outcome.propensity) == ("buyers=no", "priority", 1.0)
        assert outcome.eligible == ("large@email", "small@email")


def test_two_methods_side_by_side() -> None:
    """Each for its customers, in the same shop."""
    learned = snapshot({"small@email": worth(5), "large@email": worth(9)})
    shop = shop_with(learned, method="compare", compare={"priority": 5_000, "expected_value": 5_000})
    for number in range(100):
        name = f"c{number}"
        shop.feed(profile("10:00", name), cart_add("10:00", cart=name, customer=name))
    shop.advance(instant("12:00"))

    chosen = [decision.campaign for decision in choices(shop)]
    assert 35 < chosen.count("small") < 65
    assert chosen.count("small") + chosen.count("large") == 101


def test_leaves_of_a_snapshot_count_when_all_are_there() -> None:
    """Records arrive one by one; the last of them makes the snapshot."""
    shop = shop_with()
    learned = snapshot({"small@email": worth(-5)}, leaves={"x": LeafValue({}, {START: (0.0,)})})

    first, second = records_of(learned).values()
    shop.reference.take("policy_leaf", first)
    assert shop.reference.policy(instant("10:00")) is None
    shop.reference.take("policy_leaf", second)

    found = shop.reference.policy(instant("10:00"))
    assert found is not None
    assert (set(found.leaves), set(found.leaf("y").arms)) == ({EVERYBODY, "x"}, {"small@email"})
