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


def fragment(beginning: str) -> str:
    """Return the block of the page that shows lines of a campaign and begins with some of them."""
    (found,) = re.findall(rf"```yaml\n({re.escape(beginning)}.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def without(campaigns: str, *fields: str) -> str:
    """Return the page's campaign without fields that a fragment says to replace."""
    return "".join(line for line in campaigns.splitlines(True) if line.split(":")[0].strip() not in fields)


@pytest.mark.parametrize(
    ("beginning", "instead_of", "unknown"),
    [
        ("    series:", ("send", "cost", "measure"), []),
        ("    send: { channel: audience", ("send",), []),
        ("    offer:", ("cost",), ["heroes"]),
        ("    audience:", (), ["newcomers", "reorder_reminder", "last_units", "sku", "subscribe_and_save"]),
        ("  - campaign: order_confirmation", (), []),
    ],
)
def test_lines_of_a_campaign_load_where_they_are_said_to_stand(
    beginning: str, instead_of: tuple[str, ...], unknown: list[str]
) -> None:
    """Nothing is wrong with them but the examples of names that this pack does not have."""
    files = pack()
    name = "my-pack/campaigns.yaml"
    files[name] = without(files[name], *instead_of) + fragment(beginning)
    _, problems = load(files)

    assert [problem for problem in problems if not any(f"'{one}'" in str(problem) for one in unknown)] == []
    assert len(problems) == len(unknown)


def test_a_confirmation_changes_the_test_as_the_page_says(tmp_path: Path) -> None:
    """The test that expects no trigger has to expect that the moment is over instead."""
    (instead,) = re.findall(r"has to expect\n`(\{.*?\})` instead", PAGE.read_text(encoding="utf-8"))
    files = pack()
    files["my-pack/campaigns.yaml"] += fragment("  - campaign: order_confirmation")
    for name, text in files.items():
        (tmp_path / Path(name).name).write_text(text, encoding="utf-8")
    file = tmp_path / "abandoned_cart.test.yaml"
    failed = CliRunner().invoke(main, ["test", str(tmp_path)])
    file.write_text(file.read_text(encoding="utf-8").replace("{ at: 7d, triggers: [] }", instead), encoding="utf-8")
    passed = CliRunner().invoke(main, ["test", str(tmp_path)])

    assert (failed.exit_code, passed.exit_code) == (1, 0), failed.output + passed.output


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
    """The line to copy leads from the pack to the copy beside it, and the file to copy is there."""
    text = PAGE.read_text(encoding="utf-8")
    (path,) = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", text, re.MULTILINE)

    assert path == f"../{SCHEMA.name}"
    assert f"Copy `{SCHEMA.relative_to(ROOT).as_posix()}`" in " ".join(text.split())


def schema_text() -> str:
    """Return the JSON Schema as the file holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "definitions.md").write_text(markdown(), encoding="utf-8")
    SCHEMA.write_text(schema_text(), encoding="utf-8")
