"""The result of one run of one receiver."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.kit.stats import percentile, slope


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """From when lines were due to be sent until they were there, in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float
    early_p99: float
    """Of the first quarter of the lines."""
    late_p99: float
    """Of the last quarter: a drift shows here."""

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Of measured latencies, in the order of their arrival. Raises ValueError without any."""
        millis = [1000 * value for value in seconds]
        quarter = max(len(millis) // 4, 1)
        return cls(
            p50=percentile(millis, 0.5),
            p95=percentile(millis, 0.95),
            p99=percentile(millis, 0.99),
            max=max(millis),
            early_p99=percentile(millis[:quarter], 0.99),
            late_p99=percentile(millis[-quarter:], 0.99),
        )


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The figures."""

    lines: int
    bytes: int
    seconds: float
    """From the first byte sent until every line was where it belongs."""
    cpu_seconds: float = 0.0
    """User and system time of the receiver's processes, its start left out."""
    peak_mib: float = 0.0
    """Of its resident memory."""
    drops: dict[str, int] = {}
    """Lines dropped, by sink and reason."""
    latency: Latency | None = None
    """The latency, if lines were sent on a schedule."""
    resident_mib: tuple[float, ...] = ()
    """Its resident memory, once a second (the same)."""
    records: int = 0
    """Kinesis records written."""
    record_bytes: int = 0
    """Bytes of their data."""

    @property
    def lines_per_second(self) -> float:
        """Throughput."""
        return self.lines / self.seconds

    @property
    def megabytes_per_second(self) -> float:
        """Of lines, in 10^6 bytes."""
        return self.bytes / self.seconds / 1e6

    @property
    def cpu_us_per_line(self) -> float:
        """CPU per line in µs, which is also CPU per million lines in seconds."""
        return self.cpu_seconds / self.lines * 1e6

    @property
    def p99_ms(self) -> float:
        """Latency that one line in a hundred exceeds; infinite where none was measured."""
        return self.latency.p99 if self.latency else float("inf")

    @property
    def dropped(self) -> int:
        """Lines dropped, by whatever sink."""
        return sum(self.drops.values())

    @property
    def growth_kib_per_s(self) -> float:
        """Slope of the resident memory over the second half of the time, when all is warm."""
        half = self.resident_mib[len(self.resident_mib) // 2 :]
        return slope(half) * 1024
