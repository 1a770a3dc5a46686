"""A CloudWatch Logs server that keeps what it is sent, enforces the limits, and fails on demand.

moto enforces none of the limits of PutLogEvents, so this one refuses, with the service's own error
codes, whatever its API Reference forbids.
"""

# ruff: noqa: D102 - the operations are described in the service's API Reference
from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web

HOUR_MS = 3_600_000
Answer = Callable[[], web.StreamResponse]
TAKE = ("TAKE", 200)
"""As an entry of `FakeLogs.script`: no failure, this time."""


class RefusedError(Exception):
    """A request the service would not accept."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class FakeLogs:
    """Groups and streams in memory. `script` holds failures for the next PutLogEvents calls."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self.calls: list[str] = []
        self.script: list[tuple[str, int]] = []
        """Error code and HTTP status, for one call each."""
        self.denied: set[str] = set()
        """Operations that answer AccessDeniedException."""
        self.down = False
        """Connections are closed without an answer."""
        self.url = ""

    def messages(self) -> list[str]:
        """Everything accepted, in the order of arrival."""
        return [e["message"] for g in self.groups.values() for s in g.values() for e in s]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        operation = request.headers["X-Amz-Target"].partition(".")[2]
        body = await request.json()
        self.calls.append(operation)
        if operation in self.denied:
            return _error("AccessDeniedException", 400, f"not authorized to perform {operation}")
        try:
            answer = getattr(self, operation)(body)
        except RefusedError as error:
            return _error(error.code, 400, str(error))
        if isinstance(answer, web.Response):
            return answer
        return _json(answer)

    def CreateLogGroup(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - AWS's name
        if body["logGroupName"] in self.groups:
            raise RefusedError("ResourceAlreadyExistsException", "the group exists")
        self.groups[body["logGroupName"]] = {}
        return {}

    def CreateLogStream(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - AWS's name
        group = self._group(body)
        if body["logStreamName"] in group:
            raise RefusedError("ResourceAlreadyExistsException", "the stream exists")
        group[body["logStreamName"]] = []
        return {}

    def PutLogEvents(self, body: dict[str, Any]) -> Any:  # noqa: N802 - AWS's name
        if self.script:
            code, status = self.script.pop(0)
            if code != TAKE[0]:
                return _error(code, status, "scripted")
        stream = self._group(body).get(body["logStreamName"])
        if stream is None:
            raise RefusedError("ResourceNotFoundException", "the stream does not exist")
        events = body["logEvents"]
        check_limits(events)
        now = time.time() * 1000
        too_old = [i for i, e in enumerate(events) if e["timestamp"] < now - 14 * 24 * HOUR_MS]
        too_new = [i for i, e in enumerate(events) if e["timestamp"] > now + 2 * HOUR_MS]
        info = {}
        if too_old:
            info["tooOldLogEventEndIndex"] = too_old[-1] + 1
        if too_new:
            info["tooNewLogEventStartIndex"] = too_new[0]
        rejected = {*too_old, *too_new}
        stream += [event for i, event in enumerate(events) if i not in rejected]
        return {"rejectedLogEventsInfo": info} if info else {}

    def _group(self, body: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        group = self.groups.get(body["logGroupName"])
        if group is None:
            raise RefusedError("ResourceNotFoundException", "the group does not exist")
        return group


def check_limits(events: list[dict[str, Any]]) -> None:
    """API Reference, PutLogEvents: what fails the whole call."""
    times = [event["timestamp"] for event in events]
    sizes = [len(event["message"].encode()) + 26 for event in events]
    if not 1 <= len(events) <= 10_000:
        raise RefusedError("InvalidParameterException", f"{len(events)} events")
    if sum(sizes) > 1_048_576:
        raise RefusedError("InvalidParameterException", f"{sum(sizes)} bytes")
    if min(sizes) == 26:
        raise RefusedError("InvalidParameterException", "an empty message")
    if times != sorted(times):
        raise RefusedError("InvalidParameterException", "not in chronological order")
    if times[-1] - times[0] > 24 * HOUR_MS:
        raise RefusedError("InvalidParameterException", "more than 24 hours")


def _json(answer: dict[str, Any]) -> web.Response:
    return web.Response(text=json.dumps(answer), content_type="application/x-amz-json-1.1")


def _error(code: str, status: int, message: str) -> web.Response:
    return web.Response(
        text=json.dumps({"__type": code, "message": message}),
        status=status,
        content_type="application/x-amz-json-1.1",
    )


@contextmanager
def fake_logs() -> Iterator[FakeLogs]:
    """A server on a free port of 127.0.0.1, in a thread, with credentials to talk to it."""
    server = FakeLogs()
    ready: list[BaseException | None] = []
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_post("/", server.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.append(None)
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait(60)
    assert ready, "the server did not start"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "example")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.delenv("AWS_SESSION_TOKEN", raising=False)
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()
