"""Which versions of the policy snapshot a topic holds, which one counts last, and which may go."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.policy_log import PolicyLog, policy_topic
from orchestrator.runtime.topic import Topics


def leaf(effective_from: int, name: str = "") -> tuple[str, dict[str, Any]]:
    """Return one leaf of the version that counts from an instant."""
    record = {
        "effective_from": effective_from,
        "as_of": effective_from - 5,
        "version": f"v{effective_from}",
        "definitions_version": "d",
        "leaf": name,
    }
    return f"{effective_from}/{name}", record


def filled(*instants: int) -> PolicyLog:
    """Return a log of versions with two leaves each."""
    log = PolicyLog()
    for instant in instants:
        for name in ("", "tier=high"):
            log.take(*leaf(instant, name))
    return log


def test_the_newest_is_what_counts_last() -> None:
    """In whatever order the records come; a version whose records got tombstones is gone."""
    log = filled(20, 30, 10)
    newest = log.newest
    assert newest is not None
    assert (newest.effective_from, newest.as_of, newest.version) == (30, 25, "v30")

    for name in ("", "tier=high"):
        log.take(f"30/{name}", None)

    newest = log.newest
    assert newest is not None
    assert newest.version == "v20"
    assert PolicyLog().newest is None


@pytest.mark.parametrize(
    ("before", "gone"),
    [(9, []), (10, []), (19, []), (20, ["10/", "10/tier=high"]), (35, ["10/", "10/tier=high", "20/", "20/tier=high"])],
)
def test_what_was_in_force_at_an_instant_stays_and_all_before_it_may_go(before: int, gone: list[str]) -> None:
    """Somebody who stands at that instant still asks for it."""
    assert filled(10, 20, 30).superseded(before) == gone


def test_without_a_topic_nothing_can_be_learned() -> None:
    """The error names what is missing in topics.yaml."""
    with pytest.raises(OperatorError, match="policy_leaf"):
        policy_topic(Topics(()))
