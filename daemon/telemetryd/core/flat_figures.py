"""Figures and status in the record of a platform event, as columns of the flat schema."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from telemetryd.core.facts import Event
from telemetryd.core.loose import decode_loosely
from telemetryd_proto.errors import DECODE_FAILURES

_MOST: Final = 2**63
_LONGEST_NUMBER: Final = 32

_Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST - 1)]


class _Metrics(msgspec.Struct, gc=False):
    """The metrics that have a column."""

    duration_ms: float | None = msgspec.field(default=None, name="durationMs")
    billed_ms: float | None = msgspec.field(default=None, name="billedDurationMs")
    memory_mb: _Whole | None = msgspec.field(default=None, name="memorySizeMB")
    max_memory_mb: _Whole | None = msgspec.field(default=None, name="maxMemoryUsedMB")
    init_ms: float | None = msgspec.field(default=None, name="initDurationMs")


class _Platform(msgspec.Struct, gc=False):
    """The members of a platform event's record that have a column."""

    status: str | None = None
    error_type: str | None = msgspec.field(default=None, name="errorType")
    metrics: _Metrics | None = None


class PlatformEvent(Event, gc=False):
    """The members of a platform event's record that have a column, or that facts come from."""

    status: str | None = None
    error_type: str | None = msgspec.field(default=None, name="errorType")
    metrics: _Metrics | None = None


class _OddPlatform(msgspec.Struct, gc=False):
    """The members that have a column, of any type."""

    status: Any = None
    error_type: Any = msgspec.field(default=None, name="errorType")
    metrics: Any = None


class Figures(msgspec.Struct, gc=False):
    """The columns from `duration_ms` to `error_type`, in their order."""

    duration_ms: float | None = None
    billed_ms: float | None = None
    memory_mb: int | None = None
    max_memory_mb: int | None = None
    init_ms: float | None = None
    status: str | None = None
    error_type: str | None = None

    def members(self) -> bytes:
        """Return them as members of a row, without braces."""
        return _encode(self)[1:-1]


_decode_platform: Final = msgspec.json.Decoder(_Platform).decode
decode_event: Final = msgspec.json.Decoder(PlatformEvent).decode
_decode_odd_platform: Final = msgspec.json.Decoder(_OddPlatform).decode
_encode: Final = msgspec.json.Encoder().encode
_NO_METRICS: Final = _Metrics()


def figures_of(record: bytes) -> Figures:
    """Return what a platform event has for the columns."""
    try:
        event = _decode_platform(record)
    except DECODE_FAILURES:
        return _odd_figures_of(record)
    return figures_in(event)


def figures_in(event: PlatformEvent | _Platform) -> Figures:
    """Return the same of an event that is decoded."""
    metrics = event.metrics or _NO_METRICS
    return Figures(
        metrics.duration_ms, metrics.billed_ms, metrics.memory_mb, metrics.max_memory_mb,
        metrics.init_ms, event.status, event.error_type,
    )  # fmt: skip


def _odd_figures_of(record: bytes) -> Figures:
    """Return the same of an event with values of other types; those that don't fit are left out."""
    event = decode_loosely(_decode_odd_platform, record)
    if event is None:
        return Figures()
    metrics = event.metrics if isinstance(event.metrics, dict) else {}
    return Figures(
        _number(metrics.get("durationMs")),
        _number(metrics.get("billedDurationMs")),
        _whole(metrics.get("memorySizeMB")),
        _whole(metrics.get("maxMemoryUsedMB")),
        _number(metrics.get("initDurationMs")),
        event.status if isinstance(event.status, str) else None,
        event.error_type if isinstance(event.error_type, str) else None,
    )


def _number(value: Any) -> float | None:
    """Return a number, which may be written as text; None for anything else, and for NaN."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    """Return a whole number of 64 bits, however it is written; None for anything else."""
    number = value if isinstance(value, int) else _number(value)
    if number is None or isinstance(number, bool) or number != int(number):
        return None
    return int(number) if -_MOST <= number < _MOST else None
