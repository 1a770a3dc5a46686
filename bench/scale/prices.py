"""Prices in US dollars, of us-east-1; each can be replaced by your own.

Of tiered prices this is the first tier, except for CloudWatch Logs, whose tiers matter most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from telemetryd.sinks.emf import prices as lambda_prices

REGION: Final = "us-east-1"
MONTH_HOURS: Final = 730
"""Hours of a month, as AWS's calculator counts them."""
GIB: Final = 1024**3

_BLOG: Final = (
    "AWS Big Data Blog, 2026-03-09, “Kinesis On-demand Advantage saves 60%+ on streaming costs”"
)
_KINESIS: Final = (
    "Amazon Kinesis Data Streams pricing, as quoted by Trek10, 2023-09-21, “Kinesis Data Streams "
    "On-demand vs. Provisioned”"
)
_FAN_OUT: Final = "the number that several public repositories have, undated; unconfirmed"
_FIREHOSE: Final = _FAN_OUT
_LOGS: Final = (
    "Amazon CloudWatch pricing, as quoted by The Duckbill Group, 2025-05, on Lambda's tiered logs"
)
_S3: Final = "Amazon S3 pricing, as quoted by devnotes.tech, undated"
_NAT: Final = "Amazon VPC pricing, as quoted by basavytix.com, undated"
_ENDPOINT: Final = "AWS PrivateLink pricing, as quoted by awsnegotiations.com, 2026-05"
_LAMBDA: Final = f"AWS Lambda pricing, {lambda_prices.AS_OF}"


class Price(NamedTuple):
    """One price."""

    name: str
    usd: float
    unit: str
    source: str


PRICES: Final = (
    Price("shard_hour", 0.015, "a shard and hour, provisioned", _KINESIS),
    Price("put_units", 0.014, "a million PUT payload units of 25 KiB, provisioned", _KINESIS),
    Price("fan_out_hour", 0.015, "a fan-out consumer, shard and hour, provisioned", _FAN_OUT),
    Price("fan_out", 0.013, "a GB read by a fan-out consumer, provisioned", _FAN_OUT),
    Price("stream_hour", 0.04, "a stream and hour, on-demand", _BLOG),
    Price("on_demand_in", 0.08, "a GB written, on-demand, records rounded up to 1 KiB", _BLOG),
    Price("on_demand_out", 0.04, "a GB read, on-demand", _KINESIS),
    Price("on_demand_fan_out", 0.05, "the same by a consumer with enhanced fan-out", _BLOG),
    Price("advantage_in", 0.032, "a GB written, on-demand advantage", _BLOG),
    Price("advantage_out", 0.016, "the same, also with fan-out, on-demand advantage", _BLOG),
    Price("firehose", 0.029, "a GB, records rounded up to 5 KiB", _FIREHOSE),
    Price("s3_put", 0.005, "a thousand PUT requests", _S3),
    Price("s3_month", 0.023, "a GB stored for a month", _S3),
    Price("logs_1", 0.50, "a GB ingested, the first 10 TB of a month", _LOGS),
    Price("logs_2", 0.25, "a GB ingested, the next 20 TB", _LOGS),
    Price("logs_3", 0.10, "a GB ingested, the next 20 TB", _LOGS),
    Price("logs_4", 0.05, "a GB ingested, beyond", _LOGS),
    Price("nat", 0.045, "a GB through a NAT gateway", _NAT),
    Price("endpoint", 0.01, "a GB through an interface endpoint", _ENDPOINT),
    Price("gb_second", lambda_prices.X86_64_GB_SECOND, "a GB-second on x86_64", _LAMBDA),
)  # fmt: skip
LOG_TIERS: Final = (("logs_1", 10_000), ("logs_2", 20_000), ("logs_3", 20_000))
"""The tiers of log ingestion and their GB; `logs_4` is for the rest."""
ADVANTAGE_FLOOR: Final = 25 * 1024**2
"""Bytes a second that an account with on-demand advantage pays for at least."""


def table(changes: Iterable[str] = ()) -> dict[str, float]:
    """Return the prices by name, with `changes` such as `shard_hour=0.02`.

    Raises ValueError where one has no such form, or no such name.
    """
    found = {price.name: price.usd for price in PRICES}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in found:
            raise ValueError(f"no price {name}; there is: {', '.join(found)}")
        found[name] = float(value)
        if not 0 <= found[name] < float("inf"):
            raise ValueError(f"{change}: a price is a number from 0 on")
    return found


def log_ingestion(gb: float, prices: dict[str, float]) -> float:
    """Return the price of so many GB of logs in one month."""
    total = 0.0
    for name, size in LOG_TIERS:
        part = min(gb, size)
        total += part * prices[name]
        gb -= part
    return total + gb * prices["logs_4"]


def lines(prices: Sequence[Price] = PRICES) -> list[str]:
    """Return the table of prices and their sources."""
    head = ["| price | USD | for | source |", "|---|---|---|---|"]
    return head + [f"| `{p.name}` | {p.usd:.10g} | {p.unit} | {p.source} |" for p in prices]
