"""The marketers' page can be followed by copy and paste."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.definitions.load import load
from orchestrator.definitions.reference import markdown

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "marketers.md"
BLOCK = re.compile(r"```yaml\n# (my-pack/\S+)\n(.*?)```", re.DOTALL)


def pack() -> dict[str, str]:
    """Return the files that the page tells to write, by path."""
    return dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))


def test_the_files_of_the_page_load_without_a_problem() -> None:
    """What is pasted from the page is a complete pack, without errors and without warnings."""
    definitions, problems = load(pack())

    assert problems == []
    assert definitions is not None
    assert list(definitions.campaigns) == ["cart_rescue"]


@pytest.mark.parametrize("command", ["lint", "test"])
def test_the_commands_of_the_page_accept_them(command: str, tmp_path: Path) -> None:
    """`orchestrator lint my-pack` and `orchestrator test my-pack` exit 0."""
    for name, text in pack().items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    result = CliRunner().invoke(main, [command, str(tmp_path / "my-pack")])

    assert result.exit_code == 0, result.output


def test_the_misspelt_field_of_the_page_gives_the_line_shown() -> None:
    """The error shown on the page is the error one gets."""
    files = pack()
    files["my-pack/moments.yaml"] = files["my-pack/moments.yaml"].replace("unless:", "unles:")
    shown = re.search(r"^my-pack/moments\.yaml:.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    _, problems = load(files)

    assert shown is not None
    assert shown.group() in [str(problem) for problem in problems]


def test_the_moment_in_the_readme_loads() -> None:
    """The README's example is the language as it is."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (moment,) = re.findall(r"```yaml\n(moments:.*?)```", readme, re.DOTALL)
    definitions, problems = load(pack() | {"my-pack/moments.yaml": moment})

    assert definitions is not None, problems


def test_the_reference_is_the_table_of_fields() -> None:
    """docs/definitions.md is what the table of fields says; renew it with `python -m tests.test_marketers_page`."""
    assert (ROOT / "docs" / "definitions.md").read_text(encoding="utf-8") == markdown()


if __name__ == "__main__":
    (ROOT / "docs" / "definitions.md").write_text(markdown(), encoding="utf-8")
