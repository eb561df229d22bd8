"""Snapshots: where the bands of a quantile begin over all customers, and what back-tests make of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from orchestrator.backtest.result import read_records
from orchestrator.backtest.snapshot import least_values
from orchestrator.cli import main
from orchestrator.events import DAY
from orchestrator.features import Feature
from orchestrator.learning.survival import spread_by_class
from tests.backtest.made import History, made, write

TIER = Feature(
    "tier", "quantile", of="orders", bands=(("high", None), ("mid", None), ("low", None)), shares=(900, 500, 0)
)
PACK = """
features:
  spend_365d: { sum: order.placed.total, over: 365d }
  value_tier: { quantile: spend_365d, bands: { high: 0.90, mid: 0.50, low: 0 } }
moments:
  - moment: left_a_cart
    say: "Of our best customers, and did not buy"
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 1h }
    only_if: "value_tier == 'high'"
    lasts: 2d
campaigns:
  - campaign: thanks
    when: left_a_cart
    priority: 10
    send: { channel: email, template: thanks }
    cost: { send: 0 }
    measure: { objective: margin, for: 1d }
    control: { start: 5%, floor: 5% }
policy:
  program: { currency: EUR }
  contact: { no_time_zone: { use: country_default, else: "Europe/Madrid" } }
"""


@pytest.mark.parametrize(
    ("amounts", "least"),
    [
        (range(1, 101), {"high": 91, "mid": 51}),
        ([1] * 7 + [2, 2, 3], {"high": 3, "mid": 2}),
        ([0] * 60 + list(range(1, 41)), {"high": 31, "mid": 1}),
        ([0] * 5 + [7] * 5, {"high": 8, "mid": 7}),
        ([-300, -200], {"high": -199, "mid": -200}),
        ([5], {"high": 6, "mid": 6}),
    ],
)
def test_a_band_begins_where_its_share_of_the_customers_is_below(
    amounts: range | list[int], least: dict[str, int]
) -> None:
    """Equals are in one band, so that a high band never holds more customers than it should."""
    assert least_values(TIER, Counter(amounts)) == least


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Return a folder with a pack whose tiers have no cut points."""
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "all.yaml").write_text(PACK)
    return folder


