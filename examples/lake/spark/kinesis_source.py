"""A Kinesis stream as a source of Spark Structured Streaming: `spark.readStream.format("kinesis")`.

Spark has none of its own. The driver reads the shards, because a batch needs to know its end before
it begins, and Kinesis says so only by handing out the records. Decoding is spread over the
executors: a record of telemetryd holds thousands of lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from pyspark.sql.datasource import DataSource, SimpleDataSourceStreamReader
from pyspark.sql.types import StructType
from shards import Offset, Shards

SCHEMA = "shard string, sequence string, partition_key string, arrived double, data binary"


class KinesisSource(DataSource):  # type: ignore[misc]  # no types of its own
    """Options: `stream`, `maxBytes` of a batch (32 MiB), `region`, `endpoint`."""

    @classmethod
    def name(cls) -> str:
        """Return what `format` takes."""
        return "kinesis"

    def schema(self) -> str:
        """Return the columns of a record."""
        return SCHEMA

    def simpleStreamReader(self, schema: StructType) -> KinesisReader:  # noqa: N802 - Spark's name
        """Return what reads the stream."""
        return KinesisReader(dict(self.options))


class KinesisReader(SimpleDataSourceStreamReader):  # type: ignore[misc]  # as above
    """Reads from offset to offset; the checkpoint holds the offsets, so it has no other state."""

    def __init__(self, options: dict[str, str]) -> None:
        self._options = options
        self._shards: Shards | None = None

    def initialOffset(self) -> Offset:  # noqa: N802 - Spark's name
        """Return the oldest record's place."""
        return {}

    def read(self, start: Offset) -> tuple[Iterator[tuple[Any, ...]], Offset]:
        """Return a batch, and where it ends."""
        self._shards = self._shards or self._open()
        records, end = self._shards.read(start)
        return iter([tuple(record) for record in records]), end

    def readBetweenOffsets(  # noqa: N802 - Spark's name
        self, start: Offset, end: Offset
    ) -> Iterator[tuple[Any, ...]]:
        """Yield a batch again that was not done when the job ended."""
        return map(tuple, self._open().read_again(start, end))

    def _open(self) -> Shards:
        # options come in lower case
        client = boto3.client(
            "kinesis",
            region_name=self._options.get("region"),
            endpoint_url=self._options.get("endpoint"),
            config=Config(retries={"mode": "standard", "total_max_attempts": 8}),
        )
        max_bytes = int(self._options.get("maxbytes", 32 * 1024 * 1024))
        return Shards(client, self._options["stream"], max_bytes=max_bytes)
