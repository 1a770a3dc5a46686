"""One invocation: what the caller sent, what the runtime answered, and when."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import msgspec

from telemetryd.local.clock import epoch_ms, iso, monotonic


@dataclass(frozen=True, slots=True)
class InvokeResult:
    """The response to the caller of the function, and its duration and cost."""

    request_id: str
    payload: bytes
    """The function's response, or the error document."""
    function_error: str | None
    """`Unhandled` when the function failed in any way, as in the header `X-Amz-Function-Error`."""
    status: str
    """`success`, `error`, `failure` or `timeout`, as in `platform.report`."""
    error_type: str | None
    """The reason for a status other than `success`, e.g. `Runtime.ExitError`."""
    cold_start: bool
    init_ms: float | None
    """Duration of the init phase, in the first invocation after it."""
    duration_ms: float
    """Runtime and extensions, as in `platform.report`."""
    billed_ms: int
    response_ms: float
    """Milliseconds from the start of the invocation until the caller had its response."""
    added_ms: float
    """The extensions' time after the runtime was done (the span `extensionOverhead`)."""
    wall_ms: float
    """Milliseconds from the call of `invoke` until the environment was at rest, with queueing."""
    max_memory_mb: int
    lines: int
    """Lines the function printed during this invocation."""
    restore_ms: float | None = None
    """Duration of SnapStart's restore, in the first invocation after it."""


@dataclass(slots=True)
class Failure:
    """The reason why an environment, or an invocation in it, failed."""

    error_type: str
    message: str

    @property
    def status(self) -> str:
        """`failure` for the platform's own doing, `error` for all others."""
        return "failure" if self.error_type.startswith(("Sandbox.", "Client.")) else "error"

    def document(self) -> bytes:
        """Return the error document for the caller."""
        return msgspec.json.encode({"errorType": self.error_type, "errorMessage": self.message})


class LogTail:
    """The last bytes of what was printed during an invocation."""

    LIMIT = 4096

    def __init__(self) -> None:
        self._kept = b""

    def add(self, block: bytes) -> None:
        """Take whole lines."""
        self._kept = (self._kept + block[-self.LIMIT :])[-self.LIMIT :]

    def within(self, first: str, last: str) -> bytes:
        """Return the last bytes of the log that has these lines around what was printed."""
        kept = self._kept
        if kept and not kept.endswith(b"\n"):
            kept += b"\n"
        return (first.encode() + kept + last.encode())[-self.LIMIT :]


@dataclass(slots=True, eq=False)
class Invocation:
    """The state of a running invocation. Times are monotonic seconds."""

    payload: bytes
    timeout: float
    tracing: bool
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_context: str | None = None
    trace_header: str | None = None
    called: float = field(default_factory=monotonic)
    started: float = 0.0
    deadline: float = 0.0
    deadline_ms: int = 0
    sent: float = 0.0
    first_byte: float = 0.0
    last_byte: float = 0.0
    runtime_done: float | None = None
    tenant_id: str | None = None
    log: LogTail | None = None
    """The end of its log, where the caller asked for it."""
    response: bytes | None = None
    function_error: str | None = None
    error_type: str | None = None
    """The type the runtime gave for a handler error."""
    span_id: str = field(default_factory=lambda: token_hex(8))
    answered: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """Done when the caller can have its response."""
    answered_at: float = 0.0
    wall_offset: float = field(default_factory=lambda: time.time() - monotonic())

    def __post_init__(self) -> None:
        if self.tracing and self.trace_header is None:
            self.trace_header = (
                f"Root=1-{int(time.time()):08x}-{token_hex(12)};Parent={token_hex(8)};Sampled=1"
            )

    def begin(self) -> None:
        """Start the clock of the function timeout."""
        self.started = monotonic()
        self.deadline = self.started + self.timeout
        self.deadline_ms = epoch_ms(self.timeout)

    def answer(self) -> None:
        """Let the caller have the response."""
        if not self.answered.done():
            self.answered_at = monotonic()
            self.answered.set_result(None)

    def fail(self, document: bytes) -> None:
        """Answer with an error document, unless there is an answer already."""
        if self.response is None:
            self.response = document
            self.function_error = "Unhandled"
        self.answer()

    @property
    def produced_bytes(self) -> int:
        """Size of the function's response; 0 for errors."""
        return 0 if self.response is None or self.function_error else len(self.response)

    def trace_context(self, *, span: bool) -> dict[str, str] | None:
        """Return the `tracing` object of telemetry, or None without a trace header."""
        if self.trace_header is None:
            return None
        context = {"type": "X-Amzn-Trace-Id", "value": self.trace_header}
        return {"spanId": self.span_id, **context} if span else context

    def span(self, name: str, start: float, end: float) -> dict[str, Any]:
        """Return a telemetry span from two monotonic times."""
        return {
            "name": name,
            "start": iso(start + self.wall_offset),
            "durationMs": milliseconds(end - start),
        }

    def response_spans(self) -> list[dict[str, Any]]:
        """Return `responseLatency` and `responseDuration`, when there was a response."""
        if not self.last_byte:
            return []
        return [
            self.span("responseLatency", self.sent, self.first_byte),
            self.span("responseDuration", self.first_byte, self.last_byte),
        ]


def milliseconds(seconds: float) -> float:
    """Return milliseconds with microsecond precision, as in all telemetry metrics."""
    return round(max(seconds, 0.0) * 1000, 3)