def told(*arguments: str) -> str:
    """Return what a command printed."""
    result = CliRunner().invoke(main, [*arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def figures(pack: Path, history: Path, out: Path) -> dict[str, Any]:
    """Return the figures of a back-test."""
    found: dict[str, Any] = json.loads(
        told("backtest", str(pack), "--events", str(history), "--out", str(out), "--json")
    )
    return found


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_snapshot_is_that_of_the_customers_at_the_end_of_the_events(
    pack: Path, tmp_path: Path, processes: str
) -> None:
    """Compared with what the orders add up to."""
    history = made(40)
    folder = write(history, tmp_path / "history", ".jsonl")

    (line,) = told("snapshots", "compute", str(pack), "--events", str(folder), "--processes", processes).splitlines()

    spent = Counter({one["customer_id"]: 0 for one in history["customer-profiles"]})
    for order in history["purchases"]:
        spent[order["customer_id"]] += order["total"]
    found, amounts = json.loads(line), sorted(spent.values())
    assert found["least"] == {"high": amounts[36], "mid": amounts[20]}
    assert (found["feature"], found["of"], found["customers"]) == ("value_tier", "spend_365d", 40)
    assert found["effective_from"] >= max(order["event_time"] for order in history["purchases"])


def test_a_back_test_takes_the_snapshots_beside_the_events(pack: Path, tmp_path: Path) -> None:
    """Unknown, nobody is in a tier; from the snapshot's instant on the best tenth is."""
    folder = write(made(40), tmp_path / "history", ".jsonl")
    assert figures(pack, folder, tmp_path / "without")["triggers"]["sent"] == 0

    early = told("snapshots", "compute", str(pack), "--events", str(folder), "--to", "2017-03-11")
    (folder / "snapshots.jsonl").write_text(early)

    assert figures(pack, folder, tmp_path / "with")["triggers"]["sent"] > 0
    first = min(one["decided_at"] for one in read_records(tmp_path / "with", "triggers"))
    assert first >= json.loads(early)["effective_from"]


REORDER = """
features:
  due: { predict: next_order_date, key: product_family, from: order.placed, model: pooled_gap }
moments:
  - moment: runs_out
    say: "About to run out of something they reorder"
    key: product_family
    around: { date: due, from: -1d, to: +3d }
    lasts: window
campaigns:
  - campaign: reorder
    when: runs_out
    priority: 10
    send: { channel: email, template: reorder, with: [due_product, reorder_window, recommended] }
    cost: { send: 0 }
    measure: { objective: margin, for: 1d }
    control: { start: 5%, floor: 5% }
policy:
  program: { currency: EUR }
  contact: { no_time_zone: { use: country_default, else: "Europe/Madrid" } }
"""


def test_the_spread_is_that_of_the_gaps_in_the_events(pack: Path, tmp_path: Path) -> None:
    """Every gap after another counts, those that are not over as well, as it was expected when it began."""
    (pack / "all.yaml").write_text(REORDER)
    history = made(40, days=40)
    folder = write(history, tmp_path / "history", ".jsonl")

    (line,) = told("snapshots", "compute", str(pack), "--events", str(folder)).splitlines()

    found = json.loads(line)
    end = found["effective_from"]
    own, residuals, over = zip(*_gaps_by_hand(history, end), strict=True)
    expected = spread_by_class(np.array(residuals), np.array(over), np.array(own))
    assert (found["feature"], found["customers"]) == ("due", len(own))
    assert found["least"] == pytest.approx(expected, abs=100)  # what is expected is rounded to a minute


def _gaps_by_hand(history: History, end: int) -> Iterator[tuple[int, float, bool]]:
    """Yield own gaps so far, log(gap / expected) and whether it is over, from the trips of each customer and family."""
    family = {product["sku"]: product["family"] for product in history["products"]}
    orders: dict[tuple[str, str], list[int]] = {}
    for order in history["purchases"]:
        if order["event"] == "order.placed":
            for one in {family[line["sku"]] for line in order["lines"]}:
                orders.setdefault((order["customer_id"], one), []).append(order["event_time"])
    for times in orders.values():
        trips: list[int] = []
        for at in sorted(times):
            if not trips or at - trips[-1] >= DAY:
                trips.append(at // 1000 * 1000)
        logs = [math.log((after - before) / DAY) for before, after in pairwise(trips)]
        for known in range(1, len(trips)):
            expected = math.exp((sum(logs[:known]) + 3 * math.log(5)) / (known + 3))
            over = known + 1 < len(trips)
            until = trips[known + 1] if over else end
            yield known, math.log((until - trips[known]) / DAY / expected), over


def test_a_back_test_says_what_the_snapshots_tell(pack: Path, tmp_path: Path) -> None:
    """Products that go together, and windows, from the files beside the events; without them there are none."""
    (pack / "all.yaml").write_text(REORDER)
    folder = write(made(60, days=40), tmp_path / "history", ".jsonl")
    figures(pack, folder, tmp_path / "without")

    similar = told("snapshots", "similar", str(pack), "--events", str(folder), "--to", "2017-03-20")
    (folder / "similar-products.jsonl").write_text(similar)
    spread = {"feature": "due", "effective_from": 0, "least": {f"{end}_1": 0 for end in ("low", "high")}}
    (folder / "snapshots.jsonl").write_text(json.dumps(spread))
    figures(pack, folder, tmp_path / "with")

    since = json.loads(similar.splitlines()[0])["effective_from"]
    before, after = (list(read_records(tmp_path / out, "triggers")) for out in ("without", "with"))
    assert before
    assert not any(one["facts"]["recommended"] for one in before)
    assert any(one["facts"]["recommended"] for one in after)
    assert all(one["decided_at"] >= since for one in after if one["facts"]["recommended"])
    windows = [one["facts"]["reorder_window"] for one in after if one["facts"]["reorder_window"]]
    assert any(one["earliest"] == one["expected"] == one["latest"] for one in windows)


def test_definitions_without_a_tier_say_so(pack: Path, tmp_path: Path) -> None:
    """There is nothing to compute."""
    (pack / "all.yaml").write_text("features:\n  orders: { count: order.placed }\n")

    result = CliRunner().invoke(main, ["snapshots", "compute", str(pack), "--events", str(tmp_path)])

    assert result.exit_code == 2
    assert "has a 'quantile' or predicts a 'next_order_date': there is nothing to compute" in result.stderr
