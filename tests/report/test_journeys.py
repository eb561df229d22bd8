"""The paths between campaigns: which window followed which, in either arm, with an order or without."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from orchestrator.backtest.result import written
from orchestrator.cli import main
from orchestrator.report.journeys import NOTHING, TOO_EARLY, Journeys, Walked
from orchestrator.report.journeys_page import draw, render, table
from orchestrator.runtime.schema_registry import FileRegistry
from tests.test_audit import DAY, candidate, decision

Record = dict[str, Any]
ROOT = Path(__file__).parents[2]


def window(decision_id: str, campaign: str, day: int, customer: str = "ana", arm: str = "treatment") -> Record:
    """Return the decision that begins a window of three days."""
    reason = "chosen" if arm == "treatment" else "control"
    return decision(
        decision_id,
        day * DAY,
        (day + 3) * DAY,
        customer_id=customer,
        campaign=campaign,
        arm=arm,
        reason=reason,
        candidates=[candidate("other", "outranked"), candidate(campaign, reason)],
    )


def outcome(of: Record, orders: int, **changes: Any) -> Record:
    """Return the outcome of a window."""
    return {
        "outcome_id": of["decision_id"],
        "revision": 0,
        "decision_id": of["decision_id"],
        "customer_id": of["customer_id"],
        "campaign": of["campaign"],
        "arm": of["arm"],
        "moment": "abandoned_cart",
        "window_from": of["decided_at"],
        "window_until": of["window_until"],
        "orders": orders,
        "revenue": 0,
        "margin": 0,
        "cost": 0,
        "unsubscribed": False,
        "contaminated": False,
        "void": False,
        "definitions_version": "1",
    } | changes


FIRST = window("d1", "cart", 0)
SECOND = window("d2", "thanks", 10)
THIRD = window("d3", "cart", 60)
BEN = window("d4", "cart", 1, "ben", "control")
DECISIONS = [
    FIRST,
    SECOND,
    THIRD,
    BEN,
    decision("d5", 5 * DAY, customer_id="eve", arm="holdout", reason="holdout"),
    decision("d6", 5 * DAY, customer_id="eve", kind="exempt", campaign="confirmation", trigger_id="t", arm="treatment"),
]
OUTCOMES = [outcome(FIRST, 1), outcome(SECOND, 0), outcome(BEN, 2)]


def journeys(decisions: list[Record] = DECISIONS, outcomes: list[Record] = OUTCOMES, **changes: Any) -> Journeys:
    """Return the paths when the next campaign may begin within thirty days."""
    return Journeys.fold(decisions, outcomes, **{"within": 30 * DAY, **changes})


def test_what_came_next() -> None:
    """A campaign within the time is next, a later one is not, and what may still come is not told as nothing."""
    found = journeys()

    assert found.followed == {
        ("cart", "thanks"): Walked(treatment=1, treatment_ordered=1),
        ("cart", NOTHING): Walked(control=1, control_ordered=1),
        ("cart", TOO_EARLY): Walked(treatment=1),
        ("thanks", NOTHING): Walked(treatment=1),
    }
    assert found.answered["abandoned_cart", "cart"] == Walked(2, 1, 1, 1)
    assert (found.customers, found.unmeasured) == (2, 1)


@pytest.mark.parametrize(("within", "then"), [(6, NOTHING), (7, "thanks")])
def test_the_limit_counts_from_the_end_of_the_window(within: int, then: str) -> None:
    """The window ends on day 3 and the next begins on day 10."""
    assert ("cart", then) in journeys([FIRST, SECOND], [], within=within * DAY).followed


def test_what_was_taken_back_is_on_no_path() -> None:
    """Neither by a decision that voids it, nor by its outcome."""
    void = decision("d9", 11 * DAY, kind="void", voids="d2", reason="cancelled")

    assert ("cart", "thanks") not in journeys([*DECISIONS, void]).followed
    assert ("cart", "thanks") not in journeys(outcomes=[outcome(SECOND, 0, void=True)]).followed


def test_the_newest_revision_counts() -> None:
    """An order that was sent back is none."""
    found = journeys(outcomes=[*OUTCOMES, outcome(FIRST, 0, revision=1)])

    assert found.followed["cart", "thanks"] == Walked(treatment=1)


def test_moments_that_nobody_answered() -> None:
    """What became of them, without those that a campaign answered."""
    ended = [
        {"moment": "birthday", "moment_key": "", "state": "expired", "reason": "no_consent"},
        {"moment": "birthday", "moment_key": "", "state": "acted", "reason": "chosen"},
    ]

    found = journeys([*DECISIONS, decision("d7", 5 * DAY, ended=ended)])

    assert found.unanswered == {"birthday": {"expired: no_consent": 1}}


def test_the_order_of_the_records_does_not_matter() -> None:
    """Partitions are read in any order."""
    shuffled = list(DECISIONS)
    Random(7).shuffle(shuffled)

    assert journeys(shuffled, OUTCOMES[::-1]).as_dict() == journeys().as_dict()


def test_what_leads_to_imagines() -> None:
    """It is told whether anybody went there."""
    found = journeys(imagined=[("cart", "thanks"), ("thanks", "cart")])

    assert found.untaken == [("thanks", "cart")]
    assert [one["next"] for one in found.as_dict()["followed"] if one["imagined"]] == ["thanks"]


def test_table_and_page_show_the_same_paths() -> None:
    """Counts of either arm, and what nobody took, dashed in the picture."""
    found = journeys(imagined=[("cart", "thanks"), ("thanks", "cart")])
    console = Console(width=140, record=True)
    console.print(table(found))
    printed = [" ".join(line.split()) for line in console.export_text().splitlines()]

    assert "cart thanks 1 1 0 0 yes" in printed
    assert "thanks cart 0 0 0 0 yes, nobody went" in printed
    assert "cart to thanks: 1 treated (1 ordered), 0 control (0 ordered)" in render(found)
    assert draw(found).count("flow imagined") == 1
    assert draw(found).count("flow untaken") == 1
    assert draw(found).count("flow c") == len(found.answered) + len(found.followed)
    assert "flow untaken" not in draw(journeys())


def test_nothing_decided_is_a_page_too() -> None:
    """Before the first window."""
    assert "No campaign has answered a moment yet." in render(journeys([], []))


def test_the_command_reads_what_a_backtest_wrote(tmp_path: Path) -> None:
    """With the definitions beside it, `leads_to` is set against it; a folder without records is told."""
    schemas = FileRegistry(ROOT / "schemas")
    for kind, schema, records in (
        ("decisions", "decision", DECISIONS),
        ("outcomes", "campaign_outcome", OUTCOMES),
    ):
        assert list(written(tmp_path, kind, schemas.named(schema), records))
    page = tmp_path / "page.html"
    options = ["--definitions", str(ROOT / "deploy" / "definitions" / "retail"), "--html", str(page)]

    shown = CliRunner().invoke(main, ["journeys", "--records", str(tmp_path), *options])
    (tmp_path / "outcomes.avro").unlink()
    missing = CliRunner().invoke(main, ["journeys", "--records", str(tmp_path)])

    assert shown.exit_code == 0, shown.output
    assert "yes, nobody went" in shown.output
    assert "reorder_reminder to subscribe_and_save: imagined" in page.read_text(encoding="utf-8")
    assert missing.exit_code != 0
    assert "has no outcomes.avro" in missing.output
