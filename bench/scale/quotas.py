"""Limits of AWS by name: the default, what a fleet needs, and what happens where it is reached.

Sources: AWS Lambda Developer Guide, "Lambda quotas" and "Lambda scaling behavior"; Amazon Kinesis
Data Streams Developer Guide, "Quotas and limits" and "Develop enhanced fan-out consumers"; Amazon
Data Firehose Developer Guide, "Quota"; Amazon CloudWatch Logs User Guide, "CloudWatch Logs quotas";
Amazon VPC User Guide, "NAT gateway basics". Read in stored copies of 2026.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from bench.scale.fleet import BASE64, Fleet, Load, even_shards
from bench.scale.packing import Row

MB: Final = 1024**2
_READS: Final = 2
"""A shard is read at so many times its write rate."""


class Quota(NamedTuple):
    """One limit."""

    name: str
    default: float
    need: Callable[[Fleet, Load, Row], float]
    """The need of a fleet."""
    unit: str
    reached: str
    """The effect where it is reached."""
    counted: str
    """The counts of telemetryd then."""


_THROTTLED: Final = (
    "`sink_errors_total` with code `throttled`, and `retries_total`: it writes only the refused "
    "records again, with growing waits; what is left after `retry_max_elapsed_ms` goes to spool, "
    "failover or dead letter, or is in `dropped_lines_total` with reason `throttled`; if the queue "
    "is full before, with `queue_full`"
)
_NONE: Final = "nothing: there is no environment that could count"
QUOTAS: Final = (
    Quota(
        "Lambda: Concurrent executions", 1000, lambda fleet, _, __: math.ceil(fleet.running),
        "environments in an account and region",
        "Lambda refuses the call (429)", _NONE,
    ),
    Quota(
        "Lambda: concurrency scaling rate", 1000,
        lambda fleet, _, __: math.ceil(fleet.running / fleet.functions),
        "new environments of a function in 10 s, if all begin at once",
        "Lambda refuses the call (429)", _NONE,
    ),
    Quota(
        "Kinesis: records a second of a shard", 1000,
        lambda fleet, load, _: load.records / fleet.sending,
        "records a second of one environment, which has one key",
        "`ProvisionedThroughputExceededException` for the records beyond", _THROTTLED,
    ),
    Quota(
        "Kinesis: bytes a second of a shard", MB,
        lambda fleet, load, _: load.data_bytes / fleet.sending,
        "bytes a second of one environment",
        "the same", "the same",
    ),
    Quota(
        "Kinesis: Shards per account", 20_000, lambda _, load, __: even_shards(load),
        "shards, if all keys are alike; other regions: 1,000 or 6,000",
        "the stream can't grow, so shards throttle", "as for a shard",
    ),
    Quota(
        "Kinesis: write rate of a new on-demand stream", 4 * MB,
        lambda _, load, __: load.data_bytes,
        "bytes a second",
        "throttled until it has doubled often enough (twice the peak of 30 days); on-demand "
        "advantage can be warmed before", "as for a shard",
    ),
    Quota(
        "Kinesis: records of a new on-demand stream", 4000, lambda _, load, __: load.records,
        "records a second", "the same", "as for a shard",
    ),
    Quota(
        "Kinesis: most of an on-demand stream", 10 * 1024 * MB, lambda _, load, __: load.data_bytes,
        "bytes a second; 200 MB in all but three regions",
        "throttled; use several streams", "as for a shard",
    ),
    Quota(
        "Kinesis: records of a PutRecords call", 500,
        lambda _, load, __: load.records / load.requests,
        "records a call, on average", "never: the sink makes a further call", "nothing",
    ),
    Quota(
        "Kinesis: size of a PutRecords call", 10 * MB, lambda _, __, row: row.largest_bytes,
        "bytes of the largest record, each in a call of its own",
        "never: `max_request_bytes`", "nothing",
    ),
    Quota(
        "Kinesis: shared readers of a shard", _READS,
        lambda fleet, _, __: fleet.consumers,
        "programs that read all, at 2 MB/s a shard together and 5 GetRecords calls a second",
        "readers fall behind; use enhanced fan-out", "nothing: it does not read",
    ),
    Quota(
        "Kinesis: registered consumers (enhanced fan-out)", 20,
        lambda fleet, _, __: fleet.consumers,
        "consumers of a stream; 50 with on-demand advantage",
        "`RegisterStreamConsumer` fails", "nothing: it does not read",
    ),
    Quota(
        "Firehose: Direct PUT bytes", 5 * MB, lambda _, load, __: load.data_bytes,
        "bytes a second of a stream in three regions, 1 MB in others; not behind a Kinesis stream",
        "`ServiceUnavailableException`",
        "nothing: telemetryd writes to the Kinesis stream, which has no such limit",
    ),
    Quota(
        "CloudWatch Logs: PutLogEvents requests", 5000, lambda _, load, __: load.requests,
        "calls a second in an account and region, if an `emf` sink sent as many "
        '(`delivery = "logs"`)',
        "`ThrottlingException`", "as for a shard",
    ),
    Quota(
        "VPC: connections of a NAT gateway", 55_000, lambda fleet, _, __: math.ceil(fleet.running),
        "connections to one endpoint for each address of the gateway; an environment keeps one",
        "connections fail; use an interface endpoint, or up to 8 addresses",
        "`sink_errors_total` with `connect_timeout` or `unreachable`, then as for a shard",
    ),
    Quota(
        "VPC: bytes of a NAT gateway", 100e9 / 8,
        lambda _, load, __: load.data_bytes * BASE64,
        "bytes a second with base64; a gateway grows to 100 Gbit/s",
        "packets are dropped", "`sink_errors_total` with `read_timeout`, then as for a shard",
    ),
    Quota(
        "Lambda: Telemetry API buffer", MB,
        lambda fleet, load, _: load.line_bytes / fleet.sending,
        "bytes of an environment a second; the buffer has `telemetry.buffering.max_bytes`",
        "if telemetryd reads too slowly, Lambda drops lines and sends `platform.logsDropped`",
        "`upstream_dropped_lines_total`",
    ),
)  # fmt: skip
"""Every limit that a fleet can reach."""


def is_reached(quota: Quota, need: float) -> bool:
    """True if `need` is more than the default."""
    return need > quota.default
