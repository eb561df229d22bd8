"""The command table; a command's module is imported on use, so that `--help` is quick and one cannot break another."""

from __future__ import annotations

import errno
import importlib
import importlib.util
from typing import Any

import click

from orchestrator import __version__
from orchestrator.runtime.errors import FINDINGS, USAGE, OperatorError

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("orchestrator.cli.demo:demo", "Run the whole product here: embedded broker, real purchases, live view."),
    "init": ("orchestrator.cli.init:init", "Write a small pack of definitions to begin with."),
    "lint": ("orchestrator.cli.lint:lint", "Check definitions and print every problem with its place."),
    "test": ("orchestrator.cli.test:test", "Run the tests that lie beside definitions."),
    "backtest": ("orchestrator.cli.backtest:backtest", "Show what definitions would have done on recorded events."),
    "plan": ("orchestrator.cli.plan:plan", "Show what a change of definitions would have done, before it is merged."),
    "why": ("orchestrator.cli.why:why", "Show every decision about a customer with its reasons."),
    "audit": ("orchestrator.cli.audit:audit", "Prove the promises from the output topics alone."),
    "definitions": (
        "orchestrator.cli.definitions:definitions",
        "Publish definitions to running engines; list, compare and take back versions.",
    ),
    "snapshots": (
        "orchestrator.cli.snapshots:snapshots",
        "Compute over all customers: bands of quantiles, spread of next orders, products that go together; publish it.",
    ),
    "policy": (
        "orchestrator.cli.policy:policy",
        "Show what each campaign was found to be worth, prove it from the outcomes, or compute it offline.",
    ),
    "report": ("orchestrator.cli.report:report", "Show what every campaign was worth against randomised control."),
    "personas": ("orchestrator.cli.personas:personas", "Show for whom a campaign works, and propose to split it."),
    "simulate": (
        "orchestrator.cli.simulate:simulate",
        "Let the engine and the learner live a year in a market whose truth is known, beside those who know it.",
    ),
    "journeys": ("orchestrator.cli.journeys:journeys", "Show which campaigns followed which, and who ordered."),
    "segments": ("orchestrator.cli.segments:segments", "Show how large each segment was, week by week, and why."),
    "dead-letters": (
        "orchestrator.cli.dead_letters:dead_letters",
        "List, show and redrive records that could not be used.",
    ),
    "replay": ("orchestrator.cli.replay:replay", "Write recorded events and their barriers into the topics."),
    "rebuild": ("orchestrator.cli.rebuild:rebuild", "Write the changelog anew after it was lost with every store."),
    "backfill": ("orchestrator.cli.backfill:backfill", "Fold history, silently, into features that are new."),
    "topics": ("orchestrator.cli.topics:topics", "Compare, create and verify the topics of topics.yaml."),
    "worker": ("orchestrator.cli.worker:worker", "Run the engine or the control role, as Kubernetes does."),
}
"""Name to (module:function, one line of help); the line is here so that listing imports nothing."""


class CommandTable(click.Group):
    """A group whose commands are imported on use, and which prints what an operator can help as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the commands that are installed, in the table's order."""
        return [name for name, (target, _) in COMMANDS.items() if _installed(target)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        """Return the command, imported now, or None when the table has none of that name."""
        if cmd_name not in COMMANDS or not _installed(COMMANDS[cmd_name][0]):
            return None
        module, function = COMMANDS[cmd_name][0].split(":")
        try:
            command = getattr(importlib.import_module(module), function)
        except ModuleNotFoundError as error:
            raise OperatorError(
                f"'{cmd_name}' needs the Python package '{error.name}', which is not installed: "
                "pip install 'journey-orchestrator[demo,registry]'"
            ) from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing a command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Return what the command returns; an OperatorError becomes its line on stderr and its exit code.

        So does what the system says of a file, a disk or a connection.
        """
        try:
            return super().invoke(ctx)
        except OperatorError as error:
            click.echo(f"orchestrator: {error}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            # click ends quietly when nobody reads on; and what no system has said is a mistake of ours.
            if error.errno in (None, errno.EPIPE):
                raise
            where = "" if error.filename is None else f"'{error.filename}': "
            click.echo(f"orchestrator: {where}{error.strerror or error}", err=True)
            ctx.exit(FINDINGS if error.filename is None else USAGE)


def _installed(target: str) -> bool:
    return importlib.util.find_spec(target.split(":")[0]) is not None


@click.command(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="orchestrator", message="%(prog)s %(version)s")
def main() -> None:
    """One campaign per customer at a time, triggered at the right moment; and anyone can ask why.

    Exit codes: 0 fine, 1 findings, 2 usage.
    """
