"""Rows of the flat format load into four engines, without hints and by the tables we publish."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.flat_lines import LINES, TAGS, TYPES, flat_rows
from telemetryd_proto import flat_tables
from telemetryd_proto.flat import COLUMNS

pytestmark = pytest.mark.lake

BLOCKS = st.tuples(st.lists(LINES, min_size=1, max_size=30), TAGS)
OFTEN = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SELDOM = settings(OFTEN, max_examples=4)
READ = "SELECT * FROM file('%s')"
NUMBERS = [name for name, kind in TYPES.items() if kind is not str]


def write(tmp_path: Path, block: tuple[list[bytes], Any]) -> tuple[str, list[dict[str, Any]]]:
    rows, expected = flat_rows(*block)
    path = tmp_path / "rows.ndjson"
    path.write_bytes(b"".join(rows))
    return str(path), expected


def check(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare all columns; one of times that a reader took for such, by their presence."""
    by_id = {row["record_id"]: row for row in found}
    assert len(found) == len(by_id) == len(expected)
    for row in expected:
        loaded = by_id[row["record_id"]]
        assert set(loaded) == set(COLUMNS)
        for name in COLUMNS:
            here, there = row[name], loaded[name]
            if name in NUMBERS and here is not None:
                assert math.isclose(here, there)
            elif isinstance(there, dt.date):
                assert here is not None
            else:
                assert here == there, name


@OFTEN
@given(BLOCKS)
def test_duckdb_infers_the_schema(tmp_path: Path, block: tuple[list[bytes], Any]) -> None:
    import duckdb

    path, expected = write(tmp_path, block)
    with duckdb.connect() as database:
        found = database.execute("SELECT * FROM read_json_auto(?)", [path])
        names = [column[0] for column in found.description]
        check([dict(zip(names, row, strict=True)) for row in found.fetchall()], expected)


@OFTEN
@given(BLOCKS)
def test_pyarrow_infers_the_schema(tmp_path: Path, block: tuple[list[bytes], Any]) -> None:
    from pyarrow import json as reader

    path, expected = write(tmp_path, block)
    check(reader.read_json(path).to_pylist(), expected)


@OFTEN
@given(BLOCKS)
def test_clickhouse_infers_the_schema(tmp_path: Path, block: tuple[list[bytes], Any]) -> None:
    import chdb

    path, expected = write(tmp_path, block)
    found = str(chdb.query(READ % path, "JSONEachRow"))
    check([dated(json.loads(row), expected) for row in found.split("\n") if row], expected)


def dated(row: dict[str, Any], expected: list[dict[str, Any]]) -> dict[str, Any]:
    """Mark what ClickHouse took for times and prints in another form; 64 bits come as text."""
    (same,) = [each for each in expected if each["record_id"] == row["record_id"]]
    for name, value in row.items():
        if name in NUMBERS and isinstance(value, str):
            row[name] = int(value)
        elif isinstance(value, str) and value != same[name] and value[:1].isdigit():
            row[name] = dt.date.fromisoformat(value[:10])
    return row


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    yield session
    session.stop()


@SELDOM
@given(st.tuples(st.lists(LINES, min_size=20, max_size=80), TAGS))
def test_spark_infers_the_schema(
    tmp_path: Path, spark: Any, block: tuple[list[bytes], Any]
) -> None:
    path, expected = write(tmp_path, block)
    check([row.asDict() for row in spark.read.json(path).collect()], expected)


@OFTEN
@given(BLOCKS)
def test_the_table_for_duckdb_takes_each_line_once(
    tmp_path: Path, block: tuple[list[bytes], Any]
) -> None:
    import duckdb

    path, expected = write(tmp_path, block)
    create, insert = flat_tables.render()["flat.duckdb.sql"].split(";\n\n")
    insert = insert.replace("lines/*.ndjson", path)
    with duckdb.connect() as database:
        database.execute(create)
        database.execute(insert)
        database.execute(insert)
        found = database.execute("SELECT * FROM telemetry").fetchall()
    check([dict(zip(COLUMNS, row, strict=True)) for row in found], expected)


@SELDOM
@given(BLOCKS)
def test_the_table_for_clickhouse_takes_each_line_once(
    tmp_path: Path, block: tuple[list[bytes], Any]
) -> None:
    from chdb import session

    path, expected = write(tmp_path, block)
    with session.Session() as database:
        database.query("CREATE DATABASE lake; USE lake")
        database.query(flat_tables.render()["flat.clickhouse.sql"])
        for _ in range(2):
            database.query(
                "INSERT INTO telemetry "
                + READ % path
                + " SETTINGS date_time_input_format = 'best_effort'"
            )
        found = str(database.query("SELECT * FROM telemetry FINAL", "JSONEachRow"))
        database.query("DROP DATABASE lake")
    check([dated(json.loads(row), expected) for row in found.split("\n") if row], expected)
