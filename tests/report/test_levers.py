"""What the rules cost: the expected value of what they kept away, once, and only beyond what was done."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console, Group

from orchestrator.arbitration.policy import Cap
from orchestrator.events import DAY
from orchestrator.records import to_record
from orchestrator.report.levers import fold
from orchestrator.report.program_page import as_dict, sections, tables
from tests.arbitration.test_value import shop_with
from tests.builders import campaign, cart_add, instant, snapshot, worth


def candidate(reason: str, value: float | None, moment: str = "cart", campaign: str = "rescue") -> dict[str, Any]:
    """Return a candidate, as far as it is read here."""
    return {
        "campaign": campaign,
        "moment": moment,
        "moment_key": "k",
        "opened_at": 1,
        "reason": reason,
        "value": value,
    }


def decision(*candidates: dict[str, Any], at: int = 1, customer: str = "ana", kind: str = "choice") -> dict[str, Any]:
    """Return a decision about one customer."""
    return {"kind": kind, "customer_id": customer, "decided_at": at, "candidates": list(candidates)}


def test_a_rule_costs_what_it_kept_away_beyond_what_was_done() -> None:
    """A cap kept away 500 while 200 was chosen: it cost 300."""
    (lever,) = fold([decision(candidate("cap", 500), candidate("chosen", 200, "birthday", "cake"))]).rules

    assert (lever.rule, lever.moments, lever.value, lever.by_campaign) == ("cap", 1, 300, {"rescue": 300})


def test_nothing_is_lost_by_what_is_worth_less() -> None:
    """Worth less than what was chosen, worth nothing, or of unknown worth."""
    chosen = candidate("chosen", 500, "birthday", "cake")

    assert fold([decision(candidate("cap", 400), chosen)]).rules == ()
    assert fold([decision(candidate("rest", -10)), decision(candidate("rest", None))]).rules == ()


def test_what_was_answered_in_the_end_only_waited() -> None:
    """Quiet hours that ended cost nothing, whichever decision is read first."""
    waited = [decision(candidate("quiet_hours", 500)), decision(candidate("control", 500), at=2)]

    assert fold(waited).rules == fold(waited[::-1]).rules == ()


def test_a_moment_counts_once_under_the_last_rule() -> None:
    """However often it was decided about."""
    history = [decision(candidate("quiet_hours", 500)), *(decision(candidate("cap", 400), at=at) for at in (2, 3))]
    (lever,) = fold(history).rules

    assert (lever.rule, lever.moments, lever.value) == ("cap", 1, 400)


def test_of_all_that_a_rule_kept_away_only_the_best_could_have_gone_out() -> None:
    """Two moments under one cap at one instant are one loss."""
    (lever,) = fold([decision(candidate("cap", 500), candidate("cap", 300, "birthday", "cake"))]).rules

    assert lever.value == 500


def test_reasons_that_are_no_rules_cost_nothing() -> None:
    """Whom it is not meant for, and what was outranked, no lever would change."""
    assert fold([decision(candidate("not_eligible", 500), candidate("outranked", 400, "x"))]).rules == ()
    assert fold([decision(candidate("cap", 500), kind="step")]).rules == ()


@pytest.mark.parametrize(
    ("rules", "later", "expected"),
    [
        ({}, "1d 12:00", ("slot_held", 1, 70)),
        ({"caps": (Cap(max=1, per=30 * DAY),)}, "5d 12:00", ("cap", 1, 70)),
        ({"rest": 30 * DAY}, "5d 12:00", ("rest", 1, 70)),
    ],
)
def test_the_engine_writes_down_what_rules_keep_away(
    rules: dict[str, Any], later: str, expected: tuple[str, int, float]
) -> None:
    """One cart is answered; of a second one only the record tells what it would have been worth."""
    small = campaign("small", "abandoned_cart", window=3 * DAY if rules else 8 * DAY)
    shop = shop_with(snapshot({"small@email": worth(70)}), campaigns=[small], **rules)
    shop.feed(cart_add(later, cart="c2"))
    shop.advance(instant("9d 00:00"))
    assert [one.campaign for one in shop.triggers] == ["small"]
    (lever,) = fold(map(to_record, shop.decisions)).rules

    assert (lever.rule, lever.moments, lever.value) == expected


def test_page_and_table_say_what_rules_cost() -> None:
    """The dearest first; and why there is nothing to say yet."""
    levers = fold(
        [
            decision(candidate("cap", 12_345)),
            decision(candidate("slot_held", 500), customer="ben"),
            decision(candidate("chosen", 200), customer="cem"),
        ]
    )
    (page,) = sections(None, levers, "EUR")
    console = Console(record=True)
    console.print(Group(*tables(None, levers, "EUR")))
    lines = console.export_text().splitlines()

    assert "€123.45" in page
    assert [line.split("  ")[1] for line in lines[4:6]] == ["enough messages for now", "slot held by a campaign"]
    assert [one["rule"] for one in as_dict(None, levers)["rules"]] == ["cap", "slot_held"]
    assert levers.valued == 3
    nothing = fold([decision(candidate("cap", None))])
    console = Console(record=True, width=120)
    console.print(Group(*tables(None, nothing, "EUR")))
    assert "it takes a policy snapshot" in sections(None, nothing, "EUR")[0]
    assert "it takes a policy snapshot" in console.export_text()
