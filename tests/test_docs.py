"""The documents say what the code does; `python -m tests.test_docs` renews their generated parts.

A generated part stands between `<!-- generated: name -->` and `<!-- end -->`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli import COMMANDS
from orchestrator.runtime.control_pages import METRICS as CONTROL_METRICS
from orchestrator.runtime.loop import FENCED
from orchestrator.runtime.metric import reference as table_of
from orchestrator.runtime.metrics import METRICS
from orchestrator.runtime.settings import SETTINGS, reference

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "orchestrator"
OPERATIONS = ROOT / "docs" / "operations.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "schemas").glob("*.md")])
GENERATED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PACKAGES = (".", "moments", "arbitration", "definitions", "runtime", "cli", "demo")
"""In the order in which data flows through them."""


def modules() -> str:
    """Return every module of the package with its first sentence, grouped as `ls` shows them."""
    found = {path.relative_to(PACKAGE).parent.as_posix() for path in PACKAGE.rglob("*.py")}
    others = sorted(found - set(PACKAGES))
    parts = []
    for folder in (*PACKAGES, *others):
        paths = [path for path in sorted((PACKAGE / folder).glob("*.py")) if path.name != "__main__.py"]
        width = max(len(path.name) for path in paths)
        lines = [f"{path.name:{width}}  {first_sentence(path)}" for path in paths]
        name = "orchestrator/" if folder == "." else f"orchestrator/{folder}/"
        parts.append("\n".join([name, *(f"  {line}" for line in lines)]))
    return "```\n" + "\n\n".join(parts) + "\n```\n"


def first_sentence(path: Path) -> str:
    """Return the first paragraph of a module's docstring, on one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


PARTS: dict[str, Callable[[], str]] = {
    "settings": reference,
    "metrics": lambda: table_of(METRICS),
    "control_metrics": lambda: table_of(CONTROL_METRICS),
    "modules": modules,
}


def renewed(text: str) -> str:
    """Return a document with its generated parts made anew."""
    return GENERATED.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}{part[3]}", text)


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of code in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def identity(path: Path) -> str:
    """Return the name of a document for the list of tests."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", DOCUMENTS, ids=identity)
def test_generated_parts_are_current(path: Path) -> None:
    """Settings, metrics and modules cannot be forgotten in the documents."""
    text = path.read_text(encoding="utf-8")

    assert text == renewed(text), "run `make docs`"


def test_every_generated_part_is_in_a_document() -> None:
    """No part is lost with its markers."""
    there = {part[2] for path in DOCUMENTS for part in GENERATED.finditer(path.read_text(encoding="utf-8"))}

    assert there == set(PARTS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=identity)
def test_links_lead_somewhere(path: Path) -> None:
    """A link between documents names a file that is there, and a heading that it has."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path

        assert file.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(file), f"{target} names no heading"


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as Git hosts make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=identity)
def test_commands_exist(path: Path) -> None:
    """A command that a document tells to run is in the command table."""
    text = path.read_text(encoding="utf-8")
    shown = re.findall(r"`orchestrator ([a-z-]+)", text)
    shown += [command for block in blocks(text, "sh") for command in re.findall(r"\borchestrator ([a-z-]+)", block)]

    assert [command for command in shown if command not in COMMANDS] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=identity)
def test_variables_exist(path: Path) -> None:
    """A variable that a document names is a setting, or one of those that only tests read."""
    known = {setting.variable for setting in SETTINGS}
    known |= {"ORCHESTRATOR_REQUIRE_BROKERS", "ORCHESTRATOR_KAFKA_JARS", "ORCHESTRATOR_"}
    named = set(re.findall(r"ORCHESTRATOR_[A-Z_]*", path.read_text(encoding="utf-8")))

    assert named - known == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=identity)
def test_make_targets_exist(path: Path) -> None:
    """A make target that a document names is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8")))

    assert named - targets == set()


def test_every_reason_of_a_dead_letter_is_explained() -> None:
    """Whoever finds a reason in the topic finds it in the table."""
    sources = [path.read_text(encoding="utf-8") for path in (PACKAGE / "runtime").glob("*.py")]
    reasons = {reason for text in sources for reason in re.findall(r'(?:DeadLetter|Undecodable)\(\s*"(\w+)"', text)}
    text = OPERATIONS.read_text(encoding="utf-8")

    assert {"wrong_partition", "undecodable", "too_far_ahead"} <= reasons
    assert [reason for reason in sorted(reasons) if f"| `{reason}` |" not in text] == []


def test_exit_codes_are_explained() -> None:
    """A supervisor's author finds every code a worker may end with."""
    text = OPERATIONS.read_text(encoding="utf-8")

    assert [code for code in (0, 1, 2, FENCED) if f"\n| {code} |" not in text] == []


def test_the_section_that_an_error_names_is_there() -> None:
    """The loop's error sends the operator to a heading of the operations page."""
    text = (PACKAGE / "runtime" / "loop.py").read_text(encoding="utf-8")
    named = re.findall(r"see docs/operations\.md, '([^']+)'", text)

    assert named
    assert [name for name in named if f"# {name}\n" not in OPERATIONS.read_text(encoding="utf-8")] == []


if __name__ == "__main__":
    for document in DOCUMENTS:
        was = document.read_text(encoding="utf-8")
        if (now := renewed(was)) != was:
            document.write_text(now, encoding="utf-8")
            print(f"renewed {document.relative_to(ROOT)}")
