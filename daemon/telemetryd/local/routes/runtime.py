"""The Runtime API, version 2018-06-01 ("Using the Lambda runtime API for custom runtimes")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from telemetryd.local.clock import monotonic
from telemetryd.local.http_bodies import error_answer, json_answer
from telemetryd.local.invocation import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from telemetryd.local.generation import Generation
    from telemetryd.local.invocation import Invocation
    from telemetryd.local.runtime_slot import RuntimeSlot

MAX_RESPONSE = 6 * 1024 * 1024 + 100
"""Bytes of a buffered response (Lambda quotas: 6 MB)."""

_PREFIX = "/2018-06-01/runtime"


class RuntimeApi:
    """Routes for runtimes. `current` gives the living generation, or None between two."""

    def __init__(self, current: Callable[[], Generation | None]) -> None:
        self._current = current

    def routes(self) -> list[web.RouteDef]:
        """Return the calls of a runtime, SnapStart's two included."""
        return [
            web.get(f"{_PREFIX}/invocation/next", self._next, allow_head=False),
            web.post(f"{_PREFIX}/invocation/{{request_id}}/response", self._response),
            web.post(f"{_PREFIX}/invocation/{{request_id}}/error", self._error),
            web.post(f"{_PREFIX}/init/error", self._init_error),
            web.get(f"{_PREFIX}/restore/next", self._restore_next, allow_head=False),
            web.post(f"{_PREFIX}/restore/error", self._restore_error),
        ]

    def _slot(self, request: web.Request) -> tuple[Generation, RuntimeSlot] | None:
        """Return the runtime that is calling: each has its own address."""
        generation = self._current()
        if generation is None or request.transport is None:
            return None
        port = request.transport.get_extra_info("sockname")[1]
        for slot in generation.slots:
            if slot.address.endswith(f":{port}"):
                return generation, slot
        return None

    async def _next(self, request: web.Request) -> web.StreamResponse:
        found = self._slot(request)
        if found is None:
            return error_answer(500, "InternalServerError", "no environment is running")
        generation, slot = found
        current = slot.current
        if slot.waiting or (current is not None and not current.answered.done()):
            return error_answer(
                403,
                "InvalidStateTransition",
                "State transition from Running to Ready failed for runtime: no response was sent",
            )
        await generation.runtime_next(slot)
        poll = slot.begin_poll()
        generation.changes.notify()
        try:
            invocation = await poll
        finally:
            slot.end_poll()
        return web.Response(
            body=invocation.payload,
            content_type="application/json",
            headers=_headers(generation, invocation),
        )

    async def _response(self, request: web.Request) -> web.StreamResponse:
        generation = self._current()
        found = generation and generation.running(request.match_info["request_id"])
        if generation is None or not found or found[1].answered.done():
            return error_answer(400, "InvalidRequestID", "Invalid request ID")
        invocation = found[1]
        streaming = request.headers.get("Lambda-Runtime-Function-Response-Mode") == "streaming"
        invocation.first_byte = monotonic()
        parts: list[bytes] = []
        size = 0
        async for part in request.content.iter_any():
            size += len(part)
            if size <= MAX_RESPONSE or streaming:
                parts.append(part)
        invocation.last_byte = monotonic()
        if size > MAX_RESPONSE and not streaming:
            limit = f"maximum allowed payload size ({MAX_RESPONSE} bytes)."
            invocation.error_type = "Function.ResponseSizeTooLarge"
            invocation.fail(
                Failure(invocation.error_type, f"Response payload size exceeded {limit}").document()
            )
            generation.changes.notify()
            return error_answer(413, "RequestEntityTooLarge", f"Exceeded {limit}")
        if not invocation.answered.done():
            invocation.response = b"".join(parts)
            invocation.answer()
        generation.changes.notify()
        return json_answer({"status": "OK"}, 202)

    async def _error(self, request: web.Request) -> web.StreamResponse:
        generation = self._current()
        found = generation and generation.running(request.match_info["request_id"])
        if generation is None or not found or found[1].answered.done():
            return error_answer(400, "InvalidRequestID", "Invalid request ID")
        invocation = found[1]
        invocation.first_byte = monotonic()
        body = await request.read()
        invocation.last_byte = monotonic()
        invocation.error_type = request.headers.get(
            "Lambda-Runtime-Function-Error-Type", "Runtime.Unknown"
        )
        invocation.fail(body)
        generation.changes.notify()
        return json_answer({"status": "OK"}, 202)

    async def _init_error(self, request: web.Request) -> web.StreamResponse:
        found = self._slot(request)
        body = await request.read()
        if found is None or found[1].asked:
            return error_answer(403, "InvalidStateTransition", "init is over")
        found[0].fail(*_read_error(request, body))
        return json_answer({"status": "OK"}, 202)

    async def _restore_next(self, request: web.Request) -> web.StreamResponse:
        """Note that the runtime is ready for the snapshot. Answer when it has been restored."""
        found = self._slot(request)
        if found is None or found[1].asked:
            return error_answer(403, "InvalidStateTransition", "init is over")
        generation, slot = found
        generation.note_asked(slot)
        generation.changes.notify()
        await generation.restored.wait()
        return web.Response()

    async def _restore_error(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        generation = self._current()
        if generation is None or not generation.restoring:
            return error_answer(403, "InvalidStateTransition", "nothing is being restored")
        generation.fail(*_read_error(request, body))
        return json_answer({"status": "OK"}, 202)


def _read_error(request: web.Request, body: bytes) -> tuple[str, str]:
    """Return type and message of the error that a runtime reports."""
    error_type = request.headers.get("Lambda-Runtime-Function-Error-Type", "Runtime.Unknown")
    try:
        message = str(msgspec.json.decode(body, type=dict[str, object])["errorMessage"])
    except (msgspec.MsgspecError, KeyError):
        message = body.decode("utf-8", "replace")
    return error_type, message


def _headers(generation: Generation, invocation: Invocation) -> dict[str, str]:
    headers = {
        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
        "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
        "Lambda-Runtime-Invoked-Function-Arn": generation.config.function_arn,
    }
    if invocation.trace_header is not None:
        headers["Lambda-Runtime-Trace-Id"] = invocation.trace_header
    if invocation.tenant_id is not None:
        headers["Lambda-Runtime-Aws-Tenant-Id"] = invocation.tenant_id
    if invocation.client_context is not None:
        headers["Lambda-Runtime-Client-Context"] = invocation.client_context
    return headers
