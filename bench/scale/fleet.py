"""The arithmetic of a fleet: from one measured environment to shards and dollars.

Nothing is measured here, and nothing is random but the keys, which have a fixed seed.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from bench.scale import packing
from bench.scale.packing import Result, Row
from bench.scale.prices import ADVANTAGE_FLOOR, GIB, MONTH_HOURS, log_ingestion
from telemetryd.core.lifecycle import BUSY_GAP_SECONDS

SHARD_RECORDS: Final = 1000
"""Records a second that a shard takes."""
SHARD_BYTES: Final = 1024**2
"""Bytes a second that a shard takes."""
FIREHOSE_OBJECT: Final = 128 * 1024**2
"""Bytes of an object that Firehose writes at most (buffer size)."""
FIREHOSE_SECONDS: Final = 300
"""Seconds after which Firehose writes an object (buffer interval, default)."""
VCPU_MB: Final = 1769
"""Memory of a function with one whole vCPU."""
LOG_EVENT_BYTES: Final = 26
"""Bytes that CloudWatch Logs adds to each event."""
BASE64: Final = 4 / 3
"""Bytes on the wire for a byte of a record."""
_SECONDS: Final = MONTH_HOURS * 3600
_MOST_KEYS: Final = 200_000
"""Keys that are hashed; more are treated as these, which spread a little less evenly."""
_STEP: Final = 1.02
"""Precision of the number of shards."""


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """Functions, and how often they are called."""

    functions: int = 10_000
    rate: float = 100.0
    """Invocations a second."""
    each: bool = True
    """Of each function; otherwise of all together."""
    function_ms: float = packing.FLEET_MS
    memory_mb: int = 512
    lines: float | None = None
    """Lines of an invocation, events of the platform included; None: as measured."""
    line_bytes: float | None = None
    """Bytes of a line; None: as measured."""
    linger_ms: int = 100
    compression: str = "zstd"
    consumers: int = 1
    """Programs that read the stream."""
    fan_out: bool = False
    """True if they use enhanced fan-out."""
    hot_part: float = 0.1
    """Part of all invocations that one function has."""
    cold_part: float = 0.001
    """Part of the invocations that are cold starts."""
    init_added_ms: float = 89.0
    """Milliseconds that telemetryd adds to the init phase: docs/performance.md, 512 MB, warm."""
    rare_added_ms: float = 26.0
    """Milliseconds that it adds to a rare invocation: docs/performance.md, `auto`."""
    stored_days: float = 30.0
    """Days that lines stay in S3."""

    @property
    def invocations(self) -> float:
        """Invocations a second, of all functions."""
        return self.rate * (self.functions if self.each else 1)

    @property
    def function_rate(self) -> float:
        """Invocations a second of one function."""
        return self.invocations / self.functions

    @property
    def running(self) -> float:
        """Environments that run at once (Little's law)."""
        return self.invocations * self.function_ms / 1000

    @property
    def is_busy(self) -> bool:
        """True if an environment is called again within a second: then no flush ends it."""
        return self.function_rate * (BUSY_GAP_SECONDS + self.function_ms / 1000) >= 1

    @property
    def sending(self) -> int:
        """Environments that send in one second."""
        return max(math.ceil(self.running if self.is_busy else self.invocations), 1)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a second."""

    invocations: float
    lines: float
    line_bytes: float
    records: float
    requests: float
    data_bytes: float
    put_units: float
    on_demand_bytes: float
    firehose_bytes: float
    cpu_ms: float


def choose(result: Result, fleet: Fleet) -> Row:
    """Return the measured environment that is like those of `fleet`. ValueError: there is none."""
    fitting = [
        row
        for row in result.rows
        if row.case.function_ms == packing.FLEET_MS
        and row.case.calls > 1
        and row.case.busy == fleet.is_busy
        and row.case.compression == fleet.compression
    ]
    for row in fitting:
        if row.case.linger_ms == fleet.linger_ms:
            return row
    there = ", ".join(str(row.case.linger_ms) for row in fitting)
    raise ValueError(f"linger_ms {fleet.linger_ms} was not measured; there is: {there}")


def per_invocation(row: Row, alone: Row, fleet: Fleet) -> Load:
    """Return the figures of one invocation, scaled to the lines of `fleet`.

    `alone`: a life with one invocation. Its CPU belongs to no invocation.
    """
    calls = row.case.calls
    lines = fleet.lines or row.lines / calls
    size = lines * (fleet.line_bytes or row.line_bytes / row.lines)
    factor = size / (row.line_bytes / calls)
    data = row.data_bytes / calls * factor
    records = max(row.records / calls, data / SHARD_BYTES)
    exact = fleet.lines is None and fleet.line_bytes is None

    def billed(unit: int, measured: float) -> float:
        """Return bytes with each record rounded up; of other lines, as if all were alike."""
        mean = math.ceil(data / records)
        return measured / calls if exact else records * packing.round_up(mean, unit)

    return Load(
        invocations=1,
        lines=lines,
        line_bytes=size,
        records=records,
        requests=row.requests / calls,
        data_bytes=data,
        put_units=billed(packing.PUT_UNIT, row.put_units * packing.PUT_UNIT) / packing.PUT_UNIT,
        on_demand_bytes=billed(packing.ON_DEMAND_UNIT, row.on_demand_bytes),
        firehose_bytes=billed(packing.FIREHOSE_UNIT, row.firehose_bytes),
        cpu_ms=max(row.cpu_ms - alone.cpu_ms, 0.0) / (calls - 1),
    )


def multiply(one: Load, invocations: float) -> Load:
    """Return the figures of so many invocations a second."""
    fields = msgspec.structs.asdict(one)
    return Load(**{name: value * invocations for name, value in fields.items()})


def load_of(fleet: Fleet, result: Result) -> Load:
    """Return the figures of a second of `fleet`. ValueError: nothing like it was measured."""
    row = choose(result, fleet)
    (alone,) = (
        each
        for each in result.rows
        if each.case.calls == 1 and each.case.compression == fleet.compression
    )
    return multiply(per_invocation(row, alone, fleet), fleet.invocations)


# -- shards ----------------------------------------------------------------------------------------


def even_shards(load: Load) -> int:
    """Return the shards if every one had the same load."""
    return max(math.ceil(load.records / SHARD_RECORDS), math.ceil(load.data_bytes / SHARD_BYTES), 1)


def hash_keys(keys: Iterable[str]) -> list[int]:
    """Return the 128-bit hashes by which Kinesis chooses the shards."""
    return [
        int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest()) for key in keys
    ]


def fullest(hashes: Sequence[int], shards: int) -> int:
    """Return the number of keys in the fullest of `shards` shards with equal ranges."""
    return max(Counter((value * shards) >> 128 for value in hashes).values())


def shards_for(load: Load, keys: int) -> int | None:
    """Return the shards with which the fullest takes its load, if all keys have the same load.

    None: a single key is too much for a shard, and no number of shards is enough. Keys are random,
    as the ids of environments and of records are.
    """
    count = min(max(keys, 1), _MOST_KEYS)
    share = share_of_a_shard(load, count)
    if share > 1:
        return None
    draw = random.Random(0)
    hashes = hash_keys(draw.randbytes(16).hex() for _ in range(count))
    shards = even_shards(load)
    while fullest(hashes, shards) * share > 1:
        shards = max(shards + 1, int(shards * _STEP))
    return shards


def share_of_a_shard(load: Load, parts: float) -> float:
    """Return how much of a shard one of so many equal parts of `load` takes; 1: all of it."""
    return max(load.records / SHARD_RECORDS, load.data_bytes / SHARD_BYTES) / parts


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """The effect of one kind of partition key."""

    key: str
    keys: int
    """Different keys in a second."""
    shards: int | None
    """Shards with which the fullest takes its load; None: none is enough."""
    largest: float
    """Part of a shard that one key takes; above 1, it is throttled."""
    hot: float
    """The same for the largest key of a function with `hot_part` of all invocations."""


def spreads(fleet: Fleet, load: Load) -> list[Spread]:
    """Return what each `partition_key` does."""
    functions = fleet.functions if fleet.is_busy else min(fleet.functions, fleet.sending)
    counts = {
        "instance": fleet.sending,
        "function": functions,
        "random": max(math.ceil(load.records), 1),
    }
    return [
        Spread(
            key=key,
            keys=count,
            shards=shards_for(load, count),
            largest=share_of_a_shard(load, count),
            hot=share_of_a_shard(load, 1) * fleet.hot_part
            if key == "function"
            else share_of_a_shard(load, count),
        )
        for key, count in counts.items()
    ]


# -- a month ---------------------------------------------------------------------------------------


def gb_a_month(bytes_a_second: float) -> float:
    """Return GB (2^30 bytes) a month."""
    return bytes_a_second * _SECONDS / GIB


def objects_a_second(load: Load) -> float:
    """Return the objects that Firehose writes, by size or by time."""
    return max(load.data_bytes / FIREHOSE_OBJECT, 1 / FIREHOSE_SECONDS)


def gb_seconds(fleet: Fleet, load: Load) -> dict[str, float]:
    """Return the GB-seconds of a second that telemetryd adds, by their cause."""
    gb = fleet.memory_mb / 1024
    waited = 0.0 if fleet.is_busy else fleet.rare_added_ms / 1000
    return {
        "wait at the end": fleet.invocations * waited * gb,
        "init phase": fleet.invocations * fleet.cold_part * fleet.init_added_ms / 1000 * gb,
        "its CPU, at most": load.cpu_ms / 1000 * max(VCPU_MB, fleet.memory_mb) / 1024,
    }


def dollars(fleet: Fleet, load: Load, shards: int, prices: dict[str, float]) -> dict[str, float]:
    """Return dollars a month, by destination. `shards`: of a provisioned stream."""
    p = prices
    out = gb_a_month(load.data_bytes) * fleet.consumers
    committed = max(load.on_demand_bytes, ADVANTAGE_FLOOR)
    stored = gb_a_month(load.data_bytes) * fleet.stored_days * 24 / MONTH_HOURS
    wire = gb_a_month(load.data_bytes * BASE64)
    logged = gb_a_month(load.line_bytes + LOG_EVENT_BYTES * load.lines)
    added = sum(gb_seconds(fleet, load).values()) * _SECONDS
    fan_out = fleet.consumers * shards * p["fan_out_hour"] * MONTH_HOURS + out * p["fan_out"]
    return {
        "Kinesis, provisioned": shards * p["shard_hour"] * MONTH_HOURS
        + load.put_units * _SECONDS / 1e6 * p["put_units"]
        + (fan_out if fleet.fan_out else 0.0),
        "Kinesis, on-demand": p["stream_hour"] * MONTH_HOURS
        + gb_a_month(load.on_demand_bytes) * p["on_demand_in"]
        + out * p["on_demand_fan_out" if fleet.fan_out else "on_demand_out"],
        "Kinesis, on-demand advantage": gb_a_month(committed) * p["advantage_in"]
        + out * p["advantage_out"],
        "Firehose behind the stream": gb_a_month(load.firehose_bytes) * p["firehose"],
        "S3 behind Firehose": objects_a_second(load) * _SECONDS / 1000 * p["s3_put"]
        + stored * p["s3_month"],
        "CloudWatch Logs, the same lines": log_ingestion(logged, p),
        "NAT gateway, per GB only": wire * p["nat"],
        "interface endpoint, per GB only": wire * p["endpoint"],
        "GB-seconds that telemetryd adds": added * p["gb_second"],
    }
