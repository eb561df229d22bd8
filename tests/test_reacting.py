"""Customers who react: what is true of them is known, and the report finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from bench.reacting import CHAIN, RETAIL, TWO, Households, semi_synthetic, slot
from orchestrator.demo.injected import Reacted, Reaction
from orchestrator.runtime.definitions_folder import load_folder
from tests.measured import MEASURED


@cache
def households() -> Households:
    """Return real households, read once."""
    return Households.of(120)


def reacted(reactions: Mapping[str, Reaction], salt: str = "a") -> Reacted:
    """Return what became of them under two campaigns."""
    return households().react([load_folder(TWO)], reactions, salt)


def test_the_report_holds_the_truth_where_customers_react() -> None:
    """With the shipped pack, the real engine and real baskets: every interval of every campaign that has one."""
    by_name, by_seed = semi_synthetic(households(), 2)

    held, intervals = sum(one.held for one in by_seed), sum(one.intervals for one in by_seed)
    print(f"{MEASURED}customers who react: {held} of {intervals} intervals hold the truth, of {', '.join(by_name)}")
    assert intervals >= 4
    assert held == intervals
    assert set(RETAIL) & set(by_name)


def test_only_the_slot_makes_an_uplift_right() -> None:
    """Of two campaigns that do not know of each other, the one takes what the other brought for its own."""
    found = slot(households(), 4)
    clean, wrong = found["with the slot"], found["without it"]

    print(
        f"{MEASURED}bias of an uplift of {clean.truth:.0f}: {clean.mean:+.0f} with the slot, {wrong.mean:+.0f} without"
    )
    assert abs(clean.mean) < wrong.mean / 2
    assert wrong.mean > wrong.truth


def test_nobody_who_gets_nothing_reacts() -> None:
    """Effects are those of treated windows, and all of them lie within their windows."""
    found = reacted(CHAIN)
    (outcomes,) = found.outcomes
    windows = {one.outcome_id: one for one in outcomes}

    assert found.effects
    assert {windows[one].arm for one in found.effects if one in windows} == {"treatment"}
    assert sum(found.effects.values()) == sum(margin for _, _, margin in found.changes)


def test_what_is_taken_out_does_not_happen() -> None:
    """A message that thins costs an order that there would have been, and nothing comes instead."""
    plain, thinned = reacted({}), reacted({"cart_rescue": Reaction(thins_bp=10_000)})

    assert plain.changes == []
    assert plain.effects == {}
    assert thinned.changes
    assert all(margin <= 0 for _, _, margin in thinned.changes)
    gone = {(customer, at) for customer, at, _ in thinned.changes}
    assert gone == {(c, at) for c, at, _ in plain.orders} - {(c, at) for c, at, _ in thinned.orders}


def test_the_same_salt_is_the_same_year() -> None:
    """And another one another: other control groups, other reactions."""
    first, again, other = reacted(CHAIN), reacted(CHAIN), reacted(CHAIN, "b")

    assert first == again
    assert {one.outcome_id for one in first.outcomes[0]}.isdisjoint(one.outcome_id for one in other.outcomes[0])


def test_engines_side_by_side_see_the_same() -> None:
    """Without the slot each campaign decides as if it were alone, over everything that all messages bring about."""
    both = load_folder(TWO)
    alone = [replace(both, campaigns={name: campaign}) for name, campaign in both.campaigns.items()]
    found = households().react(alone, CHAIN, "a")
    overlaps = {
        (one.customer_id, one.outcome_id)
        for one in found.outcomes[0]
        for other in found.outcomes[1]
        if one.customer_id == other.customer_id
        and one.window_from < other.window_until
        and other.window_from < one.window_until
    }

    assert len(overlaps) > 50
