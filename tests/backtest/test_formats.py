"""Files of any format give the same rows, however many portions they are read in; what does not fit says why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.backtest import formats
from orchestrator.backtest.files import with_arrival
from orchestrator.backtest.fitting import Unfit, fitting
from orchestrator.backtest.formats import rows
from orchestrator.runtime.errors import OperatorError
from tests.backtest.made import REGISTRY, SCHEMAS, made, write

HISTORY = made(12)
SUFFIXES = (".avro", ".jsonl", ".parquet")


def read(path: Path, parts: int) -> list[dict[str, Any]]:
    """Return the records of a file in the order of their places."""
    schema = with_arrival(REGISTRY.named(SCHEMAS[path.stem]))
    found = [row for part in range(parts) for row in rows(path, schema, fitting(schema), part, parts)]
    assert len({row.place for row in found}) == len(found)
    records = [row.record for row in sorted(found, key=lambda row: row.place)]
    assert not [record for record in records if isinstance(record, Unfit)]
    return records  # type: ignore[return-value]  # none is unfit, as was just asserted


@pytest.mark.parametrize("topic", ["clickstream", "purchases", "customer-profiles"])
def test_all_formats_give_the_same_records(tmp_path: Path, topic: str) -> None:
    """With every field of the schema, in the order written."""
    avro, json, parquet = (read(write(HISTORY, tmp_path / name, name) / f"{topic}{name}", 1) for name in SUFFIXES)

    assert len(avro) == len(HISTORY[topic])
    assert avro == json == parquet
    assert {name: avro[0][name] for name in HISTORY[topic][0]} == HISTORY[topic][0]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_portions_together_have_every_row_once(
    tmp_path: Path, suffix: str, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their number, also where a line begins at the very edge of a portion."""
    monkeypatch.setattr(formats, "_CHUNK", 700)
    path = write(HISTORY, tmp_path, suffix) / f"clickstream{suffix}"

    assert read(path, parts) == read(path, 1)


def test_a_chunk_that_begins_with_a_line_gives_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The byte before tells whether a line begins exactly at the edge."""
    path = write(HISTORY, tmp_path) / "clickstream.jsonl"
    first = len(path.read_bytes().split(b"\n")[0]) + 1

    for edge in (first - 1, first, first + 1):
        monkeypatch.setattr(formats, "_CHUNK", edge)
        assert read(path, 2) == read(path, 1)


def test_times_may_be_written_as_people_write_them() -> None:
    """Milliseconds, ISO 8601 with and without an offset, and what columns of times hold, are one instant."""
    fit = fitting({"type": "record", "name": "R", "fields": [{"name": "at", "type": "long"}]})
    instants = (
        1_741_003_200_000,
        1_741_003_200_000.0,
        "2025-03-03T12:00:00Z",
        "2025-03-03T13:00+01:00",
        "2025-03-03 12:00",
        datetime(2025, 3, 3, 12, tzinfo=UTC),
        datetime(2025, 3, 3, 12),  # noqa: DTZ001 (Parquet's own times may have no zone)
    )

    assert {fit({"at": instant})["at"] for instant in instants} == {1_741_003_200_000}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"event_time": 1}, "event_id: expected a text, found nothing"),
        ({"event_id": "e", "customer_id": "c", "event": "x", "event_time": "soon"}, "event_time: expected a whole"),
        (
            {"event_id": "e", "customer_id": "c", "event": "x", "event_time": 1, "cart_total": 12.5},
            "cart_total: expected a whole number or a time, found float '12.5'",
        ),
        ([], "expected an object, found list '[]'"),
    ],
)
def test_what_does_not_fit_says_the_field_and_what_was_expected(row: Any, said: str) -> None:
    """So that whoever wrote the file knows what to change."""
    with pytest.raises(Unfit) as unfit:
        fitting(REGISTRY.named("clickstream_event"))(row)

    assert str(unfit.value).startswith(said)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet is an extra; the error says which."""
    path = write(HISTORY, tmp_path, ".parquet") / "clickstream.parquet"
    monkeypatch.setattr(formats, "find_spec", lambda name: None)  # noqa: ARG005 (as if it were not installed)

    with pytest.raises(OperatorError, match=r"pip install 'journey-orchestrator\[parquet\]'"):
        read(path, 1)


@pytest.mark.parametrize("suffix", [".avro", ".parquet", ".jsonl"])
def test_a_file_that_is_something_else_is_named(tmp_path: Path, suffix: str) -> None:
    """The operator reads which file, not a traceback."""
    path = tmp_path / f"clickstream{suffix}"
    path.write_text("not at all\n")

    with pytest.raises(OperatorError, match=str(path)):
        read(path, 1)
