"""The Invoke API on a loopback port, for callers outside of this process.

`POST /2015-03-31/functions/<name>/invocations` ("Lambda API reference: Invoke"): the path that
AWS's SDKs and command line use, and AWS's own emulator.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from aiohttp import web

from telemetryd.local.http_bodies import error_answer

if TYPE_CHECKING:
    from telemetryd.local.environment import LocalLambda

_BODY_LIMIT = 6 * 1024 * 1024 + 1024


class Frontend:
    """Serves invocations of one environment. Close it before the environment."""

    def __init__(self, environment: LocalLambda) -> None:
        self._environment = environment
        self._runner: web.AppRunner | None = None
        self.url = ""
        """Where to post events, once started."""

    async def start(self, port: int) -> None:
        """Listen on 127.0.0.1; 0 picks a free port. Raises `OSError` when it is taken."""
        app = web.Application(client_max_size=_BODY_LIMIT)
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
        environment = self._environment
        name = request.match_info["name"]
        if name not in ("function", environment.config.function_name):
            return error_answer(404, "ResourceNotFoundException", f"Function not found: {name}")
        context = request.headers.get("X-Amz-Client-Context")
        try:
            client_context = None if context is None else base64.b64decode(context).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            return error_answer(400, "InvalidRequestContentException", f"client context: {error}")
        kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if kind == "DryRun":
            return web.Response(status=204)
        invocation = environment.prepare(
            await request.read() or b"{}",
            client_context=client_context,
            trace_header=request.headers.get("X-Amzn-Trace-Id"),
            request_id=request.headers.get("X-Amzn-RequestId"),
        )
        headers = {
            "X-Amzn-RequestId": invocation.request_id,
            "X-Amz-Executed-Version": environment.config.function_version,
        }
        environment.run(invocation)
        if kind == "Event":
            return web.Response(status=202, headers=headers)
        # The caller's response does not wait for the extensions.
        await invocation.answered
        if invocation.function_error is not None:
            headers["X-Amz-Function-Error"] = invocation.function_error
        return web.Response(
            body=invocation.response, headers=headers, content_type="application/json"
        )
