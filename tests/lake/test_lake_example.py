"""The example lake: each line comes once through packer, Firehose's Lambda, objects and SQL."""

from __future__ import annotations

import base64
import importlib.util
import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from helpers.flat_lines import flat_rows
from telemetryd.sinks.kinesis.config import KinesisConfig
from telemetryd.sinks.kinesis.packer import Packer
from telemetryd.testing import block, context
from telemetryd_proto import flat_tables

pytestmark = pytest.mark.lake

LAKE = Path(__file__).parents[2] / "examples" / "lake"
LINES = 30_000
WAYS = [
    ("ndjson", "none"), ("ndjson", "gzip"), ("ndjson", "zstd"), ("kpl", "none"),
    ("single", "none"), ("single", "gzip"),
]  # fmt: skip
PATH = "day={date}/source={function}/worst={level}"
QUERY = "SELECT record_id, message, attributes, duration_ms, level FROM %s ORDER BY record_id"
INSERT = """
INSERT INTO telemetry_lines
SELECT * EXCEPT (day, source, worst) FROM file('%s', 'JSONEachRow')
"""
COUNTS = """
SELECT sum(invocations), sum(cold_starts), sum(failures), max(longest_ms) FROM invocations
"""


def line(number: int) -> bytes:
    """A line of two days: text, an object, or a report."""
    hour, second = divmod(number * 4, 3600)
    time = f"2026-03-{14 + hour // 24}T{hour % 24:02}:{second // 60:02}:{second % 60:02}.012Z"
    report = {
        "requestId": f"r-{number}",
        "status": "error" if number % 27 == 0 else "success",
        "metrics": {
            "durationMs": number / 8,
            "maxMemoryUsedMB": 60,
            **({"initDurationMs": 99.5} if number % 30 == 0 else {}),
        },
    }
    kind, record = [
        ("platform.report", report),
        ("function", f"text {number} ü\n"),
        ("function", {"level": "ERROR" if number % 50 == 2 else "INFO", "message": [number]}),
    ][number % 3]
    return json.dumps({"time": time, "type": kind, "record": record}).encode()


def transform() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lake_transform", LAKE / "firehose" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def records_of(rows: list[bytes], rng: random.Random) -> list[bytes]:
    """Records of every packing, in another order, of which a third is delivered again."""
    records = []
    for number, at in enumerate(range(0, len(rows), 500)):
        packing, compression = WAYS[number % len(WAYS)]
        keys = {"type": "kinesis", "stream": "s", "packing": packing, "compression": compression}
        packer = Packer(msgspec.convert(keys, KinesisConfig), context(function="shop"))
        lines = [row.removesuffix(b"\n") for row in rows[at : at + 500]]
        records += [bytes(item.payload) for item in packer.pack([block(*lines)])]
    records += rng.sample(records, len(records) // 3)
    rng.shuffle(records)
    return records


def batches(records: list[bytes]) -> Iterator[list[dict[str, Any]]]:
    """What Firehose hands over in one call: about a megabyte."""
    batch: list[dict[str, Any]] = []
    size = 0
    for number, data in enumerate(records):
        batch.append({"recordId": str(number), "data": base64.b64encode(data).decode()})
        size += len(data)
        if size > 1_000_000:
            yield batch
            batch, size = [], 0
    yield batch


def write_objects(folder: Path, answers: list[dict[str, Any]]) -> None:
    """Write what Firehose would: the data of each partition, one behind the other."""
    for answer in answers:
        assert answer["result"] == "Ok"
        place = folder / "lines" / PATH.format(**answer["metadata"]["partitionKeys"])
        place.mkdir(parents=True, exist_ok=True)
        with (place / "object.ndjson.gz").open("ab") as file:
            file.write(base64.b64decode(answer["data"]))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A folder of objects, and the rows that are in it, some of them several times."""
    folder = tmp_path_factory.mktemp("lake")
    rows, expected = flat_rows([line(number) for number in range(LINES)], {"stage": "prod"})
    handler = transform().handler
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTPUT", "gzip")
        for batch in batches(records_of(rows, random.Random(7))):
            handler({"records": batch}, None)  # its answer is lost, and Firehose calls again
            write_objects(folder, handler({"records": batch}, None)["records"])
    return folder, sorted(expected, key=lambda row: row["record_id"])


def expected_of(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("record_id", "message", "attributes", "duration_ms", "level")
    return [tuple(row[name] for name in names) for row in rows]


def expected_counts() -> tuple[float, ...]:
    reports = [number for number in range(LINES) if number % 3 == 0]
    cold, failed = (sum(number % step == 0 for number in reports) for step in (30, 27))
    return (len(reports), cold, failed, reports[-1] / 8)


def statements(name: str) -> list[str]:
    text = (LAKE / "sql" / name).read_text()
    lines = [each for each in text.splitlines() if not each.startswith("--")]
    return [each for each in "\n".join(lines).split(";") if each.strip()]


def test_duckdb_reads_each_line_once(lake: tuple[Path, list[dict[str, Any]]]) -> None:
    import duckdb

    folder, expected = lake
    with duckdb.connect() as database:
        for each in statements("duckdb.sql"):
            database.execute(each.replace("lines/**", f"{folder}/lines/**"))
        (arrived,) = database.execute("SELECT count(*) FROM telemetry_lines").fetchall()[0]
        assert arrived > LINES
        assert database.execute(QUERY % "telemetry_once").fetchall() == expected_of(expected)
        assert database.execute(COUNTS).fetchall() == [expected_counts()]
        errors = "SELECT count(*) FROM telemetry_once WHERE level = 'ERROR'"
        of_errors = database.execute(errors + " AND worst IN ('ERROR', 'FATAL')").fetchall()
        assert of_errors == database.execute(errors).fetchall() != [(0,)]
        day = "SELECT count(*) FROM telemetry_once WHERE \"time\" >= '2026-03-15 00:00:00Z'"
        days = database.execute(day + " AND day IN ('2026-03-14', '2026-03-15')").fetchall()
        assert days == database.execute(day).fetchall() != [(0,)]


def test_clickhouse_stores_each_line_once(lake: tuple[Path, list[dict[str, Any]]]) -> None:
    from chdb import session

    folder, expected = lake
    with session.Session() as database:
        database.query("CREATE DATABASE example; USE example")
        database.query(flat_tables.render()["flat.clickhouse.sql"])
        for each in statements("clickhouse.sql"):
            database.query(each)
        for _ in range(2):
            database.query(INSERT % f"{folder}/lines/**/*.ndjson.gz")
        found = str(database.query(QUERY % "telemetry_once", "JSONCompactEachRow"))
        assert [tuple(json.loads(row)) for row in found.splitlines()] == expected_of(expected)
        counts = str(database.query(COUNTS, "JSONCompactEachRow"))
        assert [float(value) for value in json.loads(counts)] == list(expected_counts())
        database.query("DROP DATABASE example")
