"""The Compose file is one, and what it mounts and runs is there."""

from __future__ import annotations

from typing import Any

import click
import pytest
import yaml

from orchestrator.cli import main
from tests.deploy import crds, helm
from tests.deploy.test_monitoring import promtool

FILE = helm.ROOT / "docker-compose.yml"


def compose() -> dict[str, Any]:
    """Return the file as Compose reads it."""
    found: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def problems(read: dict[str, Any]) -> list[str]:
    """Return what the Compose specification says of it; skip by name where the specification cannot be had."""
    if (reason := crds.unavailable()) is not None:
        pytest.skip(reason)
    return [f"{error.json_path}: {error.message}" for error in crds.compose().iter_errors(read)]


@pytest.mark.timeout(600)  # the first test of a machine may fetch the schemas
def test_the_file_is_of_the_specification() -> None:
    """No field is misspelt, and every value is of its kind."""
    assert problems(compose()) == []


def test_a_misspelt_field_is_noticed() -> None:
    """The validation above can fail."""
    read = compose()
    read["services"]["kafka"]["health_check"] = read["services"]["kafka"].pop("healthcheck")

    assert len(problems(read)) == 1


def test_our_containers_are_locked_down_as_in_the_chart() -> None:
    """Nothing but the state can be written, and there is time to stop in good order."""
    ours = {name: one for name, one in compose()["services"].items() if "build" in one}

    assert {"engine-0", "engine-1", "control", "replay", "topics"} == ours.keys()
    for service in ours.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["stop_grace_period"] == "90s"


def test_what_is_mounted_is_there_and_every_port_is_of_this_machine_only() -> None:
    """Compose would make an empty folder of a file that is missing."""
    read = compose()
    for service in read["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (helm.ROOT / source).exists() if source.startswith(".") else source in read["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_prometheus_scrapes_the_workers_that_run() -> None:
    """Every engine and control, and the alerts are those of the repository."""
    path = helm.ROOT / "deploy" / "prometheus" / "compose.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    targets = {one for job in config["scrape_configs"] for static in job["static_configs"] for one in static["targets"]}
    workers = {name for name, one in compose()["services"].items() if "worker" in one.get("command", ())}

    assert targets == {f"{name}:8080" for name in workers}
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", str(path))


def test_the_commands_have_these_options() -> None:
    """An option that is gone would end the container at its start."""
    for service in compose()["services"].values():
        if "build" in service:
            name, *given = service["command"]
            command = main.get_command(click.Context(main), name)
            assert command is not None
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in given if word.startswith("--")} <= known
