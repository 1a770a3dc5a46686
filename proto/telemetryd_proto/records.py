"""The records of every event type, of the Telemetry API and its predecessor, the Logs API.

Source: Lambda Developer Guide, "Lambda Telemetry API Event schema reference" and "Using the Lambda
Logs API"; the TCP event schemas AWS publishes for versions 2022-07-01, 2022-12-13 and 2025-01-29.

Rules, the same for all:

1. Only `requestId` is required. Versions differ in what else they promise, so any other member may
   be absent or null; both read as None.
2. Unknown members are ignored. Words (status, phase, state, span names) are plain strings; those
   known are in `vocabulary`.
3. A whole number may come as `5`, `5.0` or `"5"`, and so may any other number.
4. `*Ms` are milliseconds, `*MB` are MiB, times are ISO-8601 strings (`timestamps.parse_time`).

"Since" names the schema version that brought a member, when it is not the first one.
"""

# No `from __future__ import annotations`: it leaves texts, which msgspec compiles at every start.
from typing import Any

import msgspec


class _Struct(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Base of all structs of this module. They have no reference cycles, so they need no gc."""


class TraceContext(_Struct, frozen=True, kw_only=True):
    """The trace an invocation belongs to; sent when it has a trace header."""

    type: str | None = None
    """`X-Amzn-Trace-Id`, the only one known."""
    value: str | None = None
    """`Root=...;Parent=...;Sampled=0|1`, sometimes `;Lineage=...`."""
    span_id: str | None = None
    """The platform's own span, 16 hexadecimal digits; Managed Instances don't send it."""


class Span(_Struct, frozen=True, kw_only=True):
    """A part of an invocation's time."""

    name: str | None = None
    """The name of what it measures; see `vocabulary.SpanName`."""
    start: str | None = None
    """Time, ISO-8601."""
    duration_ms: float | None = None


class InitStart(_Struct, frozen=True, kw_only=True):
    """`platform.initStart`: the initialisation of an environment began."""

    initialization_type: str | None = None
    """See `vocabulary.InitializationType`."""
    phase: str | None = None
    """See `vocabulary.Phase`."""
    runtime_version: str | None = None
    """The runtime's version, such as `python:3.13.v71`."""
    runtime_version_arn: str | None = None
    function_name: str | None = None
    """Since 2022-12-13."""
    function_version: str | None = None
    """`$LATEST` or a number; since 2022-12-13."""
    function_arn: str | None = None
    """Sent only by AWS's own emulator."""
    instance_id: str | None = None
    """The name of the CloudWatch log stream; since 2022-12-13."""
    instance_max_memory: int | None = None
    """Bytes; since 2022-12-13."""
    tracing: TraceContext | None = None
    """Since 2022-12-13."""


class InitRuntimeDone(_Struct, frozen=True, kw_only=True):
    """`platform.initRuntimeDone`: the runtime finished the function's static initialisation."""

    initialization_type: str | None = None
    """See `vocabulary.InitializationType`."""
    phase: str | None = None
    """See `vocabulary.Phase`."""
    status: str | None = None
    """See `vocabulary.Status`."""
    error_type: str | None = None
    spans: tuple[Span, ...] | None = None
    tracing: TraceContext | None = None
    """Since 2022-12-13."""


class InitMetrics(_Struct, frozen=True, kw_only=True):
    """Figures of an initialisation or a restore."""

    duration_ms: float | None = None
    billed_duration_ms: float | None = None
    """Logs API only."""


class InitReport(_Struct, frozen=True, kw_only=True):
    """`platform.initReport`: the initialisation as a whole.

    With SnapStart it comes after the restore, with provisioned concurrency perhaps with an
    invocation: order of time and order of arrival differ.
    """

    initialization_type: str | None = None
    """See `vocabulary.InitializationType`."""
    phase: str | None = None
    """See `vocabulary.Phase`."""
    status: str | None = None
    """See `vocabulary.Status`; since 2022-12-13."""
    error_type: str | None = None
    """Since 2022-12-13."""
    metrics: InitMetrics | None = None
    spans: tuple[Span, ...] | None = None
    tracing: TraceContext | None = None
    """Since 2022-12-13."""


class RestoreStart(_Struct, frozen=True, kw_only=True):
    """`platform.restoreStart`: a SnapStart environment began to be restored."""

    runtime_version: str | None = None
    runtime_version_arn: str | None = None
    function_name: str | None = None
    """Since 2022-12-13."""
    function_version: str | None = None
    """Since 2022-12-13."""
    instance_id: str | None = None
    """The name of the CloudWatch log stream; since 2022-12-13."""
    instance_max_memory: int | None = None
    """Bytes; since 2022-12-13."""
    tracing: TraceContext | None = None
    """Since 2022-12-13."""


class RestoreRuntimeDone(_Struct, frozen=True, kw_only=True):
    """`platform.restoreRuntimeDone`: the runtime finished its hooks after a restore."""

    status: str | None = None
    """See `vocabulary.Status`."""
    error_type: str | None = None
    spans: tuple[Span, ...] | None = None
    tracing: TraceContext | None = None
    """Since 2022-12-13."""


class RestoreReport(_Struct, frozen=True, kw_only=True):
    """`platform.restoreReport`: the restore as a whole."""

    status: str | None = None
    """See `vocabulary.Status`; since 2022-12-13."""
    error_type: str | None = None
    """Since 2022-12-13."""
    metrics: InitMetrics | None = None
    spans: tuple[Span, ...] | None = None
    tracing: TraceContext | None = None
    """Since 2022-12-13."""


class ExtensionInit(_Struct, frozen=True, kw_only=True):
    """`platform.extension`: how the initialisation of one extension ended."""

    name: str | None = None
    state: str | None = None
    """`Ready` normally; `Registered`, `InitError`, `ExitError`, `LaunchError` and others."""
    events: tuple[str, ...] | None = None
    """The life-cycle events it registered for."""
    error_type: str | None = None
    """Since 2022-12-13."""


class Start(_Struct, frozen=True, kw_only=True):
    """`platform.start`: an invocation began."""

    request_id: str
    version: str | None = None
    """The function's version."""
    function_arn: str | None = None
    """Since 2025-01-29."""
    tenant_id: str | None = None
    """With tenant isolation; since 2025-01-29."""
    tracing: TraceContext | None = None


class RuntimeDoneMetrics(_Struct, frozen=True, kw_only=True):
    """Figures of an invocation when the runtime is done."""

    duration_ms: float | None = None
    produced_bytes: int | None = None
    """Size of the response; 0 for errors."""


class RuntimeDone(_Struct, frozen=True, kw_only=True):
    """`platform.runtimeDone`: the runtime finished an invocation. Managed Instances don't send it.

    Not guaranteed: a runtime that is killed early may leave none.
    """

    request_id: str
    status: str | None = None
    """See `vocabulary.Status`."""
    error_type: str | None = None
    metrics: RuntimeDoneMetrics | None = None
    """Absent when the runtime never ran."""
    spans: tuple[Span, ...] | None = None
    tenant_id: str | None = None
    """Since 2025-01-29."""
    tracing: TraceContext | None = None


class ReportMetrics(_Struct, frozen=True, kw_only=True):
    """Figures of a finished invocation. Managed Instances send `durationMs` only."""

    duration_ms: float | None = None
    """Runtime plus extensions."""
    billed_duration_ms: float | None = None
    memory_size_mb: int | None = msgspec.field(default=None, name="memorySizeMB")
    """The function's memory, MiB."""
    max_memory_used_mb: int | None = msgspec.field(default=None, name="maxMemoryUsedMB")
    """Most memory used, extensions included, MiB."""
    init_duration_ms: float | None = None
    """On cold starts of on-demand functions."""
    restore_duration_ms: float | None = None
    """On SnapStart restores."""
    billed_restore_duration_ms: float | None = None
    """On SnapStart restores; since 2022-12-13."""


class Report(_Struct, frozen=True, kw_only=True):
    """`platform.report`: an invocation as a whole, after the last extension is done.

    It may arrive in the next invocation or during shutdown.
    """

    request_id: str
    status: str | None = None
    """See `vocabulary.Status`; not in the Logs API."""
    error_type: str | None = None
    metrics: ReportMetrics | None = None
    spans: tuple[Span, ...] | None = None
    tenant_id: str | None = None
    """Since 2025-01-29."""
    tracing: TraceContext | None = None


class TelemetrySubscription(_Struct, frozen=True, kw_only=True):
    """`platform.telemetrySubscription`: an extension subscribed to the Telemetry API."""

    name: str | None = None
    """The extension's."""
    state: str | None = None
    """`Subscribed`, or `Already subscribed`."""
    types: tuple[str, ...] | None = None


class LogsSubscription(TelemetrySubscription, frozen=True, kw_only=True):
    """`platform.logsSubscription`: an extension subscribed to the Logs API."""


class LogsDropped(_Struct, frozen=True, kw_only=True):
    """`platform.logsDropped`: the platform dropped events before they reached a subscriber.

    AWS's emulator tells every subscriber without naming the one that lost: with several extensions
    the loss may be another's.
    """

    dropped_bytes: int | None = None
    dropped_records: int | None = None
    reason: str | None = None
    """Free text."""


class End(_Struct, frozen=True, kw_only=True):
    """`platform.end`, Logs API: an invocation ended."""

    request_id: str


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """`platform.fault`, Logs API: a text on how runtime or environment broke."""

    body: Any
    """The text; should it ever be another JSON value, that value."""


class LogRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`function` or `extension`: a line, as text or, with the JSON log format, as an object."""

    body: Any
    """A string; with the JSON log format an object; any JSON value is possible."""

    @property
    def text(self) -> str | None:
        """The text without its newline, or None when the record is not text.

        At most one newline is removed: the service keeps the one that ended the line, AWS's
        emulator does not.
        """
        return self.body.removesuffix("\n") if isinstance(self.body, str) else None

    @property
    def request_id(self) -> str | None:
        """The invocation that a structured record names, as `requestId` or `AWSRequestId`."""
        return self._string("requestId") or self._string("AWSRequestId")

    @property
    def level(self) -> str | None:
        """The level that a structured record names, as written."""
        return self._string("level")

    def _string(self, key: str) -> str | None:
        value = self.body.get(key) if isinstance(self.body, dict) else None
        return value if isinstance(value, str) else None


class UnknownRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The record of an event type that this version does not know, as it came."""

    type: str
    record: msgspec.Raw
    """The record's JSON; a view, see `envelope.Envelope`."""
