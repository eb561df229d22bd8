"""From recorded events to a merged split: the real engine decides, some customers respond, and a patch says who."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from random import Random
from shutil import copytree

import pytest
from click.testing import CliRunner, Result

from orchestrator.backtest.files import Files
from orchestrator.backtest.result import KINDS, read_records, written
from orchestrator.backtest.run import backtest
from orchestrator.cli import main
from orchestrator.events import DAY, HOUR
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.settings import load
from tests.backtest.made import BEGIN, REGISTRY, ROOT, SCHEMAS, History, Record, write
from tests.test_reading_commands import Stage, stage

__all__ = ["stage"]  # a fixture

CUSTOMERS = 3_000
RARE = 50 * DAY
"""Who lets so much time pass between orders responds to a reminder, and nobody else does."""

CART_AT = BEGIN + 300 * DAY
OPTIONS = ("--records", "records", "--definitions", "pack")

PACK = {
    "features.yaml": """\
# What may tell customers apart.
features:
  order_gap: { median_gap: order.placed, min_samples: 3, else: 60d }
  orders_lifetime: { count: order.placed }
  spend_365d: { sum: order.placed.total, over: 365d }
  cart_value: { latest: cart.item_added.cart_total }
""",
    "moments.yaml": """\
moments:
  - moment: abandoned_cart
    say: "Left the cart"
    key: cart_id
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 1h }
    lasts: 48h
""",
    "campaigns.yaml": """\
campaigns:
  # The one we have had for years.
  - campaign: cart_rescue
    when: abandoned_cart
    send: { channel: email, template: cart_rescue }    # with the logo
    cost: { send: 0.01 }
    measure: { objective: margin, for: 3d }
    control: 30%
""",
    "policy.yaml": """\
program: { currency: EUR, metric: margin, assumed_margin: 50% }
choose:
  method: priority
  split_on: [order_gap, orders_lifetime, spend_365d, cart_value]
contact: { consent: required }
time: { never_act_on_moments_older_than: 24h }
""",
    "cart.test.yaml": """\
tests:
  - name: reminded after an hour
    given:
      - { at: 0m, event: cart.item_added, cart_id: c1, cart_total: 40 }
    expect:
      - { at: 2h, campaign: cart_rescue, is: chosen }
