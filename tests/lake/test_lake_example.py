"""The example lake with a million lines: each is once in every table, whatever happened on the way.

telemetryd sends them to Kinesis (moto). Records come twice, repacked, in another order and days
late; foreign ones are among them. Spark's job is killed twice. What a table must have comes from
the generator (`helpers.lake_stream`).
"""

from __future__ import annotations

import base64
import importlib.util
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from helpers import lake_stream
from helpers.lake_stream import CREDENTIALS, FOREIGN, Record, cpu_seconds, wait_for
from telemetryd_proto import flat_tables

pytestmark = [pytest.mark.lake, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
LAKE = ROOT / "examples" / "lake"
LINES = lake_stream.LINES
PATH = "day={date}/source={function}/worst={level}"
COLUMNS = """
  "function", epoch_ms(CAST("time" AS TIMESTAMPTZ)) AS time_ms, "type", "level", "message",
  duration_ms, "status",
  CASE WHEN starts_with("function", 'raw-') THEN NULL ELSE attributes END AS attributes
"""
INSERT = """
INSERT INTO telemetry_lines
SELECT * EXCEPT (day, source, worst) FROM file('%s', 'JSONEachRow')
"""
COUNTS = """
SELECT sum(invocations), sum(cold_starts), sum(failures), max(longest_ms) FROM invocations
"""


class Wire(NamedTuple):
    """A stream, with all that went wrong before it."""

    folder: Path
    url: str
    records: list[Record]


class Report:
    """Says what happens, and prints a table in the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._rows: list[tuple[str, ...]] = []

    def say(self, text: str) -> None:
        """Print a line, although pytest captures."""
        with self._capture.global_and_fixture_disabled():
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def add(self, part: str, *, rows: int, wall: float, cpu: float) -> None:
        """Add a row to the table."""
        self._rows.append((part, f"{rows:,}", f"{wall:.0f}", f"{cpu:.0f}"))
        self.say(f"{part}: {rows:,} rows, {wall:.0f} s, {cpu:.0f} s of CPU")

    def print(self) -> None:
        """Print the table."""
        table = [("part", "rows", "s", "CPU s"), *self._rows]
        with self._capture.global_and_fixture_disabled():
            print()
            for row in table:
                print(f"  {row[0]:44}{row[1]:>12}{row[2]:>8}{row[3]:>8}")


@pytest.fixture(scope="module")
def report(pytestconfig: pytest.Config) -> Iterator[Report]:
    report = Report(pytestconfig)
    yield report
    report.print()


class Stopwatch:
    """Wall and CPU time of this process."""

    def __init__(self) -> None:
        self._begin = time.monotonic(), time.process_time()

    @property
    def spent(self) -> dict[str, float]:
        """Seconds since the begin."""
        wall, cpu = time.monotonic(), time.process_time()
        return {"wall": wall - self._begin[0], "cpu": cpu - self._begin[1]}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Parquet file of what a table must have."""
    import pyarrow as pa
    from pyarrow import parquet

    path = str(tmp_path_factory.mktemp("expected") / "expected.parquet")
    shown = [
        lake_stream.make(number, sender)[1]
        for sender, numbers in lake_stream.shares()
        for number in numbers
    ]
    columns = dict(zip(lake_stream.Line._fields, zip(*shown, strict=True), strict=True))
    parquet.write_table(pa.table({name: list(each) for name, each in columns.items()}), path)
    return path


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory, report: Report) -> Iterator[Wire]:
    """The stream `telemetry` is empty; `records` are to come."""
    folder = tmp_path_factory.mktemp("lake")
    program = str(ROOT / "tests" / "helpers" / "moto_kinesis.py")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", program, "0", "0"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as moto:  # fmt: skip
        try:
            assert moto.stdout is not None
            url = f"http://127.0.0.1:{int(moto.stdout.readline())}"
            yield Wire(folder, url, list(_fill(folder, url, report)))
        finally:
            moto.kill()


def _fill(folder: Path, url: str, report: Report) -> list[Record]:
    kinesis = lake_stream.client(url)
    kinesis.create_stream(StreamName="telemetry", ShardCount=4)
    sent: dict[str, list[Record]] = {}
    for sender, numbers in lake_stream.shares():
        begin = time.monotonic()
        kinesis.create_stream(StreamName=sender.function, ShardCount=2)
        lake_stream.send(folder, url, sender.function, sender, numbers)
        records = list(lake_stream.records_of(kinesis, sender.function))
        kinesis.delete_stream(StreamName=sender.function)
        sent[sender.function] = records
        size = sum(len(record.data) for record in records)
        report.say(
            f"telemetryd, {sender.function}: {len(numbers):,} lines in {len(records):,} records "
            f"of {size:,} bytes, {time.monotonic() - begin:.0f} s"
        )
    records = lake_stream.disturb(sent, random.Random(7))
    once = sum(map(len, sent.values()))
    report.say(
        f"on the wire: {len(records):,} records, {len(records) - once - len(FOREIGN):,} of them "
        f"again or repacked, {len(FOREIGN)} foreign"
    )
    return records


