"""All outcomes as their topic has them now."""

from __future__ import annotations

import pytest

from orchestrator.runtime import outcome_log
from orchestrator.runtime.compose import codec_of, topics_of
from orchestrator.runtime.outcome_log import read_outcomes
from orchestrator.runtime.settings import load
from orchestrator.runtime.topic_reader import Record
from tests.kafka.test_learning import START, outcome


def test_a_tombstone_whose_key_is_no_text_erases_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are read: the topic keeps it, and `policy verify` would fail every time."""
    settings = load({"ORCHESTRATOR_BOOTSTRAP_SERVERS": "nowhere:1"})
    topics = topics_of(settings)
    value = codec_of(settings).encoder(topics.outcomes)(outcome(1, START))
    kept = [Record(b"\xff", None, (), 0, 0, 0), Record(b"id", value, (), 0, 1, 0)]
    monkeypatch.setattr(outcome_log, "read_topic", lambda *_, **__: kept)
    monkeypatch.setattr(outcome_log, "connect", lambda _: None)

    assert len(read_outcomes(settings, topics)) == 1
