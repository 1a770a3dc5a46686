"""Kinesis end to end: a socket of the daemon in, records of a Kinesis-compatible server out.

The server is moto with shard limits and without its lost records (`helpers/moto_kinesis.py`), and
kinesalite as a second opinion. What is read back is decoded and compared line by line; records
delivered twice are dropped by their id, as a consumer would. Needs the `system` dependency group;
kinesalite needs npm. An outage lasts TELEMETRYD_TEST_OUTAGE_SECONDS (10).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from helpers.kinesis_server import Error, Hang, KinesisServer, Raw, Refuse, Reset
from helpers.ports import reserved
from helpers.scrape import until
from telemetryd_proto.kinesis import decode

HERE = Path(__file__).parent
HELPERS = HERE.parent / "helpers"
OUTAGE_SECONDS = float(os.environ.get("TELEMETRYD_TEST_OUTAGE_SECONDS", "10"))
DELIVERY_SECONDS = 240.0
STREAM = "telemetry"
REGION = "eu-west-1"
KINESALITE = "kinesalite@3.3.3"
AWS = {
    "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}  # fmt: skip
THROTTLED = "ProvisionedThroughputExceededException"

pytestmark = [pytest.mark.system, pytest.mark.timeout(2 * DELIVERY_SECONDS + 3 * OUTAGE_SECONDS)]

_BODIES = [
    "".join(random.Random(seed).choices("0123456789abcdef", k=36)) + " order shipped to customer, "
    "total=12.50 EUR, retries=0, latency within its bounds, sku-4711 reserved in the warehouse"
    for seed in range(997)
]


def line(number: int) -> bytes:
    """Event `number`, of some 290 bytes."""
    stamp = (
        f"2026-03-14T10:{number // 60000 % 60:02d}:{number // 1000 % 60:02d}.{number % 1000:03d}Z"
    )
    return (
        f'{{"time":"{stamp}","type":"function","record":{{"timestamp":"{stamp}","level":"INFO",'
        f'"n":{number},"message":"{_BODIES[number % 997]}"}}}}\n'
    ).encode()


# -- servers ---------------------------------------------------------------------------------------


class Server:
    """A server process with one stream, and what it holds."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.client = client(self.url)

    def create_stream(self, shards: int) -> None:
        """Make the stream; returns when it is active."""
        self.client.create_stream(StreamName=STREAM, ShardCount=shards)
        self.client.get_waiter("stream_exists").wait(
            StreamName=STREAM, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """All records, shard after shard."""
        for shard in self.client.list_shards(StreamName=STREAM)["Shards"]:
            iterator = self.client.get_shard_iterator(
                StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while records := (answer := self.client.get_records(ShardIterator=iterator))["Records"]:
                yield from records
                iterator = answer["NextShardIterator"]


def client(url: str) -> Any:
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session()
    session.set_credentials("testing", "testing")
    config = Config(retries={"total_max_attempts": 5, "mode": "standard"})
    return session.create_client("kinesis", region_name=REGION, endpoint_url=url, config=config)


@contextlib.contextmanager
def serving(command: list[str], port: int | None = None) -> Iterator[Server]:
    """`command` runs, and answers; it prints its port first unless that is known."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            yield Server(process, port or int(first))
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


@contextlib.contextmanager
def moto(*limits: int) -> Iterator[Server]:
    pytest.importorskip("moto", reason="pip install 'moto==5.2.5' flask flask-cors")
    program = str(HELPERS / "moto_kinesis.py")
    with serving([sys.executable, "-W", "ignore", program, *map(str, limits)]) as server:
        yield server


@pytest.fixture(scope="module")
def kinesalite_program() -> Path:
    """The command line of kinesalite, installed once into a cache."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail("npm is missing: install Node.js (`apt install npm`)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache / "telemetryd-tests" / "kinesalite"
    program = directory / "node_modules" / "kinesalite" / "cli.js"
    if not program.exists():
        directory.mkdir(parents=True, exist_ok=True)
        install = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--prefix", str(directory), KINESALITE],
            capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        if install.returncode:
            pytest.fail(f"npm can't install {KINESALITE}:\n{install.stderr}")
    return program


# -- the daemon ------------------------------------------------------------------------------------


class Listen:
    """`telemetryd listen` with a Kinesis sink."""

    def __init__(self, url: str, **keys: object) -> None:
        sink = {"TYPE": "kinesis", "STREAM": STREAM, "ENDPOINT_URL": url}
        sink |= {key.upper(): str(value) for key, value in keys.items()}
        environ = {f"TELEMETRYD_SINKS__OUT__{key}": value for key, value in sink.items()}
        environ |= {"TELEMETRYD_TELEMETRY__PORT": "0", **AWS}
        environ["TELEMETRYD_METRICS__LISTEN"] = "127.0.0.1:0"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "telemetryd", "listen"], stderr=subprocess.PIPE, env=environ
        )
        self.log: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        self.port = self.wait_for("listening")["port"]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def send(self, first: int, count: int) -> None:
        """Send events; returns when the daemon has read them."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
            for start in range(first, first + count, 2000):
                numbers = range(start, min(start + 2000, first + count))
                connection.sendall(b"".join(map(line, numbers)))
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""

    def wait_for(self, event: str, **facts: object) -> dict[str, Any]:
        """The first log line with this event and these facts."""

        def found() -> dict[str, Any] | None:
            return next(
                (r for r in self.log if r["event"] == event and facts.items() <= r.items()), None
            )

        with self._news:
            assert self._news.wait_for(found, 60), self.log[-20:]
            record = found()
        assert record is not None
        return record

    def stop(self, count: int) -> dict[str, Any]:
        """The sink's page of the ledger, after SIGTERM, once so many lines have been delivered.

        A busy machine may take longer for them than a drain may.
        """
        until(
            self.wait_for("metrics_served")["port"],
            lambda scrape: scrape("delivered_lines_total", sink="out") >= count,
            DELIVERY_SECONDS,
        )
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log[-20:]
        self._reader.join()
        ledger = self.log[-1]
        assert ledger["event"] == "ledger"
        assert ledger["balanced"] is True
        page: dict[str, Any] = ledger["sinks"]["out"]
        return page

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines with this event."""
        return [record for record in self.log if record["event"] == name]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            with self._news:
                self.log.append(json.loads(text))
                self._news.notify_all()


