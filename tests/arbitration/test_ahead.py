"""Dates known to come: a campaign that would hold the slot over one pays for what it forfeits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.arbitration.campaign import Campaign
from orchestrator.customer import Profile
from orchestrator.events import DAY
from orchestrator.simulation import Simulation
from orchestrator.valuation import COLD, ArmValue
from tests.builders import (
    ABANDONED_CART,
    ANA,
    BIRTHDAY_WEEK,
    REPLENISHMENT,
    campaign,
    cart_add,
    compare,
    consent,
    instant,
    last_candidates,
    line,
    order,
    policy,
    profile,
    program,
    reasons,
    simulation,
    snapshot,
    worth,
)

LONG = campaign("long", "abandoned_cart", window=20 * DAY)
SHORT = campaign("short", "abandoned_cart", priority=10, window=2 * DAY)
PARTY = campaign("party", "birthday_week", window=7 * DAY)
REFILL = campaign("refill", "replenishment_window", window=7 * DAY)
COSTS = "holding the slot over birthday_week costs 8.00"
BORN = "1980-03-12"
"""Her birthday week opens in five days, on the sixth of March, and is over on the thirteenth."""


def shop_with(
    arms: dict[str, ArmValue],
    *,
    campaigns: tuple[Campaign, ...] = (LONG, SHORT, PARTY, REFILL),
    born: str | None = BORN,
    **rules: Any,
) -> Simulation:
    """Return a shop in which Ana has left a cart at nine, some days before her birthday."""
    rules = {"method": "expected_value", **rules}
    moments = [ABANDONED_CART, BIRTHDAY_WEEK, REPLENISHMENT]
    shop = simulation(
        program(moments=moments, campaigns=campaigns, rules=policy(**rules)), learned=[snapshot(arms)], known=False
    )
    shop.feed(profile(born=born), cart_add("09:00"))
    shop.advance(instant("10:00"))
    return shop


def test_a_campaign_that_holds_the_slot_over_a_birthday_pays_for_it() -> None:
    """What it would be worth to answer that, in each world; and the record says so."""
    shop = shop_with({"long@email": worth(900, 700), "party@email": worth(800, 800)})

    assert reasons(shop) == ["chosen"] or reasons(shop) == ["none_better"]
    candidate = last_candidates(shop)["long"]
    assert (candidate.value, candidate.propensity) == (0, 0.5)
    assert candidate.saw.endswith(COSTS)


def test_one_that_ends_before_it_does_not() -> None:
    """Nor is anything said of it."""
    shop = shop_with({"short@email": worth(500), "long@email": worth(900), "party@email": worth(800)})

    found = last_candidates(shop)
    assert [trigger.campaign for trigger in shop.triggers] == ["short"]
    assert (found["short"].value, found["long"].value, found["short"].saw) == (500, 100, "")


def test_nothing_is_forfeited_that_can_still_be_answered() -> None:
    """The slot is free again before the birthday week ends."""
    ten_days = replace(LONG, measure=replace(LONG.measure, window=10 * DAY))
    shop = shop_with({"long@email": worth(900), "party@email": worth(800)}, campaigns=(ten_days, PARTY))

    assert last_candidates(shop)["long"].value == 900


@pytest.mark.parametrize(
    ("party", "campaigns", "born"),
    [
        (worth(800, state=COLD), (LONG, PARTY), BORN),
        (worth(-800), (LONG, PARTY), BORN),
        (worth(800), (LONG,), BORN),
        (worth(800), (LONG, PARTY), None),
        (worth(800), (LONG, PARTY), "1980-06-12"),
        (worth(800), (LONG, replace(PARTY, only_if=compare("orders_lifetime", ">=", 1))), BORN),
        (worth(800), (LONG, replace(PARTY, send=replace(PARTY.send, channel="sms"))), BORN),
    ],
    ids=["not proven", "worth less than nothing", "unanswered", "unknown", "far away", "not for her", "no consent"],
)
def test_only_what_would_be_taken_costs_anything(
    party: ArmValue, campaigns: tuple[Campaign, ...], born: str | None
) -> None:
    """As far as that can be told before."""
    arms = {"long@email": worth(900), "party@email": party, "party@sms": party}
    shop = shop_with(arms, campaigns=campaigns, born=born)

    assert last_candidates(shop)["long"].value == 900


def test_it_can_be_switched_off() -> None:
    """By the policy."""
    shop = shop_with({"long@email": worth(900), "party@email": worth(1_800)}, look_ahead=False)

    assert [trigger.campaign for trigger in shop.triggers] == ["long"]


def test_a_predicted_order_is_a_date_too() -> None:
    """Of several families one counts, for one is answered at a time."""
    rules = policy(method="expected_value")
    learned = snapshot({"long@email": worth(900), "refill@email": worth(300)})
    shop = simulation(
        program(moments=[ABANDONED_CART, REPLENISHMENT], campaigns=(LONG, REFILL), rules=rules), learned=[learned]
    )
    shop.feed(order("08:00", lines=[line("SHAMPOO"), line("SOAP")]))
    shop.feed(cart_add("20d 09:00"))
    shop.advance(instant("20d 10:00"))

    assert last_candidates(shop)["long"].value == 600


def test_none_is_better_while_the_birthday_is_near() -> None:
    """Nothing is sent until then; then the birthday offer is."""
    shop = shop_with({"long@email": worth(700), "party@email": worth(800)})
    shop.advance(instant("6d 00:00"))

    assert reasons(shop) == ["none_better", "closing: none_better", "chosen"]
    assert [trigger.campaign for trigger in shop.triggers] == ["party"]
    assert shop.decisions[0].candidates[0].saw == f"worth -1.00; {COSTS}"


def test_a_profile_without_a_date_waits_for_nothing() -> None:
    """As a state from before it was known."""
    shop = shop_with({"long@email": worth(900), "party@email": worth(800)}, born=None)

    known = shop.customers[ANA].profile
    assert isinstance(known, Profile) and known.birth_date is None
    assert consent()["granted"]
