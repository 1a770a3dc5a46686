"""The work and the cost of telemetryd in few numbers, for the ledger's line and for sinks.

A sink that makes metrics of them (`SinkContext.figures`) asks repeatedly. So it gets the growth of
the numbers (`changes`) and the highest values since it last asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from telemetryd.core.ledger import Ledger
from telemetryd.core.stats import DaemonStats, HookStats

_DIGITS: Final = 3


class Usage(msgspec.Struct, frozen=True):
    """Resources that the process has used so far."""

    cpu_seconds: float
    peak_rss_bytes: int
    uptime_seconds: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Changes between two readings, and totals.

    Lines are counted once for each sink they were lost to, or are on the way to.
    """

    lost_lines: int
    """Lines dropped since the last reading."""
    cpu_seconds: float
    """Processor time used since then."""
    invocations: int
    """Invocations since then."""
    added_seconds: float | None
    """The longest an invocation was kept waiting since then; None: there was none."""
    delivery_seconds: float | None
    """The oldest that a line was when it was delivered; None: none was."""
    queue_fraction: float
    """The fill level of the fullest queue, 0 to 1."""
    peak_rss_bytes: int
    """The most memory the process ever used."""
    facts: dict[str, Any]
    """All of it as JSON, since the start, and where lines went."""


class FiguresReader:
    """Readings for one reader. Nothing is kept, nor watched, before the first."""

    def __init__(
        self,
        stats: DaemonStats,
        ledger: Ledger,
        usage: Callable[[], Usage],
        clock: Callable[[], float],
        oldest_seconds: Callable[[float], float] = lambda _: 0.0,
    ) -> None:
        """Store the sources. `oldest_seconds`: the age of the oldest line at a time of `clock`."""
        self._stats = stats
        self._ledger = ledger
        self._usage = usage
        self._clock = clock
        self._oldest_seconds = oldest_seconds
        self._lost = 0
        self._cpu = 0.0
        self._invocations = 0
        self._added: Callable[[], float] | None = None
        self._queues: list[tuple[Callable[[], float], int]] = []
        self._deliveries: list[Callable[[], float]] = []
        self._delivered = 0

    def __call__(self) -> Figures:
        """Return the reading of now."""
        stats, sinks = self._stats, self._stats.sinks.values()
        if self._added is None:
            self._added = stats.added_peak.reader()
            self._deliveries = [sink.delivery_peak.reader() for sink in sinks]
            self._queues = [(s.queue_peak.reader(), s.queue_capacity_bytes or 1) for s in sinks]
        usage = self._usage()
        lost = sum(c.lines for a in self._ledger.sinks.values() for c in a.dropped.values())
        delivered = sum(sink.delivery_seconds.count for sink in sinks)
        invocations, added = stats.added_seconds.count, self._added()
        deliveries = [read() for read in self._deliveries]
        fullest = max((read() / capacity for read, capacity in self._queues), default=0.0)
        reading = Figures(
            lost_lines=lost - self._lost,
            cpu_seconds=usage.cpu_seconds - self._cpu,
            invocations=invocations - self._invocations,
            added_seconds=added if invocations > self._invocations else None,
            delivery_seconds=max(deliveries) if delivered > self._delivered else None,
            queue_fraction=fullest,
            peak_rss_bytes=usage.peak_rss_bytes,
            facts=self._all_facts(usage),
        )
        self._lost, self._cpu, self._invocations = lost, usage.cpu_seconds, invocations
        self._delivered = delivered
        return reading

    def _all_facts(self, usage: Usage) -> dict[str, Any]:
        """Return the facts, with what is beside them where the ledger itself is printed."""
        now, ledger = self._clock(), self._ledger
        found = facts(self._stats, usage, now)
        found["oldest_ms"] = _ms(self._oldest_seconds(now))
        rejected = {reason: count.lines for reason, count in ledger.rejected.items()}
        found["lines"] = _what_is_not_0(
            received=ledger.received.lines,
            rejected=_what_is_not_0(**rejected),
            unrouted=ledger.unrouted.lines,
            upstream_dropped=ledger.upstream_dropped.lines,
        )
        for name, account in ledger.sinks.items():
            found["sinks"][name]["lines"] = _what_is_not_0(
                filtered=account.filtered.lines,
                sampled=account.sampled.lines,
                delivered=account.delivered.lines,
                dropped={reason: count.lines for reason, count in account.dropped.items()},
                dead_lettered=account.dead_lettered.lines,
                failed_over=account.failed_over.lines,
                recovered=account.recovered.lines,
                spooled=account.spooled.lines,
                pending=account.pending_lines,
            )
        return found


def facts(stats: DaemonStats, usage: Usage, now: float) -> dict[str, Any]:
    """Return the figures since the process started, as JSON, for the ledger's line.

    `now` is on the clock of `stats.pauses`.
    """
    found: dict[str, Any] = {
        "uptime_seconds": round(usage.uptime_seconds, _DIGITS),
        "cpu_seconds": round(usage.cpu_seconds, _DIGITS),
        "peak_rss_bytes": usage.peak_rss_bytes,
        "start_ms": {stage: _ms(seconds) for stage, seconds in stats.start_seconds.items()},
        "paused_ms": _ms(stats.pauses.seconds(now)),
        "pauses": stats.pauses.count,
        "malformed_events": stats.malformed_events,
        "sinks": {
            name: {
                "delivery_ms_mean": _ms(
                    sink.delivery_seconds.sum / (sink.delivery_seconds.count or 1)
                ),
                "delivery_ms_max": _ms(sink.delivery_peak.value),
                "queue_peak_bytes": int(sink.queue_peak.value),
                "queue_capacity_bytes": sink.queue_capacity_bytes,
                "writes": sum(each.count for each in sink.write_seconds.values()),
                "retries": sink.retries,
                "direct_writes": sink.direct_writes,
                "slow_writes": sink.slow_writes,
                "unjudged_lines": sink.unjudged_lines,
                "errors": {f"{kind}.{code}": n for (kind, code), n in sorted(sink.errors.items())},
            }
            for name, sink in stats.sinks.items()
        },
    }
    if stats.hooks:
        found["hooks"] = {name: _hook(hook) for name, hook in stats.hooks.items()}
    if stats.redacted:
        found["redacted"] = dict(stats.redacted)
    if stats.invocations:
        found["invocations"] = stats.invocations
        found["ends_missed"] = dict(stats.ends_missed)
        found["unknown_requests"] = stats.unknown_requests
        found["trailing_lines"] = stats.trailing_lines
        found["added_ms_mean"] = _ms(stats.added_seconds.mean)
        found["added_ms_max"] = _ms(stats.added_peak.value)
    odd = {
        "connections_beyond": stats.connections_beyond,
        "connections_foreign": stats.connections_foreign,
        "connections_held": stats.connections_held,
        "port_taken": stats.port_taken,
        "sandbox_not_ours": stats.sandbox_not_ours,
    }
    return found | (odd if stats.invocations else _what_is_not_0(**odd))


def _hook(hook: HookStats) -> dict[str, Any]:
    return {
        "calls": hook.calls,
        "failures": hook.failures,
        "ms": _ms(hook.seconds),
        "skipped_lines": hook.skipped_lines,
        "off": hook.off,
    }


def _what_is_not_0(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, _DIGITS)
