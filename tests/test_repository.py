"""The repository keeps together what belongs together: versions, locked dependencies, deployment files."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.cli import COMMANDS
from orchestrator.runtime.settings import SETTINGS, load

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PRESCRIBED = ("pyproject.toml", "docker-compose.yml", "orchestrator", "schemas", "topics.yaml", "tests", "deploy")
LOCKED_EXTRAS = ("demo", "dev", "registry")  # not `parquet`, which is for back-tests on files of a warehouse
REGISTRIES = (
    ("pypi", "org"),
    ("files", "pythonhosted", "org"),
    ("maven", "org"),
    ("repo", "maven", "apache", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("static", "crates", "io"),
    ("proxy", "golang", "org"),
    ("deb", "debian", "org"),
)


def test_the_version_is_the_same_everywhere() -> None:
    """A release cannot forget the package, its metadata or the changelog."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert PROJECT["version"] == orchestrator.__version__
    assert re.search(rf"^## \[{re.escape(orchestrator.__version__)}\]", changelog, re.MULTILINE)
    assert changelog.index("## [Unreleased]") < changelog.index(f"## [{orchestrator.__version__}]")


def test_every_dependency_is_locked() -> None:
    """A fresh clone gets the versions that were tested, not the newest."""
    locked = constraints()
    extras = PROJECT["optional-dependencies"]
    needed = [*PROJECT["dependencies"], *(line for extra in LOCKED_EXTRAS for line in extras[extra]), "setuptools"]

    assert [line for line in needed if normal(re.split(r"[^\w.-]", line)[0]) not in locked] == []


def test_locked_versions_are_exact() -> None:
    """Each line is name==version, once, and a comment says how to renew them."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]

    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", line)] == []
    assert len(constraints()) == len(lines)
    assert "make lock" in text


def constraints() -> dict[str, str]:
    """Return the locked versions by normal name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {normal(name): version for name, version in pairs}


def normal(name: str) -> str:
    """Return a package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", PRESCRIBED)
def test_the_top_level_is_as_prescribed(name: str) -> None:
    """These names are what the product was asked to have."""
    assert (ROOT / name).exists()


def test_no_file_names_a_package_registry() -> None:
    """Whoever builds the product chooses where packages come from; no host is written into it."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no clone, or there is no git")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    hosts = re.compile("|".join(re.escape(".".join(parts)) for parts in REGISTRIES))
    found = [
        f"{name}: {match[0]}"
        for name in listed.stdout.split("\0")
        if name and (ROOT / name).is_file()
        for match in [hosts.search((ROOT / name).read_bytes().decode(errors="replace"))]
        if match
    ]

    assert found == []


# --- deployment -------------------------------------------------------------------------------------------------------


def services() -> dict[str, Any]:
    """Return the services of the compose file."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    found: dict[str, Any] = read["services"]
    return found


def test_compose_has_everything_that_shows_triggers() -> None:
    """`docker compose up` shows the product as it runs in production."""
    commands = {name: " ".join(service.get("command", ())) for name, service in services().items()}

    assert commands == {
        "kafka": "",
        "topics": "topics apply",
        "engine-0": "worker --role engine",
        "engine-1": "worker --role engine",
        "control": "worker --role control",
        "replay": "demo --only-replay --households 300",
        "prometheus": "--config.file=/etc/prometheus/prometheus.yaml",
        "grafana": "",
    }
    assert {one["command"][0] for one in services().values() if "build" in one} <= set(COMMANDS)


def test_compose_runs_the_kafka_that_is_tested() -> None:
    """Image and test broker are one version, so what was proven is what runs."""
    pom = (ROOT / "tests" / "kafka" / "pom.xml").read_text(encoding="utf-8")

    assert services()["kafka"]["image"].removeprefix("apache/kafka:") in re.findall(r"<kafka.version>(.+?)<", pom)


def test_compose_sets_only_what_is_a_setting() -> None:
    """A variable that nothing reads would be refused at the start."""
    known = {setting.variable for setting in SETTINGS}
    set_here = {name for service in services().values() for name in service.get("environment", ())}
    set_here |= set(re.findall(r"ORCHESTRATOR_\w+", (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")))

    assert {name for name in set_here if name.startswith("ORCHESTRATOR_")} - known == set()


@pytest.mark.parametrize(("name", "ordinal"), [("engine-0", 0), ("engine-1", 1)])
def test_compose_starts_engines_that_do_not_fence_each_other(
    name: str, ordinal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each engine has its own ordinal and its own place for state, and its settings are accepted."""
    service = services()[name]
    environment = service["environment"] | {"ORCHESTRATOR_DEFINITIONS": inside(service["environment"])}
    monkeypatch.chdir(ROOT)

    settings = load(environment, hostname="a3f9c0127731", required=("BOOTSTRAP_SERVERS",))

    assert settings.ordinal == ordinal
    assert settings.partitions is not None
    assert settings.partitions >= 2
    assert service["volumes"] == [f"{name}:/state"]


def inside(environment: dict[str, str]) -> str:
    """Return the definitions' folder in the repository that the image has under /app."""
    folder = environment["ORCHESTRATOR_DEFINITIONS"]
    assert folder.startswith("/app/deploy/")
    return str(ROOT / folder.removeprefix("/app/"))


def test_the_image_copies_what_is_there() -> None:
    """A build does not fail for a file that was moved."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE) for name in line.split()]

    assert {"topics.yaml", "schemas", "deploy/definitions", "orchestrator", "constraints.txt"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(let_in) == sorted(set(copied))


def test_the_image_does_not_run_as_root() -> None:
    """The last user of the image is a number other than 0, which Kubernetes can check."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    users = re.findall(r"^USER (\d+)", text, re.MULTILINE)

    assert users
    assert int(users[-1]) > 0
