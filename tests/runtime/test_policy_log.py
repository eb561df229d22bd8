"""Which versions of the policy snapshot a topic holds, which one counts last, and which may go."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.cli import policy as command
from orchestrator.runtime import policy_log
from orchestrator.runtime.compose import codec_of, topics_of
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.policy_log import PolicyLog, policy_topic, read_versions
from orchestrator.runtime.settings import load
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_reader import Record
from orchestrator.valuation import ArmValue, LeafValue, PolicySnapshot, records_of


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


def test_what_cannot_be_read_hides_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is none, a key that is no text and records that are no snapshot are left out, and it is told."""
    settings = load({"ORCHESTRATOR_BOOTSTRAP_SERVERS": "nowhere:1"})
    topics = topics_of(settings)
    encode = codec_of(settings).encoder(policy_topic(topics))
    good, bad, odd = (
        records_of(PolicySnapshot(at, at, "d", 1, 0, {"": LeafValue({"rescue@email": ArmValue((5.0,), 0.0)})}))
        for at in (1, 2, 3)
    )
    (broken,) = bad.values()
    broken["arms"][0]["gain"] = b"123"
    values = {
        b"1/": encode(good["1/"]),
        b"2/": encode(broken),
        b"\xff": encode(odd["3/"]),
        b"4/": b"garbage",
    }
    kept = [Record(key, value, (), 0, number, 0) for number, (key, value) in enumerate(values.items())]
    monkeypatch.setattr(policy_log, "read_topic", lambda *_: kept)
    monkeypatch.setattr(policy_log, "connect", lambda _: None)
    monkeypatch.setattr(command, "open_topics", lambda _: (settings, topics, None))
    unreadable: list[str] = []

    versions = read_versions(settings, topics, unreadable)
    shown = CliRunner().invoke(main, ["policy", "show", "--json"], env={})

    assert [next(iter(records.values()))["effective_from"] for records in versions] == [1, 3]
    assert len(unreadable) == 2
    assert "policy[0]@3" in unreadable[0]
    assert "has 3 bytes of draws where it should have 4" in unreadable[1]
    assert shown.exit_code == 0, shown.output
    assert shown.stderr.startswith("left out, for engines cannot use it either, the first of 2: policy[0]@3")
