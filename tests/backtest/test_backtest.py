"""A back-test decides what a worker decides, leaves the same bytes every time, and says what it could not use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.backtest.files import Files
from orchestrator.backtest.result import KINDS, read_records
from orchestrator.backtest.run import Backtest, backtest
from orchestrator.cli import main
from orchestrator.events import DAY, FOREVER, HOUR
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.settings import load
from tests.backtest.made import BEGIN, RETAIL, ROOT, made, write

HISTORY = made(25)
LEFT = (*(f"{kind}.avro" for kind in KINDS), "result.json", "report.html")


def run(events: Path, out: Path, *, processes: int = 1, start: int = -FOREVER, **options: Any) -> Backtest:
    """Back-test the retail pack on the history in a folder."""
    history = Files(events, load({}), **options)
    return backtest(
        history,
        load_folder(RETAIL),
        out,
        ROOT / "schemas",
        processes=processes,
        progress=lambda what, behind, total: None,  # noqa: ARG005 (nobody looks)
        report_from=start,
    )


def left(out: Path) -> dict[str, bytes]:
    """Return everything a back-test wrote."""
    assert sorted(path.name for path in out.iterdir()) == sorted(LEFT)
    return {name: (out / name).read_bytes() for name in LEFT}


def test_every_run_leaves_the_same_bytes_with_one_process_or_two(tmp_path: Path) -> None:
    """Records, figures and report alike; so a back-test can be compared, stored and trusted."""
    events = write(HISTORY, tmp_path / "history", ".avro")

    found = run(events, tmp_path / "a")
    run(events, tmp_path / "b")
    run(events, tmp_path / "c", processes=2)

    assert found.figures["triggers"]["sent"] > 20
    assert left(tmp_path / "a") == left(tmp_path / "b") == left(tmp_path / "c")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_format_gives_the_same_decisions(tmp_path: Path, suffix: str) -> None:
    """What a warehouse exports does not change what is decided."""
    run(write(HISTORY, tmp_path / "avro", ".avro"), tmp_path / "a")
    run(write(HISTORY, tmp_path / "other", suffix), tmp_path / "b")

    for kind in KINDS:
        assert (tmp_path / "a" / f"{kind}.avro").read_bytes() == (tmp_path / "b" / f"{kind}.avro").read_bytes()


def test_files_may_lie_in_folders_of_their_topics_in_pieces(tmp_path: Path) -> None:
    """A file, or the folder it is in, is named after its topic."""
    run(write(HISTORY, tmp_path / "whole"), tmp_path / "a")
    pieces = write({**HISTORY, "clickstream": []}, tmp_path / "pieces")
    (pieces / "clickstream.jsonl").unlink()
    clicks = HISTORY["clickstream"]
    for number, piece in enumerate((clicks[:100], clicks[100:])):
        folder = pieces / "clickstream"
        folder.mkdir(exist_ok=True)
        (folder / f"part-{number}.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in piece))
    run(pieces, tmp_path / "b")

    assert left(tmp_path / "a")["decisions.avro"] == left(tmp_path / "b")["decisions.avro"]


def test_what_is_reported_may_begin_later_and_time_may_end_earlier(tmp_path: Path) -> None:
    """What came before is decided all the same: it holds slots and counts for caps."""
    events = write(HISTORY, tmp_path / "history")
    start, end = BEGIN + 5 * DAY, BEGIN + 10 * DAY

    run(events, tmp_path / "whole")
    run(events, tmp_path / "part", start=start, until=end)

    whole = list(read_records(tmp_path / "whole", "decisions"))
    part = list(read_records(tmp_path / "part", "decisions"))
    assert part == [one for one in whole if start <= one["decided_at"] <= end]
    assert 0 < len(part) < len(whole)


def test_idle_steps_change_nothing(tmp_path: Path) -> None:
    """How often barriers come does not matter as long as nothing is late by more than that."""
    events = write(HISTORY, tmp_path / "history")
    ends = BEGIN + 21 * DAY

    run(events, tmp_path / "hours", until=ends)
    run(events, tmp_path / "minutes", every=HOUR // 60, until=ends)

    hours, minutes = left(tmp_path / "hours"), left(tmp_path / "minutes")
    assert hours["triggers.avro"] == minutes["triggers.avro"]


def test_records_that_cannot_be_used_are_counted_with_their_reason(tmp_path: Path) -> None:
    """As dead letters, and the rest is decided."""
    good = HISTORY["clickstream"][0]
    bad = [{**good, "event_time": 5}, {**good, "customer_id": ""}, {"event_id": "x"}]
    events = write({**HISTORY, "clickstream": [*HISTORY["clickstream"], *bad]}, tmp_path / "history")

    found = run(events, tmp_path / "out")

    reasons = {one["reason"]: one["records"] for one in found.figures["history"]["unusable"]}
    assert reasons == {"too_old": 1, "missing_customer": 1, "undecodable": 1}


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_figures_and_writes_a_report(tmp_path: Path) -> None:
    """With `--json` for a program; the report is one page."""
    events = write(HISTORY, tmp_path / "history")
    arguments = ["backtest", str(RETAIL), "--events", str(events), "--out", str(tmp_path / "out"), "--processes", "1"]

    said = CliRunner().invoke(main, [*arguments, "--json"])
    seen = CliRunner().invoke(main, arguments)

    assert (said.exit_code, seen.exit_code) == (0, 0), said.output + seen.output
    assert json.loads(said.output) == json.loads((tmp_path / "out" / "result.json").read_text())
    assert "What was decided" in seen.output
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name the recorded events: --events PATH, or --topics"),
        (["--events", "{folder}", "--topics"], "name the recorded events"),
        (["--events", "{folder}"], "has no file of an input topic"),
        (["--events", "{odd}"], "clickstraem.jsonl' is of no input topic, did you mean 'clickstream'?"),
        (["--events", "{folder}", "--to", "soon"], "--to 'soon' is not a time"),
        (["--events", "{folder}", "--barrier-every", "soon"], "--barrier-every: 'soon' is not a duration"),
    ],
)
def test_a_mistake_is_said_with_what_to_do(tmp_path: Path, arguments: list[str], said: str) -> None:
    """Exit code 2, one line."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "clickstraem.jsonl").write_text("{}\n")
    places = {"folder": tmp_path / "empty", "odd": tmp_path / "odd"}

    ended = CliRunner().invoke(main, ["backtest", str(RETAIL), *(one.format(**places) for one in arguments)])

    assert ended.exit_code == 2
    assert said in ended.stderr


