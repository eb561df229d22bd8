"""`plan` says exactly what differs between two back-tests, and says it shortly."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.backtest.files import Files
from orchestrator.backtest.impact import ELIGIBLE
from orchestrator.backtest.result import read_records
from orchestrator.backtest.run import backtest
from orchestrator.cli import main
from orchestrator.runtime.definitions_folder import load_folder, read_directory
from orchestrator.runtime.settings import load
from tests.backtest.made import RETAIL, ROOT, made, write

HISTORY = made(40, days=12)


def pack(folder: Path, *changes: tuple[str, str]) -> Path:
    """Return a copy of the retail pack with texts replaced."""
    folder.mkdir()
    texts = {Path(path).name: text for path, text in read_directory(RETAIL).items() if not path.endswith(".test.yaml")}
    for old, new in changes:
        assert any(old in text for text in texts.values())
        texts = {name: text.replace(old, new) for name, text in texts.items()}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of recorded events."""
    return write(HISTORY, tmp_path_factory.mktemp("history"))


def planned(old: Path, new: Path, events: Path, *options: str) -> str:
    """Return what the command printed."""
    arguments = ["plan", str(old), str(new), "--events", str(events), "--processes", "1", *options]
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 0, ended.output
    return ended.output


def decided(folder: Path, events: Path, out: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the decisions and triggers of a back-test."""
    nobody_looks = lambda what, behind, total: None  # noqa: ARG005, E731
    backtest(Files(events, load({})), load_folder(folder), out, ROOT / "schemas", processes=1, progress=nobody_looks)
    return list(read_records(out, "decisions")), list(read_records(out, "triggers"))


@pytest.mark.parametrize(
    "change",
    [
        ("cart_value >= 20", "cart_value >= 60"),
        ("priority: 80", "priority: 10"),
        ("max: 1, per: 24h", "max: 1, per: 6d"),
    ],
    ids=["threshold", "priority", "cap"],
)
def test_it_predicts_exactly_the_difference_between_two_back_tests(
    tmp_path: Path, events: Path, change: tuple[str, str]
) -> None:
    """Messages, customers reached, and who may be reached by which campaign for which moment."""
    old, new = pack(tmp_path / "old"), pack(tmp_path / "new", change)

    told = json.loads(planned(old, new, events, "--json"))

    (old_decisions, old_triggers), (new_decisions, new_triggers) = (
        decided(folder, events, tmp_path / f"{folder.name}-out") for folder in (old, new)
    )
    messages = [Counter(one["campaign"] for one in triggers) for triggers in (old_triggers, new_triggers)]
    assert {campaign: (both["old"], both["new"]) for campaign, both in told["messages"].items()} == {
        campaign: (messages[0][campaign], messages[1][campaign]) for campaign in messages[0] | messages[1]
    }
    pairs = [eligible(decisions) for decisions in (old_decisions, new_decisions)]
    assert [
        (one["moment"], one["campaign"], one["gained"], one["lost"]) for one in told["eligible"]
    ] == [
        (*pairing, len(pairs[1].get(pairing, set()) - pairs[0].get(pairing, set())),
         len(pairs[0].get(pairing, set()) - pairs[1].get(pairing, set())))
        for pairing in sorted(pairs[0] | pairs[1])
    ]  # fmt: skip
    differing = {customer(one) for one in unequal(old_decisions + old_triggers, new_decisions + new_triggers)}
    assert told["affected"] == len(differing) > 0


def eligible(decisions: list[dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    """Return the customers who passed every check, by moment and campaign."""
    found: dict[tuple[str, str], set[str]] = {}
    for decision in decisions:
        for one in decision["candidates"]:
            if one["reason"] in ELIGIBLE:
                found.setdefault((one["moment"], one["campaign"]), set()).add(decision["customer_id"])
    return found


def unequal(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[str]:
    """Return what only one of the two decided or sent, without the version, as texts."""
    before, after = (
        {json.dumps({**one, "definitions_version": ""}, sort_keys=True) for one in decisions}
        for decisions in (old, new)
    )
    return sorted(before ^ after)


def customer(decision: str) -> str:
    """Return whom a decision is about."""
    named: str = json.loads(decision)["customer_id"]
    return named


def test_nothing_differs_when_nothing_is_changed(tmp_path: Path, events: Path) -> None:
    """A comment is a new version, and changes nothing."""
    old = pack(tmp_path / "old")
    new = pack(tmp_path / "new", ("program:", "# the same rules\nprogram:"))

    text = planned(old, new, events, "--markdown")

    assert "0 of 40 customers are decided about differently" in text
    assert "No message, no candidate and no reason differs." in text


def test_it_is_short_enough_for_a_pull_request(tmp_path: Path, events: Path) -> None:
    """One screen of Markdown: who gains, who loses, who is inside, and what lint says that it did not say before."""
    old = pack(tmp_path / "old")
    new = pack(tmp_path / "new", ("cart_value >= 20", "cart_value >= 60"), ("priority: 80", "priority: 85"))

    text = planned(old, new, events, "--markdown")

    assert len(text.splitlines()) <= 45
    assert "| cart_rescue |" in text
    assert "**Inside now**" in text
    assert "follows the new definition" in text


def test_it_says_who_goes_on_as_they_were_decided(tmp_path: Path, events: Path) -> None:
    """A campaign that pins what was decided says so before it happens; only if both versions do."""
    pins = ("for: 3d, guard: [unsubscribe] }", "for: 3d, guard: [unsubscribe] }\n    on_change: pin")
    higher = ("priority: 80", "priority: 85")
    old, new, follows = (
        pack(tmp_path / name, *how) for name, how in (("a", [pins]), ("b", [pins, higher]), ("c", [higher]))
    )

    assert "(on_change: pin)" in planned(old, new, events, "--markdown")
    inside = json.loads(planned(old, new, events, "--json"))["inside"]
    assert [one["on_change"] for one in inside if one["campaign"] == "cart_rescue"] == ["pin"]
    assert "follows the new definition" in planned(old, follows, events, "--markdown")


def test_what_does_not_load_is_said_as_lint_says_it(tmp_path: Path, events: Path) -> None:
    """A rule that breaks is found before anything is decided."""
    old, new = pack(tmp_path / "old"), pack(tmp_path / "new", ("cart_value >= 20", "cart_valeu >= 20"))

    ended = CliRunner().invoke(main, ["plan", str(old), str(new), "--events", str(events)])

    assert ended.exit_code == 1
    assert "did you mean 'cart_value'" in ended.stderr
