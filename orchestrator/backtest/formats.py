"""Files of records, a portion at a time: Avro containers, JSON Lines and Parquet, each row with its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

from orchestrator.backtest.fitting import Fit, Unfit
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.schema_registry import canonical

SUFFIXES = (".avro", ".jsonl", ".ndjson", ".parquet")

_ROWS = 1 << 20
"""More rows than a block or a row group has: a row's place is that of its block times this, plus its own."""

_CHUNK = 1 << 20
"""Bytes of JSON Lines that one portion takes before the next portion's turn."""


class Row(NamedTuple):
    """One row: its place in the file, and the record, or why there is none."""

    place: int
    record: dict[str, Any] | Unfit


def rows(path: Path, schema: Any, fit: Fit, part: int, parts: int) -> Iterator[Row]:
    """Yield the rows of one portion of a file; all portions together have every row once, whatever their number."""
    reading = {".avro": _avro, ".parquet": _parquet}.get(path.suffix, _json)
    try:
        yield from reading(path, schema, fit, part, parts)
    except OSError as error:
        raise OperatorError(f"cannot read '{path}': {error.strerror or error}", exit_code=USAGE) from error


def _avro(path: Path, schema: Any, fit: Fit, part: int, parts: int) -> Iterator[Row]:
    with path.open("rb") as file:
        try:
            blocks = fastavro.block_reader(file)
            if canonical(blocks.writer_schema) != canonical(fastavro.parse_schema(schema)):
                file.seek(0)
                blocks = fastavro.block_reader(file, reader_schema=schema)  # resolving takes three times as long
            annotated = "logicalType" in json.dumps(blocks.writer_schema)
            for number, block in enumerate(blocks):
                if number % parts != part:
                    continue
                record: Any
                for place, record in enumerate(block, number * _ROWS):
                    # An annotated time comes as a datetime; all else is what the schema says already.
                    yield _fitted(place, record, fit) if annotated else Row(place, record)
        except Exception as error:  # a container that is cut short or none at all fails in any way it likes
            what = " ".join(str(error).split())[:200] or type(error).__name__
            message = f"'{path}' is no Avro container of {schema['name']}, or a damaged one: {what}"
            raise OperatorError(message, exit_code=USAGE) from None


def _json(path: Path, schema: Any, fit: Fit, part: int, parts: int) -> Iterator[Row]:
    del schema
    size = path.stat().st_size
    with path.open("rb") as file:
        for start in range(part * _CHUNK, size, parts * _CHUNK):
            # A line belongs to the chunk in which it begins.
            file.seek(max(0, start - 1))
            if start:
                file.readline()
            while (place := file.tell()) < start + _CHUNK:
                line = file.readline()
                if not line:
                    return
                if line.strip():
                    yield _fitted(place, _loaded(line, path, place), fit)


def _loaded(line: bytes, path: Path, place: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise OperatorError(f"'{path}', at byte {place}: not a line of JSON: {error}", exit_code=USAGE) from None


def _parquet(path: Path, schema: Any, fit: Fit, part: int, parts: int) -> Iterator[Row]:
    del schema
    if find_spec("pyarrow") is None:
        message = f"'{path}' needs pyarrow to be read: pip install 'journey-orchestrator[parquet]'"
        raise OperatorError(message, exit_code=USAGE)
    from pyarrow import ArrowInvalid, parquet

    try:
        with parquet.ParquetFile(path) as file:
            for number in range(part, file.num_row_groups, parts):
                place = number * _ROWS
                for batch in file.iter_batches(batch_size=4096, row_groups=[number], use_threads=False):
                    for row in batch.to_pylist():
                        yield _fitted(place, row, fit)
                        place += 1
    except ArrowInvalid as error:
        raise OperatorError(f"'{path}' is no Parquet file: {error}", exit_code=USAGE) from None


def _fitted(place: int, row: Any, fit: Fit) -> Row:
    try:
        return Row(place, fit(row))
    except Unfit as error:
        return Row(place, error)
