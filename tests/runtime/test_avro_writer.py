"""Our own values are written as fastavro writes them, byte for byte."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.records import ActiveCampaign, CampaignOutcome, Candidate, Check, Decision, Trigger, to_record
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.avro_writer import REMEMBERED, spell_long, spell_text, writer
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topics import load

ROOT = Path(__file__).parents[2]
KINDS = {
    "decision": Decision,
    "campaign_trigger": Trigger,
    "campaign_outcome": CampaignOutcome,
    "active_campaign": ActiveCampaign,
}
FRAME = b"\x00\x00\x00\x00\x07"


def schema(name: str) -> dict[str, Any]:
    """Return a schema as written."""
    loaded: dict[str, Any] = json.loads((ROOT / "schemas" / f"{name}.avsc").read_text())
    return loaded


def by_fastavro(name: str, value: msgspec.Struct) -> bytes:
    """Return what fastavro makes of a value."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema(name)), to_record(value))
    return FRAME + out.getvalue()


def enums(name: str) -> dict[str, st.SearchStrategy[str]]:
    """Return what the enums of a schema allow, by field."""
    found: dict[str, st.SearchStrategy[str]] = {}

    def look(part: Any) -> None:
        for field in part["fields"] if isinstance(part, dict) and part.get("type") == "record" else ():
            kind = field["type"]
            if isinstance(kind, dict) and kind["type"] == "enum":
                found[field["name"]] = st.sampled_from(kind["symbols"])
            look(kind["items"] if isinstance(kind, dict) and kind["type"] == "array" else kind)

    look(schema(name))
    return found


def values(kind: Any, known: dict[str, st.SearchStrategy[str]]) -> st.SearchStrategy[Any]:
    """Return every value of a type; `known` are fields with a closed set of texts."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        return st.builds(kind, **{name: known.get(name, values(hint, known)) for name, hint in hints.items()})
    if kind is int:
        return st.integers(-(2**31), 2**31 - 1)
    if kind is float:
        return st.floats(allow_nan=False).map(abs)
    if kind in (str, bool):
        return st.from_type(kind)
    parts = get_args(kind)
    if type(None) in parts:
        return st.none() | values(parts[0], known)
    if len(parts) == 2 and parts[1] is Ellipsis:
        return st.lists(values(parts[0], known), max_size=3).map(tuple)
    if parts == (float, str):
        return values(float, known) | st.text()
    return st.dictionaries(st.text(), values(parts[1], known), max_size=3)


@pytest.mark.parametrize("name", sorted(KINDS))
@given(data=st.data())
def test_bytes_are_those_of_fastavro(name: str, data: st.DataObject) -> None:
    """Whatever a value holds."""
    value = data.draw(values(KINDS[name], enums(name)))

    assert writer(schema(name), FRAME)(value) == by_fastavro(name, value)


def test_what_candidates_share_is_written_for_each() -> None:
    """Equal tuples side by side are made into bytes once, and come after every candidate; others in between as well."""
    shared, own = (Check("cap", passed=True, saw="0"),), (Check("cap", passed=False, saw="1"),)
    candidates = tuple(
        Candidate(f"c{place}", "m", "", 1, "cap", checks=checks)
        for place, checks in enumerate((shared, shared, own, (), shared))
    )
    decision = Decision("d", "ana", 1, "choice", "none", "cap", "v1", candidates=candidates)
    write = writer(schema("decision"), FRAME)

    assert write(decision) == write(decision) == by_fastavro("decision", decision)


@pytest.mark.parametrize("number", [0, -1, 63, 64, -64, -65, 2**63 - 1, -(2**63)])
def test_numbers_at_the_ends_of_their_bytes(number: int) -> None:
    """Zigzag, seven bits a byte."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)

    assert spell_long(number) == out.getvalue()


def test_a_number_beyond_64_bits_is_refused() -> None:
    """As fastavro refuses it."""
    with pytest.raises(OverflowError, match="64 bits"):
        spell_long(2**63)


def test_what_is_remembered_is_bounded() -> None:
    """More texts than are kept are written right as well."""
    write = writer(schema("active_campaign"), b"")
    for number in range(REMEMBERED + 10):
        active = ActiveCampaign(f"customer-{number}", "d", "c", "treatment", 1, 2)
        assert write(active).startswith(spell_text(f"customer-{number}"))


def test_a_value_that_differs_from_its_schema_is_an_error_at_the_start() -> None:
    """Not a field that is silently lost."""
    codec = Codec(FileRegistry(ROOT / "schemas"))
    topics = load(ROOT / "topics.yaml", ROOT / "schemas")

    with pytest.raises(OperatorError, match=r"schema '\w+' and Check differ in .*check"):
        codec.value_encoder(topics.decisions, Check)


def test_what_cannot_be_written_is_said_when_the_function_is_made() -> None:
    """A schema of ours has no other kinds."""
    for kind in ("bytes", ["string", "null"]):
        record = {"type": "record", "name": "Odd", "fields": [{"name": "a", "type": kind}]}
        with pytest.raises(ValueError, match="cannot be written"):
            writer(record, b"")
