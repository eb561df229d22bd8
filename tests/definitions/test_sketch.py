"""The sketch with which the language was designed loads as it was written, and decides what the shipped packs decide.

It lies in `sketch/`. Where it or the packs deviate, docs/decisions.md says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.definitions.load import TESTS, load
from orchestrator.definitions.nodes import Problems
from orchestrator.definitions.scenario_run import run_scenario
from orchestrator.definitions.scenarios import Given, Scenario, parse_scenarios
from orchestrator.events import DAY
from orchestrator.program import Definitions
from orchestrator.reference import Snapshot
from orchestrator.runtime.definitions_folder import read_directory

SKETCH = Path(__file__).parent / "sketch"
PACKS = SKETCH.parents[2] / "deploy" / "definitions"

WARNINGS = {
    "W002 nothing uses feature 'last_order_at'",
    "W002 nothing uses feature 'p_alive'",
    "W003 'stop_when' has no effect: the one message goes out with the decision",
    "W018 'value_tier' is unknown until there is a snapshot: orchestrator snapshots publish, or give it 'cut_points' "
    "to begin with",
}

OTHERWISE = {
    "one launch is told of once, the next one again",  # the pack's countdown stops when they order
    "eligible for the countdown only; he buys, so it stops, and what he bought opens the discovery",  # the same
    "only the return of this order ends the messages",  # the sketch's discovery stops at any order
    "eight people are told about six lamps, the ninth an hour later",  # 8 messages instead of 200
    "one product is enough for a day",  # the pack says at_most_every
}
"""The tests of the packs in which the sketch decides otherwise, as it says."""


def sketch(zone: str = "Europe/Madrid") -> tuple[Definitions, list[str]]:
    """Return the sketch for customers who live in a zone unless they say otherwise, and what lint says of it."""
    texts = {path: text.replace("Europe/Madrid", zone) for path, text in read_directory(SKETCH).items()}
    definitions, problems = load(texts)
    assert definitions is not None, problems
    return definitions, [f"{problem.code} {problem.message}" for problem in problems]


def test_it_loads_with_nothing_but_these_warnings() -> None:
    """A warning more would be one that tells marketers off who write as they were told to."""
    _, problems = sketch()

    assert set(problems) == WARNINGS


def scenarios_in(folder: Path, definitions: Definitions) -> Iterator[Scenario]:
    """Yield the tests in a folder that are about nothing else than what these definitions have."""
    for path, text in read_directory(folder).items():
        if path.endswith(TESTS):
            yield from parse_scenarios(text, path, definitions, Problems())


def test_its_own_tests_pass() -> None:
    """As they were written."""
    definitions, _ = sketch()
    scenarios = list(scenarios_in(SKETCH, definitions))

    assert len(scenarios) == 4
    assert [failure for scenario in scenarios for failure in run_scenario(scenario, definitions)] == []


@pytest.mark.parametrize("pack", ["retail", "retail_plus"])
def test_it_decides_what_the_packs_decide(pack: str) -> None:
    """Every test of the packs that is about what the sketch has holds for it too, but for what it says otherwise."""
    definitions, _ = sketch("America/New_York")
    if pack == "retail":  # which confirms no orders
        campaigns = {name: one for name, one in definitions.campaigns.items() if name != "order_confirmation"}
        definitions = replace(definitions, campaigns=campaigns)
    scenarios = [with_tiers(one) for one in scenarios_in(PACKS / pack, definitions)]

    other = {one.name for one in scenarios if run_scenario(one, definitions)}

    assert len(scenarios) > 20
    assert other == OTHERWISE & {one.name for one in scenarios}


def with_tiers(scenario: Scenario) -> Scenario:
    """Return a test in which the tiers begin where those of the packs do, by a snapshot."""
    at = min((given.arrives for given in scenario.given), default=0) - DAY
    snapshot = Snapshot("value_tier", at, {"high": 300_000, "mid": 80_000})
    return replace(scenario, given=(Given(scenario.place, "", at, at, "", {}, snapshot=snapshot), *scenario.given))


def test_together_the_packs_ask_about_every_moment_and_campaign_of_it() -> None:
    """So that none of it merely loads."""
    definitions, _ = sketch()
    scenarios = [
        one for folder in (SKETCH, PACKS / "retail", PACKS / "retail_plus") for one in scenarios_in(folder, definitions)
    ]
    asked = {name for one in scenarios for expect in one.expect for name in (expect.moment, expect.campaign)}
    asked |= {name for one in scenarios for expect in one.expect for name in expect.triggers or ()}

    assert {*definitions.moments, *definitions.campaigns} - asked == set()
