"""Every recipe of the cookbook loads without a problem, and its own tests pass."""

import re
from pathlib import Path

import pytest

from orchestrator.cli import test as command
from orchestrator.definitions.catalogue import CATALOGUE
from orchestrator.definitions.load import load

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")
POLICY = (ROOT / "orchestrator" / "starter" / "policy.yaml").read_text(encoding="utf-8")

BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
RECIPE = re.compile(r"^### (\d+)\. [^\n]*\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
RECIPES = {int(number): body for number, body in RECIPE.findall(PAGE)}
KINDS = (
    *("starts_on", "absent", "around", "calendar", "count", "sum"),
    *("sequence", "either_order", "during", "entered", "left", "schedule"),
)


def files_of(recipe: str) -> dict[str, str]:
    """Return the pack that a recipe is, with the page's one campaign answering its last moment."""
    definitions, tests = BLOCK.findall(recipe)
    *_, moment = re.findall(r"- moment: (\w+)", definitions)
    campaign = BLOCK.findall(PAGE)[0].replace("THE_MOMENT", moment)
    return {
        "my-pack/policy.yaml": POLICY,
        "my-pack/campaigns.yaml": campaign,
        "my-pack/recipe.yaml": definitions,
        "my-pack/recipe.test.yaml": tests,
    }


@pytest.mark.parametrize("number", RECIPES)
def test_a_recipe_works_as_it_is_written(number: int) -> None:
    """A recipe has no problem, and does what its tests say."""
    texts = files_of(RECIPES[number])
    definitions, problems = load(texts)
    assert definitions is not None, problems

    count, failures, wrong = command.tested(texts, definitions, CATALOGUE)

    assert [str(problem) for problem in [*problems, *wrong]] == []
    assert ["\n".join(command.lines_of(failure)) for failure in failures] == []
    assert count >= 1


def test_there_are_twenty() -> None:
    """The recipes are numbered from 1 to 20."""
    assert list(RECIPES) == list(range(1, 21))


def test_every_kind_of_moment_has_a_recipe() -> None:
    """Each shape of the language is shown once at least."""
    shown = {kind for kind in KINDS if re.search(rf"^    {kind}:", PAGE, re.MULTILINE)}

    assert shown == set(KINDS)
