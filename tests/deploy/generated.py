"""What is made from something else: the chart's table of values, its copy of the alerts, and the golden renderings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from orchestrator.cli import main
from tests.deploy import helm

GOLDEN = Path(__file__).with_name("golden")
README = helm.CHART / "README.md"
ALERTS = helm.ROOT / "deploy" / "prometheus" / "alerts.yaml"
ALERTS_COPY = helm.CHART / "files" / "alerts.yaml"
SETS = {path.name.removesuffix("-values.yaml"): path for path in sorted((helm.CHART / "ci").glob("*-values.yaml"))}
MANIFESTS = {
    "topics-strimzi": ("--cluster", "my-cluster", "--namespace", "kafka"),
    "topics-jikkou": ("--format", "jikkou", "--sender", "mail", "--sender", "push"),
}
_TABLE = re.compile(r"(<!-- generated: values -->\n).*?(<!-- end -->)", re.DOTALL)


def schema() -> dict[str, Any]:
    """Return the schema of the chart's values."""
    found: dict[str, Any] = json.loads((helm.CHART / "values.schema.json").read_text(encoding="utf-8"))
    return found


def values() -> dict[str, Any]:
    """Return the chart's default values."""
    found: dict[str, Any] = yaml.safe_load((helm.CHART / "values.yaml").read_text(encoding="utf-8"))
    return found


def leaves(node: dict[str, Any], name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every value of a schema that has no named parts, with its path."""
    for key, part in node["properties"].items():
        path = f"{name}.{key}" if name else key
        if part.get("properties") and part.get("additionalProperties") is False:
            yield from leaves(part, path)
        else:
            yield path, part


def value_at(path: str) -> Any:
    """Return the default of a value, None where there is none."""
    found: Any = values()
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def table() -> str:
    """Return every value with its default and meaning, as Markdown."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for path, part in leaves(schema()):
        if path == "global":
            continue
        meaning = part["description"]
        if "enum" in part and "`" not in meaning:
            meaning += " One of " + ", ".join(f"`{word}`" for word in part["enum"]) + "."
        rows.append(f"| `{path}` | {_shown(value_at(path))} | {meaning} |")
    return "\n".join(rows) + "\n"


def _shown(value: Any) -> str:
    if value is None or value == "":
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def readme() -> str:
    """Return the chart's README with its table made anew."""
    return _TABLE.sub(lambda part: f"{part[1]}{table()}{part[2]}", README.read_text(encoding="utf-8"))


def manifests(name: str) -> str:
    """Return what `orchestrator topics render` prints, without what this machine's environment says."""
    environment = {"ORCHESTRATOR_TOPICS": str(helm.ROOT / "topics.yaml")}
    ended = CliRunner(env=environment).invoke(main, ["topics", "render", *MANIFESTS[name]])
    assert ended.exit_code == 0, ended.output
    return ended.output


def golden(name: str) -> str:
    """Return a golden rendering."""
    return (GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")


def renew() -> None:
    """Write everything that is generated."""
    README.write_text(readme(), encoding="utf-8")
    ALERTS_COPY.write_text(ALERTS.read_text(encoding="utf-8"), encoding="utf-8")
    for name, path in SETS.items():
        (GOLDEN / f"{name}.yaml").write_text(helm.template(path), encoding="utf-8")
    for name in MANIFESTS:
        (GOLDEN / f"{name}.yaml").write_text(manifests(name), encoding="utf-8")
