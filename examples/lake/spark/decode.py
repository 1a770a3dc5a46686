"""From records of a stream to rows, in batches of Arrow. Runs in Spark's Python workers.

A foreign record becomes one row that has only `error`, `foreign` and where it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from telemetryd.flatten import Row, rows_of
from telemetryd_proto.flat import COLUMNS, FlatLine
from telemetryd_proto.flat_tables import columns
from telemetryd_proto.kinesis import decode_object

MAX_DECODED = 64 * 1024 * 1024
"""Bytes that one record may become when it is decompressed."""
ROWS_AT_ONCE = 10_000
"""Rows of a batch of Arrow, and those of one record more."""
_RECORD_ID = re.compile("[0-9a-f]{32}-[0-9]{1,20}")
_TYPES = {str: pa.string(), float: pa.float64(), int: pa.int64()}
_MICROSECONDS = pa.timestamp("us", "UTC")
_FLAT = [
    pa.field(name, _MICROSECONDS if name == "time" else _TYPES[kind]) for name, kind, _ in columns()
]
_FOREIGN = [
    pa.field("place", pa.string()), pa.field("error", pa.string()), pa.field("foreign", pa.binary())
]  # fmt: skip
ARROW_SCHEMA = pa.schema([*_FLAT, *_FOREIGN])
_SQL = {str: "string", float: "double", int: "bigint"}
SCHEMA = ", ".join(
    [f"`{name}` {'timestamp' if name == 'time' else _SQL[kind]}" for name, kind, _ in columns()]
    + ["place string", "error string", "foreign binary"]
)
"""The same as Spark writes it."""


def decode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all records; for `DataFrame.mapInArrow`."""
    lines: list[FlatLine] = []
    for batch in batches:
        for record in batch.to_pylist():
            place = f"{record['shard']}:{record['sequence']}"
            try:
                lines += [row.line for row in _rows_of(record, place)]
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, others are good
                yield _to_foreign(record, place, error)
            if len(lines) >= ROWS_AT_ONCE:
                yield _to_arrow(lines)
                lines = []
    yield _to_arrow(lines)


def _to_foreign(record: dict[str, Any], place: str, error: Exception) -> pa.RecordBatch:
    arrived = datetime.fromtimestamp(record["arrived"], UTC)
    only = {"time": arrived, "place": place, "error": repr(error)[:500], "foreign": record["data"]}
    return pa.RecordBatch.from_pylist([only], ARROW_SCHEMA)


def _rows_of(record: dict[str, Any], place: str) -> list[Row]:
    # with partition_key = "random" it is the id of the record, the same when it is sent again
    key = record["partition_key"]
    unique = key if _RECORD_ID.fullmatch(key) else place
    return [
        row
        for number, decoded in enumerate(decode_object(record["data"], max_bytes=MAX_DECODED))
        for row in rows_of(decoded, place=f"{unique}:{number}", received_at=record["arrived"])
    ]


def _to_arrow(lines: list[FlatLine]) -> pa.RecordBatch:
    arrays = [
        pa.array([datetime.fromisoformat(line.time) for line in lines], _MICROSECONDS),
        *(
            pa.array([getattr(line, name) for line in lines], field.type)
            for name, field in zip(COLUMNS[1:], _FLAT[1:], strict=True)
        ),
        *(pa.nulls(len(lines), field.type) for field in _FOREIGN),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=ARROW_SCHEMA)