def check(relation: str, expected: str) -> None:
    """Compare a table with what it must have, both ways, each row as often as it is there."""
    import duckdb

    ours = f"SELECT {COLUMNS} FROM {relation}"
    theirs = f"SELECT * FROM read_parquet('{expected}')"
    with duckdb.connect() as database:
        for one, other in ((ours, theirs), (theirs, ours)):
            database.execute(f"SELECT * FROM ({one}) EXCEPT ALL ({other}) LIMIT 3")
            assert database.fetchall() == []


# -- Spark ---------------------------------------------------------------------------------------


class Job:
    """Runs the job, in a session of its own."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.table, self.quarantine = wire.folder / "table", wire.folder / "quarantine"
        self.state, self._log = wire.folder / "state", wire.folder / "spark.log"
        self._cpu: dict[int, float] = {}
        self.cpu = 0.0
        self.files = f"read_parquet('{self.table}/date=*/*.parquet')"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it where the state says it stopped."""
        command = [
            sys.executable, str(LAKE / "spark" / "job.py"), "--stream", "telemetry",
            "--table", str(self.table), "--quarantine", str(self.quarantine),
            "--state", str(self.state), "--endpoint", self._wire.url,
            "--batch-mib", "24", "--every-seconds", "1", "--idle-seconds", "10",
        ]  # fmt: skip
        environ = os.environ | CREDENTIALS | {
            "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_SUBMIT_ARGS": "--master local[2] --driver-memory 3g"
            " --conf spark.ui.enabled=false pyspark-shell",
        }  # fmt: skip
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, env=environ, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End it at once, with Spark's JVM: they are one process group."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for its end, which comes when no more records do."""
        try:
            wait_for(lambda: self.look(process) is not None, "the job ends")
        finally:
            if process.poll() is None:
                self.kill(process)
        assert process.returncode == 0, self.output()

    def output(self) -> str:
        """The end of what it has printed."""
        return self._log.read_text(errors="replace")[-6000:]

    def look(self, process: subprocess.Popen[bytes]) -> int | None:
        """Return its exit status, None while it runs, and note the CPU time."""
        self.cpu = cpu_seconds(process.pid, self._cpu)
        return process.poll()

    def batches(self) -> list[dict[str, Any]]:
        """What it has logged of each batch."""
        found = [json.loads(line) for line in self.logged() if "batch" in line]
        return [each for each in found if "batch" in each]

    def logged(self) -> list[str]:
        """JSON objects in its output, which Spark writes to as well."""
        text = self._log.read_text(errors="replace").replace("\r", "\n")
        return [
            "{" + line.partition("{")[2]
            for line in text.splitlines()
            if line.endswith("}") and '{"' in line
        ]


