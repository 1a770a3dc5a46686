"""A million lines for the lake: telemetryd sends them to Kinesis, and what may go wrong does.

What must be in a table afterwards comes from the generator (`expected`), not from any decoder.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from telemetryd_proto.kinesis import Encoder, RecordId, decode

REGION: Final = "eu-west-1"
CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
}  # fmt: skip
FIELDS: Final = "function,version,instance"
FIRST_DAY: Final = 1773446400
"""2026-03-14, in seconds since the Unix epoch."""
LINES: Final = int(os.environ.get("LAKE_LINES", "1000000"))
"""Fewer are for trying something out."""
STEP_MS: Final = 170_000_000 // LINES
"""From line to line: all are almost two days."""
FOREIGN: Final = (b"hello, I am no telemetry\n", b"\x1f\x8b\x08 nor gzip", bytes(range(256)) * 40)
PATIENCE_SECONDS: Final = 600.0


class Sender(NamedTuple):
    """A process of telemetryd, with a share of the lines, in thousandths."""

    function: str
    share: int
    keys: dict[str, str]
    raw: bool = False
    late: bool = False
    """It was without a network for days: its records come last."""


SENDERS: Final = (
    Sender("flat-zstd", 380, {"compression": "zstd"}),
    Sender("flat-gzip", 200, {"compression": "gzip"}, late=True),
    Sender("flat-kpl", 60, {"packing": "kpl"}),
    Sender("flat-plain", 60, {}),
    Sender("flat-single", 20, {"packing": "single", "compression": "gzip"}),
    Sender("raw-single", 20, {"packing": "single"}, raw=True),
    Sender("raw-zstd", 260, {"compression": "zstd"}, raw=True),
)


class Line(NamedTuple):
    """What a table has of a line."""

    function: str
    time_ms: int
    type: str
    level: str | None
    message: str | None
    duration_ms: float | None
    status: str | None
    attributes: str | None
    """None for raw lines: there it has the members that `fields` added too."""


class Record(NamedTuple):
    """A record on the wire."""

    key: str
    data: bytes


def shares() -> Iterator[tuple[Sender, range]]:
    """Yield each sender and the numbers of its lines."""
    begin = 0
    for sender in SENDERS:
        end = begin + LINES * sender.share // 1000
        yield sender, range(begin, end)
        begin = end
    assert begin == LINES


def make(number: int, sender: Sender) -> tuple[bytes, Line]:
    """Return a line as it is sent, and what must come of it: text, an object, or a report."""
    time_ms = FIRST_DAY * 1000 + number * STEP_MS
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ms // 1000))
    head = f'{{"time":"{stamp}.{time_ms % 1000:03d}Z","type":"'
    level = message = duration = status = None
    kind, attributes = "function", None
    if number % 3 == 0:
        kind, status, duration = (
            "platform.report",
            "error" if number % 27 == 0 else "success",
            number / 8,
        )
        init = ',"initDurationMs":99.5' if number % 30 == 0 else ""
        attributes = record = (
            f'{{"requestId":"r-{number}","status":"{status}","metrics":{{"durationMs":{duration},'
            f'"maxMemoryUsedMB":60{init}}}}}'
        )
    elif number % 3 == 1:
        message = f"order {number} für {_CUSTOMERS[number % 97]}"
        record = f'"{message}\\n"'
    else:
        level, message = "ERROR" if number % 50 == 2 else "INFO", f"stored {number}"
        attributes = record = (
            f'{{"level":"{level}","message":"{message}","id":"{_CUSTOMERS[number % 89]}"}}'
        )
    line = f'{head}{kind}","record":{record}}}\n'.encode()
    shown = None if sender.raw else attributes
    return line, Line(sender.function, time_ms, kind, level, message, duration, status, shown)


_RANDOM = random.Random(3)
_CUSTOMERS: Final = [_RANDOM.randbytes(20).hex() for _ in range(97)]


def send(folder: Path, url: str, stream: str, sender: Sender, numbers: range) -> None:
    """Run `telemetryd listen`, send it lines, and return when Kinesis has them all."""
    keys = {
        "type": "kinesis", "stream": stream, "endpoint_url": url, "partition_key": "random",
        "retry_max_elapsed_ms": "120000", **sender.keys,
        **({"fields": FIELDS} if sender.raw else {"format": "flat"}),
    }  # fmt: skip
    environ = {f"TELEMETRYD_SINKS__OUT__{key.upper()}": value for key, value in keys.items()}
    environ |= {"TELEMETRYD_TELEMETRY__PORT": "0", "TELEMETRYD_METRICS__LISTEN": "127.0.0.1:0"}
    environ |= {**CREDENTIALS, "AWS_LAMBDA_FUNCTION_NAME": sender.function}
    log = folder / f"{sender.function}.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "telemetryd", "listen"], stderr=stderr, env=environ
        )
    try:
        port = wait_for(lambda: _port(log, "listening"), f"{sender.function} listens")
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
            for begin in range(numbers.start, numbers.stop, 2000):
                some = range(begin, min(begin + 2000, numbers.stop))
                connection.sendall(b"".join([make(number, sender)[0] for number in some]))
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        metrics = f"http://127.0.0.1:{_port(log, 'metrics_served')}/metrics"
        wait_for(lambda: _delivered(metrics) == len(numbers), f"{sender.function} delivers")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    ledger = json.loads(log.read_text().splitlines()[-1])
    assert ledger["balanced"]
    assert ledger["sinks"]["out"]["delivered"]["lines"] == len(numbers)


def wait_for(find: Callable[[], Any], what: str) -> Any:
    """Return what `find` returns once it is true."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not (found := find()):
        assert time.monotonic() < until, f"not in {PATIENCE_SECONDS} seconds: {what}"
        time.sleep(0.05)
    return found


