"""Tells a person at the terminal what happens in the environment, as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telemetryd.local.invocation import InvokeResult
    from telemetryd.local.subscriber import SubscriptionStats

_ERROR_LENGTH = 200


class Narrator:
    """Writes one short line for each thing that happens."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._count = 0

    def line(self, what: str, text: str) -> None:
        """Print one line, with `what` in the first column."""
        print(f"{what:<10} {text}", file=self._out, flush=True)

    def event(self, what: str, details: Mapping[str, Any]) -> None:
        """Print an event, as `LocalConfig.on_event` gets it."""
        method = getattr(self, f"_{what}", None)
        if method is not None:
            method(details)

    def echo(self, kind: str, name: str, line: bytes) -> None:
        """Print a line of a process."""
        self.line(kind, f"{name}: {line.decode('utf-8', 'replace')}")

    def _init(self, details: Mapping[str, Any]) -> None:
        suppressed = " (inside the invocation)" if details["phase"] == "invoke" else ""
        extensions = ", ".join(details["extensions"]) or "none"
        self.line("init", f"{details['duration_ms']:.0f} ms{suppressed}; extensions: {extensions}")
        if details["failure"] is not None:
            failure = details["failure"]
            self.line("", f"FAILED: {failure.error_type}: {failure.message}")

    def _restore(self, details: Mapping[str, Any]) -> None:
        self.line("restore", f"{details['duration_ms']:.0f} ms")
        if details["failure"] is not None:
            failure = details["failure"]
            self.line("", f"FAILED: {failure.error_type}: {failure.message}")

    def _invoke(self, details: Mapping[str, Any]) -> None:
        result: InvokeResult = details["result"]
        self._count += 1
        error = result.error_type
        status = result.status + (f" ({error})" if error and result.status != "success" else "")
        parts = [f"{self._count}: {status}, {result.duration_ms:.1f} ms"]
        if result.restore_ms is not None:
            parts.append(f"restored in {result.restore_ms:.1f} ms")
        elif result.cold_start:
            parts.append("cold start")
        parts += [
            f"billed {result.billed_ms} ms",
            f"extensions added {result.added_ms:.1f} ms",
            f"{result.lines} lines",
            f"{result.max_memory_mb} MB",
        ]
        self.line("invoke", ", ".join(parts))
        if result.function_error is not None:
            text = result.payload.decode("utf-8", "replace")
            self.line("", f"function error: {text[:_ERROR_LENGTH]}")

    def _freeze(self, _: Mapping[str, Any]) -> None:
        self.line("freeze", "every process is stopped until the next invocation")

    def _reset(self, details: Mapping[str, Any]) -> None:
        self.line("reset", f"{details['reason']}: the next invocation starts new processes")

    def _shutdown(self, details: Mapping[str, Any]) -> None:
        self.line("shutdown", str(details["reason"]))

    def _warning(self, details: Mapping[str, Any]) -> None:
        self.line("warning", str(details["text"]))

    def _exit(self, details: Mapping[str, Any]) -> None:
        ended = details["exit"]
        how = f"exit status {ended.returncode}"
        if ended.returncode < 0:
            how = f"signal {-ended.returncode}"
        late = ", killed at the deadline" if ended.at_deadline else ""
        self.line("exit", f"{ended.name}: {how}{late}")

    def _stopped(self, details: Mapping[str, Any]) -> None:
        self.line("stopped", f"after {details['duration_ms']:.0f} ms")

    def summary(self, stats: Sequence[SubscriptionStats]) -> None:
        """Print the accounts of the telemetry."""
        for account in stats:
            text = (
                f"{account.name}: {account.offered} events = {account.sent} sent + "
                f"{account.dropped} dropped + {account.undelivered} undelivered"
            )
            if account.lost:
                text += f" + {account.lost} lost on demand"
            if account.garbled:
                text += f"; {account.garbled} of those sent are garbled"
            self.line("telemetry", text)
