"""The Kinesis servers of the scenarios, and the lines they hold in the end.

    python -m bench.load.kinesis_service SERVICE FILE

is the one that answers at memory speed, and as badly as SERVICE (a scenario's `[service]` as JSON)
says: prints its port, serves until standard input ends, then writes its records to FILE and prints
what it counted, as JSON.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.kit.errors import AbsentError, LossError
from bench.load.scenario import Service
from telemetryd_proto.kinesis import decode

TESTS: Final = Path(__file__).parents[2] / "tests"
MOTO: Final = TESTS / "helpers" / "moto_kinesis.py"
STREAM: Final = "bench"
REGION: Final = "eu-west-1"
_THROTTLED: Final = "ProvisionedThroughputExceededException"


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A record in the stream."""

    data: bytes
    at: float | None = None
    """The time of the response that acknowledged it, by `time.perf_counter`; None with moto."""


class KinesisService:
    """A running server with one stream, `bench`."""

    def __init__(
        self, url: str, process: subprocess.Popen[str], kept: Path, service: Service
    ) -> None:
        self.url = url
        self._process = process
        self._kept = kept
        self._service = service

    def records(self) -> tuple[list[Record], dict[str, int]]:
        """All records in the order of their arrival, by shard; what was counted.

        The memory server ends with that. Raises LossError where it saw its limits violated.
        """
        if self._service.kind == "moto":
            records = list(_read_stream(self.url))
            told = {"records": len(records), "data_bytes": sum(len(each.data) for each in records)}
            return records, told
        told = json.loads(self._process.communicate()[0])
        if violations := told.pop("violations"):
            raise LossError(f"Kinesis would have refused: {violations[0]}")
        return msgspec.msgpack.decode(self._kept.read_bytes(), type=list[Record]), told


@contextlib.contextmanager
def serving(service: Service, scratch: Path, prefix: Sequence[str]) -> Iterator[KinesisService]:
    """Start it behind `prefix` (say `taskset -c 1`). Raises AbsentError where there is no moto."""
    kept = scratch / "records.msgpack"
    if service.kind == "moto":
        if importlib.util.find_spec("moto") is None:
            raise AbsentError("moto is not installed: make .venv/.installed-system")
        command = [sys.executable, str(MOTO)]
    else:
        described = msgspec.json.encode(service).decode()
        command = [sys.executable, "-m", "bench.load.kinesis_service", described, str(kept)]
    with (
        (scratch / "kinesis.log").open("wb") as said,
        subprocess.Popen(
            [*prefix, *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            if service.kind == "moto":
                _create_stream(url, service.shards)
            yield KinesisService(url, process, kept, service)
        finally:
            process.kill()


def decoded(records: Iterable[Record]) -> Iterator[tuple[Record, Sequence[bytes]]]:
    """Each record with its lines, without their newlines.

    One that was delivered twice comes once, told by its id, as a consumer would.
    """
    seen: set[str] = set()
    for record in records:
        found = decode(record.data)
        if found.record_id:
            if found.record_id in seen:
                continue
            seen.add(found.record_id)
        yield record, found.lines


def differences(arrived: Iterable[Sequence[bytes]], wanted: Mapping[bytes, int]) -> str | None:
    """Return a fault of the lines, or None. `wanted`: how often each was sent, with its newline.

    Shards keep no order among each other: each line must be there as often as it was sent.
    """
    left = {line.rstrip(b"\n"): count for line, count in wanted.items()}
    for lines in arrived:
        for line in lines:
            if line not in left:
                return f"a line was not sent: {line[:120]!r}"
            left[line] -= 1
    missing = sum(count for count in left.values() if count > 0)
    doubled = -sum(count for count in left.values() if count < 0)
    if missing or doubled:
        return f"{missing:,} lines are missing at the destination, {doubled:,} are in it twice"
    return None


# -- moto -----------------------------------------------------------------------------------------


def _client(url: str) -> Any:
    # here, as it takes half a second
    import botocore.session  # noqa: PLC0415

    return botocore.session.get_session().create_client(
        "kinesis", endpoint_url=url, region_name=REGION,
        aws_access_key_id="bench", aws_secret_access_key="bench",  # noqa: S106 - moto asks for some
    )  # fmt: skip


def _create_stream(url: str, shards: int) -> None:
    client = _client(url)
    client.create_stream(StreamName=STREAM, ShardCount=shards)
    client.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1})


def _read_stream(url: str) -> Iterator[Record]:
    client = _client(url)
    for shard in client.list_shards(StreamName=STREAM)["Shards"]:
        iterator = client.get_shard_iterator(
            StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            page = client.get_records(ShardIterator=iterator)
            for record in page["Records"]:
                yield Record(record["Data"])
            iterator = page.get("NextShardIterator") if page["MillisBehindLatest"] else None


# -- at memory speed ------------------------------------------------------------------------------


def main(service: Service, kept: Path) -> None:
    """Serve until standard input ends."""
    sys.path.insert(0, str(TESTS))
    from helpers.kinesis_server import (  # noqa: PLC0415 - a program's own import
        MIB,
        Error,
        KinesisServer,
        PutRecords,
        Refuse,
    )

    rng = random.Random(1)
    arrived: dict[int, float] = {}

    def choose(put: PutRecords) -> Any:
        now = time.perf_counter()
        arrived.update((id(record), now) for record in put.records)
        if service.error_rate and rng.random() < service.error_rate:
            return Error(500, "InternalFailure")
        if not service.throttle_rate:
            return None
        refused = [i for i in range(len(put.records)) if rng.random() < service.throttle_rate]
        return Refuse(dict.fromkeys(refused, _THROTTLED)) if refused else None

    with KinesisServer(keep=True, max_request=10 * MIB) as server:
        server.delay_seconds = service.latency_ms / 1000
        server.choose = choose
        print(server.port, flush=True)
        sys.stdin.read()
        records = [
            Record(put.data, arrived[id(put)] + server.delay_seconds) for put in server.accepted
        ]
        kept.write_bytes(msgspec.msgpack.encode(records))
        print(json.dumps({**server.counts, "violations": server.violations}), flush=True)


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Service), Path(sys.argv[2]))
