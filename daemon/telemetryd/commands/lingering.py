"""Says what a longer `linger_ms` would save and what it risks, for `telemetryd check --lambda`.

A batch waits for at least an eighth of `linger_ms`, and for all of it while lines keep coming
(`core.linger`). Lambda delivers every `telemetry.buffering.timeout_ms` at most. So a busy
environment begins at most one batch in the longer of the two. A flush ends each wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from telemetryd.config import Config, effective_memory
from telemetryd.core.linger import SHORTEST_PART
from telemetryd.sinks.base import MIB, SinkConfig

SUGGESTED_MS: Final = 5000
"""The longest wait that is suggested."""
_WAIT: Final = "If the environment freezes, they wait until its next invocation, or its end."
_AT_A_FREEZE: Final = {
    "auto": "At the end of a rare invocation a flush ends the wait. If a busy environment freezes, "
    "they wait until its next invocation, or its end.",
    "invocation": "A flush ends the wait at the end of each invocation, before a freeze.",
    "continuous": _WAIT,
    "interval": _WAIT,
}
"""The fate of lines that wait, by the strategy of flushes."""
_WORTH_IT: Final = 2
"""A suggestion is at least so many times the present value."""


def most_batches(linger_ms: int, period_ms: int) -> float:
    """Return the most batches a second of a busy environment.

    `period_ms`: Lambda delivers so often at most.
    """
    return 1000 / max(linger_ms / SHORTEST_PART, period_ms)


def full_load_batches(linger_ms: int, period_ms: int) -> float:
    """Return the batches a second of an environment whose lines come without a pause."""
    return 1000 / max(linger_ms, period_ms)


def advice(config: Config, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield texts about sinks whose batches cost something, each with the name of its sink."""
    memory = effective_memory(config, "lambda", environ)
    for name, sink in config.sinks.items():
        if sink.batch_becomes:
            for text in _of_sink(sink, config, memory):
                yield name, text


def _of_sink(sink: SinkConfig, config: Config, memory: int) -> Iterator[str]:
    wait = sink.linger_ms
    suggested = min(SUGGESTED_MS, _flush_period(config))
    if suggested >= _WORTH_IT * max(wait, 1):
        yield _saving(sink, config, suggested)
        wait = suggested
    else:
        rates = _rates(wait, config)
        yield f"linger_ms = {wait}: an environment sends {rates} {sink.batch_becomes} a second."
    yield _risk(sink, config, memory, wait)


def _saving(sink: SinkConfig, config: Config, suggested: int) -> str:
    """Return what `suggested` would save."""
    wait, period = sink.linger_ms, config.telemetry.buffering.timeout_ms
    now = most_batches(wait, period)
    text = (
        f"linger_ms = {wait}: while a function runs, its environment sends up to {now:.2g} "
        f"{sink.batch_becomes} a second. With {suggested} it sends {_rates(suggested, config)}, "
        "and one more for each flush."
    )
    if 0 < wait / SHORTEST_PART < period:
        text += (
            f" A batch waits for an eighth, {wait / SHORTEST_PART:g} ms, or for longer under load. "
            f"Lambda delivers every {period} ms at most (telemetry.buffering.timeout_ms), so there "
            "is mostly nothing to wait for."
        )
    return text


def _rates(linger_ms: int, config: Config) -> str:
    period = config.telemetry.buffering.timeout_ms
    most, least = most_batches(linger_ms, period), full_load_batches(linger_ms, period)
    return f"up to {most:.2g}" + (f" ({least:.2g} under full load)" if least < most else "")


def _risk(sink: SinkConfig, config: Config, memory: int, linger_ms: int) -> str:
    """Return what waiting for `linger_ms` risks."""
    held = min(sink.batch_max_bytes, sink.queue_max_bytes, memory)
    amount = f"{held / MIB:.3g} MiB" if held >= MIB else f"{held} bytes"
    seconds = min(linger_ms, _flush_period(config)) / 1000
    text = (
        f"with linger_ms = {linger_ms} lines arrive up to {seconds:g} s later, and at most "
        f"{amount} of them wait in memory. "
    )
    return (
        f"{text}{_AT_A_FREEZE[config.flush.strategy]} If it is killed (out of memory, a crash), "
        "lines that wait are lost."
    )


def _flush_period(config: Config) -> int:
    """Return after how many milliseconds a flush ends each wait at the latest."""
    flush = config.flush
    return flush.interval_ms if flush.strategy == "interval" else flush.max_age_ms
