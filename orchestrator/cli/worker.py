"""`orchestrator worker`: what Kubernetes runs."""

from __future__ import annotations

import signal
import sys

import click

from orchestrator.runtime.settings import load as load_settings

# Click leaves the lines of a paragraph that begins with a backspace as they are: they are to be pasted.
_EXAMPLE = """\b
Example:
  ORCHESTRATOR_BOOTSTRAP_SERVERS=localhost:9092 \\
  ORCHESTRATOR_DEFINITIONS=deploy/definitions/retail orchestrator worker --role engine"""


@click.command(epilog=_EXAMPLE)
@click.option("--role", type=click.Choice(["engine", "control"]), required=True, help="What this process does.")
def worker(role: str) -> None:
    """Run one worker until it is stopped; SIGTERM lets it commit and leave in good order.

    The engine decides; control answers questions about decisions and audits the triggers as they come. Everything else
    is set by environment variables, see docs/operations.md.
    """
    # Until the worker handles signals itself there is nothing to finish: being stopped is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if role == "engine":
        settings = load_settings(required=("BOOTSTRAP_SERVERS", "DEFINITIONS"))
        from orchestrator.runtime.hosting import run_engine

        sys.exit(run_engine(settings))
    settings = load_settings(required=("BOOTSTRAP_SERVERS",))
    from orchestrator.runtime.control import run_control

    sys.exit(run_control(settings))