""",
}


def orders(customer: str, at: int, number: int, total: int) -> Record:
    """Return one order."""
    lines = [{"sku": "S1", "quantity": 1, "price": total, "margin": total // 2}]
    order = f"o-{customer}-{number}"
    return {
        "event_id": order, "customer_id": customer, "event": "order.placed", "event_time": at, "order_id": order,
        "channel": "web", "lines": lines, "total": total, "arrived_at": at,
    }  # fmt: skip


def lives() -> History:
    """Return customers with a rhythm of their own who all leave a cart one day; some buy by themselves afterwards."""
    chance = Random(1)
    history: History = {topic: [] for topic in SCHEMAS}
    for number in range(CUSTOMERS):
        customer = f"c{number}"
        consents = [{"channel": "email", "purpose": "marketing", "granted": True, "at": BEGIN - DAY}]
        history["customer-profiles"].append(
            {"customer_id": customer, "updated_at": BEGIN, "consents": consents, "arrived_at": BEGIN}
        )
        gap = chance.choice((20, 30, 40, 60, 70, 80)) * DAY
        for place in range(4):
            at = CART_AT - (4 - place) * gap + chance.randrange(DAY)
            history["purchases"].append(orders(customer, at, place, chance.randrange(1_000, 9_000)))
        at = CART_AT + chance.randrange(10 * HOUR)
        cart = {"cart_id": f"k{number}", "sku": "S1", "cart_total": chance.randrange(1_000, 9_000)}
        history["clickstream"].append(
            {"event_id": f"e{number}", "customer_id": customer, "event": "cart.item_added", "event_time": at,
             "arrived_at": at, **cart}
        )  # fmt: skip
        if chance.random() < 0.3:
            history["purchases"].append(orders(customer, at + DAY, 8, chance.randrange(1_000, 5_000)))
    late = CART_AT + 6 * DAY  # after the last window has ended
    last = {"event_id": "last", "customer_id": "c0", "event": "site.visited", "event_time": late, "arrived_at": late}
    history["clickstream"].append(last)
    return history


def decided(pack: Path, events: Path, out: Path) -> Path:
    """Return the folder in which a back-test left what the engine decided."""
    nobody_looks = lambda what, behind, total: None  # noqa: ARG005, E731
    backtest(Files(events, load({})), load_folder(pack), out, ROOT / "schemas", processes=1, progress=nobody_looks)
    return out


def responding(history: History, decisions: list[Record]) -> History:
    """Return the same lives, in which those whom a reminder was sent to and who order rarely order once more."""
    chance = Random(2)
    more = [
        orders(one["customer_id"], one["decided_at"] + 2 * HOUR, 9, 4_000)
        for one in sorted(decisions, key=lambda one: str(one["customer_id"]))
        if one["arm"] == "treatment" and one["features"]["order_gap"] >= RARE and chance.random() < 0.5
    ]
    return {**history, "purchases": sorted([*history["purchases"], *more], key=lambda one: int(one["arrived_at"]))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pack, recorded events, and what the engine made of them."""
    here = tmp_path_factory.mktemp("personas")
    (here / "pack").mkdir()
    for name, text in PACK.items():
        (here / "pack" / name).write_text(text)
    history = lives()
    for topic in SCHEMAS:
        history[topic].sort(key=lambda record: int(record.get("arrived_at", 0)))
    first = decided(here / "pack", write(history, here / "before"), here / "first")
    write(responding(history, [one for one in read_records(first, "decisions") if one["features"]]), here / "events")
    decided(here / "pack", here / "events", here / "records")
    return here


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """Return what a command did, run inside the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ORCHESTRATOR_SCHEMAS", str(ROOT / "schemas"))
    monkeypatch.setenv("ORCHESTRATOR_TOPICS", str(ROOT / "topics.yaml"))
    return CliRunner().invoke(main, arguments)


def test_find_shows_for_whom_it_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table names the condition, the uplift with its interval, the label and the e-value."""
    told = run(folder, monkeypatch, "personas", "find", *OPTIONS)
    found = json.loads(run(folder, monkeypatch, "personas", "find", *OPTIONS, "--json").output)

    assert told.exit_code == 0, told.output
    assert "extremely effective" in told.output
    assert "not effective" in told.output
    rescue = found["campaigns"]["cart_rescue"]
    assert rescue["split"]["cut"].startswith("order_gap >= ")
    assert rescue["split"]["e_value"] > found["e_value_needed"]
    rare, others = rescue["parts"]
    assert rare["worth"]["low"] < 1_000 < rare["worth"]["high"]  # half of them order for 40, half of which is margin
    assert others["worth"]["low"] < 0 < others["worth"]["high"]


