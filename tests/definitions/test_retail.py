"""The shipped pack: the four first moments, without a warning."""

from __future__ import annotations

from pathlib import Path

from orchestrator.definitions.catalogue import CATALOGUE
from orchestrator.definitions.load import load
from orchestrator.program import Program
from orchestrator.runtime.definitions_folder import load_folder, read_directory

RETAIL = Path("deploy/definitions/retail")


def test_lints_without_a_warning() -> None:
    """What we ship is what we would want others to write."""
    assert load(read_directory(RETAIL))[1] == []


def test_each_moment_has_its_campaign() -> None:
    """The first four of the mission."""
    definitions = load_folder(RETAIL)

    assert {campaign.when: name for name, campaign in definitions.campaigns.items()} == {
        ("abandoned_cart",): "cart_rescue",
        ("lapsed",): "winback_recommendations",
        ("replenishment_window",): "reorder_reminder",
        ("birthday_week",): "birthday_offer",
    }


def test_compiles_to_a_program() -> None:
    """The engine finds everything that the definitions name."""
    program = Program(load_folder(RETAIL), CATALOGUE.topic_by_event)

    assert "cart.item_added" in program.relevant
