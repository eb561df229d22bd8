"""What the rules cost: the expected value of what they kept away, once, and only beyond what was done."""

from __future__ import annotations

from typing import Any

from orchestrator.report.levers import fold
from orchestrator.report.program_page import as_dict, sections, tables


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
    (table,) = tables(None, levers, "EUR")

    assert "€123.45" in page
    assert list(table.columns[0].cells) == ["enough messages for now", "slot held by a campaign"]
    assert [one["rule"] for one in as_dict(None, levers)["rules"]] == ["cap", "slot_held"]
    assert levers.valued == 3
    assert "it takes a policy snapshot" in sections(None, fold([decision(candidate("cap", None))]), "EUR")[0]
