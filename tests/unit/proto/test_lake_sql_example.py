"""The example lake's SQL has the columns of the flat schema. `make lake-test` runs what it can."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from telemetryd_proto import flat_tables
from telemetryd_proto.flat import COLUMNS

SQL = Path(__file__).parents[3] / "examples" / "lake" / "sql"


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("athena.sql", r"^  `(\w+)` \w+,?$"),
        ("clickhouse.sql", r"^  `(\w+)` [\w()]+,?$"),
        ("duckdb.sql", r"^    '(\w+)': '\w+',?$"),
    ],
)
def test_the_columns_are_those_of_the_schema(name: str, column: str) -> None:
    text = (SQL / name).read_text()
    assert tuple(re.findall(column, text, re.MULTILINE)) == COLUMNS


def test_athena_reads_lines_with_the_types_of_the_published_table() -> None:
    published = flat_tables.render()["flat.athena.sql"]
    begin, end = published.index("CREATE EXTERNAL TABLE"), published.index("\n)")
    assert published[begin:end] in (SQL / "athena.sql").read_text()