def test_proposed_split_is_merged(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patch takes no line away, applies, lints, its tests run, and `plan` says who would have got what else."""
    proposal = run(folder, monkeypatch, "personas", "propose", *OPTIONS, "--out", "split.patch")
    copytree(folder / "pack", tmp_path / "pack")
    subprocess.run(["git", "apply", folder / "split.patch"], cwd=tmp_path, check=True)
    lint = run(tmp_path, monkeypatch, "lint", "pack")
    tested = run(tmp_path, monkeypatch, "test", "pack")
    recorded = "--events", str(folder / "events"), "--processes", "1"
    planned = run(tmp_path, monkeypatch, "plan", str(folder / "pack"), "pack", *recorded, "--json")
    lineage = run(tmp_path, monkeypatch, "personas", "lineage", "pack")

    assert proposal.exit_code == 0, proposal.output
    assert "split.patch: splits cart_rescue" in proposal.output
    patch = (folder / "split.patch").read_text().splitlines()
    assert [line for line in patch if line.startswith("-") and not line.startswith("---")] == []
    assert lint.exit_code == 0, lint.output
    assert "0 errors, 0 warnings" in lint.output
    assert "1 passed, 0 failed" in tested.output  # whoever has no rhythm yet counts as one who orders rarely
    plan = json.loads(planned.output)
    assert plan["definitions"]["campaigns"] == {"cart_rescue": "changed", "cart_rescue_others": "new"}
    assert plan["grew_from"] == {"cart_rescue_others": "cart_rescue"}
    kept, others = plan["messages"]["cart_rescue"], plan["messages"]["cart_rescue_others"]
    assert others["old"] == 0
    assert kept["old"] - kept["new"] == pytest.approx(others["new"], rel=0.1)
    assert "└─ cart_rescue_others: fill_in_cart_rescue_others by email" in lineage.output


def test_propose_says_which_tests_expect_what_it_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test whose customer is no longer in the segment is named with its place; it is for a person to decide."""
    copytree(folder / "pack", tmp_path / "pack")
    four_orders = "".join(f"      - {{ at: {20 * day}d, event: order.placed, total: 30 }}\n" for day in range(4))
    test = PACK["cart.test.yaml"].replace("    given:\n", f"    given:\n{four_orders}").replace("at: 0m", "at: 61d")
    (tmp_path / "pack" / "cart.test.yaml").write_text(test.replace("at: 2h", "at: 61d2h"))
    records = "--records", str(folder / "records"), "--definitions", "pack"
    proposal = run(tmp_path, monkeypatch, "personas", "propose", *records)

    assert "cart.test.yaml:2:5: the test 'reminded after an hour' expects what the split changes" in proposal.stderr
    assert proposal.stdout.startswith("--- a/pack/campaigns.yaml\n+++ b/pack/campaigns.yaml\n")


def test_topics_say_the_same_as_a_folder(folder: Path, stage: Stage) -> None:
    """Live, decisions and outcomes are read from their topics."""
    stage.write("decisions", read_records(folder / "records", "decisions"))
    stage.write("outcomes", read_records(folder / "records", "outcomes"))
    options = "personas", "find", "--definitions", str(folder / "pack"), "--json"
    live, kept = stage.run(*options), stage.run(*options, "--records", str(folder / "records"))

    assert live.exit_code == 0, live.output
    assert json.loads(live.output) == json.loads(kept.output)


def test_nothing_to_propose(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the groups would have to differ by more than they do, nothing is written."""
    proposal = run(folder, monkeypatch, "personas", "propose", *OPTIONS, "--difference", "100", "--out", "no.patch")

    assert proposal.exit_code == 0
    assert "Nothing to propose: no campaign's uplift is proven to differ between customers." in proposal.output
    assert not (folder / "no.patch").exists()


def test_what_is_missing_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without outcomes, or without features on the decisions, it says what to do."""
    decisions = list(read_records(folder / "records", "decisions"))
    outcomes = list(read_records(folder / "records", "outcomes"))
    for name, kept in (("none", []), ("blind", outcomes)):
        (tmp_path / name).mkdir()
        bare = ({**one, "features": {}} for one in decisions)
        for kind, records in (("decisions", bare), ("outcomes", kept)):
            list(written(tmp_path / name, kind, REGISTRY.named(KINDS[kind]), records))
    nothing, blind, absent = (
        run(folder, monkeypatch, "personas", "find", "--definitions", "pack", "--records", str(path))
        for path in (tmp_path / "none", tmp_path / "blind", tmp_path)
    )

    assert "no measurement window has closed yet" in nothing.output
    assert "name the features to search in the policy, like choose: { split_on: " in blind.output
    assert "has no decisions.avro; name what backtest --out wrote" in absent.output
    assert [one.exit_code for one in (nothing, blind, absent)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--false-discoveries", "0.1", "--false-discoveries '0.1' is not a share, write it like 10%"),
        ("--false-discoveries", "0%", "--false-discoveries '0%' is not a share, write it like 10%"),
        ("--difference", "1 EUR", "--difference '1 EUR' is not an amount, write it like 0.50"),
    ],
)
def test_options_that_cannot_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str, said: str
) -> None:
    """The message shows what was written and how to write it."""
    ended = run(folder, monkeypatch, "personas", "find", *OPTIONS, option, value)

    assert said in ended.output
    assert ended.exit_code == 2