def test_a_damaged_file_is_one_line_whoever_reads_it(tmp_path: Path) -> None:
    """Also where another process has read it."""
    events = write(HISTORY, tmp_path / "history", ".avro")
    path = events / "purchases.avro"
    path.write_bytes(path.read_bytes()[:-500])

    for processes in ("1", "2"):
        arguments = ["backtest", str(RETAIL), "--events", str(events), "--out", str(tmp_path), "--processes", processes]
        ended = CliRunner().invoke(main, arguments)
        assert ended.exit_code == 2
        assert ended.stderr.startswith(f"orchestrator: '{path}' is no Avro container of ")
        assert len(ended.stderr.splitlines()) == 1


def test_what_cannot_be_used_is_told_with_an_example(tmp_path: Path) -> None:
    """A misspelt column is found by whoever looks at the terminal."""
    events = write(HISTORY, tmp_path / "history")
    (events / "purchases.jsonl").write_text('{"event_id": "e", "customer_id": "c", "event": "x", "event_tme": 1}\n')

    arguments = ["backtest", str(RETAIL), "--events", str(events), "--out", str(tmp_path / "out"), "--processes", "1"]
    ended = CliRunner().invoke(main, arguments)

    said = " ".join(ended.output.split())
    assert "purchases: 1 records cannot be used (undecodable), such as: purchases.jsonl: event_time: expected" in said


def test_a_pack_brings_its_own_inputs(tmp_path: Path) -> None:
    """Topics that the pack declares are files like any other; times may be written as people write them."""
    banking = ROOT / "deploy" / "definitions" / "banking"
    customers = [f"b{number}" for number in range(20)]
    consents = [
        {"channel": channel, "purpose": "marketing", "granted": True, "at": "2025-01-01"}
        for channel in ("email", "app", "push", "letter", "sms")
    ]
    profiles = [{"customer_id": one, "updated_at": "2025-01-01", "consents": consents} for one in customers]
    bookings = [
        {"booking_id": f"{one}-{day}", "customer_id": one, "booked_at": f"2025-03-{day:02}T09:00:00Z"}
        | {"merchant_kind": "car_dealer", "amount": 200_000, "direction": "out"}
        for one in customers
        for day in (3, 13)
    ]
    for topic, records in (("customer-profiles", profiles), ("transactions", bookings)):
        (tmp_path / f"{topic}.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in records))
    arguments = [
        "backtest",
        str(banking),
        "--events",
        str(tmp_path),
        "--to",
        "2025-03-31",
        "--processes",
        "1",
        "--json",
    ]

    ended = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out")])

    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.output)
    assert found["history"]["records"] == {"customer-profiles": 20, "transactions": 40}
    assert found["history"]["unusable"] == []
    assert found["triggers"]["by_campaign"]["car_insurance"] >= 10
