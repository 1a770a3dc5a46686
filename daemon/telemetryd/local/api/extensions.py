"""The Extensions API, version 2020-01-01 ("Using the Lambda Extensions API")."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Literal

import msgspec
from aiohttp import web

from telemetryd.local.config import MAX_EXTENSIONS
from telemetryd.local.extension import Extension, StateError
from telemetryd.local.http_bodies import error_answer, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from telemetryd.local.generation import Generation

_PREFIX = "/2020-01-01/extension"
_EVENTS = ("INVOKE", "SHUTDOWN")
_ERROR_TYPE = re.compile(r"Extension\.[A-Z][a-zA-Z]+")


class _Register(msgspec.Struct):
    events: list[str] = []
    configurationKeys: list[str] = []  # noqa: N815 - the name on the wire


class Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """The call is answered with an error."""

    def __init__(self, error_type: str, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type


def identify(generation: Generation | None, request: web.Request) -> tuple[Generation, Extension]:
    """The extension whose identifier the request carries. Raises `Refused`."""
    value = request.headers.get("Lambda-Extension-Identifier")
    if not value:
        raise Refused(
            "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"
        )
    try:
        uuid.UUID(value)
    except ValueError:
        raise Refused(
            "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"
        ) from None
    extension = generation.find(value) if generation is not None else None
    if generation is None or extension is None:
        raise Refused("Extension.UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier")
    return generation, extension


class ExtensionsApi:
    """Routes for extensions. `current` gives the living generation, or None between two."""

    def __init__(self, current: Callable[[], Generation | None]) -> None:
        self._current = current

    def routes(self) -> list[web.RouteDef]:
        """The four calls of an extension."""
        return [
            web.post(f"{_PREFIX}/register", self._register),
            web.get(f"{_PREFIX}/event/next", self._next, allow_head=False),
            web.post(f"{_PREFIX}/init/error", self._init_error),
            web.post(f"{_PREFIX}/exit/error", self._exit_error),
        ]

    async def _register(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            return self._register_extension(request, body)
        except Refused as refused:
            return error_answer(refused.status, refused.error_type, str(refused))

    def _register_extension(self, request: web.Request, body: bytes) -> web.StreamResponse:
        generation = self._current()
        if generation is None:
            raise Refused("InternalServerError", "no environment is running", 500)
        name = request.headers.get("Lambda-Extension-Name", "")
        if not name:
            raise Refused("Extension.InvalidExtensionName", "Empty extension name")
        try:
            wanted = msgspec.json.decode(body, type=_Register)
        except msgspec.MsgspecError as error:
            raise Refused("InvalidRequestFormat", f"invalid request body: {error}") from None
        if wanted.configurationKeys:
            raise Refused("InvalidRequestFormat", "configurationKeys is not supported")
        extension = generation.extensions.get(name)
        external = extension is not None and not extension.internal
        _check_events(wanted.events, external=external, managed=generation.config.is_managed)
        if extension is None:
            extension = _internal(generation, name)
        try:
            extension.register(tuple(wanted.events))
        except StateError as error:
            raise Refused("Extension.InvalidExtensionState", str(error)) from None
        generation.extensions[name] = extension
        generation.changes.notify()
        config = generation.config
        answer = {
            "functionName": config.function_name,
            "functionVersion": config.function_version,
            "handler": config.handler or "",
        }
        features = request.headers.get("Lambda-Extension-Accept-Feature", "")
        if "accountId" in (feature.strip() for feature in features.split(",")):
            answer["accountId"] = config.account_id
        return json_answer(answer, headers={"Lambda-Extension-Identifier": extension.identifier})

    async def _next(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            generation, extension = self._begin_poll(request, body)
        except Refused as refused:
            return error_answer(refused.status, refused.error_type, str(refused))
        generation.changes.notify()
        event = await extension.poll()
        if event["eventType"] == "SHUTDOWN":
            # As observed: neither a JSON content type nor an event identifier.
            return web.Response(text=msgspec.json.encode(event).decode())
        return json_answer(event, headers={"Lambda-Extension-Event-Identifier": str(uuid.uuid4())})

    def _begin_poll(self, request: web.Request, body: bytes) -> tuple[Generation, Extension]:
        if body:
            raise Refused("InvalidRequestFormat", "event/next takes no request body")
        generation, extension = identify(self._current(), request)
        try:
            extension.begin_poll()
        except StateError as error:
            raise Refused("Extension.InvalidExtensionState", str(error)) from None
        return generation, extension

    async def _init_error(self, request: web.Request) -> web.StreamResponse:
        return await self._report(request, "InitError")

    async def _exit_error(self, request: web.Request) -> web.StreamResponse:
        return await self._report(request, "ExitError")

    async def _report(
        self, request: web.Request, state: Literal["InitError", "ExitError"]
    ) -> web.StreamResponse:
        body = await request.read()
        try:
            generation, error_type = self._read_report(request, state)
        except Refused as refused:
            return error_answer(refused.status, refused.error_type, str(refused))
        generation.fail(error_type, body.decode("utf-8", "replace") or f"{state} reported")
        return json_answer({"status": "OK"}, 202)

    def _read_report(
        self, request: web.Request, state: Literal["InitError", "ExitError"]
    ) -> tuple[Generation, str]:
        generation, extension = identify(self._current(), request)
        error_type = request.headers.get("Lambda-Extension-Function-Error-Type")
        if not error_type:
            raise Refused(
                "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found"
            )
        if _ERROR_TYPE.fullmatch(error_type) is None:
            error_type = f"Extension.{state}"
        try:
            extension.report_error(state, error_type)
        except StateError as error:
            raise Refused("Extension.InvalidExtensionState", str(error)) from None
        return generation, error_type


def _check_events(events: list[str], *, external: bool, managed: bool) -> None:
    for event in events:
        if event not in _EVENTS:
            raise Refused("Extension.InvalidEventType", f"{event}: ErrorInvalidEventType")
        if managed and (event == "INVOKE" or not external):
            raise Refused("Extension.InvalidEventType", f"{event}: ErrorInvalidEventType")
        if event == "SHUTDOWN" and not external:
            raise Refused(
                "Extension.InvalidEventType", "SHUTDOWN: not allowed for internal extensions"
            )


def _internal(generation: Generation, name: str) -> Extension:
    """A name that is no extension file's: an internal extension, inside the runtime."""
    if generation.runtime_asked:
        raise Refused("Extension.RegistrationClosed", "Extension registration closed already")
    if len(generation.extensions) >= MAX_EXTENSIONS:
        raise Refused("Extension.TooManyExtensions", f"Extension limit ({MAX_EXTENSIONS}) reached")
    return Extension(name, internal=True)
