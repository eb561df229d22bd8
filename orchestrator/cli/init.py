"""`orchestrator init`: a small pack to begin with."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from orchestrator.runtime.errors import USAGE, OperatorError


@click.command(epilog="Example: orchestrator init my-pack")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Write a small pack into DIR: a moment, a campaign, the policy and tests that pass."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OperatorError(f"'{folder}' is there already and not empty: name a new folder", exit_code=USAGE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in starter().items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"cannot write '{folder}': {error.strerror}", exit_code=USAGE) from error
    for name in starter():
        click.echo(f"  {folder / name}")
    click.echo(f"Next: orchestrator lint {folder}, orchestrator test {folder}, and change what you like.")


def starter() -> dict[str, str]:
    """Return the files of the pack by name, in the order in which one reads them."""
    order = ("features.yaml", "moments.yaml", "campaigns.yaml", "policy.yaml", "abandoned_cart.test.yaml")
    folder = resources.files("orchestrator.starter")
    return {name: (folder / name).read_text(encoding="utf-8") for name in order}
