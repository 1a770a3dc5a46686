r"""A Spark Structured Streaming job: telemetryd's Kinesis records in, a Parquet table out.

    python job.py --stream telemetry --table s3a://BUCKET/telemetry \
      --quarantine s3a://BUCKET/quarantine --state s3a://BUCKET/state

Each line is in the table once, however often it was delivered, and however often the job was
killed. README.md says how. One job writes a table.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import operator
import time
from typing import Any

import decode
import kinesis_source
import shards
from pyspark import StorageLevel, cloudpickle
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.streaming.query import StreamingQuery

MAX_HOURS = 200
"""Hours of one batch that are looked up one by one; of more, all days that it has lines of."""
MAX_REPORTED = 10
"""Foreign records of a batch that are reported one by one."""


def main() -> None:
    """Run until it is stopped, or, with `--idle-seconds`, until no more records come."""
    options = _parse()
    spark = SparkSession.builder.appName("telemetryd-lake").getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.conf.set("spark.sql.shuffle.partitions", spark.sparkContext.defaultParallelism)
    for module in (decode, kinesis_source, shards):  # Spark's Python workers can't import them
        cloudpickle.register_pickle_by_value(module)
    spark.dataSource.register(kinesis_source.KinesisSource)
    source = spark.readStream.format("kinesis").option("stream", options.stream)
    source = source.option("maxBytes", options.batch_mib << 20)
    for name in ("region", "endpoint"):
        if value := getattr(options, name):
            source = source.option(name, value)
    writer = Writer(options.table, options.quarantine)
    query = (
        source.load()
        .writeStream.foreachBatch(writer.write)
        .option("checkpointLocation", options.state)
        .trigger(processingTime=f"{options.every_seconds} seconds")
        .start()
    )
    if options.idle_seconds is None:
        query.awaitTermination()
    else:
        _stop_when_idle(query, writer, options.idle_seconds)


def _stop_when_idle(query: StreamingQuery, writer: Writer, seconds: int) -> None:
    """Return when there was no batch for so long, counted from a look that found nothing."""
    steps, quiet_since = -1, math.inf
    while query.isActive and time.monotonic() - quiet_since < seconds:
        query.awaitTermination(1)
        status = query.status
        if writer.steps != steps:
            steps, quiet_since = writer.steps, math.inf
        elif status["message"].startswith("Waiting"):  # so not while it starts
            quiet_since = min(quiet_since, time.monotonic())
    if failure := query.exception():
        raise failure
    query.stop()


class Writer:
    """Adds to the table what is new of each batch. So a batch may come twice, whole or in part."""

    def __init__(self, table: str, quarantine: str) -> None:
        self._table = table
        self._quarantine = quarantine
        self.steps = 0
        """Batches that have begun, and those that are done."""

    def write(self, records: DataFrame, number: int) -> None:
        """Add the lines of a batch that the table does not have yet."""
        self.steps += 1
        workers = records.sparkSession.sparkContext.defaultParallelism
        rows = records.repartition(workers).mapInArrow(decode.decode, decode.SCHEMA)
        rows = rows.withColumn("date", f.to_date("time")).persist(StorageLevel.DISK_ONLY)
        try:
            foreign = rows.where("error is not null").select(
                "time", "date", "place", "error", "foreign"
            )
            lines = rows.where("error is null").drop("place", "error", "foreign")
            arrived, written = lines.count(), _add_new(lines, self._table, "record_id")
            refused = foreign.count()
            if refused:
                _add_new(foreign, self._quarantine, "place")
                for row in foreign.limit(MAX_REPORTED).collect():
                    _log(quarantined=row.place, error=row.error)
        finally:
            rows.unpersist()
            self.steps += 1
        _log(batch=number, lines=arrived, new=written, foreign=refused)


def _add_new(rows: DataFrame, path: str, key: str) -> int:
    """Append the rows whose key `path` does not have yet, and return how many these are.

    Copies of a line have the same time. So only files of the hours that the batch has lines of are
    read, and of those only two columns. What an earlier attempt at the batch wrote is there too.
    """
    hour = f.unix_timestamp(f.date_trunc("hour", "time"))
    hours = rows.select(f.col("date").cast("string"), hour.alias("hour")).distinct().collect()
    if not hours:
        return 0
    paths = [f"{path}/date={date}" for date in sorted({row.date for row in hours})]
    new = rows.dropDuplicates([key])
    spark = rows.sparkSession
    if paths := [each for each in paths if _exists(spark, each)]:
        known = spark.read.schema(f"{key} string, time timestamp").parquet(*paths)
        if len(hours) <= MAX_HOURS:
            known = known.where(_within([row.hour for row in hours]))
        new = new.join(known.select(key), key, "left_anti")
    counted = Observation()
    new = new.observe(counted, f.count(f.lit(1)).alias("rows"))
    new.write.mode("append").partitionBy("date").parquet(path)
    return int(counted.get["rows"])


def _within(hours: list[int]) -> Column:
    """Return a condition on `time`: it is in one of `hours`, in seconds. Parquet can skip by it."""
    of_hours = [
        f.col("time").between(f.timestamp_seconds(f.lit(at)), f.timestamp_seconds(f.lit(at + 3600)))
        for at in hours
    ]
    return functools.reduce(operator.or_, of_hours)


def _exists(spark: SparkSession, path: str) -> bool:
    """True if there is such a folder in the file system of the path, such as S3."""
    jvm = spark.sparkContext._jvm  # noqa: SLF001 - PySpark has no other way to it
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001 - as above
    place = jvm.org.apache.hadoop.fs.Path(path)
    return bool(place.getFileSystem(hadoop).exists(place))


def _log(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stream", required=True)
    parser.add_argument("--table", required=True, help="folder of Parquet files, date=.../")
    parser.add_argument("--quarantine", required=True, help="folder for foreign records")
    parser.add_argument("--state", required=True, help="folder of the checkpoint")
    parser.add_argument("--region")
    parser.add_argument("--endpoint", help="address of Kinesis, if it is not AWS's")
    parser.add_argument("--batch-mib", type=int, default=32, help="packed records of a batch")
    parser.add_argument("--every-seconds", type=int, default=60, help="time from batch to batch")
    parser.add_argument("--idle-seconds", type=int, help="end when no record came for so long")
    return parser.parse_args()


if __name__ == "__main__":
    main()
