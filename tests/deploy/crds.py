"""Schemas of what others read: KEDA, the Prometheus operator, Compose; from their Go modules, kept in `.cache/crds`."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from tests.deploy.helm import ROOT

CACHE = ROOT / ".cache" / "crds"
MODULES = {
    "github.com/kedacore/keda/v2@v2.20.2": (
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    "github.com/compose-spec/compose-go/v2@v2.16.2": ("schema/compose-spec.json",),
}


@functools.cache
def unavailable() -> str | None:
    """Return why the schemas cannot be had, in words for a skip, or None; fetch them if need be."""
    for module, files in MODULES.items():
        if all((CACHE / Path(file).name).exists() for file in files):
            continue
        go = shutil.which("go")
        if go is None:
            return "the schemas of KEDA, Compose and others are not here, and there is no go to fetch them"
        try:
            ended = subprocess.run(
                [go, "mod", "download", "-json", module],
                capture_output=True,
                text=True,
                check=True,
                timeout=200,
                cwd="/",
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"{module} could not be fetched: {error}"
        source = Path(json.loads(ended.stdout)["Dir"])
        CACHE.mkdir(parents=True, exist_ok=True)
        for file in files:
            (CACHE / Path(file).name).write_bytes((source / file).read_bytes())
    return None


@functools.cache
def validators() -> dict[tuple[str, str], Draft202012Validator]:
    """Return a validator by apiVersion and kind, which refuses unknown fields as `kubectl apply` does."""
    found = {}
    for files in MODULES.values():
        for file in files:
            if file.endswith(".json"):
                continue
            for crd in yaml.safe_load_all((CACHE / Path(file).name).read_text(encoding="utf-8")):
                spec = crd["spec"]
                for version in spec["versions"]:
                    schema = _closed(version["schema"]["openAPIV3Schema"])
                    schema["properties"]["metadata"] = {"type": "object"}
                    key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    found[key] = Draft202012Validator(schema)
    return found


def compose() -> Draft202012Validator:
    """Return a validator of Compose files, which knows every field that Compose does."""
    return Draft202012Validator(json.loads((CACHE / "compose-spec.json").read_text(encoding="utf-8")))


def _closed(schema: Any) -> Any:
    """Return a schema whose objects have no fields but the named ones, as the API server validates fields."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed["properties"] = {name: _closed(part) for name, part in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    return closed
