"""What another way to choose would have earned is read off the log as far as the log can know it."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.off_policy import EARNS, world
from orchestrator.backtest.result import KINDS, written
from orchestrator.cli import main
from orchestrator.learning.off_policy import LEAST_EFFECTIVE, Listed, evaluate, listed_by
from tests.backtest.made import REGISTRY
from tests.measured import MEASURED


def test_intervals_cover_what_both_policies_really_earn() -> None:
    """Against nothing and against each other; the whole proof is `python -m bench.off_policy`."""
    covered = []
    for seed in range(8):
        made = world(500 + seed)
        found = evaluate(made.outcomes, listed_by(made.decisions))
        assert found is not None
        truths = made.logged, made.priority, made.logged - made.priority
        for estimate, truth in zip((found.logged, found.priority, found.difference), truths, strict=True):
            assert estimate.worth is not None
            covered.append(estimate.worth.low <= truth <= estimate.worth.high)
        assert found.opportunities == pytest.approx(12_000, rel=0.05)

    print(f"{MEASURED}off-policy intervals that cover the truth: {sum(covered)} of {len(covered)}")
    assert sum(covered) / len(covered) >= 0.93


def test_thin_overlap_is_refused() -> None:
    """Where the list's choice was hardly ever taken there is no figure, and the one for what was chosen stands."""
    made = world(1, least=0.002)
    found = evaluate(made.outcomes, listed_by(made.decisions))

    assert found is not None
    assert found.priority.worth is None
    assert found.difference.worth is None
    assert found.difference.effective < LEAST_EFFECTIVE
    assert found.logged.worth is not None


def test_policy_that_is_the_list_does_not_differ_from_it() -> None:
    """Where the highest priority was chosen always, both earn the same to the last digit."""
    made = world(2)
    chosen = {one["decision_id"]: Listed((one["campaign"], ""), 1.0) for one in made.outcomes}
    found = evaluate([one | {"none_propensity": 0.0} for one in made.outcomes], chosen)

    assert found is not None
    assert found.difference.worth is not None
    assert (found.difference.worth.low, found.difference.worth.high) == pytest.approx((0, 0))
    assert found.logged == found.priority


def test_list_is_of_what_could_be_chosen() -> None:
    """The highest priority among the eligible, the chances of its instances added up, its first offer."""
    candidates = [
        candidate("barred", 99, "no_consent"),
        candidate("rescue", 80, "outranked", offer="none", propensity=0.2),
        candidate("rescue", 80, "already_answered", offer="none", propensity=0.1),
        candidate("rescue", 80, "chosen", offer="pct_10", propensity=0.3),
        candidate("birthday", 70, "outranked", propensity=0.4),
    ]
    decision = {"decision_id": "d", "kind": "choice", "window_until": 5, "candidates": candidates}

    (found,) = listed_by([decision, decision | {"decision_id": "e", "window_until": None}]).values()
    assert found.option == ("rescue", "none")
    assert found.chance == pytest.approx(0.3)


def test_order_of_records_never_matters() -> None:
    """The same log in another order says the same."""
    made = world(3)
    listed = listed_by(made.decisions)

    assert evaluate(made.outcomes[::-1], listed) == evaluate(made.outcomes, listed)


def test_command_prints_the_three_comparisons(tmp_path: Path) -> None:
    """From what a back-test wrote, in the program's currency; and what to do where the log says no chances."""
    made = world(4)
    for kind, records in (("decisions", made.decisions), ("outcomes", made.outcomes)):
        schema = REGISTRY.named(KINDS[kind])
        list(written(tmp_path, kind, schema, (filled(schema, one) for one in records)))
    told = CliRunner().invoke(main, ["policy", "evaluate", "--records", str(tmp_path), "--currency", "EUR"])
    silent = (filled(REGISTRY.named("campaign_outcome"), one | {"propensity": 0.0}) for one in made.outcomes)
    list(written(tmp_path, "outcomes", REGISTRY.named("campaign_outcome"), silent))
    refused = CliRunner().invoke(main, ["policy", "evaluate", "--records", str(tmp_path)])

    assert told.exit_code == 0, told.output
    assert "as it was chosen, against the highest priority" in told.output
    assert told.output.count("€") == 9
    assert "no measured window is of a decision that says how likely it was" in refused.output


def candidate(campaign: str, priority: int, reason: str, offer: str = "", propensity: float = 0.0) -> dict[str, Any]:
    """Return one candidate of a decision, as far as it is read here."""
    return {"campaign": campaign, "priority": priority, "reason": reason, "offer": offer, "propensity": propensity}


def filled(schema: Any, record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with something in every field that has no default."""
    blanks = {"string": "", "long": 0, "int": 0, "boolean": False, "double": 0.0}
    known = {}
    for field in schema["fields"]:
        if field["name"] in record:
            known[field["name"]] = record[field["name"]]
            if field["name"] == "candidates":
                known["candidates"] = [filled(field["type"]["items"], one) for one in record["candidates"]]
        elif "default" not in field:
            kind = field["type"]
            known[field["name"]] = kind["symbols"][0] if isinstance(kind, dict) else blanks[kind]
    return known


def test_world_has_somebody_for_whom_the_list_is_wrong() -> None:
    """The made world is worth asking about: with one kind of customers the first of the list does harm."""
    made = world(5)

    assert min(EARNS[1]) < 0
    assert made.logged > made.priority
