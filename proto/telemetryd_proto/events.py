"""Events, the second step of decoding: the record of an envelope as its type."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES, MalformedRecord, failure_code
from telemetryd_proto.records import (
    End,
    ExtensionInit,
    Fault,
    InitMetrics,
    InitReport,
    InitRuntimeDone,
    InitStart,
    LogRecord,
    LogsDropped,
    LogsSubscription,
    Report,
    ReportMetrics,
    RestoreReport,
    RestoreRuntimeDone,
    RestoreStart,
    RuntimeDone,
    RuntimeDoneMetrics,
    Span,
    Start,
    TelemetrySubscription,
    TraceContext,
    UnknownRecord,
)
from telemetryd_proto.timestamps import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from telemetryd_proto.envelope import Envelope

__all__ = [
    "RECORD_TYPES",
    "End",
    "ExtensionInit",
    "Fault",
    "InitMetrics",
    "InitReport",
    "InitRuntimeDone",
    "InitStart",
    "LifecycleRecord",
    "LogRecord",
    "LogsDropped",
    "LogsSubscription",
    "PlatformRecord",
    "Record",
    "Report",
    "ReportMetrics",
    "RestoreReport",
    "RestoreRuntimeDone",
    "RestoreStart",
    "RuntimeDone",
    "RuntimeDoneMetrics",
    "Span",
    "Start",
    "TelemetrySubscription",
    "TraceContext",
    "UnknownRecord",
    "decode_lifecycle",
    "decode_record",
    "parse_time",
]

PlatformRecord: TypeAlias = (
    InitStart
    | InitRuntimeDone
    | InitReport
    | RestoreStart
    | RestoreRuntimeDone
    | RestoreReport
    | ExtensionInit
    | Start
    | RuntimeDone
    | Report
    | TelemetrySubscription
    | LogsSubscription
    | LogsDropped
    | End
    | Fault
)
Record: TypeAlias = PlatformRecord | LogRecord | UnknownRecord

RECORD_TYPES: Final[Mapping[str, type[PlatformRecord | LogRecord]]] = MappingProxyType(
    {
        "platform.initStart": InitStart,
        "platform.initRuntimeDone": InitRuntimeDone,
        "platform.initReport": InitReport,
        "platform.restoreStart": RestoreStart,
        "platform.restoreRuntimeDone": RestoreRuntimeDone,
        "platform.restoreReport": RestoreReport,
        "platform.extension": ExtensionInit,
        "platform.start": Start,
        "platform.runtimeDone": RuntimeDone,
        "platform.report": Report,
        "platform.telemetrySubscription": TelemetrySubscription,
        "platform.logsSubscription": LogsSubscription,
        "platform.logsDropped": LogsDropped,
        "platform.end": End,
        "platform.fault": Fault,
        "function": LogRecord,
        "extension": LogRecord,
    }
)
"""Event type to the class of its record."""

LifecycleRecord: TypeAlias = LogsDropped | Report | RuntimeDone
"""The records that the daemon itself acts on."""
_LIFECYCLE_TYPES: Final = frozenset(
    {"platform.logsDropped", "platform.report", "platform.runtimeDone"}
)

_json: Final = msgspec.json.Decoder()


def _decoder(record_type: type[Record]) -> Callable[[msgspec.Raw], Record]:
    if record_type is Fault or record_type is LogRecord:
        return lambda record: record_type(body=_json.decode(record))
    # Not strict: whole numbers may come as 5.0, and one AWS page gives instanceMaxMemory as String.
    return msgspec.json.Decoder(record_type, strict=False).decode


_DECODERS: Final = {name: _decoder(record_type) for name, record_type in RECORD_TYPES.items()}


def decode_record(envelope: Envelope, *, lenient: bool = False) -> Record:
    """Decode the record of an event.

    `lenient`: a member that does not fit reads as None, unless it is required, and what is no JSON
    is loosened (`loose`): a sign for what is no Unicode, null for `NaN`. An event should not
    be lost for a member that is not used.

    Returns:
        An instance of `RECORD_TYPES[envelope.type]`; for a type that is not listed there an
        `UnknownRecord`, whatever the record is.

    Raises:
        MalformedRecord: the record does not fit its type (code `mismatch`, with the position), or
            can't be decoded at all (`not_utf8`, `not_json`, `too_deep`).

    """
    decode = _DECODERS.get(envelope.type)
    if decode is None:
        return UnknownRecord(type=envelope.type, record=envelope.record)
    try:
        return decode(envelope.record)
    except DECODE_FAILURES as error:
        record_type = RECORD_TYPES[envelope.type]
        record = _decode_leniently(record_type, envelope.record) if lenient else None
        if record is not None:
            return record
        # msgspec's messages name types and positions, never values
        detail = "invalid UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise MalformedRecord(f"{envelope.type}: {detail}", code=failure_code(error)) from error


def decode_lifecycle(envelope: Envelope) -> LifecycleRecord | None:
    """Decode the record of `platform.runtimeDone`, `platform.report` or `platform.logsDropped`.

    Leniently: an end should not go unseen for a member that does not fit.

    Returns:
        The record; None, at the price of one comparison, for an event of any other type.

    Raises:
        MalformedRecord: as `decode_record`.

    """
    if envelope.type not in _LIFECYCLE_TYPES:
        return None
    record = decode_record(envelope, lenient=True)
    return record if isinstance(record, LogsDropped | Report | RuntimeDone) else None


def _decode_leniently(
    record_type: type[PlatformRecord | LogRecord], record: msgspec.Raw
) -> PlatformRecord | LogRecord | None:
    """Return what of a record fits its type; None if that is not enough for one."""
    from telemetryd_proto.fit import fit_struct  # noqa: PLC0415 - few records need it
    from telemetryd_proto.loose import loosen  # noqa: PLC0415 - as above

    try:
        value = _json.decode(loosen(bytes(record)))
    except DECODE_FAILURES:
        return None
    if issubclass(record_type, Fault | LogRecord):
        return record_type(body=value)
    fit: PlatformRecord | None = fit_struct(record_type, value)
    return fit
