"""`orchestrator definitions`: what it publishes, refuses, lists, compares and takes back."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.cli import main
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from tests.kafka.test_live import DEFINITIONS

Command = Callable[..., Result]


@pytest.fixture
def command(embedded: EmbeddedBroker, request: pytest.FixtureRequest) -> Iterator[Command]:
    """Return the command over a topic of this test's own."""
    prefix = f"{request.node.name}-"
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap})
    admin.create_topics([NewTopic(f"{prefix}definitions", 1, 1)])[f"{prefix}definitions"].result(20)
    given = {"ORCHESTRATOR_BOOTSTRAP_SERVERS": embedded.bootstrap, "ORCHESTRATOR_TOPIC_PREFIX": prefix}
    yield lambda *arguments: CliRunner().invoke(main, ["definitions", *arguments], env=given)
    admin.delete_topics([f"{prefix}definitions"])[f"{prefix}definitions"].exception(20)


def pack(folder: Path, campaign: str) -> Path:
    """Return a folder with a pack whose one campaign is called so."""
    folder.mkdir()
    (folder / "all.yaml").write_text(DEFINITIONS.replace("cart_rescue\n", f"{campaign}\n", 1))
    return folder


def listed(command: Command) -> list[tuple[str, bool]]:
    """Return what was published: version, and whether it is in force."""
    return [(one["version"], one["in_force"]) for one in json.loads(command("list", "--json").output)]


@pytest.mark.broker
def test_two_versions_and_back(command: Command, tmp_path: Path) -> None:
    """The first is in force at once, the second later; a rollback publishes the first again."""
    first, second = pack(tmp_path / "one", "first"), pack(tmp_path / "two", "second")
    assert command("list").output == "nothing was published yet: orchestrator definitions publish DIR\n"

    published = command("publish", str(first), "--note", "the beginning")
    assert command("publish", str(second), "--in", "1h").exit_code == 0
    first_version, second_version = (version for version, _ in listed(command))

    assert " comes into force at " in published.output
    assert listed(command) == [(first_version, True), (second_version, False)]
    assert "from the beginning" in command("list").output
    assert "the beginning" in command("list").output
    assert "to come" in command("list").output
    difference = command("diff", second_version, "--from", first_version).output.splitlines()
    assert "-  - campaign: first" in difference
    assert "+  - campaign: second" in difference
    assert command("diff", str(first)).output == ""
    assert command("rollback", second_version, "--in", "2h").exit_code == 0
    assert [version for version, _ in listed(command)] == [first_version, second_version, second_version]


@pytest.mark.broker
def test_what_does_not_lint_or_fails_its_tests_is_not_published(command: Command, tmp_path: Path) -> None:
    """The message is that of lint, or of the test."""
    wrong, untrue = pack(tmp_path / "wrong", "first"), pack(tmp_path / "untrue", "first")
    (wrong / "all.yaml").write_text(DEFINITIONS.replace("lasts: 2h", "lasts: soon"))
    (untrue / "cart.test.yaml").write_text(
        'tests:\n  - name: nothing is sent\n    start: "2025-03-03T10:00Z"\n    given:\n'
        "      - { at: 0m, event: cart.item_added, cart_id: c1, sku: A, cart_total: 40 }\n"
        "    expect:\n      - { at: 1h, triggers: [] }\n"
    )

    not_linted, not_true = command("publish", str(wrong)), command("publish", str(untrue))

    assert not_linted.exit_code == 1
    assert "have 1 errors, nothing was published" in not_linted.output
    assert "all.yaml:8:12: " in not_linted.output
    assert not_true.exit_code == 1
    assert "the tests beside the definitions fail, nothing was published" in not_true.output
    assert listed(command) == []


@pytest.mark.broker
def test_what_cannot_be_taken_back_says_so(command: Command, tmp_path: Path) -> None:
    """Nothing before the first, and no version of that name."""
    assert "nothing was published yet" in command("rollback").output
    command("publish", str(pack(tmp_path / "one", "first")))

    assert "nothing was in force before" in command("rollback").output
    assert "no version 'v0' was published" in command("rollback", "v0").output
    assert command("rollback", "v0").exit_code == 2
