"""The table of fields documents itself, and the JSON Schema agrees with the loader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli.reading import events_of
from orchestrator.definitions import values
from orchestrator.definitions.codes import CODES
from orchestrator.definitions.fields import ALL_KINDS, FAMILIES, KINDS, POLICY_SECTIONS, SECTIONS, TYPES, Field, Kind
from orchestrator.definitions.nodes import Place, Problems, Scalar
from orchestrator.definitions.reference import json_schema, markdown

FIELDS = [pytest.param(kind, known, id=f"{kind.name}.{known.name}") for kind in ALL_KINDS for known in kind.fields]
CONTEXTUAL = {
    "choice",
    "model",
    "event",
    "property",
    "profile",
    "condition",
    "durations",
    "amount",
    "shares",
    "amounts",
    "conditions",
    "costs",
    "object",
}


class TestTable:
    """What can be forgotten in a row of the table."""

    @pytest.mark.parametrize(("kind", "known"), FIELDS)
    def test_every_field_is_described_with_an_example(self, kind: Kind, known: Field) -> None:
        """A sentence and something to copy."""
        assert known.description.endswith(".")
        assert known.example
        assert known.type in TYPES
        assert (known.type in values.PARSERS) != (known.type in CONTEXTUAL)
        assert not known.kind or known.kind in KINDS or known.kind in FAMILIES
        assert known.type != "choice" or known.options
        assert not (known.required and known.default)
        assert kind.field(known.name) is known

    @pytest.mark.parametrize(("kind", "known"), FIELDS)
    def test_defaults_and_bounds_are_written_as_the_type_is(self, kind: Kind, known: Field) -> None:  # noqa: ARG002
        """So that messages can quote them."""
        for text in filter(None, (known.default, known.low, known.high)):
            if known.type == "choice":
                assert text in known.options
            else:
                problems = Problems()
                plain = {"durations": "duration", "costs": "money"}.get(known.type, known.type)
                parser = values.PARSERS[plain]
                assert parser(Scalar(Place("x"), text, quoted=True), problems) is not None
                assert problems.found == []

    def test_every_code_is_explained(self) -> None:
        """And none that is not used."""
        source = "".join(
            path.read_text(encoding="utf-8")
            for path in Path("orchestrator/definitions").glob("*.py")
            if path.name != "codes.py"
        )

        assert set(re.findall(r'"([EW]\d\d\d)"', source)) == set(CODES)

    def test_every_section_is_described(self) -> None:
        """The policy's sections are kinds."""
        assert set(POLICY_SECTIONS) < set(SECTIONS)
        assert set(POLICY_SECTIONS) < set(KINDS)


class TestMarkdown:
    """The reference for people."""

    def test_names_every_field(self) -> None:
        """Nothing is left out."""
        text = markdown()

        for kind in ALL_KINDS:
            for known in kind.fields:
                assert f"| `{known.name}` |" in text


class TestSchema:
    """The schema for editors."""

    @pytest.mark.parametrize("path", sorted(Path("deploy/definitions").glob("*/[!.]*.yaml")), ids=lambda p: p.name)
    def test_accepts_the_pack(self, path: Path) -> None:
        """No red line under what is right."""
        if not path.name.endswith(".test.yaml"):
            assert valid(json_schema(events_of(path.parent)), yaml.safe_load(path.read_text(encoding="utf-8")))

    @pytest.mark.parametrize("name", ["campaign_without_send", "campaign_without_control"])
    def test_asks_for_what_nothing_else_stands_in_for(self, name: str) -> None:
        """A series stands in for one message, a transactional class for what measures."""
        text = (Path(__file__).parent / "bad" / f"{name}.yaml").read_text(encoding="utf-8")
        spared = text + ("    series: []\n" if name.endswith("send") else "    class: legal\n")

        assert not valid(json_schema(), yaml.safe_load(text))
        assert valid(json_schema(), yaml.safe_load(spared))

    @pytest.mark.parametrize("name", ["unknown_field", "two_heads", "not_a_duration", "moment_without_lasts",
                                      "not_an_option", "unknown_event", "over_on_latest"])  # fmt: skip
    def test_refuses_what_the_loader_refuses(self, name: str) -> None:
        """As far as a schema can tell."""
        text = (Path(__file__).parent / "bad" / f"{name}.yaml").read_text(encoding="utf-8")

        assert not valid(json_schema(), yaml.safe_load(text))


_PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool,
}  # fmt: skip


def valid(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None) -> bool:
    """Return whether a value fits a schema, as far as our schema goes."""
    root = schema if root is None else root
    if "$ref" in schema:
        return valid(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    if not all(valid(part, value, root) for part in schema.get("allOf", ())):
        return False
    if "anyOf" in schema and not any(valid(part, value, root) for part in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(valid(part, value, root) for part in schema["oneOf"]) != 1:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "type" in schema and not isinstance(value, _PYTHON_TYPES[schema["type"]]):
        return False
    if "pattern" in schema and re.search(schema["pattern"], value) is None:
        return False
    if isinstance(value, list) and "items" in schema:
        return all(valid(schema["items"], item, root) for item in value)
    if "const" in schema and value != schema["const"]:
        return False
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        return set(schema.get("required", ())) <= set(value) and all(
            valid(known[name], item, root)
            if name in known
            else others is True or (bool(others) and valid(others, item, root))
            for name, item in value.items()
        )
    return True
