"""Who is in which segment at the end of every week, and which value let them in or out."""

import json
from collections import Counter
from pathlib import Path

from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.events import DAY
from tests.backtest.made import BEGIN, History, made, write
from tests.builders import instant

PACK = Path("orchestrator/starter")
WEEK = 7 * DAY
SEGMENTS = """
segments:
  regulars: { say: "Twice or more", is: "orders_lifetime >= 2" }
  fresh: { say: "Ordered within ten days", is: "since_order < 10d" }
  nobody: { say: "Very often", is: "orders_lifetime >= 1000" }
features:
  since_order: { age_of: { last_time: order.placed } }
"""


def run(folder: Path, history: History, *options: str) -> Result:
    """Return what the command says about the starter's pack with some segments."""
    pack = folder / "pack"
    pack.mkdir()
    for path in PACK.glob("*.yaml"):
        (pack / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (pack / "segments.yaml").write_text(SEGMENTS, encoding="utf-8")
    events = write(history, folder / "history")
    return CliRunner().invoke(main, ["segments", str(pack), "--events", str(events), "--processes", "1", *options])


def orders(*days: float) -> History:
    """Return the history of one customer who ordered so many days after a Wednesday at midnight."""
    placed = [
        {"event_id": f"o{day}", "customer_id": "ana", "event": "order.placed", "order_id": f"o{day}", "total": 3000}
        | {"event_time": BEGIN + int(day * DAY), "channel": "web", "lines": []}
        for day in days
    ]
    return {"purchases": [{**one, "arrived_at": one["event_time"]} for one in placed]}


def test_sizes_and_why_they_changed(tmp_path: Path) -> None:
    """A second order makes a regular, time alone ends being fresh, and the value that did it is named."""
    found = run(tmp_path, orders(0.5, 6), "--json", "--to", "2017-03-19")
    assert found.exit_code == 0, found.output
    looks = json.loads(found.output)

    days = [instant("2017-03-06T00:00"), instant("2017-03-13T00:00"), instant("2017-03-20T00:00")]
    assert [look["at"] for look in looks] == days
    told = [look["segments"] for look in looks]
    assert [look["customers"] for look in looks] == [1, 1, 1]
    assert [one["regulars"]["size"] for one in told] == [0, 1, 1]
    assert [one["fresh"]["size"] for one in told] == [1, 1, 0]
    assert told[0]["fresh"] == {"size": 1, "entered": {"their first event": 1}, "left": {}}
    assert told[1]["regulars"] == {"size": 1, "entered": {"orders_lifetime": 1}, "left": {}}
    assert told[2]["fresh"] == {"size": 0, "entered": {}, "left": {"since_order": 1}}


def test_many_customers_are_counted_as_their_orders_say(tmp_path: Path) -> None:
    """At the end the regulars are those with two orders, and each step from look to look is who came and went."""
    history = made(60)
    looks = json.loads(run(tmp_path, history, "--json").output)
    placed = Counter(one["customer_id"] for one in history["purchases"])

    assert looks[-1]["segments"]["regulars"]["size"] == sum(count >= 2 for count in placed.values()) > 5
    assert looks[-1]["segments"]["nobody"] == {"size": 0, "entered": {}, "left": {}}
    for name in ("regulars", "fresh"):
        size = 0
        for look in looks:
            one = look["segments"][name]
            size += sum(one["entered"].values()) - sum(one["left"].values())
            assert size == one["size"]


def test_the_table_says_the_same(tmp_path: Path) -> None:
    """A row per week with a column per segment, and below it who came and went; the page has a line for each."""
    page = tmp_path / "page.html"
    found = run(tmp_path, orders(0.5, 6), "--to", "2017-03-19", "--html", str(page))
    lines = [" ".join(line.split()) for line in found.output.splitlines()]

    assert "2017-03-13 00:00 1 1 1 0" in lines
    assert "fresh since_order 0 1" in lines
    assert "regulars orders_lifetime 1 0" in lines
    assert page.read_text(encoding="utf-8").count("<polyline") == 3
