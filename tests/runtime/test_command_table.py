"""The `orchestrator` command: quick to list, and no command can break another."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orchestrator import __version__, cli
from orchestrator.runtime.errors import OperatorError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runner() -> CliRunner:
    """Return a runner that keeps stdout and stderr apart."""
    return CliRunner()


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add commands: one whose module is missing, and some that fail."""
    monkeypatch.setitem(cli.COMMANDS, "absent", ("orchestrator.cli.no_such_module:absent", "Never written."))
    for name in ("failing", "writing", "crowded", "mistaken"):
        monkeypatch.setitem(cli.COMMANDS, name, (f"{__name__}:{name}", "Fails."))


@click.command()
def writing() -> None:
    """Fail as a command does when the system refuses a file."""
    Path("/nowhere/at/all").write_text("")


@click.command()
def crowded() -> None:
    """Fail as a command does when the disk is full."""
    raise OSError(errno.ENOSPC, "No space left on device")


@click.command()
def mistaken() -> None:
    """Fail as no command should."""
    raise OSError("a mistake of ours")


@click.command()
def failing() -> None:
    """Fail as a command does when the operator can help it."""
    raise OperatorError("the disk is full: free some", exit_code=3, details=["/data 100 %"])


def test_help_lists_commands_without_importing_them() -> None:
    """A completion script or a person in a hurry does not wait for Kafka's client."""
    code = (
        "import sys; from click.testing import CliRunner; from orchestrator.cli import main;"
        "print(CliRunner().invoke(main, ['--help']).output);"
        "assert not {'confluent_kafka', 'faust', 'rocksdict', 'fastavro', 'rich'} & set(sys.modules)"
    )

    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert "Compare, create and verify the topics of topics.yaml." in ended.stdout


def test_the_version_is_the_packages(runner: CliRunner) -> None:
    """What a bug report starts with."""
    assert runner.invoke(cli.main, ["--version"]).output == f"orchestrator {__version__}\n"


@pytest.mark.usefixtures("table")
def test_a_missing_module_breaks_no_other_command(runner: CliRunner) -> None:
    """It is simply not there."""
    listed = runner.invoke(cli.main, ["--help"])
    asked = runner.invoke(cli.main, ["absent"])

    assert (listed.exit_code, asked.exit_code) == (0, 2)
    assert "absent" not in listed.output
    assert "No such command 'absent'" in asked.stderr


@pytest.mark.usefixtures("table")
def test_an_operators_error_is_one_line_and_an_exit_code(runner: CliRunner) -> None:
    """No traceback for what is not a fault of ours."""
    ended = runner.invoke(cli.main, ["failing"])

    assert ended.exit_code == 3
    assert ended.stderr == "orchestrator: the disk is full: free some\n  /data 100 %\n"


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("writing", 2, "'/nowhere/at/all': No such file or directory"),
        ("crowded", 1, "No space left on device"),
    ],
)
def test_what_the_system_refuses_is_one_line(runner: CliRunner, command: str, code: int, says: str) -> None:
    """It names the file, where there is one, and is a mistake of usage then."""
    ended = runner.invoke(cli.main, [command])

    assert (ended.exit_code, ended.stderr) == (code, f"orchestrator: {says}\n")


@pytest.mark.usefixtures("table")
def test_a_mistake_of_ours_keeps_its_traceback(runner: CliRunner) -> None:
    """Somebody has to find it."""
    assert isinstance(runner.invoke(cli.main, ["mistaken"]).exception, OSError)


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "--html"],
        ["journeys", "--html"],
        ["segments", ".", "--html"],
        ["personas", "propose", "--out"],
        ["policy", "plan", ".", "--outcomes", ".", "--out"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_where_a_file_cannot_be_written_no_work_is_begun(runner: CliRunner, arguments: list[str]) -> None:
    """It used to be told after all of it."""
    ended = runner.invoke(cli.main, [*arguments, "/nowhere/at.all"], env={})

    assert ended.exit_code == 2
    assert "there is no folder '/nowhere'" in ended.stderr


@pytest.mark.parametrize("command", [["simulate"], ["backtest", "."]], ids=["simulate", "backtest"])
def test_a_folder_to_write_into_that_is_a_file_is_refused_at_once(
    runner: CliRunner, tmp_path: Path, command: list[str]
) -> None:
    """Not after the first year lived."""
    (tmp_path / "file").touch()

    ended = runner.invoke(cli.main, [*command, "--out", str(tmp_path / "file")], env={})

    assert ended.exit_code == 2
    assert "is a file" in ended.stderr


@pytest.mark.parametrize("arguments", [["nonsense"], ["topics", "nonsense"], ["topics", "plan", "--nonsense"]])
def test_a_usage_error_is_exit_code_two(runner: CliRunner, arguments: list[str]) -> None:
    """Scripts can tell their own mistakes from findings."""
    assert runner.invoke(cli.main, arguments).exit_code == 2


@pytest.mark.parametrize("command", ["plan", "apply", "verify"])
def test_every_topics_command_shows_an_example(runner: CliRunner, command: str) -> None:
    """The fastest documentation is a line to copy."""
    assert f"Example: orchestrator topics {command} " in runner.invoke(cli.main, ["topics", command, "--help"]).output


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every command below a group, groups included."""
    yield path
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def test_no_help_shows_the_marks_that_keep_lines(runner: CliRunner) -> None:
    r"""`\b` before a paragraph is for Click; who reads a command's help does not see it, nor a doubled backslash."""
    every = list(commands(cli.main))
    shown = {" ".join(path): runner.invoke(cli.main, [*path, "--help"]).output for path in every}

    assert {("worker",), ("topics", "render"), ("dead-letters", "list")} <= set(every)
    assert [name for name, text in shown.items() if re.search(r"\\b|\\\\|\x08", text)] == []


def test_the_workers_example_can_be_pasted(runner: CliRunner) -> None:
    """Its lines are as they were written: the first goes on in the second."""
    lines = runner.invoke(cli.main, ["worker", "--help"]).output.splitlines()
    start = lines.index("  Example:")

    assert [line.strip() for line in lines[start + 1 :]] == [
        "ORCHESTRATOR_BOOTSTRAP_SERVERS=localhost:9092 \\",
        "ORCHESTRATOR_DEFINITIONS=deploy/definitions/retail orchestrator worker --role engine",
    ]
