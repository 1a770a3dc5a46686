"""Tables for the flat schema, as SQL that several engines run, generated from `flat.FlatLine`."""

from __future__ import annotations

import types
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec

from telemetryd_proto.flat import COLUMNS, FlatLine

_TYPES: Final[dict[str, dict[type, str]]] = {
    "athena": {str: "string", float: "double", int: "bigint"},
    "clickhouse": {str: "String", float: "Float64", int: "Int64"},
    "duckdb": {str: "VARCHAR", float: "DOUBLE", int: "BIGINT"},
}
_TIMES: Final = {
    "athena": "timestamp",
    "clickhouse": "DateTime64(9, 'UTC')",
    "duckdb": "TIMESTAMPTZ",
}
_FEW: Final = frozenset({"type", "level", "function", "version", "status", "error_type"})
"""Columns with few values."""
_HEAD: Final = (
    "-- Generated from telemetryd_proto.flat (make schema). docs/flat.md explains it.\n\n"
)


def render() -> dict[str, str]:
    """Return the SQL of each engine: file name to its content."""
    return {
        "flat.athena.sql": _HEAD + _athena(),
        "flat.clickhouse.sql": _HEAD + _clickhouse(),
        "flat.duckdb.sql": _HEAD + _duckdb(),
    }


def columns() -> list[tuple[str, type, bool]]:
    """Return name, type (`str`, `float` or `int`), and if null is possible, of each column."""
    found = []
    for field in msgspec.structs.fields(FlatLine):
        kind: Any = field.type
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        parts = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
        kinds = [part for part in parts if part is not types.NoneType]
        plain = kinds[0] if kinds[0] in (float, int) else str
        found.append((field.name, plain, len(kinds) < len(parts)))
    return found


def _athena() -> str:
    text = [f"  `{name}` {_TYPES['athena'][kind]}" for name, kind, _ in columns()]
    typed = [
        f"  `{name}` {_TIMES['athena'] if name == 'time' else _TYPES['athena'][kind]}"
        for name, kind, _ in columns()
    ]
    names = [
        'cast(from_iso8601_timestamp("time") AS timestamp) AS "time"'
        if name == "time"
        else f'"{name}"'
        for name, _, _ in columns()
    ]
    return _sql(
        "-- The lines as they are in S3. Set the location.",
        "CREATE EXTERNAL TABLE telemetry_lines (",
        ",\n".join(text),
        ")",
        "ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'",
        "LOCATION 's3://BUCKET/lines/';",
        "",
        "-- An Iceberg table of them. Set the location.",
        "CREATE TABLE telemetry (",
        ",\n".join(typed),
        ")",
        "PARTITIONED BY (day(`time`))",
        "LOCATION 's3://BUCKET/telemetry/'",
        "TBLPROPERTIES ('table_type' = 'ICEBERG', 'format' = 'parquet');",
        "",
        "-- Adds the lines that the table does not have yet, each once.",
        "MERGE INTO telemetry AS have USING (",
        "  SELECT " + ", ".join(names),
        "  FROM (",
        "    SELECT *, row_number() OVER (PARTITION BY record_id) AS copy",
        "    FROM telemetry_lines",
        "  )",
        "  WHERE copy = 1",
        ") AS new ON have.record_id = new.record_id",
        "WHEN NOT MATCHED THEN INSERT (" + ", ".join(f'"{name}"' for name in COLUMNS) + ")",
        "  VALUES (" + ", ".join(f'new."{name}"' for name in COLUMNS) + ");",
    )


def _clickhouse() -> str:
    rows = []
    for name, kind, nullable in columns():
        if name == "time":
            sql = _TIMES["clickhouse"]
        else:
            sql = _TYPES["clickhouse"][kind]
            sql = f"Nullable({sql})" if nullable else sql
            sql = f"LowCardinality({sql})" if name in _FEW else sql
        rows.append(f"  `{name}` {sql}")
    return _sql(
        "-- Lines that were delivered twice become one when parts are merged, or with FINAL.",
        "-- Insert with date_time_input_format = 'best_effort', which reads RFC 3339.",
        "CREATE TABLE telemetry (",
        ",\n".join(rows),
        ")",
        "ENGINE = ReplacingMergeTree",
        "PARTITION BY toYYYYMM(time)",
        "ORDER BY (function, time, record_id);",
    )


def _duckdb() -> str:
    rows = []
    names = []
    for name, kind, nullable in columns():
        sql = _TIMES["duckdb"] if name == "time" else _TYPES["duckdb"][kind]
        key = " PRIMARY KEY" if name == "record_id" else "" if nullable else " NOT NULL"
        rows.append(f'  "{name}" {sql}{key}')
        names.append(f"'{name}': '{sql}'")
    return _sql(
        "CREATE TABLE telemetry (",
        ",\n".join(rows),
        ");",
        "",
        "-- Adds the lines of files, each once. Set the path.",
        "INSERT OR IGNORE INTO telemetry",
        "SELECT * FROM read_json('lines/*.ndjson', format = 'newline_delimited',",
        "  columns = {" + ", ".join(names) + "});",
    )


def _sql(*lines: str) -> str:
    return "\n".join(lines) + "\n"
