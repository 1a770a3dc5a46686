"""The Invoke API on a loopback port, for callers outside of this process.

`POST /2015-03-31/functions/<name>/invocations` ("Lambda API reference: Invoke"): the path that
AWS's SDKs and command line use, and AWS's own emulator.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from telemetryd.local.environment import TenantError
from telemetryd.local.guard import guard_app
from telemetryd.local.http_bodies import json_answer
from telemetryd.local.invocation import LogTail
from telemetryd.local.json_text import is_json

if TYPE_CHECKING:
    from telemetryd.local.environment import LocalLambda
    from telemetryd.local.invocation import Invocation, InvokeResult

LOG_TYPES: Final = ("None", "Tail")
LIMITS: Final = {
    "RequestResponse": 6 * 1024 * 1024,
    "Event": 1024 * 1024,
    "DryRun": 6 * 1024 * 1024,
}
"""Largest payload of each invocation type, in bytes ("Lambda quotas")."""
_ROOM: Final = 1024 * 1024
"""Bytes that are read above the limit, to report the size."""


def _service_error(status: int, error_type: str, message: str) -> web.Response:
    """Answer as the service does: AWS's SDKs read the type from the header."""
    return json_answer(
        {"Type": "User", "message": message}, status, {"x-amzn-ErrorType": error_type}
    )


class _Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """The service answers with an error instead of invoking."""

    def __init__(self, status: int, error_type: str, message: str) -> None:
        super().__init__(message)
        self.answer = _service_error(status, error_type, message)


class Frontend:
    """Serves invocations of one environment. Close it before the environment."""

    def __init__(self, environment: LocalLambda) -> None:
        self._environment = environment
        self._runner: web.AppRunner | None = None
        self.url = ""
        """The URL to post events to, once started."""

    async def start(self, port: int) -> None:
        """Listen on 127.0.0.1; 0 picks a free port. Raises `OSError` when it is taken."""
        app = guard_app(_service_error, max(LIMITS.values()))
        app.add_routes([web.post("/2015-03-31/functions/{name}/invocations", self._invoke)])
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        actual = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{actual}/2015-03-31/functions/function/invocations"

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _invoke(self, request: web.Request) -> web.StreamResponse:
        try:
            kind, invocation = await self._prepare(request)
        except _Refused as refused:
            return refused.answer
        if kind == "DryRun":
            return web.Response(status=204)
        headers = {
            "X-Amzn-RequestId": invocation.request_id,
            "X-Amz-Executed-Version": self._environment.config.function_version,
        }
        tail = kind == "RequestResponse" and request.headers.get("X-Amz-Log-Type") == "Tail"
        if tail:
            invocation.log = LogTail()
        running = self._environment.run(invocation)
        if kind == "Event":
            return web.Response(status=202, headers=headers)
        # The caller's response does not wait for the extensions; the log has REPORT at its end.
        await invocation.answered
        if tail and invocation.log is not None:
            log = _log(await running, invocation.log, self._environment)
            headers["X-Amz-Log-Result"] = base64.b64encode(log).decode()
        if invocation.function_error is not None:
            headers["X-Amz-Function-Error"] = invocation.function_error
        return web.Response(
            body=invocation.response, headers=headers, content_type="application/json"
        )

    async def _prepare(self, request: web.Request) -> tuple[str, Invocation]:
        """Return the invocation type, and an invocation. Raises `_Refused`."""
        config = self._environment.config
        name, headers = request.match_info["name"], request.headers
        if name not in ("function", config.function_name):
            arn = config.function_arn.removesuffix(config.function_name) + name
            raise _Refused(404, "ResourceNotFoundException", f"Function not found: {arn}")
        kind = headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if kind not in LIMITS:
            raise _Refused(
                400, "InvalidParameterValueException", f"Invocation type {kind!r} is unknown"
            )
        _check_log_type(headers.get("X-Amz-Log-Type", LOG_TYPES[0]))
        try:
            payload = await request.read() or b"{}"
        except web.HTTPRequestEntityTooLarge:
            raise _too_large(kind) from None
        if len(payload) > LIMITS[kind]:
            raise _too_large(kind)
        try:
            good = is_json(payload.decode())
        except UnicodeDecodeError:
            good = False
        if not good:
            raise _Refused(
                400, "InvalidRequestContentException", "Could not parse request body into json"
            )
        context = headers.get("X-Amz-Client-Context")
        try:
            client_context = context and base64.b64decode(context, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            client_context = "no JSON"
        if client_context and not is_json(client_context):
            raise _Refused(
                400,
                "InvalidRequestContentException",
                "Client context must be a valid Base64-encoded JSON object.",
            )
        try:
            return kind, self._environment.prepare(
                payload,
                client_context=client_context,
                trace_header=headers.get("X-Amzn-Trace-Id"),
                request_id=headers.get("X-Amzn-RequestId"),
                tenant_id=headers.get("X-Amz-Tenant-Id"),
            )
        except TenantError as error:
            raise _Refused(400, "InvalidParameterValueException", str(error)) from None


def _check_log_type(log_type: str) -> None:
    """Raise `_Refused` for a type that the service does not have."""
    if log_type not in LOG_TYPES:
        raise _Refused(
            400,
            "InvalidParameterValueException",
            f"Value {log_type!r} at 'logType' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(LOG_TYPES)}]",
        )


def _too_large(kind: str) -> _Refused:
    return _Refused(
        413,
        "RequestEntityTooLargeException",
        f"Request must be smaller than {LIMITS[kind]} bytes for the InvokeFunction operation",
    )


def _log(result: InvokeResult, printed: LogTail, environment: LocalLambda) -> bytes:
    """Return the end of the invocation's log, as CloudWatch has it, in the function's format."""
    config, request_id = environment.config, result.request_id
    if config.log_format == "json":
        lines = [
            msgspec.json.encode({"time": event.time, "type": event.type, "record": event.record})
            for event in environment.events
            if event.type in ("platform.start", "platform.report")
            and event.record["requestId"] == request_id
        ]
        first, *rest = [line.decode() + "\n" for line in lines] or [""]
        return printed.within(first, "".join(rest))
    figures = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {result.duration_ms:.2f} ms",
        f"Billed Duration: {result.billed_ms} ms",
        f"Memory Size: {config.memory_mb} MB",
        f"Max Memory Used: {result.max_memory_mb} MB",
    ]
    if result.restore_ms is not None:
        figures.append(f"Restore Duration: {result.restore_ms:.2f} ms")
        figures.append(f"Billed Restore Duration: {math.ceil(result.restore_ms)} ms")
    elif result.cold_start and result.init_ms is not None:
        figures.append(f"Init Duration: {result.init_ms:.2f} ms")
    if result.status != "success":
        figures.append(f"Status: {result.status}")
        if result.error_type is not None:
            figures.append(f"Error Type: {result.error_type}")
    return printed.within(
        f"START RequestId: {request_id} Version: {config.function_version}\n",
        f"END RequestId: {request_id}\n" + "\t".join((*figures, "\n")),
    )