def assert_all_there(records: Iterator[bytes], count: int) -> int:
    """Events 0 to `count` are in `records` exactly once; how many records came twice."""
    seen = bytearray(count)
    ids: Counter[str] = Counter()
    for data in records:
        decoded = decode(data)
        assert decoded.record_id is not None
        ids[decoded.record_id] += 1
        if ids[decoded.record_id] > 1:
            continue
        for got in decoded.lines:
            number = json.loads(got)["record"]["n"]
            assert got + b"\n" == line(number)
            seen[number] += 1
    assert Counter(seen) == {1: count}
    return ids.total() - len(ids)


def assert_delivered(page: dict[str, Any], count: int) -> None:
    size = sum(len(line(number)) for number in range(count))
    assert page["delivered"] == {"lines": count, "bytes": size}
    assert page["dropped"] == {}


# -- the proof -------------------------------------------------------------------------------------


def test_a_million_events_through_throttled_shards_none_missing() -> None:
    count = 1_000_000
    # a quarter of a real shard's bytes: a slow machine would not send enough to be throttled
    with moto(1000, 256 * 1024) as server:
        server.create_stream(4)
        keys = {"compression": "zstd", "partition_key": "random", "retry_max_elapsed_ms": 120_000}
        with Listen(server.url, **keys) as daemon:
            daemon.send(0, count)
            assert_delivered(daemon.stop(count), count)
            assert daemon.events("records_refused"), "the shards did not throttle"
        assert_all_there((record["Data"] for record in server.records()), count)


def test_one_throttled_shard_and_one_event_per_record() -> None:
    count = 2_000
    with moto(400) as server:  # a call has 500 records: however slow the machine, some are refused
        server.create_stream(1)
        keys = {"packing": "single", "retry_max_elapsed_ms": 120_000}
        with Listen(server.url, **keys) as daemon:
            daemon.send(0, count)
            assert_delivered(daemon.stop(count), count)
            assert "throttled" in daemon.events("records_refused")[0]["codes"]
        data = [record["Data"] for record in server.records()]
    assert sorted(data) == sorted(map(line, range(count)))


