"""moto's Kinesis with what a real one has: no lost records, and limits of each shard.

    python tests/helpers/moto_kinesis.py [RECORDS_PER_SECOND [BYTES_PER_SECOND]]

Prints its port. Stock moto loses records of concurrent PutRecords calls (`Shard.put_record` says it
is not safe), builds a list of all sequence numbers for each record, and never throttles. This
replaces the three, with a token bucket of one second for each shard; 0 turns a limit off. Answers
of GetRecords have at most 10 MiB, as the real ones. It reaches into moto's internals, so it insists
on the version it was written for.
"""

from __future__ import annotations

import base64
import importlib.metadata
import sys
import threading
import time
from typing import Any

from moto.kinesis import models
from moto.kinesis.exceptions import (
    RecordSizeExceedsLimit,
    TooManyRecords,
    TotalRecordsSizeExceedsLimit,
)
from moto.server import ThreadedMotoServer

MOTO = "5.2.5"
MIB = 1024 * 1024


class Bucket:
    """Tokens of one shard: records and bytes, each refilled every second."""

    def __init__(self, records: float, size: float) -> None:
        self._limits = (records, size)
        self._left = [records, size]
        self._at = time.monotonic()

    def take(self, size: int) -> bool:
        """True if one record of `size` bytes may be written now."""
        now = time.monotonic()
        passed, self._at = now - self._at, now
        for index, limit in enumerate(self._limits):
            self._left[index] = min(limit, self._left[index] + passed * limit)
        wanted = (1, size)
        limits = zip(self._limits, self._left, wanted, strict=True)
        if any(limit and left < want for limit, left, want in limits):
            return False
        self._left = [left - want for left, want in zip(self._left, wanted, strict=True)]
        return True


def _require_moto() -> None:
    """End the program where moto is not what this was written for."""
    version = importlib.metadata.version("moto")
    if version != MOTO:
        raise SystemExit(f"moto {MOTO} is needed, not {version}: this shim reaches into it")
    for owner, name in (
        (models.KinesisBackend, "put_records"),
        (models.KinesisBackend, "describe_stream"),
        (models.Stream, "get_shard_for_key"),
        (models.Shard, "get_max_sequence_number"),
        (models.Shard, "put_record"),
        (models.Shard, "get_records"),
    ):
        if not hasattr(owner, name):
            raise SystemExit(f"moto {version} has no {owner.__name__}.{name}")


def _get_records(self: Any, after: str, limit: int | None) -> tuple[list[Any], int, int]:
    """Return records behind a sequence number, the last one's number, and if there are more."""
    found: list[Any] = []
    size, number = 0, int(after)
    while (following := self.records.get(number + 1)) is not None:
        size += len(following.data) * 3 // 4
        if found and (size > 10 * MIB or len(found) >= (limit or 10_000)):
            return found, number, 1
        found.append(following)
        number += 1
    return found, number, 0


def install(records_per_second: float, bytes_per_second: float) -> None:
    """Put our PutRecords in the place of moto's."""
    _require_moto()
    lock = threading.Lock()
    buckets: dict[int, Bucket] = {}

    def put_records(
        self: Any, stream_arn: str, stream_name: str, records: list[dict[str, Any]]
    ) -> dict[str, Any]:
        stream = self.describe_stream(stream_arn=stream_arn, stream_name=stream_name)
        sizes = [len(base64.b64decode(r["Data"])) + len(r["PartitionKey"]) for r in records]
        if len(records) > 500:
            raise TooManyRecords
        if sum(sizes) > 5 * MIB:
            raise TotalRecordsSizeExceedsLimit
        for position, size in enumerate(sizes, 1):
            if size > MIB:
                raise RecordSizeExceedsLimit(position=position)
        results = []
        with lock:
            for record, size in zip(records, sizes, strict=True):
                key, hash_key = record["PartitionKey"], record.get("ExplicitHashKey")
                shard = stream.get_shard_for_key(key, hash_key)
                bucket = buckets.setdefault(id(shard), Bucket(records_per_second, bytes_per_second))
                if bucket.take(size):
                    number = shard.put_record(key, record["Data"], hash_key)
                    results.append({"SequenceNumber": number, "ShardId": shard.shard_id})
                else:
                    results.append(
                        {
                            "ErrorCode": "ProvisionedThroughputExceededException",
                            "ErrorMessage": f"Rate exceeded for shard {shard.shard_id}",
                        }
                    )
        failed = sum("ErrorCode" in result for result in results)
        return {"FailedRecordCount": failed, "Records": results}

    models.Shard.get_records = _get_records
    models.KinesisBackend.put_records = put_records
    models.Shard.get_max_sequence_number = lambda self: next(reversed(self.records), 0)


def main(records_per_second: float = 1000, bytes_per_second: float = MIB) -> None:
    """Serve until stdin ends."""
    install(records_per_second, bytes_per_second)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
