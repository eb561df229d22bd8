"""The closed set of reasons."""

import ast
import inspect
from itertools import pairwise

from orchestrator import reasons
from orchestrator.reasons import Reason

CLOSED_SET = (
    "chosen control holdout none_better outranked slot_held rest not_eligible excluded no_consent suppressed cap "
    "quiet_hours sku_cap too_old expired cancelled stopped already_answered unknown_value no_definition"
)


def test_the_set_is_closed() -> None:
    """Senders and dashboards may count on exactly these words."""
    assert [str(reason) for reason in Reason] == CLOSED_SET.split()


def test_a_reason_is_its_word() -> None:
    """A reason can be written into a record and compared with one as it stands."""
    assert f"{Reason.SLOT_HELD}" == "slot_held"
    assert Reason("quiet_hours") is Reason.QUIET_HOURS


def test_every_reason_is_explained() -> None:
    """Each word is followed by one sentence that says what it means."""
    tree = ast.parse(inspect.getsource(reasons))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    explained = [
        word.targets[0].id
        for word, text in pairwise(body)
        if isinstance(word, ast.Assign) and isinstance(word.targets[0], ast.Name) and isinstance(text, ast.Expr)
    ]

    assert explained == [reason.name for reason in Reason]
