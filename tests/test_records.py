"""The records have exactly the fields of the schemas, and encode."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest

from orchestrator.arbitration.policy import QuietHours
from orchestrator.reasons import Reason
from orchestrator.records import (
    ActiveCampaign,
    CampaignOutcome,
    Candidate,
    Check,
    Decision,
    EndedMoment,
    Trigger,
    to_record,
)
from tests.builders import cart_add, instant, order, policy, program, simulation

SCHEMAS = Path(__file__).parent.parent / "schemas"
STRUCTS = {
    "decision": Decision,
    "campaign_trigger": Trigger,
    "campaign_outcome": CampaignOutcome,
    "active_campaign": ActiveCampaign,
}


def schema(name: str) -> dict[str, Any]:
    """Return a schema as written."""
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{name}.avsc").read_text())
    return loaded


def names(fields: list[dict[str, Any]]) -> set[str]:
    """Return the names of a schema's fields."""
    return {field["name"] for field in fields}


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_records_have_exactly_the_fields_of_their_schema(name: str) -> None:
    """A field in one and not in the other would be lost, or would fail on the wire."""
    assert set(STRUCTS[name].__struct_fields__) == names(schema(name)["fields"])


def test_nested_records_have_exactly_their_fields() -> None:
    """The same for what a decision holds."""
    fields = {field["name"]: field["type"] for field in schema("decision")["fields"]}
    candidate = fields["candidates"]["items"]["fields"]
    check = next(field["type"]["items"]["fields"] for field in candidate if field["name"] == "checks")

    assert set(Candidate.__struct_fields__) == names(candidate)
    assert set(Check.__struct_fields__) == names(check)
    offer = next(field["type"]["items"]["fields"] for field in candidate if field["name"] == "offers")
    assert set(Check.__struct_fields__) == names(offer)
    assert set(EndedMoment.__struct_fields__) == names(fields["ended"]["items"]["fields"])


def test_what_the_engine_says_encodes() -> None:
    """A journey with every kind of record goes through its schemas and comes back the same."""
    shop = simulation(program(rules=policy(quiet_hours=QuietHours(21 * 60, 9 * 60))))
    shop.feed(cart_add("09:00"), cart_add("20:30", cart="c2"), cart_add("09:00", cart="low", total=1))
    shop.advance(instant("12:00"))
    active = list(shop.active.values())
    shop.feed(order("09:30"), order("1d 12:00"))
    shop.advance(instant("5d 00:00"))

    assert {decision.kind for decision in shop.decisions} == {"choice", "closing", "void"}
    assert {trigger.action for trigger in shop.triggers} == {"send", "retract"}
    said: dict[str, list[Any]] = {
        "decision": shop.decisions,
        "campaign_trigger": shop.triggers,
        "campaign_outcome": shop.outcomes,
        "active_campaign": active,
    }
    for name, values in said.items():
        parsed = fastavro.parse_schema(schema(name))
        assert values
        for value in values:
            record = to_record(value)
            written = io.BytesIO()
            fastavro.schemaless_writer(written, parsed, record, strict=True)
            written.seek(0)
            assert msgspec.convert(fastavro.schemaless_reader(written, parsed, None), type(value)) == value
    reasons = {candidate.reason for decision in shop.decisions for candidate in decision.candidates}
    assert reasons <= set(Reason)