def _port(log: Path, event: str) -> int:
    for text in log.read_text().splitlines(keepends=True):
        if text.endswith("\n") and (record := json.loads(text))["event"] == event:
            return int(record["port"])
    return 0


def _delivered(metrics: str) -> int:
    with urllib.request.urlopen(metrics, timeout=60) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("telemetryd_delivered_lines_total"):
                return int(float(line.split()[-1]))
    return 0


def client(url: str) -> Any:
    """A client of this Kinesis."""
    import boto3

    return boto3.client(
        "kinesis", endpoint_url=url, region_name=REGION,
        aws_access_key_id="testing", aws_secret_access_key="testing",  # noqa: S106 - moto's
    )  # fmt: skip


def records_of(kinesis: Any, stream: str) -> Iterator[Record]:
    """Yield all records of a stream."""
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while (answer := kinesis.get_records(ShardIterator=iterator))["Records"]:
            for each in answer["Records"]:
                yield Record(each["PartitionKey"], each["Data"])
            iterator = answer["NextShardIterator"]


def disturb(sent: dict[str, list[Record]], rng: random.Random) -> list[Record]:
    """Return the records as a consumer may get them: by sender in, in any order out.

    A fifth is there twice, as after a lost answer. The lines of an eighth of the flat ones are in
    other records besides, packed otherwise, as after a `replay`. The late sender's come last.
    """
    early: list[Record] = []
    late: list[Record] = []
    for sender in SENDERS:
        records = sent[sender.function]
        copies = rng.sample(records, len(records) // 5)
        if not sender.raw:
            copies += _repack(rng.sample(records, max(len(records) // 8, 2)), sender.function)
        (late if sender.late else early).extend(records + copies)
    rng.shuffle(early)
    rng.shuffle(late)
    for number, data in enumerate(FOREIGN):
        early.insert(rng.randrange(len(early)), Record(f"foreign-{number}", data))
    return early + late


def _repack(records: list[Record], function: str) -> list[Record]:
    """Return the lines of records in others, in other packings: of two come three."""
    ways = (Encoder("ndjson", "zstd"), Encoder("ndjson", "gzip"), Encoder("ndjson", "none"))
    process, made = os.urandom(16), []
    for number in range(0, len(records), 2):
        lines = [line for each in records[number : number + 2] for line in decode(each.data).lines]
        for part in range(3):
            if not (some := lines[part::3]):
                continue
            record_id = RecordId(process, 3 * number + part)
            data = ways[number // 2 % 3].encode(
                b"".join([line + b"\n" for line in some]),
                record_id=record_id, time="2026-03-18T00:00:00.000Z", key=function,
            )  # fmt: skip
            made.append(Record(str(record_id), data))
    return made


def put(kinesis: Any, stream: str, records: list[Record]) -> None:
    """Write records to a stream, in order."""
    batch: list[Record] = []
    size = 0
    for record in [*records, None]:
        if record is None or len(batch) == 500 or size + len(record.data) > 4 << 20:
            entries = [{"PartitionKey": each.key, "Data": each.data} for each in batch]
            answer = kinesis.put_records(StreamName=stream, Records=entries)
            assert answer["FailedRecordCount"] == 0
            batch, size = [], 0
        if record is not None:
            batch.append(record)
            size += len(record.data) + len(record.key)


def cpu_seconds(session: int, seen: dict[int, float]) -> float:
    """Return the CPU seconds of all processes of a session; `seen` remembers those that ended."""
    ticks = os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            seen[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / ticks
    return sum(seen.values())
