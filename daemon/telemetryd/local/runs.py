"""One invocation from `platform.start` to `platform.report`, in either mode."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from telemetryd.local.clock import iso_now, monotonic
from telemetryd.local.events import platform_event
from telemetryd.local.invocation import Failure, InvokeResult, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from telemetryd.local.config import LocalConfig
    from telemetryd.local.events import LineCounts, PlatformEvent
    from telemetryd.local.generation import Generation
    from telemetryd.local.invocation import Invocation
    from telemetryd.local.runtime_slot import RuntimeSlot


class _Run:
    """The common base of both modes for one invocation."""

    def __init__(
        self,
        config: LocalConfig,
        lines: LineCounts,
        generation: Generation,
        invocation: Invocation,
    ) -> None:
        self.config = config
        self.generation = generation
        self.invocation = invocation
        self.status = "success"
        self.error_type: str | None = None
        self.cold = generation.invocations == 0
        self.duration_ms = 0.0
        self._lines = lines
        generation.invocations += 1

    def publish(self, event_type: str, record: dict[str, Any]) -> PlatformEvent:
        common = {
            "requestId": self.invocation.request_id,
            "tenantId": self.invocation.tenant_id,
        }
        event = platform_event(event_type, common | record)
        self.generation.hub.platform(event)
        return event

    def publish_start(self, *, span: bool) -> None:
        self.publish(
            "platform.start",
            {
                "version": self.config.function_version,
                "functionArn": self.config.function_arn,
                "tracing": self.invocation.trace_context(span=span),
            },
        )

    def fail_with(self, status: str, failure: Failure) -> None:
        """Fail the invocation, and report that to the caller at once."""
        self.status = status
        self.error_type = failure.error_type
        request_id = self.invocation.request_id
        self.invocation.fail(
            Failure(
                failure.error_type, f"RequestId: {request_id} Error: {failure.message}"
            ).document()
        )

    def time_out(self, error_type: str | None) -> None:
        """Note that the function timeout has passed."""
        self.status = "timeout"
        self.error_type = error_type
        invocation = self.invocation
        invocation.fail(
            Failure(
                "Sandbox.Timedout",
                f"{iso_now()} {invocation.request_id} Task timed out after "
                f"{invocation.timeout:.2f} seconds",
            ).document()
        )


class OnDemandRun(_Run):
    """One invocation of an on-demand environment."""

    reason: str | None = None
    """The reason of the reset that has to follow, if any."""
    added_ms = 0.0
    billed_ms = 0
    init_ms: float | None = None
    restore_ms: float | None = None
    max_memory_mb = 0
    _report: PlatformEvent | None = None

    async def execute(self) -> None:
        """Run until runtime and extensions are done, or something ends that."""
        generation, invocation = self.generation, self.invocation
        generation.request_id = invocation.request_id
        self.publish_start(span=True)
        slot = generation.slots[0]
        if generation.failure is None:
            generation.dispatch(invocation, slot)
            await self._until(lambda: invocation.runtime_done is not None)
        if invocation.runtime_done is not None:
            self._publish_runtime_done()
            await self._until(lambda: generation.extensions_at_rest)
            self.added_ms = milliseconds(monotonic() - invocation.runtime_done)
            generation.request_id = None
            if generation.failure is None and generation.extensions_at_rest:
                self.max_memory_mb = generation.peak_memory_mb()
                return
        await self._broken(slot)

    async def _until(self, condition: Callable[[], bool]) -> None:
        generation = self.generation
        await generation.changes.wait_until(
            lambda: generation.failure or condition(), self.invocation.deadline
        )

    async def _broken(self, slot: RuntimeSlot) -> None:
        """Kill the runtime after a timeout or crash. The environment is reset after this."""
        generation, invocation = self.generation, self.invocation
        failure = generation.failure
        self.max_memory_mb = generation.peak_memory_mb()
        if failure is not None and not generation.timed_out:
            self.reason = "failure"
            self.fail_with(failure.status, failure)
        else:
            self.reason = "timeout"
            self.time_out(None)
        ended = monotonic()
        await generation.kill_runtimes()
        if invocation.runtime_done is None:
            invocation.runtime_done = ended if invocation.sent else None
            self._publish_runtime_done()
        slot.current = None
        generation.request_id = None

    def _publish_runtime_done(self) -> None:
        invocation = self.invocation
        record: dict[str, Any] = {
            "status": self.status,
            "errorType": self.error_type,
            "tracing": invocation.trace_context(span=True),
        }
        if invocation.runtime_done is not None:
            spans = invocation.response_spans()
            if spans and self.status == "success":
                done = invocation.runtime_done
                spans.append(invocation.span("runtimeOverhead", invocation.last_byte, done))
            record["spans"] = spans or None
            took = invocation.runtime_done - invocation.sent
            record["metrics"] = {
                "durationMs": milliseconds(
                    min(took, invocation.timeout) if self.status == "timeout" else took
                ),
                "producedBytes": invocation.produced_bytes,
            }
        self.publish("platform.runtimeDone", record)

    def report(self) -> PlatformEvent:
        """Publish `platform.report`: after the extensions, or during the reset."""
        invocation, generation = self.invocation, self.generation
        if self._report is not None:
            return self._report
        spent = monotonic() - invocation.started
        self.duration_ms = milliseconds(
            min(spent, invocation.timeout) if self.status == "timeout" else spent
        )
        billed = self.duration_ms
        restored: dict[str, float] = {}
        if self.cold and generation.restore_ms is not None:
            self.restore_ms = generation.restore_ms
            billed_restore = math.ceil(self.restore_ms)
            restored = {
                "restoreDurationMs": self.restore_ms,
                "billedRestoreDurationMs": billed_restore,
            }
            billed = math.ceil(billed) + billed_restore
        elif self.cold and generation.phase == "init" and self.reason is None:
            self.init_ms = generation.init_ms
            billed += generation.init_ms
        self.billed_ms = math.ceil(billed)
        done = invocation.runtime_done
        self._report = self.publish(
            "platform.report",
            {
                "status": self.status,
                "errorType": self.error_type,
                "tracing": invocation.trace_context(span=True),
                "spans": None
                if done is None or self.reason is not None
                else [invocation.span("extensionOverhead", done, done + self.added_ms / 1000)],
                "metrics": {
                    "durationMs": self.duration_ms,
                    "billedDurationMs": self.billed_ms,
                    "memorySizeMB": self.config.memory_mb,
                    "maxMemoryUsedMB": self.max_memory_mb,
                    **({"initDurationMs": self.init_ms} if self.init_ms is not None else {}),
                    **restored,
                },
            },
        )
        return self._report

    def result(self) -> InvokeResult:
        """Return the result for the caller."""
        invocation = self.invocation
        return InvokeResult(
            request_id=invocation.request_id,
            payload=invocation.response or b"",
            function_error=invocation.function_error,
            status=self.status,
            error_type=self.error_type or invocation.error_type,
            cold_start=self.cold,
            init_ms=self.generation.init_ms if self.cold else None,
            duration_ms=self.duration_ms,
            billed_ms=self.billed_ms,
            restore_ms=self.restore_ms,
            response_ms=milliseconds(invocation.answered_at - invocation.started),
            added_ms=self.added_ms,
            wall_ms=milliseconds(monotonic() - invocation.called),
            max_memory_mb=self.max_memory_mb,
            lines=self._lines.of_request(invocation.request_id),
        )


class ManagedRun(_Run):
    """One of the concurrent invocations of a managed instance."""

    broken = False
    """The environment has to be ended and replaced."""

    async def execute(self) -> None:
        """Run until the response is there, or something ends that."""
        generation, invocation = self.generation, self.invocation
        await generation.changes.wait_until(
            lambda: generation.failure or self._free() is not None, invocation.deadline
        )
        slot = self._free()
        self.publish_start(span=False)
        if self._fell():
            return
        if slot is None:
            self.fail_with("error", Failure("Runtime.Unavailable", "no runtime is free"))
            return
        slot.assign(invocation)
        await generation.changes.wait_until(
            lambda: generation.failure or invocation.answered.done(), invocation.deadline
        )
        if invocation.answered.done():
            if invocation.function_error is not None:
                self.status = "error"
                self.error_type = invocation.error_type
        elif not self._fell():
            self.time_out("Sandbox.Timedout")

    def _fell(self) -> bool:
        """True if the environment has failed, and this invocation with it."""
        failure = self.generation.failure
        if failure is not None:
            self.broken = True
            self.fail_with(failure.status, failure)
        return self.broken

    async def settle(self) -> None:
        """Wait until the runtime has asked for more: then all its output has been read."""
        generation, invocation = self.generation, self.invocation
        if not self.broken and self.status in ("success", "error") and invocation.sent:
            await generation.changes.wait_until(
                lambda: generation.failure or invocation.runtime_done is not None,
                invocation.deadline,
            )

    def _free(self) -> RuntimeSlot | None:
        return next((slot for slot in self.generation.slots if slot.waiting), None)

    def report(self) -> None:
        """Publish `platform.report`, right after the response."""
        invocation = self.invocation
        ended = invocation.answered_at or monotonic()
        self.duration_ms = milliseconds(ended - invocation.started)
        self.publish(
            "platform.report",
            {
                "status": self.status,
                "errorType": self.error_type,
                "tracing": invocation.trace_context(span=False),
                "metrics": {"durationMs": self.duration_ms},
                "spans": invocation.response_spans() or None,
            },
        )

    def result(self) -> InvokeResult:
        """Return the result for the caller."""
        invocation = self.invocation
        return InvokeResult(
            request_id=invocation.request_id,
            payload=invocation.response or b"",
            function_error=invocation.function_error,
            status=self.status,
            error_type=self.error_type,
            cold_start=self.cold,
            init_ms=self.generation.init_ms if self.cold else None,
            duration_ms=self.duration_ms,
            billed_ms=math.ceil(self.duration_ms),
            response_ms=milliseconds(invocation.answered_at - invocation.started),
            added_ms=0.0,
            wall_ms=milliseconds(monotonic() - invocation.called),
            max_memory_mb=self.generation.peak_memory_mb(),
            lines=self._lines.of_request(invocation.request_id),
        )