def test_kpl_records_are_deaggregated_by_the_published_library() -> None:
    count = 20_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own
        deaggregator = pytest.importorskip(
            "aws_kinesis_agg.deaggregator", reason="pip install aws-kinesis-agg"
        )
    with moto(0, 0) as server:
        server.create_stream(3)
        with Listen(server.url, packing="kpl", partition_key="random") as daemon:
            daemon.send(0, count)
            assert_delivered(daemon.stop(count), count)
        records = list(server.records())
    assert len(records) < count / 100
    users = deaggregator.deaggregate_records([as_event(record) for record in records])
    data = Counter(base64.b64decode(user["kinesis"]["data"]) for user in users)
    assert data == Counter(line(number).rstrip(b"\n") for number in range(count))
    assert {u["kinesis"]["partitionKey"] for u in users} == {r["PartitionKey"] for r in records}
    assert_all_there((record["Data"] for record in records), count)


def as_event(record: dict[str, Any]) -> dict[str, Any]:
    """A record as Lambda hands it to a consumer."""
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0", "partitionKey": record["PartitionKey"],
            "sequenceNumber": record["SequenceNumber"], "approximateArrivalTimestamp": 0.0,
            "data": base64.b64encode(record["Data"]).decode(),
        },
        "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": "1", "awsRegion": REGION,
        "eventName": "aws:kinesis:record", "invokeIdentityArn": "", "eventSourceARN": "",
    }  # fmt: skip


def test_a_server_that_hangs_and_goes_on() -> None:
    count = 50_000
    with moto(0, 0) as server:
        server.create_stream(2)
        keys = {"compression": "gzip", "retry_max_elapsed_ms": 120_000, "read_timeout_ms": 1000}
        with Listen(server.url, **keys) as daemon:
            daemon.send(0, 1000)
            server.process.send_signal(signal.SIGSTOP)
            daemon.send(1000, count - 1000)
            daemon.wait_for("write_failed", code="read_timeout")
            threading.Event().wait(OUTAGE_SECONDS)  # the outage itself, not a synchronisation
            server.process.send_signal(signal.SIGCONT)
            assert_delivered(daemon.stop(count), count)
        assert_all_there((record["Data"] for record in server.records()), count)


def test_a_server_that_is_gone_and_comes_back() -> None:
    count = 50_000
    with KinesisServer() as server:
        keys = {"compression": "zstd", "retry_max_elapsed_ms": 120_000}
        with Listen(server.url, **keys) as daemon:
            daemon.send(0, 1000)
            server.wait_for_requests(1)
            with server.down():
                daemon.send(1000, count - 1000)
                daemon.wait_for("write_failed", code="unreachable")
                threading.Event().wait(OUTAGE_SECONDS)  # the outage itself
            assert_delivered(daemon.stop(count), count)
        assert_all_there(iter(put.data for put in server.accepted), count)


def test_a_server_that_hangs_resets_and_answers_garbage() -> None:
    count = 20_000
    with KinesisServer() as server:
        server.script = [
            Hang(), Reset(accept=True), Raw(b"\0garbage"), Raw(b"<html>", 502), Raw(b"[]"),
            Refuse({0: THROTTLED}), Refuse({0: "InternalFailure"}, count=9), Error(400, THROTTLED),
            Error(400, "ExpiredTokenException"), Error(503, "ServiceUnavailable", accept=True),
        ]  # fmt: skip
        keys = {
            "compression": "zstd",
            "read_timeout_ms": 500,
            "record_target_bytes": 100_000,
            "retry_max_elapsed_ms": 300_000,  # the circuit opens, and waits between its probes
        }
        with Listen(server.url, **keys) as daemon:
            daemon.send(0, count)
            with server.seen:
                assert server.seen.wait_for(lambda: not server.script, timeout=200)
            assert_delivered(daemon.stop(count), count)
            codes = {record["code"] for record in daemon.events("write_failed")}
        assert not server.script
        twice = assert_all_there(iter(put.data for put in server.accepted), count)
    assert twice > 0, "the records kept by a failing answer were not sent again"
    assert {"read_timeout", "garbled_answer", "credentials_expired"} <= codes


def test_kinesalite_agrees(kinesalite_program: Path) -> None:
    count = 100_000
    node = shutil.which("node")
    assert node is not None, "npm without node"
    # It binds every address: there is no option for one.
    program = [node, str(kinesalite_program), "--createStreamMs", "10"]
    with reserved() as port, serving([*program, "--port", str(port)], port) as server:
        server.create_stream(2)
        keys = {"compression": "zstd", "partition_key": "random"}
        with Listen(server.url, **keys) as daemon:
            daemon.send(0, count)
            assert_delivered(daemon.stop(count), count)
        assert_all_there((record["Data"] for record in server.records()), count)
