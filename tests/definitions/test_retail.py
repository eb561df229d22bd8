"""The shipped packs: complete, tested, and without a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.reading import events_of
from orchestrator.definitions.catalogue import CATALOGUE
from orchestrator.definitions.load import TESTS, load
from orchestrator.definitions.nodes import Problems
from orchestrator.definitions.scenario_run import run_scenario
from orchestrator.definitions.scenarios import parse_scenarios
from orchestrator.program import Program
from orchestrator.runtime.definitions_folder import load_folder, read_directory

RETAIL = Path("deploy/definitions/retail")
PACKS = sorted(path for path in Path("deploy/definitions").iterdir() if path.is_dir())


@pytest.mark.parametrize("pack", PACKS, ids=lambda path: path.name)
def test_lints_without_a_warning(pack: Path) -> None:
    """What we ship is what we would want others to write."""
    assert load(read_directory(pack), events_of(pack))[1] == []


@pytest.mark.parametrize("pack", PACKS, ids=lambda path: path.name)
def test_the_tests_of_a_pack_pass_and_name_each_of_its_moments(pack: Path) -> None:
    """They are its documentation: golden journeys, every moment in one of them."""
    definitions, problems = load_folder(pack, events_of(pack)), Problems()
    texts = {path: text for path, text in read_directory(pack).items() if path.endswith(TESTS)}
    scenarios = [
        s for path, text in texts.items() for s in parse_scenarios(text, path, definitions, problems, events_of(pack))
    ]

    assert problems.sorted() == []
    assert [failure for scenario in scenarios for failure in run_scenario(scenario, definitions)] == []
    told = "".join(texts.values())
    answers = {campaign.name: campaign.when for campaign in definitions.campaigns.values()}
    named = {moment for moment in definitions.moments if moment in told}
    named |= {moment for name, when in answers.items() if name in told for moment in when}
    assert named == set(definitions.moments)


def test_each_moment_has_its_campaign() -> None:
    """The first four of the mission, and one that lives during another."""
    definitions = load_folder(RETAIL)

    assert {name: campaign.when for name, campaign in definitions.campaigns.items()} == {
        "cart_rescue": ("abandoned_cart",),
        "winback_recommendations": ("lapsed",),
        "reorder_reminder": ("replenishment_window",),
        "subscribe_and_save": ("replenishment_window",),
        "birthday_offer": ("birthday_week",),
        "vip_birthday_comeback": ("high_value_birthday_gone_quiet",),
    }


def test_compiles_to_a_program() -> None:
    """The engine finds everything that the definitions name."""
    program = Program(load_folder(RETAIL), CATALOGUE.topic_by_event)

    assert "cart.item_added" in program.relevant