@pytest.fixture(scope="module")
def job(wire: Wire, report: Report) -> Job:
    """The job has read the stream. It was killed while it wrote, and once in between."""
    kinesis, job, begin = lake_stream.client(wire.url), Job(wire), time.monotonic()
    most = len(wire.records) * 6 // 10
    lake_stream.put(kinesis, "telemetry", wire.records[:most])
    process = job.start()
    try:
        wait_for(lambda: job.look(process) is not None or len(job.batches()) > 0, "a batch")
        wait_for(
            lambda: job.look(process) is not None or any(job.table.glob("_temporary/0/*/*")),
            "a batch is being written",
        )
        assert process.poll() is None, job.output()
    finally:
        job.kill(process)
    report.say(f"killed while it wrote batch {len(job.batches())}")
    lake_stream.put(kinesis, "telemetry", wire.records[most:])
    job.finish(job.start())

    # Dead in between: some files of the last batch are there, others not, and it is not noted.
    last = max(job.state.glob("commits/[0-9]*"), key=lambda path: int(path.name))
    newest = sorted(job.table.glob("date=*/*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    last.unlink()
    (last.parent / f".{last.name}.crc").unlink(missing_ok=True)
    newest[-1].unlink()
    report.say(f"took back a part of batch {last.name}")
    job.finish(job.start())
    report.add("Spark: Parquet, killed", rows=LINES, wall=time.monotonic() - begin, cpu=job.cpu)
    arrived = sum(each["lines"] for each in job.batches())
    report.say(f"in {len(job.batches())} batches {arrived:,} lines, duplicates included")
    return job


def test_spark_writes_each_line_once_although_it_is_killed(job: Job, expected: str) -> None:
    import duckdb

    assert not (job.table / "_temporary").exists()
    check(job.files, expected)
    with duckdb.connect() as database:
        database.execute(f"SELECT count(*) FROM {job.files} WHERE date != CAST(time AS DATE)")
        assert database.fetchall() == [(0,)]


def test_spark_puts_foreign_records_aside_and_says_so(job: Job) -> None:
    import duckdb

    with duckdb.connect() as database:
        database.execute(f"SELECT \"foreign\" FROM '{job.quarantine}/date=*/*.parquet'")
        assert sorted(row[0] for row in database.fetchall()) == sorted(FOREIGN)
    said = [json.loads(line) for line in job.logged() if "quarantined" in line]
    assert len({each["quarantined"] for each in said}) == len(FOREIGN)


# -- Firehose and SQL ------------------------------------------------------------------------------


def transform() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lake_transform", LAKE / "firehose" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batches(records: list[Record]) -> Iterator[list[dict[str, Any]]]:
    """What Firehose hands over in one call: about a megabyte."""
    batch: list[dict[str, Any]] = []
    size = 0
    for number, (_, data) in enumerate(records):
        shown = {"recordId": f"{number:056d}", "approximateArrivalTimestamp": 1773792000000}
        batch.append(shown | {"data": base64.b64encode(data).decode()})
        size += len(data)
        if size > 1_000_000 or len(batch) == 500:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def write_objects(folder: Path, answers: list[dict[str, Any]]) -> list[bytes]:
    """Write what Firehose would, the data of each partition in one object; return what failed."""
    failed = []
    for answer in answers:
        data = base64.b64decode(answer["data"])
        if answer["result"] == "ProcessingFailed":
            failed.append(data)
            continue
        assert answer["result"] == "Ok"
        place = folder / "lines" / PATH.format(**answer["metadata"]["partitionKeys"])
        place.mkdir(parents=True, exist_ok=True)
        with (place / "object.ndjson.gz").open("ab") as file:
            file.write(data)
    return failed


def _identified(records: list[Record]) -> Iterator[Record]:
    """Yield each record, but only one copy of those that have their id nowhere but in their key.

    Firehose takes records apart, so its function can't rely on keys, and keeps such copies.
    """
    seen: set[str] = set()
    for record in records:
        if record.data.startswith(b'{"function":"raw-single"'):
            if record.key in seen:
                continue
            seen.add(record.key)
        yield record


@pytest.fixture(scope="module")
def objects(wire: Wire, report: Report) -> Path:
    """A folder of objects as Firehose writes them. The answer to each fifth call is lost."""
    folder, watch, failed = wire.folder / "firehose", Stopwatch(), []
    handler = transform().handler
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTPUT", "gzip")
        for number, batch in enumerate(batches(list(_identified(wire.records)))):
            answers = handler({"records": batch}, None)["records"]
            if number % 5 == 0:
                failed += write_objects(folder, handler({"records": batch}, None)["records"])
            else:
                failed += write_objects(folder, answers)
    assert sorted(failed) == sorted(FOREIGN)
    report.add("Firehose's Lambda: objects", rows=LINES, **watch.spent)
    return folder


def expected_counts() -> tuple[float, ...]:
    reports = range(0, LINES, 3)
    cold, failed = (sum(number % step == 0 for number in reports) for step in (30, 27))
    return (len(reports), cold, failed, reports[-1] / 8)


def statements(name: str) -> list[str]:
    text = (LAKE / "sql" / name).read_text()
    lines = [each for each in text.splitlines() if not each.startswith("--")]
    return [each for each in "\n".join(lines).split(";") if each.strip()]


def test_duckdb_reads_each_line_once(objects: Path, expected: str, report: Report) -> None:
    import duckdb

    watch, export = Stopwatch(), objects / "duckdb.parquet"
    with duckdb.connect() as database:
        for each in statements("duckdb.sql"):
            database.execute(each.replace("lines/**", f"{objects}/lines/**"))
        (arrived,) = database.execute("SELECT count(*) FROM telemetry_lines").fetchall()[0]
        assert arrived > LINES * 1.2
        database.execute(f"COPY (SELECT * FROM telemetry_once) TO '{export}'")
        report.add("DuckDB: view of the objects", rows=LINES, **watch.spent)
        assert database.execute(COUNTS).fetchall() == [expected_counts()]
        errors = "SELECT count(*) FROM telemetry_once WHERE level = 'ERROR'"
        of_errors = database.execute(errors + " AND worst IN ('ERROR', 'FATAL')").fetchall()
        assert of_errors == database.execute(errors).fetchall() != [(0,)]
        day = "SELECT count(*) FROM telemetry_once WHERE \"time\" >= '2026-03-15 00:00:00Z'"
        days = database.execute(day + " AND day IN ('2026-03-14', '2026-03-15')").fetchall()
        assert days == database.execute(day).fetchall() != [(0,)]
    check(f"'{export}'", expected)


def test_clickhouse_stores_each_line_once(objects: Path, expected: str, report: Report) -> None:
    from chdb import session

    watch, export = Stopwatch(), objects / "clickhouse.parquet"
    with session.Session() as database:
        database.query("CREATE DATABASE example; USE example")
        database.query(flat_tables.render()["flat.clickhouse.sql"])
        for each in statements("clickhouse.sql"):
            database.query(each)
        for _ in range(2):  # as after an insert whose answer was lost
            database.query(INSERT % f"{objects}/lines/**/*.ndjson.gz")
        report.add("ClickHouse: everything inserted twice", rows=LINES, **watch.spent)
        database.query(f"SELECT * FROM telemetry_once INTO OUTFILE '{export}' FORMAT Parquet")
        counts = str(database.query(COUNTS, "JSONCompactEachRow"))
        assert [float(value) for value in json.loads(counts)] == list(expected_counts())
        database.query("DROP DATABASE example")
    check(f"'{export}'", expected)


def test_athenas_sql_gives_each_line_once(
    objects: Path, job: Job, expected: str, report: Report
) -> None:
    """Its tables are stood in for, and its queries translated, because no Athena runs here."""
    import duckdb

    watch, export = Stopwatch(), objects / "athena.parquet"
    names = ", ".join(f"\"{name}\": 'VARCHAR'" for name in ("day", "source", "worst"))
    parts = f"read_json('{objects}/lines/**/*.ndjson.gz', hive_types = {{{names}}}, columns = {{"
    typed = [f"'{name}': '{_DUCKDB[kind]}'" for name, kind, _ in flat_tables.columns()]
    texts = 'SELECT * REPLACE (strftime("time", \'%Y-%m-%dT%H:%M:%S.%gZ\') AS "time") FROM '
    places = [f"SELECT * FROM {parts}{', '.join(typed)}}})", texts + job.files]
    for place in places:
        with duckdb.connect() as database:
            database.execute("SET TimeZone = 'UTC'")
            database.execute(f"CREATE VIEW telemetry_lines AS {place}")
            once, errors, invocations = translated((LAKE / "sql" / "athena.sql").read_text())[1:]
            database.execute(once)
            database.execute(invocations)
            assert database.execute(COUNTS).fetchall() == [expected_counts()]
            if place is places[0]:
                found = database.execute(errors).fetchall()
                assert len(found) == len(set(found)) == errors_of_the_first_day(expected)
            table, merge = translated(flat_tables.render()["flat.athena.sql"])[1:]
            database.execute(table)
            database.execute(merge)
            database.execute(merge)
            database.execute(f"COPY (SELECT * FROM telemetry) TO '{export}'")
        check(f"'{export}'", expected)
    report.add("Athena's SQL, in DuckDB: merged twice", rows=2 * LINES, **watch.spent)


_DUCKDB = {str: "VARCHAR", float: "DOUBLE", int: "BIGINT"}


def translated(sql: str) -> list[str]:
    """Athena's statements for DuckDB: its DDL is Hive's, its queries are Trino's."""
    import sqlglot

    found = []
    for each in sql.split(";\n"):
        code = "\n".join(line for line in each.splitlines() if not line.startswith("--"))
        if code.strip():
            read = "hive" if re.match(r"\s*CREATE (EXTERNAL )?TABLE", code) else "trino"
            logging.getLogger("sqlglot").setLevel(logging.ERROR)  # properties that DuckDB has not
            found += sqlglot.transpile(code, read=read, write="duckdb")
    return found


def errors_of_the_first_day(expected: str) -> int:
    import duckdb

    with duckdb.connect() as database:
        database.execute(
            f"SELECT count(*) FROM '{expected}' WHERE level = 'ERROR' AND time_ms < ?",
            [(lake_stream.FIRST_DAY + 86400) * 1000],
        )
        return int(database.fetchall()[0][0])
