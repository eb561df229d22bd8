"""The marketers' page can be followed by copy and paste."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.definitions.load import load
from orchestrator.definitions.reference import json_schema, markdown

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "marketers.md"
SCHEMA = ROOT / "schemas" / "definitions.schema.json"
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


@pytest.mark.parametrize("command", ["lint", "test"])
def test_the_choice_by_value_of_the_page_works(command: str, tmp_path: Path) -> None:
    """With the files of the page, instead of the choice by priority that they begin with."""
    by_value = dict(re.findall(r"```yaml\n# by-value/(\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    files = {Path(name).name: text for name, text in pack().items()} | by_value
    files["policy.yaml"] = files["policy.yaml"].replace("choose: { method: priority }\n", "")
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    result = CliRunner().invoke(main, [command, str(tmp_path)])

    assert set(by_value) == {"choose.yaml", "by_value.test.yaml"}
    assert result.exit_code == 0, result.output
    assert "W0" not in result.output


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


def test_the_schema_for_editors_is_the_table_of_fields() -> None:
    """schemas/definitions.schema.json is what the table of fields says; the same command renews it."""
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


def test_the_page_tells_editors_where_the_schema_is() -> None:
    """The line to copy leads from the shipped pack to the file that is there."""
    (path,) = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert (ROOT / "deploy" / "definitions" / "retail" / path).resolve() == SCHEMA


def schema_text() -> str:
    """Return the JSON Schema as the file holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "definitions.md").write_text(markdown(), encoding="utf-8")
    SCHEMA.write_text(schema_text(), encoding="utf-8")
